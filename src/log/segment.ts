/**
 * One segment of a partition: a `.log` file of record batches one after another, and its indexes.
 *
 * Batches are *added* when their commit is durable (the journal holds them) and *flushed* to the file some
 * time later; in between, readers get them from the partition's tail. Writes to the file are not synced but
 * by a checkpoint. A reader may still be reading a segment that retention has deleted or compaction has
 * replaced: the file stays open until the last one is done, and whoever comes later looks again.
 *
 * Offsets follow one another without a gap, but in closed segments: there compaction leaves gaps.
 *
 * Every batch that comes from the file is checked before anybody is given it: its checksum, and its offsets
 * against the batch before it. Where an index led to a wrong place, it is made anew.
 */
import { join } from "node:path";
import { LogError } from "../errors.ts";
import {
  BATCH_HEADER_BYTES,
  baseOffsetOf,
  batchBytes,
  batchProblem,
  lastOffsetOf,
  maxTimestampOf,
} from "../wire/record-batch.ts";
import type { File, FileSystem } from "./file-system.ts";
import { SegmentIndex } from "./segment-index.ts";

/** No batch is larger; a length beyond it is damage. */
export const MAX_BATCH_BYTES = 64 << 20;
const SCAN_BYTES = 1 << 20;

export function segmentName(baseOffset: number, ending: "log" | "index" | "timeindex" | "snapshot"): string {
  return `${String(baseOffset).padStart(20, "0")}.${ending}`;
}

export class Segment {
  readonly baseOffset: number;
  /** The next segment's base offset once there is one: all of this one's offsets are below. */
  end = Number.POSITIVE_INFINITY;
  /** Of the `.log` file; compaction writes under another name first. */
  name: string;
  private readonly fileSystem: FileSystem;
  private readonly folder: string;
  /** Bytes added; `flushedBytes` of them are in the file. */
  bytes = 0;
  flushedBytes = 0;
  /** Undefined until it is needed: an old segment that nobody reads costs no memory. */
  private index: SegmentIndex | undefined;
  private loading: Promise<{ index: SegmentIndex }> | undefined;
  private file: File | undefined;
  private opening: Promise<File> | undefined;
  /** Opened for reading, before it was opened for writing; somebody may still be at it. */
  private superseded: File[] = [];
  private readers = 0;
  private closing = false;
  private isRetired = false;
  private isWritable = false;
  private unsynced = false;
  /** A sync has failed: what was written since the last one is to be written again. */
  private syncFailed = false;
  /** How much of the file has been synced since it was opened, or was there then. */
  private syncedBytes = 0;
  /** What the index files say has been found wrong. */
  private distrustsIndexFiles = false;
  private writtenOffsets = 0;
  private writtenTimes = 0;
  private hasIndexFiles = false;
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
    this.fileSystem = fileSystem;
    this.folder = folder;
    this.baseOffset = baseOffset;
    this.name = name;
  }

  private path(ending: "log" | "index" | "timeindex"): string {
    return join(this.folder, ending === "log" ? this.name : segmentName(this.baseOffset, ending));
  }

  /** Begins an empty one, of which no file exists yet. */
  startEmpty(): void {
    this.index = new SegmentIndex(this.baseOffset);
  }

  /** Whether readers have gone from it and its memory could be given back. */
  get idle(): boolean {
    return this.readers === 0 && !this.unsynced && this.flushedBytes === this.bytes;
  }

  get isLoaded(): boolean {
    return this.index !== undefined;
  }

  get isSynced(): boolean {
    return !this.unsynced;
  }

  /** Takes the file's size for its own, without looking into it: it lies below the recovery point. */
  async measure(): Promise<void> {
    const file = await this.acquire();
    try {
      this.bytes = await file.size();
      this.flushedBytes = this.bytes;
      this.syncedBytes = this.bytes;
    } finally {
      this.release();
    }
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
  private async loadIndex(endOffset: number): Promise<{ index: SegmentIndex; next: number }> {
    const file = await this.acquire();
    try {
      const size = await file.size();
      const index = await this.readIndex(file, size, endOffset);
      const { offsets, times } = index.counts;
      const last = index.lastEntry();
      let position = last?.position ?? 0;
      let next = this.baseOffset;
      if (last !== undefined) {
        // The indexed batch itself counted when its entry was made; go on behind it.
        const header = await this.header(file, position);
        next = lastOffsetOf(header) + 1;
        position += batchBytes(header);
      }
      for await (const { batch, at } of this.scan(file, position, size)) {
        // What lies behind may be anything: it was never synced, or it was cut off and is back.
        if (next >= Math.min(endOffset, this.end)) break;
        const base = baseOffsetOf(batch);
        if (!this.follows(batch, 0, next)) this.damaged(at, `offset ${base} where ${next} should be`);
        index.add(at, batch.length, lastOffsetOf(batch), maxTimestampOf(batch));
        next = lastOffsetOf(batch) + 1;
        position = at + batch.length;
      }
      if (this.isClosed && position < size && next < this.end) this.damaged(position, "no sound batch");
      this.checkEnd(position, next);
      this.index = index;
      this.writtenOffsets = offsets;
      this.writtenTimes = times;
      this.bytes = position;
      this.flushedBytes = position;
      this.syncedBytes = position;
      return { index, next };
    } finally {
      this.release();
    }
  }

  private get isClosed(): boolean {
    return Number.isFinite(this.end);
  }

  /**
   * Whether a batch may stand where offset `next` is due. Base offsets lie outside the checksum; where there may
   * be gaps only their order vouches for them.
   */
  private follows(source: Buffer, at: number, next: number): boolean {
    const base = baseOffsetOf(source, at);
    return (
      (this.mayHaveGaps && this.isClosed ? base >= next : base === next) &&
      lastOffsetOf(source, at) < this.end
    );
  }

  /** Throws when batches are missing behind the last one, which ends at `position` and before `next`. */
  private checkEnd(position: number, next: number): void {
    if (this.mayHaveGaps || !this.isClosed || next === this.end) return;
    this.damaged(position, `the file ends with offset ${next - 1}, and held everything below ${this.end}`);
  }

  /** All batches of a closed segment, in order, each checked. Throws LogError DAMAGED. */
  async *batches(): AsyncGenerator<Buffer> {
    const file = await this.acquire();
    try {
      let position = 0;
      let next = this.baseOffset;
      for await (const { batch, at } of this.scan(file, 0, this.flushedBytes)) {
        if (next >= this.end) return;
        if (!this.follows(batch, 0, next)) {
          this.damaged(at, `offset ${baseOffsetOf(batch)} where ${next} should be`);
        }
        yield batch;
        next = lastOffsetOf(batch) + 1;
        position = at + batch.length;
      }
      if (position < this.flushedBytes && next < this.end) this.damaged(position, "no sound batch");
      this.checkEnd(position, next);
    } finally {
      this.release();
      if (!this.isLoaded) await this.close();
    }
  }

  /** Cuts the file to what counts, so that what is added next lies right behind it. */
  async truncate(): Promise<void> {
    const file = await this.acquire("write");
    try {
      if ((await file.size()) <= this.bytes) return;
      await file.truncate(this.bytes);
      this.unsynced = true;
    } finally {
      this.release();
    }
  }

  private async readIndex(file: File, size: number, endOffset: number): Promise<SegmentIndex> {
    const fresh = new SegmentIndex(this.baseOffset);
    if (this.distrustsIndexFiles) return fresh;
    const [offsets, times] = await Promise.all([
      this.fileSystem.readFile(this.path("index")),
      this.fileSystem.readFile(this.path("timeindex")),
    ]);
    const none = Buffer.alloc(0);
    const index = SegmentIndex.decode(this.baseOffset, offsets ?? none, times ?? none, size, endOffset);
    const last = index.lastEntry();
    if (last === undefined) return fresh;
    const header = await this.header(file, last.position);
    const isSound = header.length === BATCH_HEADER_BYTES && lastOffsetOf(header) === last.offset;
    const { offsetOfMaxTimestamp: offset, maxTimestamp: timestamp } = index;
    return isSound && (await this.vouchesFor(index, { offset, timestamp })) ? index : fresh;
  }

  /**
   * Whether the batch that ends with an offset has a timestamp for its largest, as a time index says. What lies
   * behind `fileEnd` is known from the batches themselves: the file, if there is one yet, does not have them.
   */
  private async vouchesFor(
    index: SegmentIndex,
    { offset, timestamp }: { offset: number; timestamp: number },
    fileEnd = Number.POSITIVE_INFINITY,
  ): Promise<boolean> {
    let { position } = index.find(offset);
    if (position >= fileEnd) return true;
    const file = await this.acquire();
    try {
      for (;;) {
        if (position >= fileEnd) return true;
        const header = await this.header(file, position);
        if (header.length < BATCH_HEADER_BYTES) return false;
        const size = batchBytes(header);
        if (lastOffsetOf(header) === offset) return maxTimestampOf(header) === timestamp;
        if (lastOffsetOf(header) > offset || size < BATCH_HEADER_BYTES) return false;
        position += size;
      }
    } finally {
      this.release();
    }
  }

  private async header(file: File, position: number): Promise<Buffer> {
    const header = Buffer.allocUnsafe(BATCH_HEADER_BYTES);
    return header.subarray(0, await file.read(header, position));
  }

  /** Sound batches from `from` on, until the end or the first that is not whole and sound. */
  private async *scan(file: File, from: number, end: number): AsyncGenerator<{ batch: Buffer; at: number }> {
    let at = from;
    let wanted = SCAN_BYTES;
    while (at < end) {
      const chunk = Buffer.allocUnsafe(Math.min(wanted, end - at));
      const read = chunk.subarray(0, await file.read(chunk, at));
      let inside = 0;
      while (read.length - inside >= BATCH_HEADER_BYTES) {
        const size = batchBytes(read, inside);
        if (size < BATCH_HEADER_BYTES || size > MAX_BATCH_BYTES) return;
        if (size > read.length - inside) break;
        if (batchProblem(read, inside, MAX_BATCH_BYTES) !== undefined) return;
        yield { batch: read.subarray(inside, inside + size), at: at + inside };
        inside += size;
      }
      if (inside === 0) {
        // Not one whole batch in it: a larger one, or the end of what is sound.
        if (read.length < BATCH_HEADER_BYTES || at + batchBytes(read) > end) return;
        wanted = batchBytes(read);
      } else {
        at += inside;
        wanted = SCAN_BYTES;
      }
    }
  }

  private damaged(position: number, what: string): never {
    throw new LogError("DAMAGED", `${this.path("log")}: ${what}, at byte ${position}`, {
      mend: "Restore the file from a copy; or stop the gateway and run sluice log repair, which says what is lost.",
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
    const file = await this.acquire("write");
    try {
      await file.write(batches, this.flushedBytes);
      for (const batch of batches) this.flushedBytes += batch.length;
      this.unsynced = true;
    } finally {
      this.release();
    }
  }

  /** After this, what has been flushed survives a power cut. */
  async sync(): Promise<void> {
    if (!this.unsynced || this.isRetired) return;
    const file = await this.acquire("write");
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
    } finally {
      this.release();
    }
  }

  /**
   * A sync that failed is not whole when the next one succeeds: the kernel has given up what it could not write,
   * and says so once. What it still has is checked and written once more.
   */
  private async writeAgain(file: File): Promise<void> {
    const end = this.flushedBytes;
    let position = this.syncedBytes;
    for await (const { batch, at } of this.scan(file, position, end)) {
      await file.write([batch], at);
      position = at + batch.length;
    }
    if (position < end)
      this.damaged(position, "the disk has lost what it could not write; the journal still has it");
  }

  /** Appends to the index files what was indexed since the last time; not synced, see SegmentIndex. */
  async writeIndex(seal: boolean): Promise<void> {
    const index = this.index;
    if (index === undefined || this.isRetired) return;
    if (seal) index.seal();
    const counts = index.counts;
    const isWritten = counts.offsets === this.writtenOffsets && counts.times === this.writtenTimes;
    if (isWritten && this.hasIndexFiles) return;
    const { offsets, times } = index.encode(this.writtenOffsets, this.writtenTimes);
    await this.writeAt(this.path("index"), offsets, this.writtenOffsets * 8);
    await this.writeAt(this.path("timeindex"), times, this.writtenTimes * 12);
    this.writtenOffsets = counts.offsets;
    this.writtenTimes = counts.times;
    this.hasIndexFiles = true;
  }

  private async writeAt(path: string, content: Buffer, position: number): Promise<void> {
    const file = await this.fileSystem.open(path, "write");
    try {
      // What may lie behind is of before a crash.
      await file.truncate(position);
      if (content.length > 0) await file.write([content], position);
    } finally {
      await file.close();
    }
  }

  /** The largest timestamp in it and the last offset of that batch. */
  async newest(): Promise<{ timestamp: number; offset: number }> {
    const index = await this.loadedIndex();
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

  /** An offset at or before the first record that is as new as `timestamp`. */
  async offsetBefore(timestamp: number): Promise<number> {
    const index = await this.loadedIndex();
    const entry = index.entryBefore(timestamp);
    if (entry === undefined) return this.baseOffset;
    if (await this.vouchesFor(index, entry, this.flushedBytes)) return entry.offset;
    await this.distrust();
    return this.baseOffset;
  }

  /** What the index files said is wrong: they are made anew of what the segment holds. */
  private async distrust(): Promise<void> {
    this.distrustsIndexFiles = true;
    this.writtenOffsets = 0;
    this.writtenTimes = 0;
    this.hasIndexFiles = false;
    // One that still grows goes without what its files said until it is closed.
    if (!this.isClosed) return (this.index as SegmentIndex).forgetEntries();
    this.index = undefined;
    await this.loadedIndex();
    // On a disk that takes no writes it is done again the next time.
    await this.writeIndex(true).catch(() => {});
  }

  /**
   * Whole batches of the file from the first that ends at or behind `offset`, about `maxBytes`, at least one;
   * empty when the flushed part ends before it. `isLast`: the flushed part ends with what was found. Throws
   * LogError DAMAGED for the first batch that is not sound; what comes before it is given first.
   */
  async read(offset: number, maxBytes: number): Promise<{ found: Buffer; isLast: boolean }> {
    const file = await this.acquire();
    try {
      const index = await this.loadedIndex();
      const start = index.find(offset);
      try {
        return await this.readFrom(file, start, offset, maxBytes);
      } catch (error) {
        if (start.position === 0 || !(error instanceof LogError && error.code === "DAMAGED")) throw error;
        // The index may have led to a wrong place.
        const found = await this.readFrom(file, { position: 0, lastOffset: undefined }, offset, maxBytes);
        await this.distrust();
        return found;
      }
    } finally {
      this.release();
    }
  }

  private async readFrom(
    file: File,
    start: { position: number; lastOffset: number | undefined },
    offset: number,
    maxBytes: number,
  ): Promise<{ found: Buffer; isLast: boolean }> {
    const end = this.flushedBytes;
    let { position } = start;
    const place: Place = { next: this.baseOffset, indexed: start.lastOffset };
    // Up to an index interval lies before the batch that is sought.
    let wanted = maxBytes + 2 * 4096;
    while (position < end) {
      const chunk = Buffer.allocUnsafe(Math.min(wanted, end - position));
      const read = chunk.subarray(0, await file.read(chunk, position));
      const { from, to, needed, problem } = this.soundBatches(read, place, offset, maxBytes);
      if (to > from) return { found: read.subarray(from, to), isLast: position + to >= end };
      position += from;
      if (problem !== undefined) this.damaged(position, problem);
      if (
        position < end &&
        (position + needed > end || read.length < Math.min(chunk.length, from + needed))
      ) {
        this.damaged(position, "the file ends within a batch");
      }
      wanted = Math.max(needed, wanted);
    }
    if (place.indexed === undefined) this.checkEnd(position, place.next);
    return { found: Buffer.alloc(0), isLast: true };
  }

  /**
   * The part of `chunk` with sound, whole batches from the first that ends at or behind `offset`; `needed`: bytes
   * of the next one, which is not whole; `problem`: why it is not sound. `place` moves along.
   */
  private soundBatches(
    chunk: Buffer,
    place: Place,
    offset: number,
    maxBytes: number,
  ): { from: number; to: number; needed: number; problem?: string } {
    let from = 0;
    let at = 0;
    while (chunk.length - at >= BATCH_HEADER_BYTES) {
      const size = batchBytes(chunk, at);
      const isWhole = size >= BATCH_HEADER_BYTES && size <= chunk.length - at;
      if (size > MAX_BATCH_BYTES || (size >= BATCH_HEADER_BYTES && !isWhole)) {
        const problem = size > MAX_BATCH_BYTES ? `a batch of ${size} bytes` : undefined;
        return { from, to: at, needed: size, ...(problem && { problem }) };
      }
      if (at > from && at + size - from > maxBytes) break;
      const problem = batchProblem(chunk, at, MAX_BATCH_BYTES) ?? this.misplaced(chunk, at, place);
      if (problem !== undefined) return { from, to: at, needed: BATCH_HEADER_BYTES, problem };
      place.indexed = undefined;
      place.next = lastOffsetOf(chunk, at) + 1;
      at += size;
      if (place.next <= offset) from = at;
    }
    return { from, to: at, needed: BATCH_HEADER_BYTES };
  }

  private misplaced(chunk: Buffer, at: number, { next, indexed }: Place): string | undefined {
    const base = baseOffsetOf(chunk, at);
    if (indexed !== undefined) {
      const last = lastOffsetOf(chunk, at);
      return last === indexed ? undefined : `a batch that ends with offset ${last} instead of ${indexed}`;
    }
    return this.follows(chunk, at, next) ? undefined : `offset ${base} where ${next} should be`;
  }

  /** To write, the file is made if it is missing. One that is only read may lie on a disk that takes no writes. */
  private async acquire(mode: "read" | "write" = "read"): Promise<File> {
    this.readers++;
    try {
      // By now another file may have its name.
      if (this.isRetired && this.opening === undefined) {
        throw new LogError("SEGMENT_GONE", `${this.path("log")} has been removed or replaced`);
      }
      if (mode === "write" && !this.isWritable) {
        const reading = this.opening;
        this.isWritable = true;
        this.opening = undefined;
        reading?.then((file) => this.superseded.push(file)).catch(() => {});
      }
      this.opening ??= this.fileSystem.open(this.path("log"), mode);
      this.file = await this.opening;
      return this.file;
    } catch (error) {
      this.opening = undefined;
      this.isWritable = false;
      this.release();
      throw error;
    }
  }

  private release(): void {
    this.readers--;
    if (this.readers === 0 && this.closing) void this.closeFile();
  }

  /** Closes the file when the last reader is done; it can be opened again by need. */
  async close(): Promise<void> {
    if (this.readers > 0) this.closing = true;
    else await this.closeFile();
  }

  /** Keeps the file open, whatever its name becomes, until the returned function is called. */
  async hold(): Promise<() => void> {
    await this.acquire("write");
    return () => this.release();
  }

  /** It is no longer its partition's: nobody begins to read it any more. */
  async retire(): Promise<void> {
    this.isRetired = true;
    await this.close();
  }

  /** Gives back memory and descriptor of one that is only read. */
  async unload(): Promise<void> {
    this.index = undefined;
    await this.close();
  }

  private async closeFile(): Promise<void> {
    const files = this.file === undefined ? [] : [this.file, ...this.superseded];
    this.closing = false;
    this.isWritable = false;
    this.file = undefined;
    this.opening = undefined;
    this.superseded = [];
    for (const file of files) await file.close();
  }

  async remove(): Promise<void> {
    await this.retire();
    await this.fileSystem.remove(this.path("log"));
    await this.fileSystem.remove(this.path("index"));
    await this.fileSystem.remove(this.path("timeindex"));
  }
}

/** Where a reader of a file stands. */
interface Place {
  /** The offset that is due. */
  next: number;
  /** The last offset of the batch that is due, as an index says; nothing is known of its first. */
  indexed: number | undefined;
}
