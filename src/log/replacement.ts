/**
 * How a run of segments gives its place to its compacted form, so that after a crash at any moment a start
 * finds either all of the run or all of its compacted form:
 *
 * ```
 *                                   run: [a, b) [b, c) [c, end)
 * 1  <a>.compacting                 written and synced; worth nothing yet
 * 2  <a>.<end>.compacted            renamed, folder synced: from here on it counts, the run does not
 * 3  a, b, c and their indexes      removed, folder synced
 * 4  <a>.log                        linked to it as a second name, folder synced
 * 5  <a>.<end>.compacted            removed, folder synced
 * ```
 * A start removes what stands at 1; for what stands at 2 it syncs the folder and does 3 to 5. The name says what it
 * stands for, so nothing has to be looked into, and doing it twice does no harm. A rename in place of 4 and 5 would do
 * on every journaling file system; here nothing is taken away before what it stands for is safe, whatever a rename may
 * tear.
 */
import { join } from "node:path";
import type { FileSystem } from "./file-system.ts";
import type { Segment } from "./segment.ts";
import { digits, segmentName } from "./segment-name.ts";

const TAKEN = /^(\d{20})\.(\d{20})\.compacted$/;

/** A file of compaction's, or of a repair's, beside the segments: offsets may be missing in them. */
export function isSignOfGaps(name: string): boolean {
  return name === "compaction" || name === "lost";
}

export function compactingName(baseOffset: number): string {
  return `${digits(baseOffset)}.compacting`;
}

/**
 * Puts `compacted`, which lies synced under its `compactingName`, in the place of `run`, the segments from its
 * base offset to its end. `onTaken` is called as soon as it is to be read instead of them; theirs is then to close
 * them. An error after that leaves files that the next start puts in order.
 */
export async function replaceRun(
  fileSystem: FileSystem,
  folder: string,
  run: readonly Segment[],
  compacted: Segment,
  onTaken: () => void,
): Promise<void> {
  const taken = `${digits(compacted.baseOffset)}.${digits(compacted.end)}.compacted`;
  await fileSystem.rename(join(folder, compacted.name), join(folder, taken));
  compacted.name = taken;
  onTaken();
  await fileSystem.syncFolder(folder);
  const segments = new Map(run.map((segment) => [segment.name, segment]));
  await moveIn(fileSystem, folder, taken, {
    remove: (name) => segments.get(name)?.removeName() ?? fileSystem.remove(join(folder, name)),
    onMoved: () => {
      compacted.name = segmentName(compacted.baseOffset, "log");
    },
  });
}

/** Steps 3 to 5; `onMoved` is called as soon as the file has its last name, whether that is safe yet or not. */
async function moveIn(
  fileSystem: FileSystem,
  folder: string,
  taken: string,
  { remove, onMoved }: { remove: (name: string) => Promise<void>; onMoved?: () => void },
): Promise<void> {
  const [, from, to] = TAKEN.exec(taken) as unknown as [string, string, string];
  for (const name of await fileSystem.list(folder)) {
    const [base, ending] = name.split(".") as [string, string?];
    const isIndex = ending === "index" || ending === "timeindex";
    // Offsets of 20 digits are in order as text.
    const isOfRun = base >= from && base < to && (isIndex || ending === "log");
    if (isOfRun) await remove(name);
  }
  await fileSystem.syncFolder(folder);
  await fileSystem.link(join(folder, taken), join(folder, `${from}.log`));
  onMoved?.();
  await fileSystem.syncFolder(folder);
  await fileSystem.remove(join(folder, taken));
  await fileSystem.syncFolder(folder);
}

/** Puts a partition's folder in order before it is opened; returns the names that are then in it. */
export async function settleReplacements(fileSystem: FileSystem, folder: string): Promise<string[]> {
  const names = await fileSystem.list(folder);
  let isSettled = true;
  for (const name of names) {
    if (name.endsWith(".compacting")) await fileSystem.remove(join(folder, name));
    if (TAKEN.test(name)) {
      // A process that was killed may have renamed it and not synced that: what it stands for may not go before.
      await fileSystem.syncFolder(folder);
      await moveIn(fileSystem, folder, name, { remove: (of) => fileSystem.remove(join(folder, of)) });
    }
    isSettled &&= !name.endsWith(".compacting") && !TAKEN.test(name);
  }
  return isSettled ? names : fileSystem.list(folder);
}
