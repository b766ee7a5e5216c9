/** A `Log` in memory with the promises that the Kafka server builds on; a commit takes one turn of the loop. */
import { randomBytes } from "node:crypto";
import { LogError } from "../../src/errors.ts";
import { isStreamName } from "../../src/log/catalog.ts";
import type {
  ActiveProducer,
  Append,
  BatchAppend,
  Log,
  Partition,
  Stream,
  StreamOrigin,
  StreamSettings,
} from "../../src/log/log.ts";
import {
  baseOffsetOf,
  batchOf,
  batchProblem,
  lastOffsetOf,
  leaderEpochOf,
  maxTimestampOf,
  placeBatch,
  recordsOf,
} from "../../src/wire/record-batch.ts";

const SETTINGS: StreamSettings = {
  retentionMs: 604_800_000,
  retentionBytes: -1,
  segmentBytes: 1 << 28,
  segmentMs: 86_400_000,
  maxMessageBytes: (1 << 20) + 12,
  cleanup: "delete",
  minDirtyRatio: 0.5,
  timestampType: "CreateTime",
  deleteRetentionMs: 86_400_000,
};

export class FakePartition implements Partition {
  readonly stream: Stream;
  readonly index: number;
  logStartOffset = 0;
  leaderEpoch = 0;
  activeProducers: readonly ActiveProducer[] = [];
  /** Ends of earlier epochs. */
  readonly epochEnds = new Map<number, number>();
  readonly batches: Buffer[] = [];
  readonly listeners = new Set<() => void>();
  /** Reads answer in a later turn, as from disk. */
  readsAreAsync = false;

  constructor(stream: Stream, index: number) {
    this.stream = stream;
    this.index = index;
  }

  get highWatermark(): number {
    const last = this.batches.at(-1);
    return last === undefined ? this.logStartOffset : lastOffsetOf(last) + 1;
  }

  get sizeBytes(): number {
    return this.batches.reduce((sum, batch) => sum + batch.length, 0);
  }

  endOfEpoch(epoch: number): number | undefined {
    return epoch === this.leaderEpoch ? this.highWatermark : this.epochEnds.get(epoch);
  }

  epochAt(offset: number): number | undefined {
    const batch = this.batches.find((one) => lastOffsetOf(one) >= offset);
    return batch === undefined ? this.leaderEpoch : leaderEpochOf(batch);
  }

  read(offset: number, maxBytes: number): readonly Buffer[] | Promise<readonly Buffer[]> {
    if (offset < this.logStartOffset || offset > this.highWatermark) {
      throw new LogError("OFFSET_OUT_OF_RANGE", `${offset}`);
    }
    const found: Buffer[] = [];
    let bytes = 0;
    for (const batch of this.batches) {
      if (lastOffsetOf(batch) < offset) continue;
      if (found.length > 0 && bytes + batch.length > maxBytes) break;
      bytes += batch.length;
      found.push(batch);
    }
    return this.readsAreAsync ? new Promise((resolve) => setImmediate(() => resolve(found))) : found;
  }

  bytesFrom(offset: number): number {
    return this.batches
      .filter((batch) => lastOffsetOf(batch) >= offset)
      .reduce((sum, batch) => sum + batch.length, 0);
  }

  async offsetForTimestamp(timestampMs: number) {
    for (const { offset, timestamp } of recordsOf(this.batches)) {
      if (timestamp >= timestampMs) return { offset, timestamp };
    }
    return undefined;
  }

  async maxTimestamp() {
    let found: { offset: number; timestamp: number } | undefined;
    for (const { offset, timestamp } of recordsOf(this.batches)) {
      if (found === undefined || timestamp > found.timestamp) found = { offset, timestamp };
    }
    return found;
  }

  hold(): void {}

  onCommit(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Places the batches that lie in `source` and returns the first one's offset. */
  place(source: Buffer): number {
    const batch = Buffer.from(source);
    placeBatch(batch, 0, this.highWatermark, this.leaderEpoch);
    this.batches.push(batch);
    return baseOffsetOf(batch);
  }

  /** The largest timestamp, for tests that look past the API. */
  get newestTimestamp(): number {
    return Math.max(...this.batches.map((batch) => maxTimestampOf(batch)));
  }
}

class FakeStream implements Stream {
  readonly name: string;
  readonly id = randomBytes(16).toString("base64url");
  readonly origin: StreamOrigin;
  settings: StreamSettings;
  readonly partitions: FakePartition[] = [];

  constructor(name: string, settings: StreamSettings, origin: StreamOrigin) {
    this.name = name;
    this.settings = settings;
    this.origin = origin;
  }

  get internal(): boolean {
    return this.origin === "internal";
  }

  grow(partitions: number): void {
    while (this.partitions.length < partitions) {
      this.partitions.push(new FakePartition(this, this.partitions.length));
    }
  }

  keylessPartition(): Partition {
    return this.partitions[0] as Partition;
  }
}

export class FakeLog implements Log {
  private readonly byName = new Map<string, FakeStream>();
  private queue: { entries: readonly Append[]; done: (error: LogError | null) => void }[] = [];
  private producerIds = 1000;
  /** Producers' batches as they were given. */
  readonly appended: Buffer[] = [];
  /** Commits wait until this is false again. */
  private holding = false;

  get streams(): readonly Stream[] {
    return [...this.byName.values()];
  }

  stream(name: string): FakeStream | undefined {
    return this.byName.get(name);
  }

  streamById(id: string): Stream | undefined {
    return this.streams.find((stream) => stream.id === id);
  }

  partition(stream: string, index = 0): FakePartition {
    return this.byName.get(stream)?.partitions[index] as FakePartition;
  }

  async createStream(
    name: string,
    partitions: number,
    settings: Partial<StreamSettings>,
    origin: StreamOrigin,
  ): Promise<Stream> {
    await Promise.resolve();
    if (!isStreamName(name)) throw new LogError("INVALID_STREAM", name);
    if (this.byName.has(name)) throw new LogError("STREAM_EXISTS", name);
    const stream = new FakeStream(name, { ...SETTINGS, ...settings }, origin);
    stream.grow(partitions);
    this.byName.set(name, stream);
    return stream;
  }

  async alterStream(name: string, change: { partitions?: number; settings?: Partial<StreamSettings> }) {
    const stream = this.byName.get(name);
    if (stream === undefined) throw new LogError("UNKNOWN_STREAM", name);
    stream.settings = { ...stream.settings, ...change.settings };
    stream.grow(change.partitions ?? 0);
    return stream;
  }

  async deleteStream(name: string): Promise<void> {
    const stream = this.byName.get(name);
    if (!this.byName.delete(name)) throw new LogError("UNKNOWN_STREAM", name);
    for (const { listeners } of stream?.partitions ?? []) for (const listener of listeners) listener();
  }

  append(entries: readonly Append[], done: (error: LogError | null) => void): void {
    this.queue.push({ entries, done });
    if (this.queue.length === 1 && !this.holding) setImmediate(() => this.commit());
  }

  /** Lets no commit happen until the returned function is called. */
  hold(): () => void {
    this.holding = true;
    return () => {
      this.holding = false;
      this.commit();
    };
  }

  async deleteRecords(partition: Partition, before: number): Promise<number> {
    if (before < 0 || before > partition.highWatermark)
      throw new LogError("OFFSET_OUT_OF_RANGE", `${before}`);
    const fake = partition as FakePartition;
    fake.logStartOffset = Math.max(fake.logStartOffset, before);
    return fake.logStartOffset;
  }

  async nextProducerId(): Promise<number> {
    return this.producerIds++;
  }

  private commit(): void {
    if (this.holding) return;
    const queue = this.queue;
    this.queue = [];
    const touched = new Set<FakePartition>();
    for (const { entries, done } of queue) {
      const error = entries.map((entry) => this.apply(entry, touched)).find((problem) => problem !== null);
      done(error ?? null);
    }
    for (const { listeners } of touched) for (const listener of listeners) listener();
  }

  private apply(entry: Append, touched: Set<FakePartition>): LogError | null {
    const partition = entry.partition as FakePartition;
    if ("batch" in entry) {
      const problem = batchProblem(
        (entry as BatchAppend).batch,
        0,
        partition.stream.settings.maxMessageBytes,
      );
      if (problem !== undefined) return new LogError("CORRUPT_BATCH", problem);
      this.appended.push(entry.batch);
      entry.offset = partition.place(entry.batch);
    } else {
      entry.offset = partition.place(batchOf([entry]));
    }
    touched.add(partition);
    return null;
  }
}
