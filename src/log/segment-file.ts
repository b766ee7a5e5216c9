/**
 * A segment's file among its readers and its one writer: opened by need, closed when the last of them is done. One
 * that retention has deleted or compaction has replaced stays open for those who are at it; whoever comes later is
 * told SEGMENT_GONE, and looks again.
 */
import { LogError } from "../errors.ts";
import type { File, FileSystem } from "./file-system.ts";

export class SegmentFile {
  private readonly fileSystem: FileSystem;
  private readonly path: () => string;
  private opening: Promise<File> | undefined;
  /** What is open: for reading from before it was opened for writing, too, as somebody may still be at it. */
  private opened = new Set<File>();
  private users = 0;
  private isClosing = false;
  private isWritable = false;
  private giveBack: (() => Promise<void>) | undefined;
  /** It is no longer its partition's. */
  isRetired = false;

  /** `path`: what it is called now. */
  constructor(fileSystem: FileSystem, path: () => string) {
    this.fileSystem = fileSystem;
    this.path = path;
  }

  get isInUse(): boolean {
    return this.users > 0;
  }

  /** To write, the file is made if it is missing. One that is only read may lie on a disk that takes no writes. */
  async acquire(mode: "read" | "write" = "read"): Promise<File> {
    this.users++;
    try {
      // By now another file may have its name.
      if (this.isRetired && this.opening === undefined) {
        throw new LogError("SEGMENT_GONE", `${this.path()} has been removed or replaced`);
      }
      if (mode === "write" && !this.isWritable) {
        this.isWritable = true;
        this.opening = undefined;
      }
      this.opening ??= this.fileSystem.open(this.path(), mode);
      const file = await this.opening;
      this.opened.add(file);
      return file;
    } catch (error) {
      this.opening = undefined;
      this.isWritable = false;
      this.release();
      throw error;
    }
  }

  /** For each `acquire` that resolved. */
  release(): void {
    this.users--;
    if (this.users === 0 && this.isClosing) void this.closeNow();
  }

  async use<T>(mode: "read" | "write", work: (file: File) => Promise<T>): Promise<T> {
    const file = await this.acquire(mode);
    try {
      return await work(file);
    } finally {
      this.release();
    }
  }

  /** Nobody begins to read it any more, and its name goes; its space does when it is closed then. */
  async removeName(): Promise<void> {
    this.isRetired = true;
    const giveBack = await this.fileSystem.removeName(this.path());
    // Asked for again, there was nothing left to remove.
    this.giveBack ??= giveBack;
  }

  /** Closes it when the last one is done; it can be opened again by need. */
  async close(): Promise<void> {
    if (this.users > 0) this.isClosing = true;
    else await this.closeNow();
  }

  private async closeNow(): Promise<void> {
    const { opened: files, giveBack } = this;
    this.isClosing = false;
    this.isWritable = false;
    this.opening = undefined;
    this.opened = new Set();
    this.giveBack = undefined;
    // Whatever closing says: what counts was synced before.
    for (const file of files) await file.close().catch(() => {});
    await giveBack?.().catch(() => {});
  }
}
