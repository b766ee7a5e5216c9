/** A disk that refuses: each step is shown to `fault` first, and ends with the error that this returns. */
import type { File, FileSystem, OpenMode } from "../../src/log/file-system.ts";

export type Step =
  | "open"
  | "read"
  | "write"
  | "sync"
  | "truncate"
  | "rename"
  | "link"
  | "remove"
  | "sync folder";

export interface Fault {
  readonly code: string;
  /** Of a write: how much of it gets to the disk all the same. */
  readonly done?: "nothing" | "half" | "all";
}

export class FaultyFileSystem implements FileSystem {
  fault: (step: Step, path: string) => Fault | undefined = () => undefined;
  freeBytes: (path: string) => Promise<number>;
  private readonly disk: FileSystem;

  constructor(disk: FileSystem) {
    this.disk = disk;
    this.freeBytes = (path) => disk.freeBytes(path);
  }

  private check(step: Step, path: string): void {
    const fault = this.fault(step, path);
    if (fault !== undefined) throw refusal(fault, path);
  }

  async open(path: string, mode: OpenMode): Promise<File> {
    this.check("open", path);
    const file = await this.disk.open(path, mode);
    const write = async (
      buffers: readonly Buffer[],
      position: number,
      through: "write" | "writeDurably",
    ): Promise<void> => {
      const fault = this.fault("write", path);
      if (fault === undefined) return file[through](buffers, position);
      const bytes = Buffer.concat(buffers);
      if (fault.done === "half") await file.write([bytes.subarray(0, bytes.length / 2)], position);
      if (fault.done === "all") await file.write([bytes], position);
      throw refusal(fault, path);
    };
    return {
      read: async (target, position) => {
        this.check("read", path);
        return file.read(target, position);
      },
      write: (buffers, position) => write(buffers, position, "write"),
      writeDurably: (buffers, position) => write(buffers, position, "writeDurably"),
      sync: async () => {
        this.check("sync", path);
        return file.sync();
      },
      truncate: async (bytes) => {
        this.check("truncate", path);
        return file.truncate(bytes);
      },
      size: () => file.size(),
      close: () => file.close(),
    };
  }

  async rename(from: string, to: string): Promise<void> {
    this.check("rename", to);
    return this.disk.rename(from, to);
  }

  async link(from: string, to: string): Promise<void> {
    this.check("link", to);
    return this.disk.link(from, to);
  }

  async remove(path: string): Promise<void> {
    this.check("remove", path);
    return this.disk.remove(path);
  }

  async removeName(path: string): Promise<() => Promise<void>> {
    this.check("remove", path);
    return this.disk.removeName(path);
  }

  async syncFolder(path: string): Promise<void> {
    this.check("sync folder", path);
    return this.disk.syncFolder(path);
  }

  async readFile(path: string): Promise<Buffer | undefined> {
    this.check("read", path);
    return this.disk.readFile(path);
  }

  list(path: string): Promise<string[]> {
    return this.disk.list(path);
  }

  makeFolder(path: string): Promise<void> {
    return this.disk.makeFolder(path);
  }

  lockFolder(path: string): Promise<() => Promise<void>> {
    return this.disk.lockFolder(path);
  }
}

function refusal({ code }: Fault, path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: refused, '${path}'`), { code, syscall: "test" });
}
