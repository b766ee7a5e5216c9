/**
 * The data folder: who may use it, and in which version it is.
 *
 * ```
 * data/
 *   meta.json           format version, cluster id; written once
 *   gateway.sock        held by the gateway that runs on it, and how it is asked (src/control)
 *   journal/            NNNN.journal
 *   checkpoint          what the segments hold for good
 *   streams/<stream>-<partition>/   segments in Kafka's format
 * ```
 */
import { randomBytes } from "node:crypto";
import { dirname, join, resolve } from "node:path";
import { LogError, messageOf } from "../errors.ts";
import { type FileSystem, replaceFile } from "./file-system.ts";

export const FORMAT_VERSION = 1;

export interface FolderMeta {
  readonly version: number;
  readonly clusterId: string;
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
    await syncAncestors(fileSystem, dataDir);
    const meta: FolderMeta = { version: FORMAT_VERSION, clusterId: randomBytes(16).toString("base64url") };
    await replaceFile(fileSystem, dataDir, "meta.json", Buffer.from(`${JSON.stringify(meta)}\n`));
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

function readMeta(dataDir: string, content: Buffer): FolderMeta {
  let meta: Partial<FolderMeta>;
  try {
    meta = JSON.parse(content.toString()) as Partial<FolderMeta>;
  } catch {
    meta = {};
  }
  if (typeof meta.version !== "number" || typeof meta.clusterId !== "string") {
    throw new LogError("DATA_FOLDER", `${join(dataDir, "meta.json")} is not a gateway's`, {
      mend: "Name another data folder, or restore this file from a copy.",
      exitCode: 73,
    });
  }
  if (meta.version > FORMAT_VERSION) {
    throw new LogError(
      "DATA_FOLDER_NEWER",
      `the data folder ${dataDir} is of format ${meta.version}, written by a newer Sluice; this one knows ${FORMAT_VERSION}`,
      { mend: "Run the newer version, or name another data folder.", exitCode: 73 },
    );
  }
  return { version: meta.version, clusterId: meta.clusterId };
}
