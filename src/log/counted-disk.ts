/**
 * A disk that counts what goes to it, for whoever has to know how long an SD card will last.
 *
 * `writtenBytes` are whole pages of 4 KiB, as that is what a synced write of a few bytes costs: each write call
 * counts the pages that it touches. What the file system writes beside them (its own journal, inodes) is not in
 * it, but is in the device's counter, as is whoever else writes there. Not `/proc/<pid>/io`: where the page
 * cache works in large folios, a small write counts as megabytes there.
 */
import { readFileSync, statSync } from "node:fs";
import type { File, FileSystem, OpenMode } from "./file-system.ts";

const PAGE_BYTES = 4096;
/** Of the kernel's block statistics, whatever the device's. */
const SECTOR_BYTES = 512;

export class CountedDisk implements FileSystem {
  private readonly inner: FileSystem;
  writtenBytes = 0;
  /** Synced writes, and syncs of files and folders. */
  syncs = 0;

  constructor(inner: FileSystem) {
    this.inner = inner;
  }

  async open(path: string, mode: OpenMode): Promise<File> {
    return new CountedFile(await this.inner.open(path, mode), this);
  }

  syncFolder(path: string): Promise<void> {
    this.syncs++;
    return this.inner.syncFolder(path);
  }

  list: FileSystem["list"] = (path) => this.inner.list(path);
  makeFolder: FileSystem["makeFolder"] = (path) => this.inner.makeFolder(path);
  rename: FileSystem["rename"] = (from, to) => this.inner.rename(from, to);
  link: FileSystem["link"] = (from, to) => this.inner.link(from, to);
  remove: FileSystem["remove"] = (path) => this.inner.remove(path);
  removeName: FileSystem["removeName"] = (path) => this.inner.removeName(path);
  freeBytes: FileSystem["freeBytes"] = (path) => this.inner.freeBytes(path);
  readFile: FileSystem["readFile"] = (path) => this.inner.readFile(path);
  lockFolder: FileSystem["lockFolder"] = (...args) => this.inner.lockFolder(...args);
}

class CountedFile implements File {
  private readonly inner: File;
  private readonly disk: CountedDisk;

  constructor(inner: File, disk: CountedDisk) {
    this.inner = inner;
    this.disk = disk;
  }

  private count(buffers: readonly Buffer[], position: number): void {
    const bytes = buffers.reduce((sum, { length }) => sum + length, 0);
    if (bytes === 0) return;
    const pages = Math.ceil((position + bytes) / PAGE_BYTES) - Math.floor(position / PAGE_BYTES);
    this.disk.writtenBytes += pages * PAGE_BYTES;
  }

  write(buffers: readonly Buffer[], position: number): Promise<void> {
    this.count(buffers, position);
    return this.inner.write(buffers, position);
  }

  writeDurably(buffers: readonly Buffer[], position: number): Promise<void> {
    this.count(buffers, position);
    this.disk.syncs++;
    return this.inner.writeDurably(buffers, position);
  }

  sync(): Promise<void> {
    this.disk.syncs++;
    return this.inner.sync();
  }

  read: File["read"] = (target, position) => this.inner.read(target, position);
  truncate: File["truncate"] = (bytes) => this.inner.truncate(bytes);
  size: File["size"] = () => this.inner.size();
  close: File["close"] = () => this.inner.close();
}

/** Bytes that have reached the device under a folder, by anybody; undefined where the system does not tell. */
export function deviceBytes(folder: string): number | undefined {
  try {
    const { dev } = statSync(folder);
    const [major, minor] = [(dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00)];
    const fields = readFileSync(`/sys/dev/block/${major}:${minor}/stat`, "latin1").trim().split(/\s+/);
    const sectors = Number(fields[6]);
    return Number.isSafeInteger(sectors) ? sectors * SECTOR_BYTES : undefined;
  } catch {
    return undefined;
  }
}
