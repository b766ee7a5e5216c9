/**
 * The two sparse indexes of a segment, in Kafka's file formats, so that Kafka's own tools can read them.
 *
 * `.index`: i32 relative offset | i32 position, where the offset is the *last* offset of the batch that begins
 * at the position. `.timeindex`: i64 timestamp | i32 relative offset, the largest timestamp up to there and the
 * last offset of the batch that has it, both strictly growing.
 *
 * Indexes are hints: they are never synced, a look-up may land anywhere before what it seeks, and whatever an
 * index says is held against the batch it points to before it is believed (see Segment.load).
 */

/** A batch gets an entry when this many bytes have gone by since the last one (Kafka's index.interval.bytes). */
export const INDEX_INTERVAL_BYTES = 4096;
export const INDEX_ENTRY_BYTES = 8;
export const TIME_ENTRY_BYTES = 12;

export class SegmentIndex {
  private readonly baseOffset: number;
  private readonly offsets: number[] = [];
  private readonly positions: number[] = [];
  private readonly timestamps: number[] = [];
  private readonly timeOffsets: number[] = [];
  private bytesSinceEntry = 0;
  /** The largest timestamp in the segment, -1 when empty. */
  maxTimestamp = -1;
  /** The last offset of the batch that has it. */
  offsetOfMaxTimestamp = -1;

  constructor(baseOffset: number) {
    this.baseOffset = baseOffset;
  }

  /** Entries in each index. */
  get counts(): { offsets: number; times: number } {
    return { offsets: this.offsets.length, times: this.timestamps.length };
  }

  /** Takes notice of a batch that lies at `position`. */
  add(position: number, bytes: number, lastOffset: number, maxTimestamp: number): void {
    if (maxTimestamp > this.maxTimestamp) {
      this.maxTimestamp = maxTimestamp;
      this.offsetOfMaxTimestamp = lastOffset;
    }
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
    this.addTimeEntry();
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
  }

  /** The last entry at or before `position`, to begin a scan at. */
  lastEntry(): { offset: number; position: number } | undefined {
    const at = this.offsets.length - 1;
    if (at < 0) return undefined;
    return { offset: this.baseOffset + (this.offsets[at] as number), position: this.positions[at] as number };
  }

  /** Both files' bytes from the given entries on. */
  encode(fromOffset = 0, fromTime = 0): { offsets: Buffer; times: Buffer } {
    const offsets = Buffer.allocUnsafe((this.offsets.length - fromOffset) * INDEX_ENTRY_BYTES);
    for (let index = fromOffset, at = 0; index < this.offsets.length; index++, at += INDEX_ENTRY_BYTES) {
      offsets.writeInt32BE(this.offsets[index] as number, at);
      offsets.writeInt32BE(this.positions[index] as number, at + 4);
    }
    const times = Buffer.allocUnsafe((this.timestamps.length - fromTime) * TIME_ENTRY_BYTES);
    for (let index = fromTime, at = 0; index < this.timestamps.length; index++, at += TIME_ENTRY_BYTES) {
      times.writeBigInt64BE(BigInt(this.timestamps[index] as number), at);
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
      const timestamp = Number(times.readBigInt64BE(at));
      const offset = times.readInt32BE(at + 8);
      // Beyond the last offset entry the scan that follows adds what is there.
      const grows = timestamp > (index.timestamps.at(-1) ?? -1) && offset <= lastIndexed && offset >= 0;
      if (!grows) break;
      index.timestamps.push(timestamp);
      index.timeOffsets.push(offset);
    }
    // The two files are not synced and may have come to disk in part. What lies behind the newest time entry
    // is scanned again: a later one may be missing, and the segment would be taken for older than it is.
    const vouched = index.timeOffsets.at(-1) ?? -1;
    while ((index.offsets.at(-1) ?? -1) > vouched) {
      index.offsets.pop();
      index.positions.pop();
    }
    index.maxTimestamp = index.timestamps.at(-1) ?? -1;
    index.offsetOfMaxTimestamp = baseOffset + (index.timeOffsets.at(-1) ?? 0);
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
