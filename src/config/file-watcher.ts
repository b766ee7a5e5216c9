/**
 * Says when one of some files may have changed. It watches their folders, not the files: editors write beside
 * and rename, Kubernetes swaps a link. Who hears of it reads the files and compares what they say.
 */
import { type FSWatcher, watch } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import { basename, dirname } from "node:path";

/** A program that writes in pieces is given this long after each of them … */
const QUIET_MS = 250;
/** … and so long in all. */
const MAX_DELAY_MS = 2_000;
/** Where the system does not tell (a network drive, too many watches) looking finds it. */
const LOOK_EVERY_MS = 5_000;

export class FileWatcher {
  private readonly onChange: () => void;
  private files: readonly string[] = [];
  private folders = new Map<string, FSWatcher>();
  private seen = "";
  /** What there was when the files were last read. */
  private read: string | undefined;
  private quiet: NodeJS.Timeout | undefined;
  private firstAt: number | undefined;
  private poll: NodeJS.Timeout | undefined;

  constructor(onChange: () => void) {
    this.onChange = onChange;
  }

  /** These from now on, instead of those before. */
  async watch(files: readonly string[]): Promise<void> {
    this.files = files;
    this.poll ??= setInterval(() => void this.look(), LOOK_EVERY_MS).unref();
    this.seen = await this.signature();
    const real = await Promise.all(files.map((file) => realpath(file).catch(() => file)));
    if (this.poll === undefined) return; // closed meanwhile
    const folders = new Set([...files, ...real].map(dirname));
    for (const [folder, watcher] of this.folders) {
      if (folders.has(folder)) continue;
      watcher.close();
      this.folders.delete(folder);
    }
    for (const folder of folders) if (!this.folders.has(folder)) this.watchFolder(folder);
  }

  /** Right before the files are read: what has changed until now is no news any more. */
  async beforeReading(): Promise<void> {
    clearTimeout(this.quiet);
    this.firstAt = undefined;
    this.read = await this.state();
  }

  close(): void {
    clearInterval(this.poll);
    clearTimeout(this.quiet);
    this.poll = undefined;
    for (const watcher of this.folders.values()) watcher.close();
    this.folders.clear();
  }

  private watchFolder(folder: string): void {
    try {
      const watcher = watch(folder, { persistent: false }, (_, name) => {
        if (name === null || this.isOurs(name)) this.soon();
      });
      watcher.on("error", () => {
        watcher.close();
        this.folders.delete(folder);
      });
      this.folders.set(folder, watcher);
    } catch {
      // Then only looking finds it.
    }
  }

  /** A file of ours, one that a pattern may take in, or the link that Kubernetes turns. */
  private isOurs(name: string): boolean {
    return /\.ya?ml$/.test(name) || name === "..data" || this.files.some((file) => basename(file) === name);
  }

  private async look(): Promise<void> {
    const now = await this.signature();
    if (now === this.seen) return;
    this.seen = now;
    this.soon();
  }

  private async signature(): Promise<string> {
    const stats = await Promise.all(this.files.map((file) => stat(file).catch(() => undefined)));
    return stats.map((one) => `${one?.ino} ${one?.size} ${one?.mtimeMs}`).join("\n");
  }

  /** With the folders, where a file may have come that a pattern takes in. */
  private async state(): Promise<string> {
    const folders = await Promise.all(
      [...this.folders.keys()].map((one) => stat(one).catch(() => undefined)),
    );
    return [await this.signature(), ...folders.map((one) => one?.mtimeMs)].join("\n");
  }

  private soon(): void {
    if (this.poll === undefined) return;
    const now = performance.now();
    this.firstAt ??= now;
    clearTimeout(this.quiet);
    this.quiet = setTimeout(
      async () => {
        this.firstAt = undefined;
        const isNews = (await this.state()) !== this.read;
        if (isNews && this.poll !== undefined) this.onChange();
      },
      Math.min(QUIET_MS, this.firstAt + MAX_DELAY_MS - now),
    ).unref();
  }
}
