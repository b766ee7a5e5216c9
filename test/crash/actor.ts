/**
 * One process's use of a log: it appends, sends again, reads and changes streams, and tells a chronicle what it
 * asked for and what it was answered.
 */
import type { LogError } from "../../src/errors.ts";
import type { Append, Log, Partition, RecordAppend, StreamSettings } from "../../src/log/log.ts";
import { DEFAULT_SETTINGS } from "../../src/log/stream-state.ts";
import { crc32c } from "../../src/wire/crc32c.ts";
import { batchOf, NO_HEADERS, recordBytesBound } from "../../src/wire/record-batch.ts";
import {
  type AppendFacts,
  type CatalogChange,
  type Chronicle,
  type PlacedRecord,
  type Rec,
  type Shown,
  timeOf,
} from "./oracle.ts";
import type { Random } from "./random.ts";
import { readFrom } from "./reader.ts";
import { Violation } from "./violation.ts";

/** What an append may be answered besides success: nothing of it is then written. */
const REFUSALS = ["JOURNAL_FULL", "UNKNOWN_STREAM", "KEYLESS_RECORD"];
/** What a record costs in a journal entry beside its bytes, at most: a batch's header and its row. */
const RECORD_OVERHEAD_BYTES = 100;
const MAX_IN_FLIGHT_OF_A_PRODUCER = 4;
/** What the disk has refused: a commit, or a change of files behind one. */
const REFUSED_BY_DISK = ["READ_ONLY", "EIO", "ENOSPC"];

export interface ActorOptions {
  readonly log: Log;
  readonly chronicle: Chronicle;
  readonly random: Random;
  /** So much fits into one commit. */
  readonly maxInFlightBytes: number;
  /** What most records' values are smaller than. */
  readonly recordBytes: number;
  /** All records are of that size. */
  readonly isRegular: boolean;
  /** The disk may refuse. */
  readonly isFaulty?: boolean;
}

export class Actor {
  private readonly log: Log;
  private readonly chronicle: Chronicle;
  private readonly random: Random;
  private readonly options: ActorOptions;
  private inFlightBytes = 0;
  private readonly inFlight = new Set<Promise<void>>();
  private changing: Promise<void> = Promise.resolve();
  /** The disk has refused a change: whether it is there only the next life can tell. */
  private isInDoubt = false;
  /** A promise is broken, says whoever finds out. */
  fail: (error: unknown) => void = () => {};
  /** Rejects with the first promise that the log has broken. */
  readonly broken: Promise<never>;

  constructor(options: ActorOptions) {
    this.options = options;
    this.log = options.log;
    this.chronicle = options.chronicle;
    this.random = options.random;
    this.broken = new Promise((_, reject) => {
      this.fail = reject;
    });
    this.broken.catch(() => {});
  }

  private makeRecord({ stream }: Partition): Rec {
    const { random } = this;
    const id = this.chronicle.now.nextRecord++;
    const { maxInFlightBytes, recordBytes, isRegular } = this.options;
    const isLarge = !isRegular && random.chance(0.08);
    const bound = isLarge ? Math.floor(maxInFlightBytes / 3) : recordBytes;
    const size = isRegular ? bound : random.int(bound);
    const value = Buffer.alloc(size + 12, random.pick(["x", "0", "SLJ2"]));
    value.write(`${id}:`.padEnd(12));
    const isCompacted = stream.settings.cleanup.includes("compact");
    const hasKey = isCompacted || (!isRegular && random.chance(0.5));
    return {
      id,
      key: hasKey ? Buffer.from(`k${random.int(5)}`) : null,
      value: isCompacted && random.chance(0.2) ? null : value,
      timestamp: timeOf(id),
    };
  }

  /** All of one's records are in one append: there together or not at all. */
  async append(partitions: readonly Partition[]): Promise<void> {
    const records: PlacedRecord[] = [];
    for (const partition of partitions) {
      const record = this.makeRecord(partition);
      records.push({ stream: partition.stream.name, partition: partition.index, record });
    }
    const facts: AppendFacts = { id: this.chronicle.now.nextAppend, records };
    this.chronicle.now.nextAppend++;
    await this.submit(facts, () =>
      partitions.map((partition, index): RecordAppend => {
        const { key, value, timestamp } = (records[index] as PlacedRecord).record;
        return { partition, key, value, timestamp, headers: NO_HEADERS };
      }),
    );
  }

  /** A batch of an idempotent producer, the next in its sequence. */
  async produce(producerId: number, partition: Partition, count: number): Promise<void> {
    const oracle = this.chronicle.now;
    const batches = oracle.producers.get(producerId) ?? [];
    if (batches.filter(({ id }) => oracle.pending.has(id)).length >= MAX_IN_FLIGHT_OF_A_PRODUCER) return;
    const last = batches.at(-1);
    const firstSequence = (last?.producer?.firstSequence ?? 0) + (last?.records.length ?? 0);
    const records = Array.from({ length: count }, (): PlacedRecord => {
      const record = this.makeRecord(partition);
      return { stream: partition.stream.name, partition: partition.index, record };
    });
    const producer = { id: producerId, firstSequence };
    await this.sendBatch({ id: oracle.nextAppend++, records, producer });
  }

  /** As a producer does that has had no answer: the same batches again, in their order. */
  async resend(batches: readonly AppendFacts[]): Promise<void> {
    for (const batch of batches) await this.sendBatch(batch);
  }

  private async sendBatch(facts: AppendFacts): Promise<void> {
    const { stream, partition: index } = facts.records[0] as PlacedRecord;
    await this.submit(facts, () => {
      const partition = this.log.stream(stream)?.partitions[index];
      return partition === undefined ? [] : [{ partition, batch: encode(facts) }];
    });
  }

  /** Resolves when it has been sent; the answer comes later. `entries` are made when there is room. */
  private async submit(facts: AppendFacts, entries: () => Append[]): Promise<void> {
    const bytes = facts.records.reduce((sum, { record }) => sum + boundOf(record), 0);
    while (this.inFlightBytes > 0 && this.inFlightBytes + bytes > this.options.maxInFlightBytes) {
      await Promise.race(this.inFlight);
    }
    const made = entries();
    this.chronicle.tell((oracle) => oracle.requested(facts));
    if (made.length === 0) {
      this.chronicle.tell((oracle) => oracle.failed(facts));
      return;
    }
    this.inFlightBytes += bytes;
    const answered = new Promise<void>((resolve) => {
      this.log.append(made, (error) => {
        this.inFlightBytes -= bytes;
        this.inFlight.delete(answered);
        this.watch(() => this.answer(facts, made, error));
        resolve();
      });
    });
    this.inFlight.add(answered);
  }

  private answer(facts: AppendFacts, entries: readonly Append[], error: LogError | null): void {
    if (error === null) {
      const offsets = facts.records.map((_, index) =>
        facts.producer === undefined ? entries[index]?.offset : (entries[0]?.offset ?? Number.NaN) + index,
      );
      this.chronicle.tell((oracle) => oracle.acknowledged(facts, offsets));
    } else if (error.code === "DUPLICATE_SEQUENCE") {
      const offsets = facts.records.map(() => undefined);
      this.chronicle.tell((oracle) => oracle.acknowledged(facts, offsets));
    } else if (this.options.isFaulty && REFUSED_BY_DISK.includes(error.code)) {
      this.chronicle.tell((oracle) => oracle.refused(facts));
    } else if (REFUSALS.includes(error.code) || this.isOfRetired(facts)) {
      this.chronicle.tell((oracle) => oracle.failed(facts));
    } else {
      throw new Violation(`an append was answered ${error.code}: ${error.message}`);
    }
  }

  /** What a producer had sent before it was told of a refusal is out of order. */
  private isOfRetired({ producer }: AppendFacts): boolean {
    return producer !== undefined && this.chronicle.now.retired.has(producer.id);
  }

  private watch(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.fail(error);
    }
  }

  /** Resolves when everything that was asked for has been answered. */
  async settle(): Promise<void> {
    await this.changing;
    while (this.inFlight.size > 0) await Promise.all(this.inFlight);
  }

  /** Asks for a change of the catalog, one at a time; resolves when the one before has been answered. */
  async change(change: CatalogChange): Promise<void> {
    await this.changing;
    if (this.isInDoubt) return;
    this.chronicle.tell((oracle) => oracle.changeRequested(change));
    this.changing = this.perform(change).then(
      () => this.watch(() => this.chronicle.tell((oracle) => oracle.changeAcknowledged())),
      (error: LogError) => {
        this.isInDoubt = this.options.isFaulty === true && REFUSED_BY_DISK.includes(error.code);
        if (this.isInDoubt) return;
        this.chronicle.tell((oracle) => oracle.changeFailed());
        if (!REFUSALS.includes(error.code)) this.fail(error);
      },
    );
  }

  private async perform(change: CatalogChange): Promise<void> {
    if (change.kind === "create") {
      await this.log.createStream(change.name, change.partitions, change.settings, "protocol");
    } else if (change.kind === "alter") {
      await this.log.alterStream(change.name, change);
    } else {
      await this.log.deleteStream(change.name);
    }
  }

  /** Deletes some of what a partition shows; resolves when it has been answered. */
  async deleteRecords(partition: Partition): Promise<void> {
    const { index, logStartOffset: start, highWatermark: end } = partition;
    const { name } = partition.stream;
    if (this.log.stream(name) !== partition.stream) return;
    const before = start + this.random.int(end - start + 1);
    this.chronicle.tell((oracle) => oracle.deletionRequested(name, index, before));
    try {
      await this.log.deleteRecords(partition, before);
    } catch (error) {
      const { code } = error as LogError;
      if (
        code === "CLOSED" ||
        REFUSALS.includes(code) ||
        (this.options.isFaulty && REFUSED_BY_DISK.includes(code))
      )
        return;
      throw error;
    }
    if (this.log.stream(name) !== partition.stream) return;
    this.chronicle.tell((oracle) => oracle.deletionAcknowledged(name, index, before));
  }

  /** Undefined when the log refused it. */
  async newProducerId(): Promise<number | undefined> {
    let id: number;
    try {
      id = await this.log.nextProducerId();
    } catch (error) {
      const { code } = error as LogError;
      if (REFUSALS.includes(code) || (this.options.isFaulty && REFUSED_BY_DISK.includes(code)))
        return undefined;
      throw error;
    }
    this.chronicle.tell((oracle) => oracle.producerIdGiven(id));
    return id;
  }

  /** Reads to the end, as a subscriber that remembers what it has seen. */
  async read(partition: Partition): Promise<void> {
    const { name } = partition.stream;
    const from = partition.logStartOffset + this.random.int(10);
    if (from >= partition.highWatermark) return;
    let records: Shown[];
    try {
      records = await readFrom(partition, from, this.chronicle.now);
    } catch (error) {
      // Retention or a deletion came in between.
      if (partition.logStartOffset > from || this.log.stream(name) !== partition.stream) return;
      throw error;
    }
    if (this.log.stream(name) !== partition.stream) return;
    this.chronicle.tell((oracle) => oracle.shown(name, partition.index, records));
  }
}

export function settingsOf(change: Partial<StreamSettings>): StreamSettings {
  return { ...DEFAULT_SETTINGS, ...change };
}

function boundOf(record: Rec): number {
  return recordBytesBound({ ...record, headers: NO_HEADERS }) + RECORD_OVERHEAD_BYTES;
}

/** A fresh copy: the log writes into it. */
function encode({ records, producer }: AppendFacts): Buffer {
  const batch = Buffer.from(batchOf(records.map(({ record }) => ({ ...record, headers: NO_HEADERS }))));
  batch.writeBigInt64BE(BigInt(producer?.id ?? -1), 43);
  batch.writeInt16BE(0, 51);
  batch.writeInt32BE(producer?.firstSequence ?? -1, 53);
  batch.writeUInt32BE(crc32c(batch.subarray(21)), 17);
  return batch;
}
