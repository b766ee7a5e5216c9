/**
 * A partition's folder made what can be saved of it: the sound batches of its segments up to the recovery point; then
 * those of the journal that go on there; and where the journal has a hole, what was flushed to the segment and not
 * yet synced, if it fits. A segment begins behind each hole.
 */
import { join } from "node:path";
import { baseOffsetOf, lastOffsetOf } from "../wire/record-batch.ts";
import { CATALOG_STREAM, type StreamDescription } from "./catalog.ts";
import { type Checkpoint, partitionKey, sealText, unsealText } from "./checkpoint-file.ts";
import type { DamagedFolder } from "./damaged-folder.ts";
import { replaceFile } from "./file-system.ts";
import type { LostOffsets } from "./inspection.ts";
import type { JournalEntry } from "./journal.ts";
import { ProducerState } from "./producer-state.ts";
import { isSignOfGaps, settleReplacements } from "./replacement.ts";
import { segmentBases, segmentName } from "./segment-name.ts";
import { type Sifted, siftSegment } from "./sift.ts";

/** Batches that follow one another without a hole: what becomes a segment, or is one. */
interface Run {
  readonly base: number;
  /** Its file holds just this already. */
  isWritten: boolean;
  /** None where it is written and will not grow. */
  batches: Buffer[];
}

/** A partition while it is mended. */
export class Mending {
  readonly stream: StreamDescription;
  readonly index: number;
  readonly folder: string;
  readonly runs: Run[] = [];
  readonly lost: LostOffsets[] = [];
  /** Sound batches behind the recovery point, by base offset: flushed, and not synced. */
  readonly spare = new Map<number, Buffer>();
  readonly producers = new ProducerState();
  /** The offset after the last batch. */
  next = 0;

  constructor(stream: StreamDescription, index: number) {
    this.stream = stream;
    this.index = index;
    this.folder = `streams/${stream.name}-${index}`;
  }

  begin(base: number): Run {
    const run = { base, isWritten: false, batches: [] };
    this.runs.push(run);
    return run;
  }

  /** To the last run, or one behind the hole that it leaves. */
  append(batch: Buffer): void {
    const base = baseOffsetOf(batch);
    const run = base === this.next ? (this.runs.at(-1) ?? this.begin(base)) : this.begin(base);
    run.batches.push(batch);
    run.isWritten = false;
    this.next = lastOffsetOf(batch) + 1;
    this.producers.replay(batch);
  }

  lose(from: number, to: number): void {
    this.lost.push({ stream: this.stream.name, partition: this.index, from, to });
  }
}

/** What partitions are mended by. */
export interface Known {
  readonly checkpoint: Checkpoint;
  readonly hasCheckpoint: boolean;
  /** Sound ones behind the checkpoint, in order. */
  readonly entries: readonly JournalEntry[];
  readonly journalIsWhole: boolean;
}

export class PartitionRepair {
  readonly lost: LostOffsets[] = [];
  readonly recoveryPoints = new Map<string, number>();
  private readonly folder: DamagedFolder;
  private readonly known: Known;

  constructor(folder: DamagedFolder, known: Known) {
    this.folder = folder;
    this.known = known;
  }

  async mend(stream: StreamDescription, index: number): Promise<Mending> {
    const mending = new Mending(stream, index);
    await this.salvage(mending);
    const fill = (): void => {
      if (this.known.journalIsWhole) return;
      for (let found = mending.spare.get(mending.next); found !== undefined; ) {
        mending.append(found);
        found = mending.spare.get(mending.next);
      }
    };
    const id = Buffer.from(stream.id, "base64url");
    for (const { batches } of this.known.entries) {
      for (const { streamId, partition, batch } of batches) {
        if (partition !== index || !streamId.equals(id)) continue;
        const base = baseOffsetOf(batch);
        if (base > mending.next) fill();
        if (base < mending.next) continue;
        if (base > mending.next) mending.lose(mending.next, base);
        mending.append(Buffer.from(batch));
      }
    }
    fill();
    const due = this.known.checkpoint.recoveryPoints.get(partitionKey(stream.id, index)) ?? 0;
    if (mending.next < due) {
      // Offsets are never given again: an empty segment holds their place.
      mending.lose(mending.next, due);
      mending.begin(due);
      mending.next = due;
    }
    await this.write(mending);
    return mending;
  }

  /** Takes what is sound of the segments up to the recovery point. A file with damage is moved away. */
  private async salvage(mending: Mending): Promise<void> {
    const { stream, index, folder } = mending;
    const names = await settleReplacements(this.folder.fileSystem, this.folder.path(folder));
    const known = this.known.checkpoint.recoveryPoints.get(partitionKey(stream.id, index)) ?? 0;
    // Without a checkpoint all that is sound counts.
    const limit = this.known.hasCheckpoint ? known : Number.POSITIVE_INFINITY;
    const mayHaveGaps = stream.settings.cleanup.includes("compact") || names.some(isSignOfGaps);
    const bases = segmentBases(names);
    const counting = bases.filter((base) => base <= limit);
    if (counting.length === 0 && known > 0) this.folder.done.push(`${folder}: no segment was there`);
    mending.next = counting[0] ?? 0;
    for (const [at, base] of bases.entries()) {
      const name = `${folder}/${segmentName(base, "log")}`;
      const content = (await this.folder.read(name)) ?? Buffer.alloc(0);
      const end = bases[at + 1] ?? Number.POSITIVE_INFINITY;
      if (base > limit) {
        // A start would remove it, too: the journal has what counts of it.
        this.keepSpare(mending, content, base);
        await this.removeSegment(folder, base);
        continue;
      }
      if (base > mending.next) {
        if (!mayHaveGaps) mending.lose(mending.next, base);
        mending.next = base;
      }
      const isLast = base === counting.at(-1);
      const sifted = siftSegment(content, { base, end, limit: Math.min(limit, end), mayHaveGaps });
      if (isLast) this.keepSpare(mending, content.subarray(sifted.position), limit);
      await this.segment(mending, { name, base, end, content, sifted, isLast });
    }
  }

  private keepSpare({ spare }: Mending, content: Buffer, base: number): void {
    if (!Number.isFinite(base)) return;
    const everything = Number.POSITIVE_INFINITY;
    const { sound } = siftSegment(content, { base, end: everything, limit: everything, mayHaveGaps: true });
    for (const { at, bytes, first } of sound) spare.set(first, content.subarray(at, at + bytes));
  }

  private async segment(
    mending: Mending,
    segment: {
      readonly name: string;
      readonly base: number;
      readonly end: number;
      readonly content: Buffer;
      readonly sifted: Sifted;
      readonly isLast: boolean;
    },
  ): Promise<void> {
    const { name, base, end, content, sifted, isLast } = segment;
    const { sound, unsound, holes, position } = sifted;
    // Without a checkpoint a torn end is what a crash leaves: the journal has it.
    const last = unsound.at(-1);
    const isTorn =
      !this.known.hasCheckpoint &&
      isLast &&
      unsound.length === 1 &&
      last !== undefined &&
      last.at + last.bytes === content.length;
    const starts = new Set(holes.map(([, to]) => to));
    const from = mending.runs.length;
    mending.begin(base);
    for (const { at, bytes, first } of sound) {
      if (starts.has(first)) mending.begin(first);
      // Over a hole, or a gap that compaction has left.
      mending.next = first;
      mending.append(content.subarray(at, at + bytes));
    }
    if (!isLast) {
      mending.next = end;
      for (const [lostFrom, to] of holes) mending.lose(lostFrom, to);
    } else for (const [lostFrom, to] of holes) if (to <= mending.next) mending.lose(lostFrom, to);
    const runs = mending.runs.slice(from);
    if (unsound.length === 0 && position === content.length) (runs[0] as Run).isWritten = true;
    else if (unsound.length > 0 && !isTorn) {
      const [first] = unsound as [(typeof unsound)[0]];
      await this.folder.keepCopy(name, content, `${first.problem}, at byte ${first.at}`);
    }
    if (isLast || mending.stream.name === CATALOG_STREAM) return;
    // The first one last: until it takes its file's place, that still has all of it.
    for (const run of runs.toReversed()) {
      if (!run.isWritten) await this.writeRun(mending.folder, run);
      run.batches = [];
    }
  }

  private async writeRun(folder: string, run: Run): Promise<void> {
    const path = this.folder.path(folder);
    for (const ending of ["index", "timeindex"] as const) {
      await this.folder.fileSystem.remove(join(path, segmentName(run.base, ending)));
    }
    await replaceFile(this.folder.fileSystem, path, segmentName(run.base, "log"), Buffer.concat(run.batches));
    run.isWritten = true;
  }

  private async removeSegment(folder: string, base: number): Promise<void> {
    for (const ending of ["log", "index", "timeindex"] as const) {
      await this.folder.fileSystem.remove(this.folder.path(`${folder}/${segmentName(base, ending)}`));
    }
  }

  /** Makes the partition's folder what has been found, synced. */
  async write({ stream, index, folder, runs, lost, producers, next }: Mending): Promise<void> {
    this.recoveryPoints.set(partitionKey(stream.id, index), next);
    if (next === 0) return;
    const { fileSystem } = this.folder;
    const path = this.folder.path(folder);
    await fileSystem.makeFolder(path);
    const metadata = `version: 0\ntopic_id: ${stream.id}\n`;
    await replaceFile(fileSystem, path, "partition.metadata", Buffer.from(metadata));
    for (const run of runs) if (!run.isWritten) await this.writeRun(folder, run);
    // The journal will not be asked again what idempotent producers have written.
    if (!producers.isEmpty) {
      await replaceFile(fileSystem, path, segmentName(next, "snapshot"), producers.encodeSnapshot(next));
    }
    if (lost.length > 0 && !this.lost.includes(lost[0] as LostOffsets)) {
      this.lost.push(...lost);
      const known = await fileSystem.readFile(join(path, "lost"));
      const before = (known && unsealText(known)?.slice(1)) ?? [];
      const lines = ["sluice-lost 1", ...before, ...lost.map(({ from, to }) => `${from} ${to}`)];
      await replaceFile(fileSystem, path, "lost", sealText(`${lines.join("\n")}\n`));
    }
    await fileSystem.syncFolder(path);
  }
}
