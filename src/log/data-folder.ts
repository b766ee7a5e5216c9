/**
 * The data folder: who may use it, and in which version it is.
 *
 * ```
 * data/
 *   meta.json           format version, cluster id; written once
 *   lock.sock           held by the gateway that runs on it
 *   journal/            NNNN.journal
 *   checkpoint          what the segments hold for good
 *   streams/<stream>-<partition>/   segments in Kafka's format
 * ```
 * One gateway at a time: the lock is a listening socket, which the kernel lets go when its process dies,
 * however it dies. A file with a process id would not do: in containers every gateway is process 1.
 */
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LogError, messageOf } from "../errors.ts";
import { type FileSystem, replaceFile } from "./file-system.ts";

export const FORMAT_VERSION = 1;
/** Socket paths are bounded by the kernel's sockaddr_un. */
const MAX_SOCKET_PATH_BYTES = 100;

export interface FolderMeta {
  readonly version: number;
  readonly clusterId: string;
}

/** Makes the folder if need be and reads who it is; throws LogError in words a person can act on. */
export async function openDataFolder(fileSystem: FileSystem, dataDir: string): Promise<FolderMeta> {
  try {
    await fileSystem.makeFolder(dataDir);
    const content = await fileSystem.readFile(join(dataDir, "meta.json"));
    if (content !== undefined) return readMeta(dataDir, content);
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

/** The lock of a data folder; see above. */
export class FolderLock {
  private server: net.Server | undefined;

  /** Throws LogError DATA_FOLDER_IN_USE when another process has it. */
  async acquire(dataDir: string): Promise<void> {
    const path = lockPath(dataDir);
    for (let attempt = 0; attempt < 2; attempt++) {
      const server = net.createServer((socket) => socket.destroy());
      try {
        await listen(server, path);
        server.unref();
        this.server = server;
        return;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") {
          throw new LogError("DATA_FOLDER", `${path} cannot be made: ${messageOf(error)}`, { exitCode: 73 });
        }
        if (await answers(path)) break;
        // Left behind by a process that is no more.
        await fs.promises.rm(path, { force: true });
      }
    }
    throw new LogError("DATA_FOLDER_IN_USE", `another gateway is running on the data folder ${dataDir}`, {
      mend: "Stop it first, or give this one a folder of its own with --data (and --port-offset for its ports).",
      exitCode: 73,
    });
  }

  async release(): Promise<void> {
    const server = this.server;
    this.server = undefined;
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }
}

function lockPath(dataDir: string): string {
  const real = fs.realpathSync(dataDir);
  const hash = createHash("sha256").update(real).digest("hex").slice(0, 16);
  if (process.platform === "win32") return `\\\\.\\pipe\\sluice-${hash}`;
  const path = join(real, "lock.sock");
  return Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES ? path : join(tmpdir(), `sluice-${hash}.sock`);
}

function listen(server: net.Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
