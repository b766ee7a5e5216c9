/** `__consumer_offsets`: the one internal stream that all groups are kept on, compacted and never expired. */
import type { LogError } from "../errors.ts";
import type { Log, Partition, RecordAppend } from "../log/log.ts";
import { wholePartition } from "../log/whole-partition.ts";
import { NO_HEADERS, recordsOf } from "../wire/record-batch.ts";
import type { KeyedRecord } from "./records.ts";

export const OFFSETS_STREAM = "__consumer_offsets";
/** A group of `maxMembersPerGroup` with ordinary subscriptions is well below this. */
const MAX_RECORD_BYTES = 8 << 20;

export class GroupStore {
  private readonly log: Log;
  private partition: Partition | undefined;

  constructor(log: Log) {
    this.log = log;
  }

  /** Finds or makes the stream, and gives every record on it to `each`, oldest first. */
  async start(each: (key: Buffer, value: Buffer | null) => void): Promise<void> {
    // One partition: they spread a coordinator's load over brokers, and here is one.
    const stream =
      this.log.stream(OFFSETS_STREAM) ??
      (await this.log.createStream(
        OFFSETS_STREAM,
        1,
        { cleanup: "compact", retentionMs: -1, retentionBytes: -1, maxMessageBytes: MAX_RECORD_BYTES },
        "internal",
      ));
    const partition = stream.partitions[0] as Partition;
    for await (const buffers of wholePartition(partition)) {
      for (const { key, value } of recordsOf(buffers)) if (key !== null) each(key, value);
    }
    this.partition = partition;
  }

  /** Records for an append. */
  entries(records: readonly KeyedRecord[], timestamp: number): RecordAppend[] {
    const partition = this.partition as Partition;
    return records.map(({ key, value }) => ({ partition, key, value, headers: NO_HEADERS, timestamp }));
  }

  /** All of it in one commit; `done` is never called before this returns. */
  append(records: readonly KeyedRecord[], timestamp: number, done: (error: LogError | null) => void): void {
    this.log.append(this.entries(records, timestamp), done);
  }
}
