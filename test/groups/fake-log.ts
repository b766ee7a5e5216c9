/**
 * A log in memory: one partition per stream is enough here. `held` keeps appends waiting, as a slow disk
 * does; `failWith` refuses them. What was committed outlives the coordinator, so a "restart" is a new one on
 * the same log.
 */
import { LogError } from "../../src/errors.ts";
import type { Append, Log, Partition, RecordAppend, Stream, StreamOrigin } from "../../src/log/log.ts";
import { batchOf } from "../../src/wire/record-batch.ts";

class FakePartition {
  readonly index: number;
  readonly batches: Buffer[] = [];
  highWatermark = 0;
  readonly logStartOffset = 0;

  constructor(index: number) {
    this.index = index;
  }

  commit(record: RecordAppend): void {
    this.batches.push(Buffer.from(batchOf([record], this.highWatermark++)));
  }

  /** A few at a time, so that a reader has to go on. */
  read(offset: number): Promise<readonly Buffer[]> {
    return Promise.resolve(this.batches.slice(offset, offset + 3));
  }
}

export class FakeLog {
  private readonly byName = new Map<string, { name: string; partitions: FakePartition[] }>();
  private readonly waiting: (() => void)[] = [];
  failWith: string | undefined;
  held = false;
  /** An append was refused. */
  failed = false;
  appends = 0;

  constructor(streams: Record<string, number> = {}) {
    for (const [name, partitions] of Object.entries(streams)) this.add(name, partitions);
  }

  get log(): Log {
    return this as unknown as Log;
  }

  private add(name: string, count: number): Stream {
    const partitions = Array.from({ length: count }, (_, index) => new FakePartition(index));
    this.byName.set(name, { name, partitions });
    return this.byName.get(name) as unknown as Stream;
  }

  stream(name: string): Stream | undefined {
    return this.byName.get(name) as unknown as Stream | undefined;
  }

  createStream(name: string, count: number, _settings: object, _origin: StreamOrigin): Promise<Stream> {
    return Promise.resolve(this.add(name, count));
  }

  partition(name: string, index = 0): Partition {
    return this.stream(name)?.partitions[index] as Partition;
  }

  append(entries: readonly Append[], done: (error: LogError | null) => void): void {
    this.appends++;
    const commit = () => {
      if (this.failWith !== undefined) {
        this.failed = true;
        done(new LogError(this.failWith, "the disk refused"));
        return;
      }
      for (const entry of entries) {
        (entry.partition as unknown as FakePartition).commit(entry as RecordAppend);
      }
      done(null);
    };
    this.waiting.push(commit);
    if (!this.held) queueMicrotask(() => this.flush());
  }

  /** The power goes: what waits is never written, and nobody is told. */
  lose(): void {
    this.waiting.length = 0;
  }

  /** The commit: all that wait, in their order. */
  flush(): void {
    for (const commit of this.waiting.splice(0)) commit();
  }
}
