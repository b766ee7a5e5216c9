/**
 * One partition: its segments, its newest batches in memory (the tail), and what is visible of it.
 *
 * One writer: the store hands it what a commit has made durable (`commit`), in order. What was committed is
 * at once visible; the segment files get it later by `flush`, and a checkpoint syncs them. Readers are served
 * from the tail where it reaches, else from the files.
 */
import { join } from "node:path";
import { LogError } from "../errors.ts";
import { baseOffsetOf, lastOffsetOf } from "../wire/record-batch.ts";
import { Deque } from "./deque.ts";
import { type FileSystem, replaceFile } from "./file-system.ts";
import type { ActiveProducer, Partition } from "./log.ts";
import { isSnapshot, ProducerSnapshots } from "./producer-snapshots.ts";
import { ProducerState } from "./producer-state.ts";
import { isSignOfGaps, settleReplacements } from "./replacement.ts";
import { Segment, segmentName } from "./segment.ts";
import { lastAtMost } from "./segment-index.ts";
import type { StreamState } from "./stream-state.ts";
import { firstAtOrAfter, newestOf, type RecordPlace } from "./time-lookup.ts";
import type { SegmentAge } from "./timekeeper.ts";

/** More pieces would cost more in the system call than they save in copying. */
const MAX_PIECES = 512;
/** Old segments of one partition that stay open for readers. */
const MAX_OPEN_SEGMENTS = 8;

interface TailBatch {
  readonly buffer: Buffer;
  readonly baseOffset: number;
  readonly lastOffset: number;
  readonly segment: Segment;
}

export class PartitionLog implements Partition {
  readonly stream: StreamState;
  readonly index: number;
  readonly producers = new ProducerState();
  /** Nothing below is shown any more (DeleteRecords); the store has made that durable. */
  deletedBelow = 0;
  /** Its stream is being deleted. */
  isGone = false;
  readonly fileSystem: FileSystem;
  readonly folder: string;
  /** Log time. */
  private readonly now: () => number;
  /** Never changed but at its end: who goes through it while it is replaced goes through what was. */
  private segments: Segment[] = [];
  /** Base offsets of `segments`, for look-ups. */
  private bases: number[] = [];
  private readonly tail = new Deque<TailBatch>();
  /** How many of `tail`, from the front, are in their segments' files. */
  private flushedCount = 0;
  /** Who still wants which offset; see `hold`. */
  private readonly holds = new Map<string, number>();
  private readonly listeners = new Set<() => void>();
  /** One past the last committed offset. */
  private next = 0;
  /** Everything below is in the segments and synced. */
  recoveryPoint = 0;
  /** All keys below are there once; compaction reads it when it first comes by. */
  cleanedTo: number | undefined;
  private flushing: Promise<void> = Promise.resolve();
  /** Retention or compaction, one at a time. */
  private upkeep: Promise<unknown> = Promise.resolve();
  /** Compaction or a repair has been at its segments. */
  private mayHaveGaps = false;
  private hasFolder = false;
  private namesUnsynced = false;
  /** Readers know it no more, but the disk has refused to remove it; before the next one goes it has to. */
  private readonly notRemoved: Segment[] = [];
  private isDestroyed = false;
  private readonly snapshots: ProducerSnapshots;

  constructor(stream: StreamState, index: number, fileSystem: FileSystem, folder: string, now: () => number) {
    this.stream = stream;
    this.index = index;
    this.fileSystem = fileSystem;
    this.folder = folder;
    this.now = now;
    this.snapshots = new ProducerSnapshots(this.producers, fileSystem, folder);
  }

  get highWatermark(): number {
    return this.next;
  }

  get logStartOffset(): number {
    return Math.max(this.segments[0]?.baseOffset ?? this.next, this.deletedBelow);
  }

  get leaderEpoch(): number {
    return this.stream.epochs.current;
  }

  get activeProducers(): readonly ActiveProducer[] {
    return this.producers.active;
  }

  endOfEpoch(epoch: number): number | undefined {
    return this.stream.epochs.endOf(epoch, this.stream.id, this.index, this.next);
  }

  get sizeBytes(): number {
    let sum = 0;
    for (const segment of this.segments) sum += segment.bytes;
    return sum;
  }

  get isDirty(): boolean {
    return this.next > this.recoveryPoint;
  }

  /**
   * Takes what lies on disk up to the recovery point; what is beyond it comes again from the journal. A segment
   * of which no age is known counts from now.
   */
  async open(recoveryPoint: number, ages: readonly SegmentAge[] = []): Promise<void> {
    const metadata = await this.fileSystem.readFile(join(this.folder, "partition.metadata"));
    this.hasFolder = metadata !== undefined;
    if (metadata !== undefined && !metadata.toString().includes(this.stream.id)) {
      // A stream of this name was deleted, and the process ended before its files were. But a checkpoint that
      // knows this one has seen its folder: then it is the file that is wrong, and made anew.
      if (recoveryPoint === 0) await this.fileSystem.remove(this.folder);
      this.hasFolder = false;
    }
    const names = await settleReplacements(this.fileSystem, this.folder);
    this.mayHaveGaps = this.stream.settings.cleanup.includes("compact") || names.some(isSignOfGaps);
    const bases = names
      .filter((name) => /^\d{20}\.log$/.test(name))
      .map((name) => Number(name.slice(0, 20)))
      .sort((a, b) => a - b);
    // What goes here, or has gone in a start that was killed, may not be gone for good: were it back after the
    // recovery point has passed it, it would stand for what now lies elsewhere.
    this.namesUnsynced = names.length > 0;
    await this.snapshots.load(names, recoveryPoint);
    for (const base of bases) {
      const segment = new Segment(this.fileSystem, this.folder, base);
      segment.mayHaveGaps = this.mayHaveGaps;
      if (base <= recoveryPoint) {
        this.segments.push(segment);
      } else {
        await segment.remove();
      }
    }
    this.segments.forEach((segment, at) => {
      segment.end = this.segments[at + 1]?.baseOffset ?? segment.end;
    });
    this.setSegments(this.segments);
    this.next = recoveryPoint;
    this.recoveryPoint = recoveryPoint;
    const active = this.segments.at(-1);
    await Promise.all(this.segments.map((segment) => segment.measure()));
    const known = new Map(ages.map((age) => [age.base, age]));
    for (const segment of this.segments) {
      const age = known.get(segment.baseOffset);
      segment.firstAddedAt = Math.min(age?.first ?? Number.POSITIVE_INFINITY, this.now());
      const isWhole = age?.end === Math.min(segment.end, recoveryPoint);
      segment.lastAddedAt = isWhole ? Math.min(age.last, this.now()) : this.now();
    }
    if (active !== undefined) await this.openActive(active, recoveryPoint);
    else if (recoveryPoint > 0) this.damaged(`is gone, and held the offsets below ${recoveryPoint}`);
    if (names.some(isSnapshot)) await this.recallProducers(recoveryPoint);
  }

  /** Where no sound snapshot is at the recovery point, the batches since the newest one say the rest. */
  private async recallProducers(recoveryPoint: number): Promise<void> {
    const from = Math.max(this.snapshots.at, 0);
    if (from === recoveryPoint) return;
    for (const segment of this.segments) {
      if (segment.end <= from) continue;
      for await (const batch of segment.batches())
        if (baseOffsetOf(batch) >= from) this.producers.replay(batch);
    }
  }

  private async openActive(active: Segment, recoveryPoint: number): Promise<void> {
    const end = await active.load(recoveryPoint);
    if (end < recoveryPoint) {
      const name = segmentName(active.baseOffset, "log");
      this.damaged(`${name} is sound up to offset ${end}, and held everything below ${recoveryPoint}`);
    }
    await active.truncate();
  }

  /** A batch that the journal holds, found by recovery; true when it was news. Throws on a gap. */
  replay(batch: Buffer): boolean {
    const base = baseOffsetOf(batch);
    if (base < this.next) return false;
    if (base > this.next) {
      this.damaged(`the journal goes on at offset ${base}, but the segments end at ${this.next}`);
    }
    this.producers.replay(batch);
    this.commit(batch);
    return true;
  }

  private damaged(what: string): never {
    throw new LogError("DAMAGED", `${this.folder}: ${what}`, {
      mend: "Restore the data folder from a copy; or run sluice log repair, which says exactly what is lost.",
    });
  }

  /** A batch that is durable in the journal, base offset in it; `notify` afterwards makes readers look. */
  commit(buffer: Buffer): void {
    const segment = this.activeFor(buffer.length);
    segment.add(buffer, this.now());
    const lastOffset = lastOffsetOf(buffer);
    this.tail.push({ buffer, baseOffset: this.next, lastOffset, segment });
    this.next = lastOffset + 1;
  }

  private activeFor(bytes: number): Segment {
    const active = this.segments.at(-1);
    const { segmentBytes, segmentMs } = this.stream.settings;
    if (active !== undefined) {
      const isFull = active.bytes > 0 && active.bytes + bytes > segmentBytes;
      const isOld = active.bytes > 0 && this.now() - (active.firstAddedAt ?? this.now()) >= segmentMs;
      if (!isFull && !isOld) return active;
    }
    return this.roll();
  }

  private roll(): Segment {
    const segment = new Segment(this.fileSystem, this.folder, this.next);
    segment.startEmpty();
    segment.mayHaveGaps = false;
    const before = this.segments.at(-1);
    if (before !== undefined) before.end = segment.baseOffset;
    this.segments.push(segment);
    this.bases.push(segment.baseOffset);
    return segment;
  }

  private setSegments(segments: Segment[]): void {
    this.segments = segments;
    this.bases = segments.map((segment) => segment.baseOffset);
  }

  /**
   * What compaction may take: closed segments that are for good in their files, and so is the beginning of the
   * one behind them, which holds the place of the offsets that go.
   */
  get settledSegments(): readonly Segment[] {
    return this.segments.filter((segment) => segment.end < this.recoveryPoint);
  }

  /** `compacted` takes the place of `run`, whose readers finish undisturbed. */
  exchange(run: readonly Segment[], compacted: Segment): void {
    compacted.firstAddedAt = run[0]?.firstAddedAt;
    compacted.lastAddedAt = run.at(-1)?.lastAddedAt;
    const at = this.segments.indexOf(run[0] as Segment);
    this.setSegments(this.segments.toSpliced(at, run.length, compacted));
    for (const segment of run) void segment.retire();
  }

  /** Runs `work`, which removes or replaces segments, when no other is at it; closing waits for it. */
  maintain<T>(work: () => Promise<T>): Promise<T> {
    const result = this.upkeep.catch(() => {}).then(work);
    this.upkeep = result;
    return result;
  }

  /** Wakes those who wait for this partition to grow. */
  notify(): void {
    for (const listener of this.listeners) listener();
  }

  onCommit(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Whether the oldest `count` batches of the tail are in the files. */
  hasFlushed(count: number): boolean {
    return count <= this.flushedCount || this.isDestroyed;
  }

  /** Drops the oldest `count` batches of the tail; they have been flushed. */
  dropFromTail(count: number): void {
    this.tail.drop(count);
    this.flushedCount -= count;
  }

  /** Writes to the segment files what they do not have yet; not synced. */
  flush(): Promise<void> {
    this.flushing = this.flushing.catch(() => {}).then(() => this.flushNow());
    return this.flushing;
  }

  private async flushNow(): Promise<void> {
    if (this.isDestroyed) {
      // A stream of the same name may have the folder now.
      this.flushedCount = this.tail.length;
      return;
    }
    await this.ensureFolder();
    for (
      let first = this.tail.at(this.flushedCount);
      first !== undefined;
      first = this.tail.at(this.flushedCount)
    ) {
      const { segment } = first;
      const buffers: Buffer[] = [];
      for (let at = this.flushedCount; this.tail.at(at)?.segment === segment; at++) {
        buffers.push((this.tail.at(at) as TailBatch).buffer);
      }
      const isNew = segment.flushedBytes === 0;
      await segment.flush(buffers);
      // Only now: a checkpoint that is under way would sync the folder, and call it done, before the name is there.
      if (isNew) this.namesUnsynced = true;
      this.flushedCount += buffers.length;
    }
  }

  private async ensureFolder(): Promise<void> {
    if (this.hasFolder) return;
    await this.fileSystem.makeFolder(this.folder);
    const metadata = `version: 0\ntopic_id: ${this.stream.id}\n`;
    await replaceFile(this.fileSystem, this.folder, "partition.metadata", Buffer.from(metadata));
    this.hasFolder = true;
  }

  /**
   * Flushes and syncs; returns the offset up to which everything is then in the segments for good. The
   * caller writes that down, and sets `recoveryPoint` when it has.
   */
  async checkpoint(): Promise<number> {
    await this.flush();
    const end = this.next;
    // Whatever was committed since is flushed only in part: what counts is what has been flushed before.
    const reached = this.tail.at(this.flushedCount)?.baseOffset ?? end;
    for (const segment of this.segments) {
      if (segment.isSynced) continue;
      await segment.sync();
      await segment.writeIndex(segment !== this.segments.at(-1));
    }
    this.closeIdleSegments(undefined);
    if (this.namesUnsynced) {
      this.namesUnsynced = false;
      try {
        await this.fileSystem.syncFolder(this.folder);
      } catch (error) {
        this.namesUnsynced = true;
        throw error;
      }
    }
    await this.snapshots.save(reached);
    return reached;
  }

  read(offset: number, maxBytes: number): readonly Buffer[] | Promise<readonly Buffer[]> {
    if (offset === this.next) return [];
    if (offset < this.logStartOffset || offset > this.next) this.outOfRange(offset);
    const oldest = this.tail.at(0);
    if (oldest === undefined || offset < oldest.baseOffset) return this.readFiles(offset, maxBytes);
    const buffers: Buffer[] = [];
    let bytes = 0;
    for (let at = this.findInTail(offset); at < this.tail.length; at++) {
      const { buffer } = this.tail.at(at) as TailBatch;
      if (buffers.length > 0 && (bytes + buffer.length > maxBytes || buffers.length >= MAX_PIECES)) break;
      buffers.push(buffer);
      bytes += buffer.length;
    }
    return buffers;
  }

  outOfRange(offset: number): never {
    throw new LogError(
      "OFFSET_OUT_OF_RANGE",
      `offset ${offset} of ${this.stream.name}-${this.index} is not in ${this.logStartOffset}…${this.next}`,
    );
  }

  private findInTail(offset: number): number {
    let low = 0;
    let high = this.tail.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.tail.at(middle) as TailBatch).lastOffset < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /**
   * Reads on in the next segment where one ends early: whoever stands behind a compacted batch's last record
   * would else be given nothing but that batch, in which there is nothing for it.
   */
  private readFiles(offset: number, maxBytes: number): Promise<readonly Buffer[]> {
    return this.steadily(async () => {
      if (offset < this.logStartOffset) this.outOfRange(offset);
      const { segments } = this;
      const pieces: Buffer[] = [];
      let left = maxBytes;
      for (let at = lastAtMost(this.bases, offset); at < segments.length && left > 0; at++) {
        const segment = segments[at] as Segment;
        let read: { found: Buffer; isLast: boolean };
        try {
          read = await segment.read(offset, left);
        } catch (error) {
          // Told to whoever reads on from there; what was found is sound.
          if (pieces.length === 0) throw error;
          break;
        }
        this.closeIdleSegments(segment);
        const { found, isLast } = read;
        if (pieces.length === MAX_PIECES || (found.length > left && pieces.length > 0)) break;
        if (found.length > 0) pieces.push(found);
        left -= found.length;
        // What did not fit comes first for whoever reads on, not the next segment.
        if (!isLast) break;
      }
      return pieces;
    });
  }

  /** Looks again when segments were removed or replaced while it looked. */
  private async steadily<T>(look: () => Promise<T>): Promise<T> {
    for (;;) {
      const { segments } = this;
      try {
        return await look();
      } catch (error) {
        if (segments === this.segments) throw error;
      }
    }
  }

  private closeIdleSegments(justRead: Segment | undefined): void {
    const open = this.segments.slice(0, -1).filter((segment) => segment.isLoaded && segment.idle);
    if (open.length <= MAX_OPEN_SEGMENTS) return;
    for (const segment of open.slice(0, -MAX_OPEN_SEGMENTS)) {
      if (segment !== justRead) void segment.unload();
    }
  }

  bytesFrom(offset: number): number {
    if (offset >= this.next) return 0;
    const oldest = this.tail.at(0);
    if (oldest === undefined || offset < oldest.baseOffset) return Number.POSITIVE_INFINITY;
    let bytes = 0;
    for (let at = this.findInTail(offset); at < this.tail.length; at++) {
      bytes += (this.tail.at(at) as TailBatch).buffer.length;
    }
    return bytes;
  }

  offsetForTimestamp(timestampMs: number): Promise<RecordPlace | undefined> {
    return this.steadily(() => firstAtOrAfter(this, this.segments, timestampMs));
  }

  maxTimestamp(): Promise<RecordPlace | undefined> {
    return this.steadily(() => newestOf(this, this.segments));
  }

  /** What `open` wants to know of its segments the next time. */
  *ages(): Generator<SegmentAge> {
    for (const { baseOffset: base, end, firstAddedAt, lastAddedAt } of this.segments) {
      if (firstAddedAt === undefined || lastAddedAt === undefined) continue;
      yield { base, end: Math.min(end, this.next), first: firstAddedAt, last: lastAddedAt };
    }
  }

  hold(owner: string, offset: number | undefined): void {
    if (offset === undefined) this.holds.delete(owner);
    else this.holds.set(owner, offset);
  }

  private get heldFrom(): number {
    return Math.min(...this.holds.values(), Number.POSITIVE_INFINITY);
  }

  /**
   * Deletes segments that retention no longer wants; returns how many bytes that freed. Age counts from when
   * the last batch came, in log time: what a record's own timestamp says depends on the sensor's clock.
   */
  retain(): Promise<number> {
    return this.maintain(() => this.retainNow());
  }

  /** Deletes the oldest segment, whatever its age; returns how many bytes that freed, undefined where none may go. */
  dropOldest(): Promise<number | undefined> {
    return this.maintain(() => this.removeOldest());
  }

  get hasClosedSegments(): boolean {
    return this.segments.length > 1;
  }

  private async retainNow(): Promise<number> {
    const { retentionMs, retentionBytes, cleanup } = this.stream.settings;
    if (!cleanup.includes("delete") || this.isDestroyed) return 0;
    let freed = 0;
    for (;;) {
      const oldest = this.segments[0];
      if (oldest === undefined) return freed;
      const isLarge = retentionBytes >= 0 && this.sizeBytes - oldest.bytes >= retentionBytes;
      const isDeleted = (this.segments[1]?.baseOffset ?? this.next) <= this.deletedBelow;
      const isOld = retentionMs >= 0 && this.now() - (oldest.lastAddedAt ?? this.now()) > retentionMs;
      const isHeld = (this.segments[1]?.baseOffset ?? this.next) > this.heldFrom;
      const goes = isDeleted || (!isHeld && (isLarge || isOld));
      const bytes = goes ? await this.removeOldest() : undefined;
      if (bytes === undefined) return freed;
      freed += bytes;
    }
  }

  private async removeOldest(): Promise<number | undefined> {
    const oldest = this.segments[0];
    // Only what is in the segments for good: what the journal may bring back is not deleted.
    const end = this.segments[1]?.baseOffset ?? this.next;
    const isEmpty = this.segments.length === 1 && oldest?.bytes === 0;
    if (this.isDestroyed || oldest === undefined || isEmpty || end > this.recoveryPoint) return undefined;
    // Its successor's name keeps the offsets' place, so it is there for good before; and what was removed
    // before is gone for good, so that a power cut leaves no hole.
    for (const segment of this.notRemoved) await segment.remove();
    this.notRemoved.length = 0;
    await (this.segments[1] ?? this.roll()).flush([]);
    await this.fileSystem.syncFolder(this.folder);
    this.setSegments(this.segments.slice(1));
    this.notRemoved.push(oldest);
    await oldest.remove();
    this.notRemoved.length = 0;
    return oldest.bytes;
  }

  async close(): Promise<void> {
    await this.flushing.catch(() => {});
    await this.upkeep.catch(() => {});
    for (const segment of this.segments) await segment.close();
  }

  /** Closes and removes everything. */
  async destroy(): Promise<void> {
    this.isDestroyed = true;
    await this.close();
    for (const segment of this.segments) await segment.retire();
    this.notify();
    await this.fileSystem.remove(this.folder);
  }
}
