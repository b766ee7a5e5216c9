/** A log in memory whose commits are held until the test lets them go. */
import { LogError } from "../../src/errors.ts";
import type { Append, Log, Partition, RecordAppend, Stream } from "../../src/log/log.ts";
import { batchOf, decodeRecords } from "../../src/wire/record-batch.ts";

interface Held {
  readonly entries: readonly RecordAppend[];
  readonly done: (error: LogError | null) => void;
}

export class FakeLog {
  /** Commits at once unless true. */
  hold = false;
  readonly held: Held[] = [];
  readonly committed: RecordAppend[] = [];
  readonly created: string[] = [];
  private readonly byName = new Map<string, Stream>();

  constructor(...names: string[]) {
    for (const name of names) this.add(name, 4);
  }

  get log(): Log {
    return this as unknown as Log;
  }

  get streams(): readonly Stream[] {
    return [...this.byName.values()];
  }

  /** Records on streams of the user's; the broker's own state is apart. */
  private get visible(): RecordAppend[] {
    return this.committed.filter(({ partition }) => !partition.stream.internal);
  }

  stream(name: string): Stream | undefined {
    return this.byName.get(name);
  }

  async createStream(name: string, partitions: number, _settings: object, origin: string): Promise<Stream> {
    await new Promise((resolve) => setImmediate(resolve));
    if (origin !== "internal") this.created.push(name);
    return this.add(name, partitions, origin === "internal");
  }

  append(entries: readonly Append[], done: (error: LogError | null) => void): void {
    this.held.push({ entries: entries as readonly RecordAppend[], done });
    if (!this.hold) setImmediate(() => this.release());
  }

  /** Commits, or refuses, all that is held. */
  release(error: LogError | null = null): void {
    for (const { entries, done } of this.held.splice(0)) {
      if (error === null) this.committed.push(...entries);
      done(error);
    }
  }

  get values(): string[] {
    return this.visible.map(({ value }) => value?.toString() ?? "");
  }

  headersOf(index: number): Record<string, string> {
    const [record] = decodeRecords(batchOf([this.visible[index] as RecordAppend]));
    return Object.fromEntries((record?.headers ?? []).map(({ key, value }) => [key, String(value)]));
  }

  private add(name: string, count: number, internal = false): Stream {
    const partitions: Partition[] = [];
    const settings = { cleanup: internal ? "compact" : "delete" };
    const stream = { name, internal, settings, partitions, keylessPartition: () => partitions[0] };
    for (let index = 0; index < count; index++) {
      partitions.push({ stream, index, logStartOffset: 0, highWatermark: 0 } as unknown as Partition);
    }
    this.byName.set(name, stream as unknown as Stream);
    return stream as unknown as Stream;
  }
}

export const refused = new LogError("READ_ONLY", "the disk is full");
