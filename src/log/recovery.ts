/**
 * What a start finds in the journal: the entries that the segments may not hold yet.
 *
 * Files are put in the order of their generations. Entries must follow one another without a gap from the
 * checkpoint on; they end with the first that is not whole. One that is damaged *before* sound ones is not a
 * torn end: acknowledged records are missing, and going on would hide it.
 */
import { join } from "node:path";
import { LogError } from "../errors.ts";
import type { Checkpoint } from "./checkpoint-file.ts";
import type { FileSystem } from "./file-system.ts";
import {
  decodeEntry,
  ENTRY_HEADER_BYTES,
  entryBytes,
  isJournalFile,
  type JournalEntry,
  readJournalFile,
} from "./journal.ts";
import { markOfJournal } from "./sift.ts";

export interface JournalEnd {
  /** The newest sequence there is; the checkpoint's when the journal holds nothing newer. */
  readonly sequence: number;
  /** The newest generation there is. */
  readonly generation: number;
}

/** The files that may hold entries behind the checkpoint, in the order in which they were written. */
export type JournalFiles = readonly {
  readonly name: string;
  readonly generation: number;
  /** Of its first entry; undefined when that is not sound. */
  readonly firstSequence: number | undefined;
}[];

/**
 * Finds them without reading the rest: a file whose first entry is sound and of a generation before the
 * checkpoint's was left when the checkpoint was made.
 */
export async function journalFilesBehind(
  fileSystem: FileSystem,
  folder: string,
  mark: Buffer,
  checkpoint: Checkpoint,
): Promise<JournalFiles> {
  const found: JournalFiles[number][] = [];
  for (const name of (await fileSystem.list(folder)).filter(isJournalFile)) {
    const first = await firstEntry(fileSystem, join(folder, name), mark);
    if (first !== undefined && first.generation < checkpoint.generation) continue;
    const file = readJournalFile(await contentOf(fileSystem, folder, name), checkpoint, mark);
    if (file === undefined) continue;
    found.push({ name, generation: file.generation, firstSequence: file.entries[0]?.sequence });
  }
  return found.sort((a, b) => a.generation - b.generation);
}

/**
 * Gives every entry behind the checkpoint to `visit`, in order, one file in memory at a time. Throws LogError
 * JOURNAL_DAMAGED.
 */
export async function replayJournal(
  fileSystem: FileSystem,
  folder: string,
  mark: Buffer,
  files: JournalFiles,
  checkpoint: Checkpoint,
  visit: (entry: JournalEntry) => void,
): Promise<JournalEnd> {
  let { sequence, generation } = checkpoint;
  for (const [index, { name }] of files.entries()) {
    const successor = files[index + 1]?.firstSequence;
    const file = readJournalFile(await contentOf(fileSystem, folder, name), checkpoint, mark);
    if (file === undefined) continue;
    generation = Math.max(generation, file.generation);
    for (const entry of file.entries) {
      if (entry.sequence <= checkpoint.sequence) continue;
      // A write that was given up: the next file began with its number, and nobody was told that it is on disk.
      if (entry.sequence === successor && entry === file.entries.at(-1)) continue;
      if (entry.sequence !== sequence + 1) {
        damaged(join(folder, name), 0, `entry ${entry.sequence} comes after ${sequence}`);
      }
      visit(entry);
      sequence = entry.sequence;
    }
    if (file.damagedAt !== undefined) {
      damaged(join(folder, name), file.damagedAt, "an entry is damaged, and sound ones follow it");
    }
  }
  return { sequence, generation };
}

async function firstEntry(
  fileSystem: FileSystem,
  path: string,
  mark: Buffer,
): Promise<JournalEntry | undefined> {
  const file = await fileSystem.open(path, "read");
  try {
    const head = Buffer.alloc(ENTRY_HEADER_BYTES);
    await file.read(head, 0);
    const entry = Buffer.alloc(Math.min(entryBytes(head), await file.size()));
    await file.read(entry, 0);
    const found = decodeEntry(entry, 0, mark);
    if (found === undefined && markOfJournal(entry) !== undefined) {
      throw new LogError(
        "JOURNAL_FOREIGN",
        `${path} is of another data folder: its entries have another mark`,
        {
          mend: "Restore the data folder whole; or run sluice log repair, which puts the file into quarantine.",
        },
      );
    }
    return found;
  } finally {
    await file.close();
  }
}

async function contentOf(fileSystem: FileSystem, folder: string, name: string): Promise<Buffer> {
  return (await fileSystem.readFile(join(folder, name))) ?? Buffer.alloc(0);
}

function damaged(path: string, position: number, what: string): never {
  throw new LogError(
    "JOURNAL_DAMAGED",
    `${path}: at byte ${position} ${what}; acknowledged records are missing`,
    {
      mend: "Restore the data folder from a copy; or run sluice log repair, which says exactly what is lost.",
    },
  );
}
