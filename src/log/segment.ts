/**
 * One segment of a partition: a `.log` file of record batches one after another, and its indexes.
 *
 * Batches are *added* when their commit is durable (the journal holds them) and *flushed* to the file some
 * time later; in between, readers get them from the partition's tail. Writes to the file are not synced but
 * by a checkpoint.
 *
 * What comes from the file is checked (segment-batches.ts). Where an index led to a wrong place, it is made anew.
 */
import { join } from "node:path";
import { LogError } from "../errors.ts";
import { baseOffsetOf, batchBytes, lastOffsetOf, maxTimestampOf } from "../wire/record-batch.ts";
import type { File, FileSystem } from "./file-system.ts";
import {
  allBatches,
  type Bounds,
  checkEnd,
  damaged,
  follows,
  headerAt,
  readBatches,
  scan,
} from "./segment-batches.ts";
import { SegmentFile } from "./segment-file.ts";
import { SegmentIndex } from "./segment-index.ts";
import { SegmentIndexFiles, vouchesFor } from "./segment-index-files.ts";
import { segmentName } from "./segment-name.ts";

export class Segment implements Bounds {
  readonly baseOffset: number;
  /** The next segment's base offset once there is one: all of this one's offsets are below. */
  end = Number.POSITIVE_INFINITY;
  /** Of the `.log` file; compaction writes under another name first. */
  name: string;
  private readonly folder: string;
  private readonly file: SegmentFile;
  private readonly indexFiles: SegmentIndexFiles;
  /** Bytes added; `flushedBytes` of them are in the file. */
  bytes = 0;
  flushedBytes = 0;
  /** Undefined until it is needed: an old segment that nobody reads costs no memory. */
  private index: SegmentIndex | undefined;
  private loading: Promise<{ index: SegmentIndex }> | undefined;
  private unsynced = false;
  /** A sync has failed: what was written since the last one is to be written again. */
  private syncFailed = false;
  /** How much of the file has been synced since it was opened, or was there then. */
  private syncedBytes = 0;
  /** Compaction may have left gaps between its batches; else each must begin where the one before ends. */
  mayHaveGaps = true;
  /** When its first and its last batch were added, in log time (see timekeeper.ts). */
  firstAddedAt: number | undefined;
  lastAddedAt: number | undefined;

  constructor(
    fileSystem: FileSystem,
    folder: string,
    baseOffset: number,
    name = segmentName(baseOffset, "log"),
  ) {
    this.folder = folder;
    this.baseOffset = baseOffset;
    this.name = name;
    this.file = new SegmentFile(fileSystem, () => this.path);
    this.indexFiles = new SegmentIndexFiles(fileSystem, folder, baseOffset);
  }

  get path(): string {
    return join(this.folder, this.name);
  }

  /** Begins an empty one, of which no file exists yet. */
  startEmpty(): void {
    this.index = new SegmentIndex(this.baseOffset);
  }

  /** Whether readers have gone from it and its memory could be given back. */
  get idle(): boolean {
    return !this.file.isInUse && !this.unsynced && this.flushedBytes === this.bytes;
  }

  get isLoaded(): boolean {
    return this.index !== undefined;
  }

  get isSynced(): boolean {
    return !this.unsynced;
  }

  private get isClosed(): boolean {
    return Number.isFinite(this.end);
  }

  /** Takes the file's size for its own, without looking into it: it lies below the recovery point. */
  async measure(): Promise<void> {
    await this.file.use("read", async (file) => {
      this.bytes = await file.size();
      this.flushedBytes = this.bytes;
      this.syncedBytes = this.bytes;
    });
    await this.close();
  }

  /**
   * Takes the files as they lie: the index is believed as far as its last entry points to a batch that has
   * the offset it says, and the rest is scanned. Everything from `endOffset` on is cut off. Returns the
   * offset after its last batch. Throws LogError DAMAGED when a batch below `endOffset` is not sound.
   */
  async load(endOffset: number): Promise<number> {
    return (await this.loadIndex(endOffset)).next;
  }

  /** What it has made may be unloaded before the reader who asked for it is done. */
  private loadIndex(endOffset: number): Promise<{ index: SegmentIndex; next: number }> {
    return this.file.use("read", async (file) => {
      const size = await file.size();
      // What lies behind may be anything: it was never synced, or it was cut off and is back.
      const limit = Math.min(endOffset, this.end);
      const index = await this.indexFiles.read(file, size, limit);
      const last = index.lastEntry();
      let position = last?.position ?? 0;
      let next = this.baseOffset;
      if (last !== undefined) {
        // The indexed batch itself counted when its entry was made; go on behind it.
        const header = await headerAt(file, position);
        next = lastOffsetOf(header) + 1;
        position += batchBytes(header);
      }
      for await (const { batch, at } of scan(file, position, size)) {
        if (next >= limit) break;
        const base = baseOffsetOf(batch);
        if (!follows(this, batch, 0, next)) damaged(this, at, `offset ${base} where ${next} should be`);
        index.add(at, batch.length, lastOffsetOf(batch), maxTimestampOf(batch));
        next = lastOffsetOf(batch) + 1;
        position = at + batch.length;
      }
      if (this.isClosed && position < size && next < this.end) damaged(this, position, "no sound batch");
      checkEnd(this, position, next);
      this.index = index;
      this.bytes = position;
      this.flushedBytes = position;
      this.syncedBytes = position;
      return { index, next };
    });
  }

  /** All batches of a closed segment, in order, each checked. Throws LogError DAMAGED. */
  async *batches(): AsyncGenerator<Buffer> {
    const file = await this.file.acquire();
    try {
      yield* allBatches(file, this, this.flushedBytes);
    } finally {
      this.file.release();
      if (!this.isLoaded) await this.close();
    }
  }

  /** Cuts the file to what counts, so that what is added next lies right behind it. */
  async truncate(): Promise<void> {
    await this.file.use("write", async (file) => {
      if ((await file.size()) <= this.bytes) return;
      await file.truncate(this.bytes);
      this.unsynced = true;
    });
  }

  /** A committed batch that follows the last one; the file gets it by `flush`. */
  add(batch: Buffer, now: number): void {
    this.firstAddedAt ??= now;
    this.lastAddedAt = now;
    (this.index as SegmentIndex).add(this.bytes, batch.length, lastOffsetOf(batch), maxTimestampOf(batch));
    this.bytes += batch.length;
  }

  /** Writes batches that were added, in their order, behind what the file has. */
  async flush(batches: readonly Buffer[]): Promise<void> {
    await this.file.use("write", async (file) => {
      await file.write(batches, this.flushedBytes);
      for (const batch of batches) this.flushedBytes += batch.length;
      this.unsynced = true;
    });
  }

  /** After this, what has been flushed survives a power cut. */
  async sync(): Promise<void> {
    if (!this.unsynced || this.file.isRetired) return;
    await this.file.use("write", async (file) => {
      try {
        this.unsynced = false;
        if (this.syncFailed) await this.writeAgain(file);
        const bytes = this.flushedBytes;
        await file.sync();
        this.syncFailed = false;
        this.syncedBytes = bytes;
      } catch (error) {
        this.unsynced = true;
        this.syncFailed = true;
        throw error;
      }
    });
  }

  /**
   * A sync that failed is not whole when the next one succeeds: the kernel has given up what it could not write,
   * and says so once. What it still has is checked and written once more.
   */
  private async writeAgain(file: File): Promise<void> {
    const end = this.flushedBytes;
    let position = this.syncedBytes;
    for await (const { batch, at } of scan(file, position, end)) {
      await file.write([batch], at);
      position = at + batch.length;
    }
    if (position < end)
      damaged(this, position, "the disk has lost what it could not write; the journal still has it");
  }

  /** Appends to the index files what was indexed since the last time; not synced, see SegmentIndex. */
  async writeIndex(seal: boolean): Promise<void> {
    const index = this.index;
    if (index === undefined || this.file.isRetired) return;
    if (seal) index.seal();
    await this.indexFiles.write(index);
  }

  /** The largest timestamp in it and the last offset of that batch. */
  async newest(): Promise<{ timestamp: number; offset: number }> {
    const index = await this.indexWithTimes();
    return { timestamp: index.maxTimestamp, offset: index.offsetOfMaxTimestamp };
  }

  private async loadedIndex(): Promise<SegmentIndex> {
    if (this.index !== undefined) return this.index;
    // One for all who come meanwhile: it may be a scan of the whole file.
    this.loading ??= this.loadIndex(Number.POSITIVE_INFINITY).finally(() => {
      this.loading = undefined;
    });
    return (await this.loading).index;
  }

  /** Reads the batches whose timestamps the index does not know. Throws LogError DAMAGED. */
  private async indexWithTimes(): Promise<SegmentIndex> {
    const index = await this.loadedIndex();
    const gap = index.timeGap;
    if (gap === undefined) return index;
    return this.file.use("read", async (file) => {
      const found: { lastOffset: number; maxTimestamp: number }[] = [];
      let position = index.find(gap.after).position;
      for await (const { batch, at } of scan(file, position, this.flushedBytes)) {
        const lastOffset = lastOffsetOf(batch);
        if (lastOffset > gap.after) found.push({ lastOffset, maxTimestamp: maxTimestampOf(batch) });
        position = at + batch.length;
        if (lastOffset >= gap.last) break;
      }
      if (found.at(-1)?.lastOffset !== gap.last) damaged(this, position, "no sound batch");
      index.fillTimeGap(found);
      return index;
    });
  }

  /** An offset at or before the first record that is as new as `timestamp`. */
  async offsetBefore(timestamp: number): Promise<number> {
    const index = await this.indexWithTimes();
    const entry = index.entryBefore(timestamp);
    if (entry === undefined) return this.baseOffset;
    // Behind what is flushed it is known from the batches themselves, and there may be no file yet.
    const isFlushed = index.find(entry.offset).position < this.flushedBytes;
    const isSound =
      !isFlushed ||
      (await this.file.use("read", (file) => vouchesFor(file, index, entry, this.flushedBytes)));
    if (isSound) return entry.offset;
    await this.distrust();
    return this.baseOffset;
  }

  /** What the index files said is wrong: they are made anew of what the segment holds. */
  private async distrust(): Promise<void> {
    this.indexFiles.distrust();
    // One that still grows goes without what its files said until it is closed.
    if (!this.isClosed) return (this.index as SegmentIndex).forgetEntries();
    this.index = undefined;
    await this.loadedIndex();
    // On a disk that takes no writes it is done again the next time.
    await this.writeIndex(true).catch(() => {});
  }

  /** See `readBatches`; of the flushed part. */
  read(offset: number, maxBytes: number): Promise<{ found: Buffer; isLast: boolean }> {
    return this.file.use("read", async (file) => {
      const start = (await this.loadedIndex()).find(offset);
      try {
        return await readBatches(file, this, this.flushedBytes, start, offset, maxBytes);
      } catch (error) {
        if (start.position === 0 || !(error instanceof LogError && error.code === "DAMAGED")) throw error;
        // The index may have led to a wrong place.
        const beginning = { position: 0, lastOffset: undefined };
        const found = await readBatches(file, this, this.flushedBytes, beginning, offset, maxBytes);
        await this.distrust();
        return found;
      }
    });
  }

  /** Closes the file when the last reader is done; it can be opened again by need. */
  close(): Promise<void> {
    return this.file.close();
  }

  /** Keeps the file open, whatever its name becomes, until the returned function is called. */
  async hold(): Promise<() => void> {
    await this.file.acquire("write");
    return () => this.file.release();
  }

  /** It is no longer its partition's: nobody begins to read it any more. */
  async retire(): Promise<void> {
    this.file.isRetired = true;
    await this.close();
  }

  /** Gives back memory and descriptor of one that is only read. */
  async unload(): Promise<void> {
    this.index = undefined;
    await this.close();
  }

  /** Its file's name goes, and the file with the last reader once `close` is called, when the name is gone for good. */
  removeName(): Promise<void> {
    return this.file.removeName();
  }

  /** As `removeName`, its indexes' too. */
  async removeNames(): Promise<void> {
    await this.removeName();
    await this.indexFiles.remove();
  }
}
