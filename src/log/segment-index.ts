/**
 * The two sparse indexes of a segment, in Kafka's file formats, so that Kafka's own tools can read them.
 *
 * `.index`: i32 relative offset | i32 position, where the offset is the *last* offset of the batch that begins
 * at the position. `.timeindex`: i64 timestamp | i32 relative offset, the largest timestamp up to there and the
 * last offset of the batch that has it, both strictly growing.
 *
 * Indexes are hints: they are never synced, a look-up may land anywhere before what it seeks, and whatever an
 * index says is held against the batch it points to before it is believed (see Segment.load).
 *
 * What a file says can so be proved; that it says all cannot. Of an offset index that is no harm: where it ends,
 * batches are scanned. But of a time index whose end is missing a segment would seem older than it is. So what lies
 * behind its newest entry is a *gap*, where timestamps do not grow or were not written: nothing about time is told
 * before that has been read, and it is read only when somebody asks. A start asks nothing about time.
 */
import { readInt64, writeInt64 } from "../wire/buffer.ts";

/** A batch gets an entry when this many bytes have gone by since the last one (Kafka's index.interval.bytes). */
export const INDEX_INTERVAL_BYTES = 4096;
export const INDEX_ENTRY_BYTES = 8;
export const TIME_ENTRY_BYTES = 12;
/** Offsets from a segment's first to its last at most: entries have them as i32, relative to the first. */
export const MAX_OFFSETS = 2 ** 31 - 1;

/** Offsets relative to the segment's. */
interface TimeGap {
  readonly after: number;
  readonly last: number;
  /** Time entries before it. */
  readonly times: number;
}

export class SegmentIndex {
  private readonly baseOffset: number;
  private readonly offsets: number[] = [];
  private readonly positions: number[] = [];
  private readonly timestamps: number[] = [];
  private readonly timeOffsets: number[] = [];
  private bytesSinceEntry = 0;
  private unread: TimeGap | undefined;
  /** The largest timestamp in the segment, -1 when empty. */
  maxTimestamp = -1;
  /** The last offset of the batch that has it. */
  offsetOfMaxTimestamp = -1;

  constructor(baseOffset: number) {
    this.baseOffset = baseOffset;
  }

  /** Entries in each index; of the times, those that are known to be right. */
  get counts(): { offsets: number; times: number } {
    return { offsets: this.offsets.length, times: this.unread?.times ?? this.timestamps.length };
  }

  /** The batches whose timestamps it does not know: they end behind the offset `after`, the last with `last`. */
  get timeGap(): { after: number; last: number } | undefined {
    if (this.unread === undefined) return undefined;
    return { after: this.baseOffset + this.unread.after, last: this.baseOffset + this.unread.last };
  }

  /** The batches of the gap, in order. */
  fillTimeGap(batches: readonly { readonly lastOffset: number; readonly maxTimestamp: number }[]): void {
    if (this.unread === undefined) return;
    const { times } = this.unread;
    this.unread = undefined;
    const later = this.timestamps.splice(times);
    const laterOffsets = this.timeOffsets.splice(times);
    const newest = { timestamp: this.maxTimestamp, offset: this.offsetOfMaxTimestamp };
    this.restoreNewest();
    for (const { lastOffset, maxTimestamp } of batches) {
      this.noteTime(lastOffset, maxTimestamp);
      const offset = lastOffset - this.baseOffset;
      if (this.offsets[lastAtMost(this.offsets, offset)] === offset) this.addTimeEntry();
    }
    for (const [at, timestamp] of later.entries()) {
      if (timestamp <= this.maxTimestamp) continue;
      this.noteTime(this.baseOffset + (laterOffsets[at] as number), timestamp);
      this.addTimeEntry();
    }
    this.noteTime(newest.offset, newest.timestamp);
  }

  private noteTime(lastOffset: number, timestamp: number): void {
    if (timestamp <= this.maxTimestamp) return;
    this.maxTimestamp = timestamp;
    this.offsetOfMaxTimestamp = lastOffset;
  }

  /** By the newest entry. */
  private restoreNewest(): void {
    this.maxTimestamp = this.timestamps.at(-1) ?? -1;
    this.offsetOfMaxTimestamp = this.baseOffset + (this.timeOffsets.at(-1) ?? 0);
  }

  /** Takes notice of a batch that lies at `position`. */
  add(position: number, bytes: number, lastOffset: number, maxTimestamp: number): void {
    this.noteTime(lastOffset, maxTimestamp);
    if (this.bytesSinceEntry > INDEX_INTERVAL_BYTES) {
      this.offsets.push(lastOffset - this.baseOffset);
      this.positions.push(position);
      this.addTimeEntry();
      this.bytesSinceEntry = 0;
    }
    this.bytesSinceEntry += bytes;
  }

  /** The time index's last word on a segment that takes no more. */
  seal(): void {
    if (this.unread === undefined) this.addTimeEntry();
  }

  private addTimeEntry(): void {
    if (this.maxTimestamp <= (this.timestamps.at(-1) ?? -1)) return;
    this.timestamps.push(this.maxTimestamp);
    this.timeOffsets.push(this.offsetOfMaxTimestamp - this.baseOffset);
  }

  /** Where to begin looking for `offset`, and the last offset of the batch there if that is known. */
  find(offset: number): { position: number; lastOffset: number | undefined } {
    const index = lastAtMost(this.offsets, offset - this.baseOffset);
    if (index < 0) return { position: 0, lastOffset: undefined };
    const lastOffset = this.baseOffset + (this.offsets[index] as number);
    return { position: this.positions[index] as number, lastOffset };
  }

  /** The newest entry before `timestamp`: no record with that timestamp lies in a batch before its. */
  entryBefore(timestamp: number): { timestamp: number; offset: number } | undefined {
    const index = lastAtMost(this.timestamps, timestamp - 1);
    if (index < 0) return undefined;
    const offset = this.baseOffset + (this.timeOffsets[index] as number);
    return { timestamp: this.timestamps[index] as number, offset };
  }

  /** Keeps what it knows of the whole. */
  forgetEntries(): void {
    for (const list of [this.offsets, this.positions, this.timestamps, this.timeOffsets]) list.length = 0;
    if (this.unread !== undefined) this.unread = { ...this.unread, after: -1, times: 0 };
  }

  /** The last entry at or before `position`, to begin a scan at. */
  lastEntry(): { offset: number; position: number } | undefined {
    const at = this.offsets.length - 1;
    if (at < 0) return undefined;
    return { offset: this.baseOffset + (this.offsets[at] as number), position: this.positions[at] as number };
  }

  /** Both files' bytes from the given entries on. */
  encode(fromOffset = 0, fromTime = 0): { offsets: Buffer; times: Buffer } {
    const { times: toTime } = this.counts;
    const offsets = Buffer.allocUnsafe((this.offsets.length - fromOffset) * INDEX_ENTRY_BYTES);
    for (let index = fromOffset, at = 0; index < this.offsets.length; index++, at += INDEX_ENTRY_BYTES) {
      offsets.writeInt32BE(this.offsets[index] as number, at);
      offsets.writeInt32BE(this.positions[index] as number, at + 4);
    }
    const times = Buffer.allocUnsafe((toTime - fromTime) * TIME_ENTRY_BYTES);
    for (let index = fromTime, at = 0; index < toTime; index++, at += TIME_ENTRY_BYTES) {
      writeInt64(times, at, this.timestamps[index] as number);
      times.writeInt32BE(this.timeOffsets[index] as number, at + 8);
    }
    return { offsets, times };
  }

  /**
   * Reads both files, as far as they make sense for a segment of which `bytes` bytes and the offsets below
   * `endOffset` count. Entries that do not grow or point elsewhere end the reading.
   */
  static decode(
    baseOffset: number,
    offsets: Buffer,
    times: Buffer,
    bytes: number,
    endOffset: number,
  ): SegmentIndex {
    const index = new SegmentIndex(baseOffset);
    for (let at = 0; at + INDEX_ENTRY_BYTES <= offsets.length; at += INDEX_ENTRY_BYTES) {
      const offset = offsets.readInt32BE(at);
      const position = offsets.readInt32BE(at + 4);
      const grows =
        offset > (index.offsets.at(-1) ?? -1) &&
        position > (index.positions.at(-1) ?? 0) &&
        position < bytes &&
        baseOffset + offset < endOffset;
      if (!grows) break;
      index.offsets.push(offset);
      index.positions.push(position);
    }
    const lastIndexed = index.offsets.at(-1) ?? -1;
    for (let at = 0; at + TIME_ENTRY_BYTES <= times.length; at += TIME_ENTRY_BYTES) {
      const timestamp = readInt64(times, at);
      const offset = times.readInt32BE(at + 8);
      // Beyond the last offset entry the scan that follows adds what is there.
      const grows = timestamp > (index.timestamps.at(-1) ?? -1) && offset <= lastIndexed && offset >= 0;
      if (!grows) break;
      index.timestamps.push(timestamp);
      index.timeOffsets.push(offset);
    }
    const after = index.timeOffsets.at(-1) ?? -1;
    if (lastIndexed > after) index.unread = { after, last: lastIndexed, times: index.timestamps.length };
    index.restoreNewest();
    return index;
  }
}

/** The last index in an ascending list whose value is at most `value`; -1 when there is none. */
export function lastAtMost(ascending: readonly number[], value: number): number {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ascending[middle] as number) <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
