/**
 * Makes a damaged data folder one that starts: `sluice log repair`. Nothing is deleted: a file with damage is
 * moved to `quarantine/<when>/`, and what is sound of it is written again. Of what cannot be saved the exact
 * offsets are told, and kept in a file `lost` beside the segments: their place stays empty, offsets are never
 * given again.
 *
 * For each partition: the sound batches of its segments up to the recovery point; then those of the journal that
 * go on there; and where the journal has a hole, what was flushed to the segment and not yet synced, if it fits.
 * A segment begins behind each hole. All is synced before the new checkpoint says so, and until then a second
 * repair finds what the first one found.
 */
import { randomBytes } from "node:crypto";
import { basename, dirname, join } from "node:path";
import { messageOf } from "../errors.ts";
import { baseOffsetOf, batchOf, lastOffsetOf, NO_HEADERS, recordsOf } from "../wire/record-batch.ts";
import { CATALOG_STREAM, readCatalog, type StreamDescription, streamRecord } from "./catalog.ts";
import {
  type Checkpoint,
  decodeCheckpoint,
  encodeCheckpoint,
  NO_CHECKPOINT,
  partitionKey,
  sealText,
  unsealText,
} from "./checkpoint-file.ts";
import { encodeMeta, type FolderMeta, readMeta } from "./data-folder.ts";
import { type FileSystem, replaceFile } from "./file-system.ts";
import { CATALOG, type InspectionOptions, type LostOffsets, segmentBases } from "./inspection.ts";
import { isJournalFile, type JournalEntry, newMark, readJournalFile } from "./journal.ts";
import { ProducerState } from "./producer-state.ts";
import { isSignOfGaps, settleReplacements } from "./replacement.ts";
import { segmentName } from "./segment.ts";
import { markOfJournal, type Sifted, siftJournal, siftSegment } from "./sift.ts";
import { DEFAULT_SETTINGS } from "./stream-state.ts";

export interface Repair {
  /** What was done, in words, file by file. */
  readonly done: readonly string[];
  readonly lost: readonly LostOffsets[];
  /** Below the data folder; undefined when nothing had to go there. */
  readonly quarantine: string | undefined;
}

/** The caller holds the folder's lock. */
export function repair(
  fileSystem: FileSystem,
  dataDir: string,
  options: Pick<InspectionOptions, "onProgress"> & { readonly now?: Date } = {},
): Promise<Repair> {
  return new Repairer(fileSystem, dataDir, options).run();
}

/** Batches that follow one another without a hole: what becomes a segment, or is one. */
interface Run {
  readonly base: number;
  /** Its file holds just this already. */
  isWritten: boolean;
  /** None where it is written and will not grow. */
  batches: Buffer[];
}

/** A partition while it is mended. */
class Mending {
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

class Repairer {
  private readonly fileSystem: FileSystem;
  private readonly dataDir: string;
  private readonly quarantineName: string;
  private readonly onProgress: InspectionOptions["onProgress"];
  private readonly done: string[] = [];
  private readonly lost: LostOffsets[] = [];
  private readonly recoveryPoints = new Map<string, number>();
  private checkpoint: Checkpoint = NO_CHECKPOINT;
  private hasCheckpoint = false;
  private entries: readonly JournalEntry[] = [];
  private journalIsWhole = true;
  private quarantined = false;
  private bytes = 0;

  constructor(
    fileSystem: FileSystem,
    dataDir: string,
    { onProgress, now = new Date() }: Parameters<typeof repair>[2] & object,
  ) {
    this.fileSystem = fileSystem;
    this.dataDir = dataDir;
    this.onProgress = onProgress;
    this.quarantineName = `quarantine/${now.toISOString().replaceAll(":", "-")}`;
  }

  async run(): Promise<Repair> {
    const { mark } = await this.meta();
    await this.readCheckpoint();
    await this.readJournal(mark);
    const catalog = await this.partition(CATALOG, 0);
    for (const stream of await this.streams(catalog)) {
      for (let index = 0; index < stream.partitions; index++) await this.partition(stream, index);
    }
    await this.fileSystem.syncFolder(join(this.dataDir, "streams"));
    const newest = this.entries.reduce<Pick<Checkpoint, "sequence" | "generation">>(
      ({ sequence, generation }, entry) => ({
        sequence: Math.max(sequence, entry.sequence),
        generation: Math.max(generation, entry.generation + 1),
      }),
      this.checkpoint,
    );
    const { recoveryPoints } = this;
    const content = encodeCheckpoint({ ...newest, recoveryPoints });
    await replaceFile(this.fileSystem, this.dataDir, "checkpoint", content);
    return {
      done: this.done,
      lost: this.lost,
      quarantine: this.quarantined ? this.quarantineName : undefined,
    };
  }

  private path(file: string): string {
    return join(this.dataDir, file);
  }

  private async read(file: string): Promise<Buffer | undefined> {
    const content = await this.fileSystem.readFile(this.path(file));
    this.bytes += content?.length ?? 0;
    this.onProgress?.({ file, bytes: this.bytes });
    return content;
  }

  /** Moves a file or folder away; its name is gone for good when this resolves. */
  private async quarantine(file: string, why: string): Promise<void> {
    const { fileSystem } = this;
    const target = this.path(`${this.quarantineName}/${file}`);
    await fileSystem.makeFolder(dirname(target));
    await fileSystem.rename(this.path(file), target);
    for (const folder of [dirname(target), dirname(this.path(file)), this.dataDir])
      await fileSystem.syncFolder(folder);
    this.quarantined = true;
    this.done.push(`${file}: ${why}; moved to ${this.quarantineName}`);
  }

  private async meta(): Promise<FolderMeta> {
    const content = await this.read("meta.json");
    try {
      if (content !== undefined) return readMeta(this.dataDir, content);
    } catch (error) {
      // Of another version, or somebody else's: nothing of it is ours to mend.
      if (!messageOf(error).includes("is damaged")) throw error;
    }
    const clusterId = /"clusterId":"([\w-]{22})"/.exec(content?.toString() ?? "")?.[1];
    let mark: Buffer | undefined;
    for (const name of await this.journalFiles())
      mark ??= markOfJournal((await this.read(`journal/${name}`)) ?? Buffer.alloc(0));
    const meta = { clusterId: clusterId ?? randomBytes(16).toString("base64url"), mark: mark ?? newMark() };
    if (content !== undefined) await this.quarantine("meta.json", "damaged");
    await replaceFile(this.fileSystem, this.dataDir, "meta.json", encodeMeta(meta));
    const marked = mark === undefined ? "a new mark: the journal has none" : "the mark that the journal has";
    this.done.push(
      `meta.json: made anew, with ${marked}, and ${clusterId === undefined ? "a new" : "the old"} cluster id`,
    );
    return meta;
  }

  private async journalFiles(): Promise<string[]> {
    return (await this.fileSystem.list(this.path("journal"))).filter(isJournalFile).sort();
  }

  private async readCheckpoint(): Promise<void> {
    const content = await this.read("checkpoint");
    try {
      if (content !== undefined) {
        this.checkpoint = decodeCheckpoint(content, "checkpoint");
        this.hasCheckpoint = true;
        return;
      }
      this.done.push("checkpoint: it was missing; made anew from what the segments and the journal hold");
    } catch {
      await this.quarantine("checkpoint", "damaged; made anew from what the segments and the journal hold");
    }
  }

  /** All sound entries behind the checkpoint, in order; of several with one number the newest generation's counts. */
  private async readJournal(mark: Buffer): Promise<void> {
    const bySequence = new Map<number, JournalEntry>();
    for (const name of await this.journalFiles()) {
      const content = (await this.read(`journal/${name}`)) ?? Buffer.alloc(0);
      for (const entry of siftJournal(content, mark)) {
        const known = bySequence.get(entry.sequence);
        const counts = known === undefined || known.generation < entry.generation;
        if (entry.sequence > this.checkpoint.sequence && counts) bySequence.set(entry.sequence, entry);
      }
      const other = markOfJournal(content);
      const damagedAt = readJournalFile(content, this.checkpoint.sequence, mark)?.damagedAt;
      const isForeign = other !== undefined && !other.equals(mark);
      if (damagedAt === undefined && !isForeign) continue;
      this.journalIsWhole = false;
      await this.quarantine(
        `journal/${name}`,
        isForeign
          ? "of another data folder"
          : `an entry is damaged at byte ${damagedAt}; what is sound was taken out of it`,
      );
    }
    this.entries = [...bySequence.values()].sort((a, b) => a.sequence - b.sequence);
    const isGapless = this.entries.every(
      ({ sequence }, at) => sequence === (this.entries[0]?.sequence ?? 0) + at,
    );
    const first = this.entries[0]?.sequence;
    if (!isGapless || (this.hasCheckpoint && first !== undefined && first !== this.checkpoint.sequence + 1)) {
      if (this.journalIsWhole) this.done.push("journal: entries are missing");
      this.journalIsWhole = false;
    }
  }

  private async streams(catalog: Mending): Promise<StreamDescription[]> {
    const batches = catalog.runs.flatMap((run) => run.batches);
    const streams = new Map(readCatalog(recordsOf(batches)).streams);
    const known = new Set([`${CATALOG_STREAM}-0`]);
    for (const { name, partitions } of streams.values()) {
      for (let index = 0; index < partitions; index++) known.add(`${name}-${index}`);
    }
    const orphans = (await this.fileSystem.list(this.path("streams")))
      .filter((name) => !known.has(name))
      .sort();
    const adopted = new Map<string, StreamDescription>();
    for (const folder of orphans) {
      const [, name = "", index] = /^(.+)-(\d+)$/.exec(folder) ?? [];
      const metadata = (await this.read(`streams/${folder}/partition.metadata`))?.toString() ?? "";
      const id = /topic_id: ([\w-]{22})/.exec(metadata)?.[1];
      // With the catalog whole, it belongs to a stream that was deleted, or to nobody.
      if (catalog.lost.length === 0 || id === undefined || streams.has(name)) {
        await this.quarantine(`streams/${folder}`, "belongs to no stream");
        continue;
      }
      const partitions = Math.max(Number(index) + 1, adopted.get(name)?.partitions ?? 0);
      const settings = { ...DEFAULT_SETTINGS, retentionMs: -1, retentionBytes: -1 };
      adopted.set(name, {
        name,
        id,
        origin: name.startsWith("__") ? "internal" : "protocol",
        partitions,
        settings,
      });
    }
    if (adopted.size > 0) await this.adopt([...adopted.values()], catalog);
    return [...streams.values(), ...adopted.values()];
  }

  /** Writes into the catalog again what it has lost. */
  private async adopt(streams: readonly StreamDescription[], catalog: Mending): Promise<void> {
    const records = streams.map((stream) => ({
      ...streamRecord(stream),
      headers: NO_HEADERS,
      timestamp: Date.now(),
    }));
    catalog.append(batchOf(records, catalog.next));
    await this.write(catalog);
    for (const { name } of streams) {
      this.done.push(
        `streams/${name}-*: the catalog had lost the stream; taken up again, without retention until it is set`,
      );
    }
  }

  private async partition(stream: StreamDescription, index: number): Promise<Mending> {
    const mending = new Mending(stream, index);
    await this.salvage(mending);
    const fill = (): void => {
      if (this.journalIsWhole) return;
      for (let found = mending.spare.get(mending.next); found !== undefined; ) {
        mending.append(found);
        found = mending.spare.get(mending.next);
      }
    };
    const id = Buffer.from(stream.id, "base64url");
    for (const { batches } of this.entries) {
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
    const due = this.checkpoint.recoveryPoints.get(partitionKey(stream.id, index)) ?? 0;
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
    const names = await settleReplacements(this.fileSystem, this.path(folder));
    const known = this.checkpoint.recoveryPoints.get(partitionKey(stream.id, index)) ?? 0;
    // Without a checkpoint all that is sound counts.
    const limit = this.hasCheckpoint ? known : Number.POSITIVE_INFINITY;
    const mayHaveGaps = stream.settings.cleanup.includes("compact") || names.some(isSignOfGaps);
    const bases = segmentBases(names);
    const counting = bases.filter((base) => base <= limit);
    if (counting.length === 0 && known > 0) this.done.push(`${folder}: no segment was there`);
    mending.next = counting[0] ?? 0;
    for (const [at, base] of bases.entries()) {
      const name = `${folder}/${segmentName(base, "log")}`;
      const content = (await this.read(name)) ?? Buffer.alloc(0);
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
      !this.hasCheckpoint &&
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
      await this.keepCopy(name, content, `${first.problem}, at byte ${first.at}`);
    }
    if (isLast || mending.stream.name === CATALOG_STREAM) return;
    // The first one last: until it takes its file's place, that still has all of it.
    for (const run of runs.toReversed()) {
      if (!run.isWritten) await this.writeRun(mending.folder, run);
      run.batches = [];
    }
  }

  /** Of a file whose place another one takes. */
  private async keepCopy(file: string, content: Buffer, why: string): Promise<void> {
    const target = this.path(`${this.quarantineName}/${file}`);
    await this.fileSystem.makeFolder(dirname(target));
    await replaceFile(this.fileSystem, dirname(target), basename(target), content);
    this.quarantined = true;
    this.done.push(`${file}: ${why}; kept in ${this.quarantineName}, and what is sound of it written again`);
  }

  private async writeRun(folder: string, run: Run): Promise<void> {
    const path = this.path(folder);
    for (const ending of ["index", "timeindex"] as const) {
      await this.fileSystem.remove(join(path, segmentName(run.base, ending)));
    }
    await replaceFile(this.fileSystem, path, segmentName(run.base, "log"), Buffer.concat(run.batches));
    run.isWritten = true;
  }

  private async removeSegment(folder: string, base: number): Promise<void> {
    for (const ending of ["log", "index", "timeindex"] as const) {
      await this.fileSystem.remove(this.path(`${folder}/${segmentName(base, ending)}`));
    }
  }

  /** Makes the partition's folder what has been found, synced. */
  private async write({ stream, index, folder, runs, lost, producers, next }: Mending): Promise<void> {
    this.recoveryPoints.set(partitionKey(stream.id, index), next);
    if (next === 0) return;
    const { fileSystem } = this;
    const path = this.path(folder);
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
