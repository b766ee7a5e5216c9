/**
 * The data folder: who may use it, and in which version it is.
 *
 * ```
 * data/
 *   meta.json           format version, cluster id, the journal's mark (a secret); written once
 *   gateway.sock        held by the gateway that runs on it, and how it is asked (src/control)
 *   journal/            NNNN.journal
 *   checkpoint          what the segments hold for good
 *   streams/<stream>-<partition>/   segments in Kafka's format
 * ```
 */
import { randomBytes } from "node:crypto";
import { dirname, join, resolve } from "node:path";
import { LogError, messageOf } from "../errors.ts";
import { crc32c } from "../wire/crc32c.ts";
import { type FileSystem, replaceFile } from "./file-system.ts";
import { isJournalFile, MARK_BYTES, newMark } from "./journal.ts";
import type { JournalFiles } from "./recovery.ts";

export const FORMAT_VERSION = 2;

const MEND = "Restore the data folder from a copy, made with the gateway stopped; or run sluice log repair";

export interface FolderMeta {
  readonly clusterId: string;
  /** What each entry of the journal begins with. */
  readonly mark: Buffer;
}

/** One line of JSON; its checksum is of the line without it. */
export function encodeMeta({ clusterId, mark }: FolderMeta): Buffer {
  const fields = { version: FORMAT_VERSION, clusterId, mark: mark.toString("base64url") };
  const checksum = crc32c(Buffer.from(JSON.stringify(fields))).toString(16);
  return Buffer.from(`${JSON.stringify({ ...fields, crc32c: checksum })}\n`);
}

/** Makes the folder if need be and reads who it is; throws LogError in words a person can act on. */
export async function openDataFolder(fileSystem: FileSystem, dataDir: string): Promise<FolderMeta> {
  try {
    await fileSystem.makeFolder(dataDir);
    await fileSystem.makeFolder(join(dataDir, "journal"));
    await fileSystem.makeFolder(join(dataDir, "streams"));
    // What a process that was killed had put here may not be on disk yet, and all that follows relies on it.
    await fileSystem.syncFolder(dataDir);
    const content = await fileSystem.readFile(join(dataDir, "meta.json"));
    if (content !== undefined) return readMeta(dataDir, content);
    await refuseRemains(fileSystem, dataDir);
    await syncAncestors(fileSystem, dataDir);
    const meta = { clusterId: randomBytes(16).toString("base64url"), mark: newMark() };
    await replaceFile(fileSystem, dataDir, "meta.json", encodeMeta(meta));
    return meta;
  } catch (error) {
    if (error instanceof LogError) throw error;
    throw new LogError("DATA_FOLDER", `the data folder ${dataDir} cannot be used: ${messageOf(error)}`, {
      mend: "Make it writable for this user, or name another one with --data or dataDir.",
      exitCode: 73,
      cause: error,
    });
  }
}

/** The folder's own name, and those of the folders above it that may be new as well. */
async function syncAncestors(fileSystem: FileSystem, dataDir: string): Promise<void> {
  for (let path = dirname(resolve(dataDir)); ; path = dirname(path)) {
    try {
      await fileSystem.syncFolder(path);
    } catch (error) {
      // One that may not be read is older than us.
      if (!["EACCES", "EPERM"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
    }
    if (path === dirname(path)) return;
  }
}

/** A folder that holds something is not a new one: without the mark its journal could not be read. */
async function refuseRemains(fileSystem: FileSystem, dataDir: string): Promise<void> {
  const remains = [
    ...(await fileSystem.list(dataDir)).filter((name) => name === "checkpoint"),
    ...(await fileSystem.list(join(dataDir, "journal"))).map((name) => `journal/${name}`),
    ...(await fileSystem.list(join(dataDir, "streams"))).map((name) => `streams/${name}`),
  ];
  if (remains.length === 0) return;
  const shown = remains.length > 3 ? [...remains.slice(0, 3), `${remains.length - 3} more`] : remains;
  throw new LogError(
    "DATA_FOLDER_INCOMPLETE",
    `the data folder ${dataDir} has no meta.json, but holds ${shown.join(", ")}: it was copied in part`,
    { mend: `${MEND}, which finds the mark in the journal.`, exitCode: 73 },
  );
}

/** Before the first checkpoint the journal holds everything; without one and without that, segments were cut to nothing. */
export async function refuseWithoutCheckpoint(
  fileSystem: FileSystem,
  dataDir: string,
  journal: JournalFiles,
): Promise<void> {
  if (journal[0]?.firstSequence === 0) return;
  const partitions = await fileSystem.list(join(dataDir, "streams"));
  for (const partition of partitions) {
    const names = await fileSystem.list(join(dataDir, "streams", partition));
    if (!names.some((name) => name.endsWith(".log"))) continue;
    throw new LogError(
      "DATA_FOLDER_INCOMPLETE",
      `the data folder ${dataDir} has no checkpoint, but holds streams/${partition}: it was copied in part`,
      { mend: `${MEND}, which goes by what the segments hold.`, exitCode: 73 },
    );
  }
}

const OWN_NAMES = new Set([
  "meta.json",
  "gateway.sock",
  "checkpoint",
  "clock",
  "journal",
  "streams",
  "quarantine",
]);
const PARTITION_NAME =
  /^(partition\.metadata|compaction|lost|\d{20}\.(log|index|timeindex|snapshot|compacting)|\d{20}\.\d{20}\.compacted)$/;

/** What lies in a data folder and is not a gateway's, or is of no stream that there is; paths below the folder. */
export async function foreignFiles(
  fileSystem: FileSystem,
  dataDir: string,
  partitions: ReadonlySet<string>,
): Promise<string[]> {
  const isTemporary = (name: string): boolean => name.endsWith(".tmp");
  const found: string[] = [];
  for (const name of await fileSystem.list(dataDir))
    if (!OWN_NAMES.has(name) && !isTemporary(name)) found.push(name);
  for (const name of await fileSystem.list(join(dataDir, "journal"))) {
    if (!isJournalFile(name) && !isTemporary(name)) found.push(`journal/${name}`);
  }
  for (const partition of await fileSystem.list(join(dataDir, "streams"))) {
    if (!partitions.has(partition)) found.push(`streams/${partition}`);
    else {
      for (const name of await fileSystem.list(join(dataDir, "streams", partition))) {
        if (!PARTITION_NAME.test(name) && !isTemporary(name)) found.push(`streams/${partition}/${name}`);
      }
    }
  }
  return found.sort();
}

/** Throws LogError DATA_FOLDER, DATA_FOLDER_OLDER or DATA_FOLDER_NEWER. */
export function readMeta(dataDir: string, content: Buffer): FolderMeta {
  let meta: { version?: unknown; clusterId?: unknown; mark?: unknown };
  try {
    meta = Object(JSON.parse(content.toString()));
  } catch {
    meta = {};
  }
  const { version, clusterId, mark } = meta;
  if (typeof version === "number" && version > FORMAT_VERSION) {
    throw new LogError(
      "DATA_FOLDER_NEWER",
      `the data folder ${dataDir} is of format ${version}, written by a newer Sluice; this one knows ${FORMAT_VERSION}`,
      { mend: "Run the newer version, or name another data folder.", exitCode: 73 },
    );
  }
  if (version === 1) {
    throw new LogError(
      "DATA_FOLDER_OLDER",
      `the data folder ${dataDir} is of format 1, which was never released; this Sluice knows ${FORMAT_VERSION} only`,
      { mend: "Name another data folder with --data, or begin with an empty one.", exitCode: 73 },
    );
  }
  const found = { clusterId: String(clusterId), mark: Buffer.from(String(mark), "base64url") };
  if (found.mark.length !== MARK_BYTES || !encodeMeta(found).equals(content)) {
    throw new LogError("DATA_FOLDER", `${join(dataDir, "meta.json")} is damaged, or not a gateway's`, {
      mend: "Restore this file from a copy, name another data folder, or run sluice log repair, which makes it anew.",
      exitCode: 73,
    });
  }
  return found;
}
