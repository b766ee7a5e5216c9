/**
 * Makes a damaged data folder one that starts: `sluice log repair`. Nothing is deleted: a file with damage is
 * moved to `quarantine/<when>/`, and what is sound of it is written again. Of what cannot be saved the exact
 * offsets are told, and kept in a file `lost` beside the segments: their place stays empty, offsets are never
 * given again.
 *
 * What the checkpoint, the journal and the catalog can still say comes first; each partition is then mended by it
 * (repair-partition.ts). All is synced before the new checkpoint says so, and until then a second repair finds what
 * the first one found.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { messageOf } from "../errors.ts";
import { batchOf, NO_HEADERS, recordsOf } from "../wire/record-batch.ts";
import { CATALOG, CATALOG_STREAM, readCatalog, type StreamDescription, streamRecord } from "./catalog.ts";
import { type Checkpoint, decodeCheckpoint, encodeCheckpoint, NO_CHECKPOINT } from "./checkpoint-file.ts";
import { DamagedFolder } from "./damaged-folder.ts";
import { encodeMeta, type FolderMeta, readMeta } from "./data-folder.ts";
import { type FileSystem, replaceFile } from "./file-system.ts";
import type { InspectionOptions, LostOffsets } from "./inspection.ts";
import { isJournalFile, type JournalEntry, newMark, readJournalFile } from "./journal.ts";
import { type Known, type Mending, PartitionRepair } from "./repair-partition.ts";
import { markOfJournal, siftJournal } from "./sift.ts";
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
  return new Repairer(new DamagedFolder(fileSystem, dataDir, options)).run();
}

class Repairer implements Known {
  private readonly folder: DamagedFolder;
  checkpoint: Checkpoint = NO_CHECKPOINT;
  hasCheckpoint = false;
  entries: readonly JournalEntry[] = [];
  journalIsWhole = true;

  constructor(folder: DamagedFolder) {
    this.folder = folder;
  }

  async run(): Promise<Repair> {
    const { mark } = await this.meta();
    await this.readCheckpoint();
    await this.readJournal(mark);
    const partitions = new PartitionRepair(this.folder, this);
    const catalog = await partitions.mend(CATALOG, 0);
    for (const stream of await this.streams(catalog, partitions)) {
      for (let index = 0; index < stream.partitions; index++) await partitions.mend(stream, index);
    }
    const { fileSystem, dataDir, done } = this.folder;
    await fileSystem.syncFolder(join(dataDir, "streams"));
    const newest = this.entries.reduce<Pick<Checkpoint, "sequence" | "generation">>(
      ({ sequence, generation }, entry) => ({
        sequence: Math.max(sequence, entry.sequence),
        generation: Math.max(generation, entry.generation + 1),
      }),
      this.checkpoint,
    );
    const { recoveryPoints, lost } = partitions;
    const content = encodeCheckpoint({ ...newest, recoveryPoints });
    await replaceFile(fileSystem, dataDir, "checkpoint", content);
    return { done, lost, quarantine: this.folder.quarantined };
  }

  private async meta(): Promise<FolderMeta> {
    const content = await this.folder.read("meta.json");
    try {
      if (content !== undefined) return readMeta(this.folder.dataDir, content);
    } catch (error) {
      // Of another version, or somebody else's: nothing of it is ours to mend.
      if (!messageOf(error).includes("is damaged")) throw error;
    }
    const clusterId = /"clusterId":"([\w-]{22})"/.exec(content?.toString() ?? "")?.[1];
    let mark: Buffer | undefined;
    for (const name of await this.journalFiles())
      mark ??= markOfJournal((await this.folder.read(`journal/${name}`)) ?? Buffer.alloc(0));
    const meta = { clusterId: clusterId ?? randomBytes(16).toString("base64url"), mark: mark ?? newMark() };
    if (content !== undefined) await this.folder.quarantine("meta.json", "damaged");
    await replaceFile(this.folder.fileSystem, this.folder.dataDir, "meta.json", encodeMeta(meta));
    const marked = mark === undefined ? "a new mark: the journal has none" : "the mark that the journal has";
    this.folder.done.push(
      `meta.json: made anew, with ${marked}, and ${clusterId === undefined ? "a new" : "the old"} cluster id`,
    );
    return meta;
  }

  private async journalFiles(): Promise<string[]> {
    return (await this.folder.fileSystem.list(this.folder.path("journal"))).filter(isJournalFile).sort();
  }

  private async readCheckpoint(): Promise<void> {
    const content = await this.folder.read("checkpoint");
    try {
      if (content !== undefined) {
        this.checkpoint = decodeCheckpoint(content, "checkpoint");
        this.hasCheckpoint = true;
        return;
      }
      this.folder.done.push(
        "checkpoint: it was missing; made anew from what the segments and the journal hold",
      );
    } catch {
      await this.folder.quarantine(
        "checkpoint",
        "damaged; made anew from what the segments and the journal hold",
      );
    }
  }

  /** All sound entries behind the checkpoint, in order; of several with one number the newest generation's counts. */
  private async readJournal(mark: Buffer): Promise<void> {
    const bySequence = new Map<number, JournalEntry>();
    for (const name of await this.journalFiles()) {
      const content = (await this.folder.read(`journal/${name}`)) ?? Buffer.alloc(0);
      for (const entry of siftJournal(content, mark)) {
        const known = bySequence.get(entry.sequence);
        const isNewer = known === undefined || known.generation < entry.generation;
        const isCovered =
          entry.sequence <= this.checkpoint.sequence || entry.generation < this.checkpoint.generation;
        if (isNewer && !isCovered) bySequence.set(entry.sequence, entry);
      }
      const other = markOfJournal(content);
      const damagedAt = readJournalFile(content, this.checkpoint, mark)?.damagedAt;
      const isForeign = other !== undefined && !other.equals(mark);
      if (damagedAt === undefined && !isForeign) continue;
      this.journalIsWhole = false;
      await this.folder.quarantine(
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
      if (this.journalIsWhole) this.folder.done.push("journal: entries are missing");
      this.journalIsWhole = false;
    }
  }

  private async streams(catalog: Mending, partitions: PartitionRepair): Promise<StreamDescription[]> {
    const batches = catalog.runs.flatMap((run) => run.batches);
    const streams = new Map(readCatalog(recordsOf(batches)).streams);
    const known = new Set([`${CATALOG_STREAM}-0`]);
    for (const { name, partitions } of streams.values()) {
      for (let index = 0; index < partitions; index++) known.add(`${name}-${index}`);
    }
    const orphans = (await this.folder.fileSystem.list(this.folder.path("streams")))
      .filter((name) => !known.has(name))
      .sort();
    const adopted = new Map<string, StreamDescription>();
    for (const folder of orphans) {
      const [, name = "", index] = /^(.+)-(\d+)$/.exec(folder) ?? [];
      const metadata = (await this.folder.read(`streams/${folder}/partition.metadata`))?.toString() ?? "";
      const id = /topic_id: ([\w-]{22})/.exec(metadata)?.[1];
      // With the catalog whole, it belongs to a stream that was deleted, or to nobody.
      if (catalog.lost.length === 0 || id === undefined || streams.has(name)) {
        await this.folder.quarantine(`streams/${folder}`, "belongs to no stream");
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
    if (adopted.size > 0) await this.adopt([...adopted.values()], catalog, partitions);
    return [...streams.values(), ...adopted.values()];
  }

  /** Writes into the catalog again what it has lost. */
  private async adopt(
    streams: readonly StreamDescription[],
    catalog: Mending,
    partitions: PartitionRepair,
  ): Promise<void> {
    const records = streams.map((stream) => ({
      ...streamRecord(stream),
      headers: NO_HEADERS,
      timestamp: Date.now(),
    }));
    catalog.append(batchOf(records, catalog.next));
    await partitions.write(catalog);
    for (const { name } of streams) {
      this.folder.done.push(
        `streams/${name}-*: the catalog had lost the stream; taken up again, without retention until it is set`,
      );
    }
  }
}
