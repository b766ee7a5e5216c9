/** The `.snapshot` files of a partition: what it remembers of producers up to the offset in the file's name. */
import { join } from "node:path";
import { type FileSystem, replaceFile } from "./file-system.ts";
import type { ProducerState } from "./producer-state.ts";
import { segmentName } from "./segment-name.ts";

export function isSnapshot(name: string): boolean {
  return /^\d{20}\.snapshot$/.test(name);
}

export class ProducerSnapshots {
  private readonly producers: ProducerState;
  private readonly fileSystem: FileSystem;
  private readonly folder: string;
  private savedAt = -1;
  /** The offsets of the files that are there. */
  private readonly files = new Set<number>();

  constructor(producers: ProducerState, fileSystem: FileSystem, folder: string) {
    this.producers = producers;
    this.fileSystem = fileSystem;
    this.folder = folder;
  }

  /** The offset of the newest one that was loaded or saved; -1 for none. */
  get at(): number {
    return this.savedAt;
  }

  /** Of all batches below `offset`; synced. */
  async save(offset: number): Promise<void> {
    if (this.producers.isEmpty || offset === this.savedAt) return;
    const content = this.producers.encodeSnapshot(offset);
    await replaceFile(this.fileSystem, this.folder, segmentName(offset, "snapshot"), content);
    this.files.add(offset);
    const old = this.savedAt;
    this.savedAt = offset;
    // The one before stays until the next checkpoint: the file that names this offset is not written yet.
    for (const at of this.files) {
      if (at >= old) continue;
      await this.fileSystem.remove(join(this.folder, segmentName(at, "snapshot")));
      this.files.delete(at);
    }
  }

  /** The newest sound one among the folder's `names` that is not beyond the recovery point, if there is one. */
  async load(names: readonly string[], recoveryPoint: number): Promise<void> {
    for (const name of names.filter(isSnapshot)) this.files.add(Number(name.slice(0, 20)));
    const offsets = [...this.files].filter((offset) => offset <= recoveryPoint).sort((a, b) => b - a);
    for (const offset of offsets) {
      const content = await this.fileSystem.readFile(join(this.folder, segmentName(offset, "snapshot")));
      if (content === undefined || !this.producers.decodeSnapshot(content)) continue;
      this.savedAt = offset;
      return;
    }
  }
}
