/** The internal streams that the broker's state is kept on: read back at start, then written by appends. */
import type { LogError } from "../errors.ts";
import type { Log, Partition, RecordAppend, StreamSettings } from "../log/log.ts";
import { wholePartition } from "../log/whole-partition.ts";
import { NO_HEADERS, recordsOf } from "../wire/record-batch.ts";
import {
  encodeKey,
  encodeValue,
  type Fact,
  type KeyOf,
  type KindName,
  readFact,
  STATE_STREAMS,
  streamOf,
  type ValueOf,
} from "./records.ts";

/** A record of the broker's state on its way to the disk. */
export interface Change {
  readonly entry: RecordAppend;
  /** Told in the order of the log whether the record is on disk. */
  settle?(isDurable: boolean): void;
}

const SETTINGS: Partial<StreamSettings> = {
  cleanup: "compact",
  retentionMs: -1,
  retentionBytes: -1,
  segmentBytes: 16 << 20,
  maxMessageBytes: 4 << 20,
};

export class StateStore {
  private readonly log: Log;
  private readonly partitions = new Map<string, Partition>();
  /** For sessions, wills and messages alike; see records.ts. */
  private nextNumber = 1;

  constructor(log: Log) {
    this.log = log;
  }

  /** Finds or makes the streams and gives all that is on them to `each`, stream by stream, oldest first. */
  async start(each: (fact: Fact) => void): Promise<void> {
    for (const name of STATE_STREAMS) {
      const stream = this.log.stream(name) ?? (await this.log.createStream(name, 1, SETTINGS, "internal"));
      const partition = stream.partitions[0] as Partition;
      this.partitions.set(name, partition);
      for await (const buffers of wholePartition(partition)) {
        for (const { key, value } of recordsOf(buffers)) {
          if (key === null) continue;
          const fact = readFact(key, value);
          this.noteNumbers(fact);
          each(fact);
        }
      }
    }
  }

  private noteNumbers({ key, value }: Fact): void {
    const numbers = { ...key, ...value } as { number?: number; session?: number };
    this.nextNumber = Math.max(this.nextNumber, (numbers.number ?? 0) + 1, (numbers.session ?? 0) + 1);
    if (value === null || !("deliveries" in value)) return;
    for (const { session } of value.deliveries) this.nextNumber = Math.max(this.nextNumber, session + 1);
  }

  newNumber(): number {
    return this.nextNumber++;
  }

  /** A record for an append; null deletes. */
  entry<N extends KindName>(name: N, key: KeyOf<N>, value: ValueOf<N> | null): RecordAppend {
    const partition = this.partitions.get(streamOf(name)) as Partition;
    return {
      partition,
      key: encodeKey(name, key),
      value: value === null ? null : encodeValue(name, value),
      headers: NO_HEADERS,
      timestamp: Date.now(),
    };
  }

  append(entries: readonly RecordAppend[], done: (error: LogError | null) => void): void {
    this.log.append(entries, done);
  }

  /** Resolves when it is on disk. */
  write(entry: RecordAppend): Promise<void> {
    return new Promise((resolve, reject) => {
      this.log.append([entry], (error) => (error === null ? resolve() : reject(error)));
    });
  }
}
