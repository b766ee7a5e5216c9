/**
 * The lock of a data folder: one gateway at a time.
 *
 * It is a listening socket, which the kernel lets go when its process dies, however it dies. A file with a
 * process id would not do: in containers every gateway is process 1. Whoever connects reaches the process that
 * has the folder, which is how the verbs ask a gateway that runs (src/control).
 */
import { createHash } from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LogError, messageOf } from "../errors.ts";

/** Socket paths are bounded by the kernel's sockaddr_un. */
const MAX_SOCKET_PATH_BYTES = 100;

/** Takes a connection to the folder's socket, and says what to do with it. */
export type OnVisitor = (socket: net.Socket) => void;

/**
 * Takes the folder for this process; resolves to what gives it back. Throws LogError DATA_FOLDER_IN_USE when
 * another process has it.
 */
export async function lockFolder(
  folder: string,
  onVisitor: OnVisitor = (socket) => socket.destroy(),
): Promise<() => Promise<void>> {
  const path = socketPath(folder);
  for (let attempt = 0; attempt < 2; attempt++) {
    const server = net.createServer(onVisitor);
    try {
      await listen(server, path);
      server.unref();
      return () => new Promise((resolve) => server.close(() => resolve()));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") {
        throw new LogError("DATA_FOLDER", `${path} cannot be made: ${messageOf(error)}`, { exitCode: 73 });
      }
      if (await answers(path)) break;
      // Left behind by a process that is no more.
      await fs.promises.rm(path, { force: true });
    }
  }
  throw new LogError("DATA_FOLDER_IN_USE", `another gateway is running on the data folder ${folder}`, {
    mend: "Stop it first, or give this one a folder of its own with --data (and --port-offset for its ports).",
    exitCode: 73,
  });
}

/** Where the gateway that has the folder is reached. Throws when there is no such folder. */
export function socketPath(dataDir: string): string {
  const real = fs.realpathSync(dataDir);
  const hash = createHash("sha256").update(real).digest("hex").slice(0, 16);
  if (process.platform === "win32") return `\\\\.\\pipe\\sluice-${hash}`;
  const path = join(real, "gateway.sock");
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
