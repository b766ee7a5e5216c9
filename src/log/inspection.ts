/**
 * Looks a data folder over, every byte of it, and changes nothing: `sluice log verify`.
 *
 * Beside a running gateway only what does not change is judged: segments up to the recovery points that the
 * checkpoint had at the beginning. The journal is then left to the next start, and so is what streams there are.
 */
import { join } from "node:path";
import { LogError, messageOf } from "../errors.ts";
import { readInt64 } from "../wire/buffer.ts";
import { baseOffsetOf, maxTimestampOf, recordsOf } from "../wire/record-batch.ts";
import { CATALOG, CATALOG_ID, CATALOG_STREAM, readCatalog, type StreamDescription } from "./catalog.ts";
import {
  type Checkpoint,
  decodeCheckpoint,
  NO_CHECKPOINT,
  partitionKey,
  unsealText,
} from "./checkpoint-file.ts";
import { type FolderMeta, foreignFiles, readMeta, refuseWithoutCheckpoint } from "./data-folder.ts";
import type { FileSystem } from "./file-system.ts";
import { isJournalFile, readJournalFile } from "./journal.ts";
import { isSnapshot } from "./producer-snapshots.ts";
import { ProducerState } from "./producer-state.ts";
import { journalFilesBehind, replayJournal } from "./recovery.ts";
import { isSignOfGaps } from "./replacement.ts";
import { INDEX_ENTRY_BYTES, TIME_ENTRY_BYTES } from "./segment-index.ts";
import { segmentBases, segmentName } from "./segment-name.ts";
import { type Sifted, siftSegment } from "./sift.ts";

export interface Finding {
  /** Below the data folder. */
  readonly file: string;
  /** Byte. */
  readonly position?: number;
  readonly problem: string;
  /**
   * damage: something is lost, or a start is refused; rebuilt: the gateway makes it anew by itself when it needs
   * it; foreign: nobody's, and left alone.
   */
  readonly kind: "damage" | "rebuilt" | "foreign";
}

/** Offsets that no sound batch has, from `from` up to, but not with, `to`. */
export interface LostOffsets {
  readonly stream: string;
  readonly partition: number;
  readonly from: number;
  readonly to: number;
}

export interface Inspection {
  readonly files: number;
  readonly bytes: number;
  readonly partitions: number;
  readonly batches: number;
  readonly findings: readonly Finding[];
  readonly lost: readonly LostOffsets[];
  /** A gateway runs on it: see above for what was left out. */
  readonly isRunning: boolean;
}

export interface InspectionOptions {
  readonly isRunning?: boolean;
  readonly onProgress?: (progress: { readonly file: string; readonly bytes: number }) => void;
}

export function inspect(
  fileSystem: FileSystem,
  dataDir: string,
  options: InspectionOptions = {},
): Promise<Inspection> {
  return new Inspector(fileSystem, dataDir, options).run();
}

class Inspector {
  private readonly fileSystem: FileSystem;
  private readonly dataDir: string;
  private readonly options: InspectionOptions;
  private readonly findings: Finding[] = [];
  private readonly lost: LostOffsets[] = [];
  private readonly counts = { files: 0, bytes: 0, partitions: 0, batches: 0 };
  private checkpoint: Checkpoint = NO_CHECKPOINT;
  /** What the catalog's segments and the journal hold of it. */
  private readonly catalogBatches: Buffer[] = [];
  private catalogEnd = 0;

  constructor(fileSystem: FileSystem, dataDir: string, options: InspectionOptions) {
    this.fileSystem = fileSystem;
    this.dataDir = dataDir;
    this.options = options;
  }

  async run(): Promise<Inspection> {
    const { isRunning = false } = this.options;
    const meta = await this.lookAt("meta.json", (content) => readMeta(this.dataDir, content));
    const checkpoint = await this.lookAt("checkpoint", (content) => decodeCheckpoint(content, "checkpoint"));
    this.checkpoint = checkpoint ?? NO_CHECKPOINT;
    // A checkpoint that is not sound says nothing of how far segments count.
    await this.partition(CATALOG, 0);
    if (meta !== undefined && !isRunning) await this.journal(meta);
    const streams = [...this.streams().values()];
    for (const stream of streams) {
      for (let index = 0; index < stream.partitions; index++) await this.partition(stream, index);
    }
    if (!isRunning) await this.foreign([CATALOG, ...streams]);
    return { ...this.counts, findings: this.findings, lost: this.lost, isRunning };
  }

  private find(kind: Finding["kind"], file: string, problem: string, position?: number): void {
    this.findings.push({ file, problem, kind, ...(position === undefined ? {} : { position }) });
  }

  private async read(file: string): Promise<Buffer | undefined> {
    const content = await this.fileSystem.readFile(join(this.dataDir, file));
    if (content === undefined) return undefined;
    this.counts.files++;
    this.counts.bytes += content.length;
    this.options.onProgress?.({ file, bytes: this.counts.bytes });
    return content;
  }

  /** Of a small file at the top; undefined when it is missing or not sound. */
  private async lookAt<T>(file: string, decode: (content: Buffer) => T): Promise<T | undefined> {
    const content = await this.read(file);
    try {
      if (content !== undefined) return decode(content);
      if (file === "meta.json") this.find("damage", file, "is missing");
    } catch (error) {
      this.find("damage", file, messageOf(error));
    }
    return undefined;
  }

  private async journal({ mark }: FolderMeta): Promise<void> {
    const { fileSystem, dataDir, checkpoint } = this;
    const folder = join(dataDir, "journal");
    const before = this.findings.length;
    for (const name of (await fileSystem.list(folder)).filter(isJournalFile).sort()) {
      const content = (await this.read(`journal/${name}`)) ?? Buffer.alloc(0);
      const file = readJournalFile(content, checkpoint, mark);
      if (file?.damagedAt === undefined) continue;
      this.find("damage", `journal/${name}`, "an entry is damaged, and sound ones follow it", file.damagedAt);
    }
    try {
      const files = await journalFilesBehind(fileSystem, folder, mark, checkpoint);
      if (checkpoint === NO_CHECKPOINT) await refuseWithoutCheckpoint(fileSystem, dataDir, files);
      await replayJournal(fileSystem, folder, mark, files, checkpoint, ({ batches }) => {
        for (const { streamId, batch } of batches) {
          if (streamId.toString("base64url") === CATALOG_ID && baseOffsetOf(batch) >= this.catalogEnd) {
            this.catalogBatches.push(Buffer.from(batch));
          }
        }
      });
    } catch (error) {
      if (!(error instanceof LogError)) throw error;
      if (this.findings.length === before) this.find("damage", "journal", error.message);
    }
  }

  private streams(): ReadonlyMap<string, StreamDescription> {
    try {
      return readCatalog(recordsOf(this.catalogBatches)).streams;
    } catch (error) {
      this.find(
        "damage",
        `streams/${CATALOG_STREAM}-0`,
        `what it says of the streams is not sound: ${messageOf(error)}`,
      );
      return new Map();
    }
  }

  private async partition(stream: StreamDescription, index: number): Promise<void> {
    const before = { findings: this.findings.length, lost: this.lost.length };
    await this.partitionNow(stream, index);
    if (this.options.isRunning !== true || this.findings.length === before.findings) return;
    // Retention or compaction may have been at it meanwhile.
    this.findings.length = before.findings;
    this.lost.length = before.lost;
    await this.partitionNow(stream, index);
  }

  private async partitionNow(stream: StreamDescription, index: number): Promise<void> {
    const folder = `streams/${stream.name}-${index}`;
    const names = await this.fileSystem.list(join(this.dataDir, folder));
    const recoveryPoint = this.checkpoint.recoveryPoints.get(partitionKey(stream.id, index)) ?? 0;
    const bases = segmentBases(names).filter((base) => base <= recoveryPoint);
    this.counts.partitions++;
    if (recoveryPoint === 0) return;
    const metadata = await this.read(`${folder}/partition.metadata`);
    if (metadata?.toString().includes(stream.id) !== true) {
      this.find("rebuilt", `${folder}/partition.metadata`, "does not name its stream");
    }
    if (bases.length === 0) {
      this.find("damage", folder, `no segment is there, and it held the offsets below ${recoveryPoint}`);
      this.lost.push({ stream: stream.name, partition: index, from: 0, to: recoveryPoint });
    }
    const mayHaveGaps = stream.settings.cleanup.includes("compact") || names.some(isSignOfGaps);
    for (const [at, base] of bases.entries()) {
      const content = await this.read(`${folder}/${segmentName(base, "log")}`);
      if (content === undefined) continue;
      const end = bases[at + 1] ?? Number.POSITIVE_INFINITY;
      const sifted = siftSegment(content, { base, end, limit: recoveryPoint, mayHaveGaps });
      await this.segment(stream, index, base, content, sifted);
    }
    await this.besides(folder, names);
  }

  private async segment(
    stream: StreamDescription,
    index: number,
    base: number,
    content: Buffer,
    { sound, unsound, holes, position }: Sifted,
  ): Promise<void> {
    const folder = `streams/${stream.name}-${index}`;
    const file = `${folder}/${segmentName(base, "log")}`;
    this.counts.batches += sound.length;
    for (const { at, problem } of unsound) this.find("damage", file, problem, at);
    if (holes.length > 0 && unsound.length === 0)
      this.find("damage", file, "batches are missing at its end", position);
    for (const [from, to] of holes) this.lost.push({ stream: stream.name, partition: index, from, to });
    if (stream.name === CATALOG_STREAM) {
      this.catalogBatches.push(...sound.map(({ at, bytes }) => content.subarray(at, at + bytes)));
      this.catalogEnd = (sound.at(-1)?.last ?? this.catalogEnd - 1) + 1;
    }
    if (unsound.length === 0) await this.indexes(folder, base, content, sound);
  }

  /** Each entry must point to a batch that is what it says. Entries of what was never synced do not count. */
  private async indexes(
    folder: string,
    base: number,
    content: Buffer,
    sound: Sifted["sound"],
  ): Promise<void> {
    const places = new Map(sound.map(({ at, last }) => [last, at]));
    const known = (last: number): boolean => last <= (sound.at(-1)?.last ?? -1);
    const offsets = `${folder}/${segmentName(base, "index")}`;
    const index = (await this.read(offsets)) ?? Buffer.alloc(0);
    for (let at = 0; at + INDEX_ENTRY_BYTES <= index.length; at += INDEX_ENTRY_BYTES) {
      const last = base + index.readInt32BE(at);
      if (!known(last) && this.options.isRunning) break;
      if (places.get(last) === index.readInt32BE(at + 4)) continue;
      this.find("rebuilt", offsets, `no batch ends with offset ${last} where it says`, at);
      break;
    }
    const times = `${folder}/${segmentName(base, "timeindex")}`;
    const timeIndex = (await this.read(times)) ?? Buffer.alloc(0);
    for (let at = 0; at + TIME_ENTRY_BYTES <= timeIndex.length; at += TIME_ENTRY_BYTES) {
      const last = base + timeIndex.readInt32BE(at + 8);
      if (!known(last) && this.options.isRunning) break;
      const place = places.get(last);
      if (place !== undefined && maxTimestampOf(content, place) === readInt64(timeIndex, at)) continue;
      this.find("rebuilt", times, `no batch has the time that it says for offset ${last}`, at);
      break;
    }
  }

  /** What lies beside the segments. */
  private async besides(folder: string, names: readonly string[]): Promise<void> {
    for (const name of names.filter(isSnapshot)) {
      const content = await this.read(`${folder}/${name}`);
      if (content !== undefined && !new ProducerState().decodeSnapshot(content)) {
        this.find(
          "rebuilt",
          `${folder}/${name}`,
          "is damaged: idempotent producers are told from the segments",
        );
      }
    }
    if (!names.includes("compaction")) return;
    const hint = await this.read(`${folder}/compaction`);
    if (hint !== undefined && unsealText(hint) === undefined)
      this.find("rebuilt", `${folder}/compaction`, "is damaged");
  }

  private async foreign(streams: readonly StreamDescription[]): Promise<void> {
    const known = streams.flatMap(({ name, partitions }) =>
      Array.from({ length: partitions }, (_, index) => `${name}-${index}`),
    );
    for (const file of await foreignFiles(this.fileSystem, this.dataDir, new Set(known))) {
      this.find(
        "foreign",
        file,
        file.split("/").length === 2 ? "belongs to no stream" : "is not the gateway's",
      );
    }
    const clock = await this.read("clock");
    if (clock !== undefined && unsealText(clock) === undefined) this.find("rebuilt", "clock", "is damaged");
  }
}
