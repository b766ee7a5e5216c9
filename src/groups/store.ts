/** `__consumer_offsets`: the one internal stream that all groups are kept on, compacted and never expired. */
import type { LogError } from "../errors.ts";
import type { Log, Partition, RecordAppend } from "../log/log.ts";
import { endOffsetOf, NO_HEADERS, recordsOf } from "../wire/record-batch.ts";
import type { KeyedRecord } from "./records.ts";

export const OFFSETS_STREAM = "__consumer_offsets";
const READ_BYTES = 1 << 20;
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
    let next = partition.logStartOffset;
    while (next < partition.highWatermark) {
      const buffers = await partition.read(next, READ_BYTES);
      const from = next;
      for (const { key, value } of recordsOf(buffers)) if (key !== null) each(key, value);
      next = endOffsetOf(buffers);
      if (next <= from) throw new RangeError(`no progress at offset ${from} of ${OFFSETS_STREAM}`);
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
