/**
 * The segments of a partition, in order: which of them has an offset, the newest one, to which is added, and how the
 * oldest go. A reader who is under way while some are removed or replaced looks again (`steadily`).
 */
import type { FileSystem } from "./file-system.ts";
import { Segment } from "./segment.ts";
import { lastAtMost } from "./segment-index.ts";
import { MAX_PIECES } from "./tail.ts";
import type { SegmentAge } from "./timekeeper.ts";

/** Old ones that stay open for readers. */
const MAX_OPEN_SEGMENTS = 8;

export class SegmentList {
  private readonly fileSystem: FileSystem;
  private readonly folder: string;
  /** Never changed but at its end: who goes through it while it is replaced goes through what was. */
  private segments: Segment[] = [];
  /** Base offsets of `segments`, for look-ups. */
  private bases: number[] = [];
  /** Readers know it no more, but the disk has refused to remove it; before the next one goes it has to. */
  private readonly notRemoved: Segment[] = [];

  constructor(fileSystem: FileSystem, folder: string) {
    this.fileSystem = fileSystem;
    this.folder = folder;
  }

  get all(): readonly Segment[] {
    return this.segments;
  }

  get oldest(): Segment | undefined {
    return this.segments[0];
  }

  get newest(): Segment | undefined {
    return this.segments.at(-1);
  }

  get sizeBytes(): number {
    let sum = 0;
    for (const segment of this.segments) sum += segment.bytes;
    return sum;
  }

  /**
   * Takes those with the given base offsets up to the recovery point, as they lie; what begins behind it comes again
   * from the journal, and its files go.
   */
  async open(bases: readonly number[], recoveryPoint: number, mayHaveGaps: boolean): Promise<void> {
    const segments: Segment[] = [];
    for (const base of bases) {
      const segment = new Segment(this.fileSystem, this.folder, base);
      segment.mayHaveGaps = mayHaveGaps;
      if (base <= recoveryPoint) {
        segments.push(segment);
      } else {
        await segment.removeNames();
        await segment.close();
      }
    }
    segments.forEach((segment, at) => {
      segment.end = segments[at + 1]?.baseOffset ?? segment.end;
    });
    this.set(segments);
    await Promise.all(segments.map((segment) => segment.measure()));
  }

  private set(segments: Segment[]): void {
    this.segments = segments;
    this.bases = segments.map((segment) => segment.baseOffset);
  }

  /** How old those below `end` are, as `ages` once said; one of which nothing is known counts from `now`. */
  setAges(ages: readonly SegmentAge[], end: number, now: number): void {
    const known = new Map(ages.map((age) => [age.base, age]));
    for (const segment of this.segments) {
      const age = known.get(segment.baseOffset);
      segment.firstAddedAt = Math.min(age?.first ?? Number.POSITIVE_INFINITY, now);
      const isWhole = age?.end === Math.min(segment.end, end);
      segment.lastAddedAt = isWhole ? Math.min(age.last, now) : now;
    }
  }

  /** What `setAges` wants to know the next time; they end below `end`. */
  *ages(end: number): Generator<SegmentAge> {
    for (const segment of this.segments) {
      const { baseOffset: base, firstAddedAt: first, lastAddedAt: last } = segment;
      if (first === undefined || last === undefined) continue;
      yield { base, end: Math.min(segment.end, end), first, last };
    }
  }

  /** Begins a new one. */
  roll(baseOffset: number): Segment {
    const segment = new Segment(this.fileSystem, this.folder, baseOffset);
    segment.startEmpty();
    segment.mayHaveGaps = false;
    const before = this.newest;
    if (before !== undefined) before.end = baseOffset;
    this.segments.push(segment);
    this.bases.push(baseOffset);
    return segment;
  }

  /** `compacted` takes the place of `run`, whose readers finish undisturbed. */
  exchange(run: readonly Segment[], compacted: Segment): void {
    compacted.firstAddedAt = run[0]?.firstAddedAt;
    compacted.lastAddedAt = run.at(-1)?.lastAddedAt;
    const at = this.segments.indexOf(run[0] as Segment);
    this.set(this.segments.toSpliced(at, run.length, compacted));
    for (const segment of run) void segment.retire();
  }

  /** To be done before it is decided that another one goes. */
  async removeLeftovers(): Promise<void> {
    for (const segment of this.notRemoved) await this.removeForGood(segment);
    this.notRemoved.length = 0;
  }

  /** A power cut that brought back its name may not bring it back cut short. */
  private async removeForGood(segment: Segment): Promise<void> {
    await segment.removeNames();
    await this.fileSystem.syncFolder(this.folder);
    await segment.close();
  }

  /** Removes the oldest, of several. */
  async removeOldest(): Promise<void> {
    const [oldest, next] = this.segments as [Segment, Segment];
    // Its successor's name keeps the offsets' place, so it is there for good before.
    await next.flush([]);
    await this.fileSystem.syncFolder(this.folder);
    this.set(this.segments.slice(1));
    this.notRemoved.push(oldest);
    await this.removeForGood(oldest);
    this.notRemoved.length = 0;
  }

  /**
   * See Partition.read; of what is in the files. Reads on in the next one where one ends early: whoever stands behind
   * a compacted batch's last record would else be given nothing but that batch, in which there is nothing for it.
   */
  async read(offset: number, maxBytes: number): Promise<readonly Buffer[]> {
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
      this.closeIdle(segment);
      const { found, isLast } = read;
      if (pieces.length === MAX_PIECES || (found.length > left && pieces.length > 0)) break;
      if (found.length > 0) pieces.push(found);
      left -= found.length;
      // What did not fit comes first for whoever reads on, not the next segment.
      if (!isLast) break;
    }
    return pieces;
  }

  /** Looks again when segments were removed or replaced while it looked. */
  async steadily<T>(look: () => Promise<T>): Promise<T> {
    for (;;) {
      const { segments } = this;
      try {
        return await look();
      } catch (error) {
        if (segments === this.segments) throw error;
      }
    }
  }

  /** Gives back memory and descriptors of old ones that nobody reads any more. */
  closeIdle(justRead?: Segment): void {
    const open = this.segments.slice(0, -1).filter((segment) => segment.isLoaded && segment.idle);
    if (open.length <= MAX_OPEN_SEGMENTS) return;
    for (const segment of open.slice(0, -MAX_OPEN_SEGMENTS)) {
      if (segment !== justRead) void segment.unload();
    }
  }

  async close(): Promise<void> {
    for (const segment of this.segments) await segment.close();
  }

  /** They are nobody's any more. */
  async retire(): Promise<void> {
    for (const segment of this.segments) await segment.retire();
  }

  /** One file after another, whatever a power cut leaves of them: their stream is gone for good. */
  async removeAll(): Promise<void> {
    for (const segment of this.segments) {
      await segment.removeName();
      await segment.close();
    }
  }
}
