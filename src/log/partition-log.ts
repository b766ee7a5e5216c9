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
import { type FileSystem, replaceFile } from "./file-system.ts";
import type { ActiveProducer, Partition } from "./log.ts";
import { isSnapshot, ProducerSnapshots } from "./producer-snapshots.ts";
import { ProducerState } from "./producer-state.ts";
import { isSignOfGaps, settleReplacements } from "./replacement.ts";
import type { Segment } from "./segment.ts";
import { MAX_OFFSETS } from "./segment-index.ts";
import { SegmentList } from "./segment-list.ts";
import { segmentBases, segmentName } from "./segment-name.ts";
import type { StreamState } from "./stream-state.ts";
import { Tail } from "./tail.ts";
import { firstAtOrAfter, newestOf, type RecordPlace } from "./time-lookup.ts";
import type { SegmentAge } from "./timekeeper.ts";

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
  private readonly segments: SegmentList;
  private readonly tail = new Tail();
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
  private isDestroyed = false;
  private readonly snapshots: ProducerSnapshots;

  constructor(stream: StreamState, index: number, fileSystem: FileSystem, folder: string, now: () => number) {
    this.stream = stream;
    this.index = index;
    this.fileSystem = fileSystem;
    this.folder = folder;
    this.now = now;
    this.segments = new SegmentList(fileSystem, folder);
    this.snapshots = new ProducerSnapshots(this.producers, fileSystem, folder);
  }

  get highWatermark(): number {
    return this.next;
  }

  get logStartOffset(): number {
    return Math.max(this.segments.oldest?.baseOffset ?? this.next, this.deletedBelow);
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

  epochAt(offset: number): number | undefined {
    return this.stream.epochs.of(offset, this.stream.id, this.index);
  }

  get sizeBytes(): number {
    return this.segments.sizeBytes;
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
    // What goes here, or has gone in a start that was killed, may not be gone for good: were it back after the
    // recovery point has passed it, it would stand for what now lies elsewhere.
    this.namesUnsynced = names.length > 0;
    await this.snapshots.load(names, recoveryPoint);
    await this.segments.open(segmentBases(names), recoveryPoint, this.mayHaveGaps);
    this.segments.setAges(ages, recoveryPoint, this.now());
    this.next = recoveryPoint;
    this.recoveryPoint = recoveryPoint;
    const active = this.segments.newest;
    if (active !== undefined) await this.openActive(active, recoveryPoint);
    else if (recoveryPoint > 0) this.damaged(`is gone, and held the offsets below ${recoveryPoint}`);
    if (names.some(isSnapshot)) await this.recallProducers(recoveryPoint);
  }

  /** Where no sound snapshot is at the recovery point, the batches since the newest one say the rest. */
  private async recallProducers(recoveryPoint: number): Promise<void> {
    const from = Math.max(this.snapshots.at, 0);
    if (from === recoveryPoint) return;
    for (const segment of this.segments.all) {
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
    const last = lastOffsetOf(buffer);
    const segment = this.activeFor(buffer.length, last);
    segment.add(buffer, this.now());
    this.tail.push(buffer, segment);
    this.next = last + 1;
  }

  private activeFor(bytes: number, lastOffset: number): Segment {
    const active = this.segments.newest;
    const { segmentBytes, segmentMs } = this.stream.settings;
    if (active !== undefined) {
      const isFull = active.bytes > 0 && active.bytes + bytes > segmentBytes;
      const isOld = active.bytes > 0 && this.now() - (active.firstAddedAt ?? this.now()) >= segmentMs;
      // By what compressed batches claim, which nobody has counted.
      const isLong = active.bytes > 0 && lastOffset - active.baseOffset > MAX_OFFSETS;
      if (!isFull && !isOld && !isLong) return active;
    }
    return this.segments.roll(this.next);
  }

  /**
   * What compaction may take: closed segments that are for good in their files, and so is the beginning of the
   * one behind them, which holds the place of the offsets that go.
   */
  get settledSegments(): readonly Segment[] {
    return this.segments.all.filter((segment) => segment.end < this.recoveryPoint);
  }

  /** `compacted` takes the place of `run`, whose readers finish undisturbed. */
  exchange(run: readonly Segment[], compacted: Segment): void {
    this.segments.exchange(run, compacted);
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
    return this.tail.hasFlushed(count) || this.isDestroyed;
  }

  /** Drops the oldest `count` batches of the tail; they have been flushed. */
  dropFromTail(count: number): void {
    this.tail.drop(count);
  }

  /** Writes to the segment files what they do not have yet; not synced. */
  flush(): Promise<void> {
    this.flushing = this.flushing.catch(() => {}).then(() => this.flushNow());
    return this.flushing;
  }

  private async flushNow(): Promise<void> {
    if (this.isDestroyed) {
      // A stream of the same name may have the folder now.
      this.tail.giveUp();
      return;
    }
    await this.ensureFolder();
    for (let found = this.tail.unflushed(); found !== undefined; found = this.tail.unflushed()) {
      const { segment, buffers } = found;
      const isNew = segment.flushedBytes === 0;
      await segment.flush(buffers);
      // Only now: a checkpoint that is under way would sync the folder, and call it done, before the name is there.
      if (isNew) this.namesUnsynced = true;
      this.tail.flushed(buffers.length);
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
    const reached = this.tail.unflushedFrom ?? end;
    for (const segment of this.segments.all) {
      if (segment.isSynced) continue;
      await segment.sync();
      await segment.writeIndex(segment !== this.segments.newest);
    }
    this.segments.closeIdle();
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
    if (this.tail.reaches(offset)) return this.tail.read(offset, maxBytes);
    return this.segments.steadily(async () => {
      if (offset < this.logStartOffset) this.outOfRange(offset);
      return this.segments.read(offset, maxBytes);
    });
  }

  outOfRange(offset: number): never {
    throw new LogError(
      "OFFSET_OUT_OF_RANGE",
      `offset ${offset} of ${this.stream.name}-${this.index} is not in ${this.logStartOffset}…${this.next}`,
    );
  }

  bytesFrom(offset: number): number {
    if (offset >= this.next) return 0;
    return this.tail.reaches(offset) ? this.tail.bytesFrom(offset) : Number.POSITIVE_INFINITY;
  }

  offsetForTimestamp(timestampMs: number): Promise<RecordPlace | undefined> {
    return this.segments.steadily(() => firstAtOrAfter(this, this.segments.all, timestampMs));
  }

  maxTimestamp(): Promise<RecordPlace | undefined> {
    return this.segments.steadily(() => newestOf(this, this.segments.all));
  }

  /** What `open` wants to know of its segments the next time. */
  ages(): Iterable<SegmentAge> {
    return this.segments.ages(this.next);
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
    return this.segments.all.length > 1;
  }

  private async retainNow(): Promise<number> {
    const { retentionMs, retentionBytes, cleanup } = this.stream.settings;
    if (!cleanup.includes("delete") || this.isDestroyed) return 0;
    let freed = 0;
    for (;;) {
      const { oldest } = this.segments;
      if (oldest === undefined) return freed;
      const end = Math.min(oldest.end, this.next);
      const isLarge = retentionBytes >= 0 && this.sizeBytes - oldest.bytes >= retentionBytes;
      const isDeleted = end <= this.deletedBelow;
      const isOld = retentionMs >= 0 && this.now() - (oldest.lastAddedAt ?? this.now()) > retentionMs;
      const isHeld = end > this.heldFrom;
      const goes = isDeleted || (!isHeld && (isLarge || isOld));
      const bytes = goes ? await this.removeOldest() : undefined;
      if (bytes === undefined) return freed;
      freed += bytes;
    }
  }

  private async removeOldest(): Promise<number | undefined> {
    await this.segments.removeLeftovers();
    const { all, oldest } = this.segments;
    const isOnlyOne = all.length === 1;
    // Only what is in the segments for good: what the journal may bring back is not deleted.
    if (this.isDestroyed || oldest === undefined || Math.min(oldest.end, this.next) > this.recoveryPoint) {
      return undefined;
    }
    if (isOnlyOne && oldest.bytes === 0) return undefined;
    if (isOnlyOne) this.segments.roll(this.next);
    await this.segments.removeOldest();
    return oldest.bytes;
  }

  async close(): Promise<void> {
    await this.flushing.catch(() => {});
    await this.upkeep.catch(() => {});
    await this.segments.close();
  }

  /** Closes and removes everything. */
  async destroy(): Promise<void> {
    this.isDestroyed = true;
    await this.close();
    await this.segments.retire();
    this.notify();
    await this.segments.removeAll();
    await this.fileSystem.remove(this.folder);
  }
}
