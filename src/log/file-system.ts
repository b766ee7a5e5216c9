/**
 * The disk, as small as the log needs it. Everything that the log does to a disk goes through here, so that a
 * test can put another disk in its place: one that tears writes, forgets what was not synced, or fills up.
 *
 * What survives a power cut: what `writeDurably` has acknowledged; what `sync` has acknowledged for a file;
 * what `syncFolder` has acknowledged for the names in a folder. Nothing else is promised.
 */
import fs from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { lockFolder, type OnVisitor } from "./folder-lock.ts";

export interface File {
  /** Reads until `target` is full or the file ends; returns the bytes read. */
  read(target: Buffer, position: number): Promise<number>;
  /** Writes all of the buffers one after another. */
  write(buffers: readonly Buffer[], position: number): Promise<void>;
  /** As `write`, on disk when it resolves; only for files opened as "durable". */
  writeDurably(buffers: readonly Buffer[], position: number): Promise<void>;
  /** What was written is on disk when it resolves (fdatasync: the size included, times not). */
  sync(): Promise<void>;
  truncate(bytes: number): Promise<void>;
  size(): Promise<number>;
  close(): Promise<void>;
}

/** "read" must exist; "write" is made if missing; "durable" as write, and each write is synced by itself. */
export type OpenMode = "read" | "write" | "durable";

export interface FileSystem {
  open(path: string, mode: OpenMode): Promise<File>;
  /** Names in a folder; empty when there is no such folder. */
  list(path: string): Promise<string[]>;
  makeFolder(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /**
   * A second name, which is not there yet, for a file. Where the file system has no such thing (FAT), its new name:
   * whoever goes on to remove the first one gets the same, as safe as the file system's renames are.
   */
  link(from: string, to: string): Promise<void>;
  /** A file or a folder with all that is in it; nothing when it is not there. */
  remove(path: string): Promise<void>;
  /**
   * As `remove`, of a file that may be large: its name goes. What it resolves to gives its space back, to be called
   * once, when it may be seen shorter than it was: by readers who have it open, and after a power cut under its name.
   */
  removeName(path: string): Promise<() => Promise<void>>;
  syncFolder(path: string): Promise<void>;
  /** What is left for us on the file system that a path lies on, bytes. */
  freeBytes(path: string): Promise<number>;
  /** The whole of a small file, or undefined when there is none. */
  readFile(path: string): Promise<Buffer | undefined>;
  /**
   * Takes a folder for one process; resolves to what gives it back. Throws LogError DATA_FOLDER_IN_USE. Whoever
   * knocks at the folder meanwhile is handed to `onVisitor`.
   */
  lockFolder(path: string, onVisitor?: OnVisitor): Promise<() => Promise<void>>;
}

const openFile = promisify(fs.open);
const closeFile = promisify(fs.close);
const readInto = promisify(fs.read);
const truncateFile = promisify(fs.ftruncate);
const unlinkFile = promisify(fs.unlink);
const statFile = promisify(fs.fstat);
const fdatasync = promisify(fs.fdatasync);
const fsync = promisify(fs.fsync);

const FLAGS: Record<OpenMode, number> = {
  read: fs.constants.O_RDONLY,
  write: fs.constants.O_RDWR | fs.constants.O_CREAT,
  // O_DSYNC makes a commit one trip to the thread pool instead of two. Where it is missing (Windows), a
  // sync follows the write.
  durable: fs.constants.O_RDWR | fs.constants.O_CREAT | (fs.constants.O_DSYNC ?? 0),
};

/** Given back at a time. In one go a file of 64 MiB holds up every synced write of others for 14 ms (ext4). */
const GIVEN_BACK_BYTES = 1 << 20;

/** What file systems without links answer (link(2)). */
const NO_LINKS = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"]);

class NodeFile implements File {
  private readonly fd: number;
  private readonly syncsItself: boolean;

  constructor(fd: number, syncsItself: boolean) {
    this.fd = fd;
    this.syncsItself = syncsItself;
  }

  async read(target: Buffer, position: number): Promise<number> {
    let done = 0;
    while (done < target.length) {
      const { bytesRead } = await readInto(this.fd, target, done, target.length - done, position + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return done;
  }

  async write(buffers: readonly Buffer[], position: number): Promise<void> {
    let at = position;
    let rest = buffers;
    while (rest.length > 0) {
      const written = await this.writeOnce(rest, at);
      at += written;
      rest = dropBytes(rest, written);
    }
  }

  private writeOnce(buffers: readonly Buffer[], position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const finish = (error: NodeJS.ErrnoException | null, written: number): void => {
        if (error === null) resolve(written);
        else reject(error);
      };
      const [only] = buffers;
      if (buffers.length === 1 && only !== undefined)
        fs.write(this.fd, only, 0, only.length, position, finish);
      else fs.writev(this.fd, buffers as Buffer[], position, finish);
    });
  }

  async writeDurably(buffers: readonly Buffer[], position: number): Promise<void> {
    await this.write(buffers, position);
    if (!this.syncsItself) await fdatasync(this.fd);
  }

  sync(): Promise<void> {
    return fdatasync(this.fd);
  }

  truncate(bytes: number): Promise<void> {
    return truncateFile(this.fd, bytes);
  }

  async size(): Promise<number> {
    return (await statFile(this.fd)).size;
  }

  close(): Promise<void> {
    return closeFile(this.fd);
  }
}

/** What is left of `buffers` after their first `bytes` bytes. */
function dropBytes(buffers: readonly Buffer[], bytes: number): readonly Buffer[] {
  let left = bytes;
  let index = 0;
  for (; index < buffers.length; index++) {
    const buffer = buffers[index] as Buffer;
    if (left < buffer.length) break;
    left -= buffer.length;
  }
  if (left === 0) return buffers.slice(index);
  return [(buffers[index] as Buffer).subarray(left), ...buffers.slice(index + 1)];
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === "ENOENT";
}

/** Of a file that was opened before its name went. */
async function giveBack(fd: number): Promise<void> {
  try {
    const { size, nlink } = await statFile(fd);
    // Who has made a copy by links has it under another name.
    for (let left = size; nlink === 0 && left > GIVEN_BACK_BYTES; ) {
      left -= GIVEN_BACK_BYTES;
      await truncateFile(fd, left);
    }
  } finally {
    await closeFile(fd);
  }
}

/** The real disk. */
export const nodeFileSystem: FileSystem = {
  async open(path, mode) {
    return new NodeFile(
      await openFile(path, FLAGS[mode], 0o644),
      mode === "durable" && fs.constants.O_DSYNC !== undefined,
    );
  },
  async list(path) {
    try {
      return await fs.promises.readdir(path);
    } catch (error) {
      if (isMissing(error)) return [];
      throw error;
    }
  },
  async makeFolder(path) {
    await fs.promises.mkdir(path, { recursive: true });
  },
  rename: (from, to) => fs.promises.rename(from, to),
  async link(from, to) {
    try {
      await fs.promises.link(from, to);
    } catch (error) {
      if (!NO_LINKS.has((error as NodeJS.ErrnoException).code ?? "")) throw error;
      await fs.promises.rename(from, to);
    }
  },
  async remove(path) {
    try {
      await unlinkFile(path);
    } catch (error) {
      // Nothing there; or a folder, which each system refuses in its own way.
      if (!isMissing(error)) await fs.promises.rm(path, { recursive: true, force: true });
    }
  },
  async removeName(path) {
    // Windows keeps the name of what is open. What cannot be opened, having no name or no descriptor, goes in one.
    const isKept = process.platform === "win32";
    const fd = isKept ? undefined : await openFile(path, fs.constants.O_RDWR).catch(() => undefined);
    try {
      await this.remove(path);
    } catch (error) {
      if (fd !== undefined) await closeFile(fd);
      throw error;
    }
    return async () => {
      if (fd !== undefined) await giveBack(fd);
    };
  },
  async syncFolder(path) {
    // Windows cannot open a folder; its file systems order these changes by themselves.
    if (process.platform === "win32") return;
    const fd = await openFile(path, "r");
    try {
      await fsync(fd);
    } finally {
      await closeFile(fd);
    }
  },
  async freeBytes(path) {
    const { bavail, bsize } = await fs.promises.statfs(path);
    return bavail * bsize;
  },
  async readFile(path) {
    try {
      return await fs.promises.readFile(path);
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  },
  lockFolder,
};

/** Puts a small file in place so that after a power cut either the old or the new one is there, whole. */
export async function replaceFile(
  fileSystem: FileSystem,
  folder: string,
  name: string,
  content: Buffer,
): Promise<void> {
  const path = join(folder, name);
  const temporary = `${path}.tmp`;
  await fileSystem.remove(temporary);
  const file = await fileSystem.open(temporary, "write");
  try {
    await file.write([content], 0);
    await file.sync();
  } finally {
    await file.close();
  }
  await fileSystem.rename(temporary, path);
  await fileSystem.syncFolder(folder);
}
