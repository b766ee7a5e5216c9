/**
 * A segment's index on disk. Its two files are hints and never synced: what they say counts as far as a batch in the
 * segment vouches for it, and once they have been wrong they are made anew of what the segment holds.
 */
import { join } from "node:path";
import { BATCH_HEADER_BYTES, batchBytes, lastOffsetOf, maxTimestampOf } from "../wire/record-batch.ts";
import type { File, FileSystem } from "./file-system.ts";
import { headerAt, scan } from "./segment-batches.ts";
import { INDEX_ENTRY_BYTES, SegmentIndex, TIME_ENTRY_BYTES } from "./segment-index.ts";
import { segmentName } from "./segment-name.ts";

export class SegmentIndexFiles {
  private readonly fileSystem: FileSystem;
  private readonly folder: string;
  private readonly baseOffset: number;
  private writtenOffsets = 0;
  private writtenTimes = 0;
  /** They are, and end where what was written last does. */
  private areThere = false;
  private areWrong = false;

  constructor(fileSystem: FileSystem, folder: string, baseOffset: number) {
    this.fileSystem = fileSystem;
    this.folder = folder;
    this.baseOffset = baseOffset;
  }

  private path(ending: "index" | "timeindex"): string {
    return join(this.folder, segmentName(this.baseOffset, ending));
  }

  /** For a segment's file of which `size` bytes and the offsets below `endOffset` count; empty when not to be believed. */
  async read(file: File, size: number, endOffset: number): Promise<SegmentIndex> {
    const index = this.areWrong ? undefined : await this.believable(file, size, endOffset);
    this.writtenOffsets = index?.counts.offsets ?? 0;
    this.writtenTimes = index?.counts.times ?? 0;
    this.areThere = false;
    return index ?? new SegmentIndex(this.baseOffset);
  }

  private async believable(file: File, size: number, endOffset: number): Promise<SegmentIndex | undefined> {
    const [offsets, times] = await Promise.all([
      this.fileSystem.readFile(this.path("index")),
      this.fileSystem.readFile(this.path("timeindex")),
    ]);
    const none = Buffer.alloc(0);
    const index = SegmentIndex.decode(this.baseOffset, offsets ?? none, times ?? none, size, endOffset);
    const last = index.lastEntry();
    if (last === undefined) return undefined;
    const isSound = await hasBatchAt(file, last, size);
    const { offsetOfMaxTimestamp: offset, maxTimestamp: timestamp } = index;
    const isTimeSound = timestamp < 0 || (await vouchesFor(file, index, { offset, timestamp }));
    return isSound && isTimeSound ? index : undefined;
  }

  /** Appends what was indexed since the last time. */
  async write(index: SegmentIndex): Promise<void> {
    const counts = index.counts;
    const isWritten = counts.offsets === this.writtenOffsets && counts.times === this.writtenTimes;
    if (isWritten && this.areThere) return;
    const { offsets, times } = index.encode(this.writtenOffsets, this.writtenTimes);
    await this.writeAt("index", offsets, this.writtenOffsets * INDEX_ENTRY_BYTES);
    await this.writeAt("timeindex", times, this.writtenTimes * TIME_ENTRY_BYTES);
    this.writtenOffsets = counts.offsets;
    this.writtenTimes = counts.times;
    this.areThere = true;
  }

  private async writeAt(ending: "index" | "timeindex", content: Buffer, position: number): Promise<void> {
    if (content.length === 0 && this.areThere) return;
    const file = await this.fileSystem.open(this.path(ending), "write");
    try {
      // What may lie behind is of before a crash, or was not believed.
      if (!this.areThere) await file.truncate(position);
      if (content.length > 0) await file.write([content], position);
    } finally {
      await file.close();
    }
  }

  /** What they say is wrong: they are not read again, and the next `write` begins anew. */
  distrust(): void {
    this.areWrong = true;
    this.writtenOffsets = 0;
    this.writtenTimes = 0;
    this.areThere = false;
  }

  async remove(): Promise<void> {
    await this.fileSystem.remove(this.path("index"));
    await this.fileSystem.remove(this.path("timeindex"));
  }
}

/** Whether a whole, sound batch with that last offset lies there: what is read as a header may be anything. */
async function hasBatchAt(
  file: File,
  { position, offset }: { position: number; offset: number },
  size: number,
): Promise<boolean> {
  for await (const { batch } of scan(file, position, size)) return lastOffsetOf(batch) === offset;
  return false;
}

/** Whether the batch that ends with an offset has a timestamp for its largest, as a time index says. */
export async function vouchesFor(
  file: File,
  index: SegmentIndex,
  { offset, timestamp }: { offset: number; timestamp: number },
  size = Number.POSITIVE_INFINITY,
): Promise<boolean> {
  let { position } = index.find(offset);
  for (;;) {
    // What lies behind is known from the batches themselves.
    if (position >= size) return true;
    const header = await headerAt(file, position);
    if (header.length < BATCH_HEADER_BYTES) return false;
    const bytes = batchBytes(header);
    if (lastOffsetOf(header) === offset) return maxTimestampOf(header) === timestamp;
    if (lastOffsetOf(header) > offset || bytes < BATCH_HEADER_BYTES) return false;
    position += bytes;
  }
}
