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
import { isJournalFile, type JournalEntry, readJournalFile } from "./journal.ts";

export interface JournalEnd {
  /** The newest sequence there is; the checkpoint's when the journal holds nothing newer. */
  readonly sequence: number;
  /** The newest generation there is. */
  readonly generation: number;
}

interface FileHead {
  readonly name: string;
  readonly generation: number;
}

/**
 * Gives every entry behind the checkpoint to `visit`, in order, one file in memory at a time. Throws LogError
 * JOURNAL_DAMAGED.
 */
export async function replayJournal(
  fileSystem: FileSystem,
  folder: string,
  checkpoint: Checkpoint,
  visit: (entry: JournalEntry) => void,
): Promise<JournalEnd> {
  const heads: FileHead[] = [];
  for (const name of (await fileSystem.list(folder)).filter(isJournalFile)) {
    const found = readJournalFile(name, await contentOf(fileSystem, folder, name), checkpoint.sequence);
    if (found !== undefined) heads.push({ name, generation: found.generation });
  }
  heads.sort((a, b) => a.generation - b.generation);

  let sequence = checkpoint.sequence;
  let generation = checkpoint.generation;
  for (const { name } of heads) {
    const content = await contentOf(fileSystem, folder, name);
    const file = readJournalFile(name, content, checkpoint.sequence);
    if (file === undefined) continue;
    generation = Math.max(generation, file.generation);
    for (const entry of file.entries) {
      if (entry.sequence <= checkpoint.sequence) continue;
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

async function contentOf(fileSystem: FileSystem, folder: string, name: string): Promise<Buffer> {
  return (await fileSystem.readFile(join(folder, name))) ?? Buffer.alloc(0);
}

function damaged(path: string, position: number, what: string): never {
  throw new LogError(
    "JOURNAL_DAMAGED",
    `${path}: at byte ${position} ${what}; acknowledged records are missing`,
    {
      mend: "Restore the data folder from a copy; or move that file away to start without what it holds.",
    },
  );
}
