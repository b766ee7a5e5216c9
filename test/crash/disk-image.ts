/**
 * A disk in memory that knows what is on the platter and what only the process sees, and what a power cut may
 * leave of the difference.
 *
 * The model, stricter than any file system in use:
 *
 * - A file's bytes are cut into sectors (512 bytes, or 4 KiB). Each sector, each file's size and each name in a
 *   folder has *versions*: the first is on the platter, the last is what the process sees. A power cut leaves
 *   for each of them, independently of all others, any one of its versions. So unsynced writes are torn at
 *   sectors and reordered at will; a size may be there without its data and data without its size; a name may
 *   be there without its file's content, or still be there when it was removed; and a rename may leave both
 *   names, one, or (when the new one was not there before) none.
 * - A sector that was never on the platter and whose data did not get there reads as zeros or as what a deleted
 *   file left in that place.
 * - `sync` (fdatasync) leaves one version of a file's sectors and size as of the call: no name in any folder.
 * - `writeDurably` (O_DSYNC) does so for the sectors that it wrote and for the size.
 * - `syncFolder` does so for the names in that folder: neither for the folder's own name in its parent nor for
 *   what lies in the files.
 * - A sector itself is written whole or not at all, and what is on the platter stays: rot is not modelled here.
 * - A step may be *refused* (ENOSPC, EIO). Of a write a part is then there, unsynced; of what a refused sync was to
 *   make safe any part is, and the rest no later sync makes safe: the kernel has given it up.
 * - A *killed* process takes nothing with it: the next one sees what it saw, still unsynced.
 */
import type { Random } from "./random.ts";

/** What something became with the change number `at`. */
export interface Version<T> {
  readonly at: number;
  readonly value: T;
}

/** The first is on the platter, the last is what the process sees. Never empty, never changed in place. */
export type Versions<T> = readonly Version<T>[];

export interface FileNode {
  readonly sizes: Versions<number>;
  /** Undefined: nothing has been written there. */
  readonly sectors: readonly Versions<Buffer | undefined>[];
}

export interface FolderNode {
  /** Node numbers; undefined: no such name. */
  readonly names: ReadonlyMap<string, Versions<number | undefined>>;
}

export type Node = FileNode | FolderNode;

export const ROOT = 0;
/** The change number of what no sync makes safe any more. */
export const GIVEN_UP = Number.POSITIVE_INFINITY;

export const newest = <T>(versions: Versions<T>): T => (versions.at(-1) as Version<T>).value;

/** What is left when everything up to the change number `at` has reached the platter. */
export function settled<T>(versions: Versions<T>, at: number): Versions<T> {
  if (versions.length === 1) return versions;
  const from = versions.findLastIndex((version) => version.at <= at);
  return from <= 0 ? versions : versions.slice(from);
}

/** How likely the newest version of each kind reaches the platter, and a gap shows a deleted file's bytes. */
export interface CutStyle {
  readonly data: number;
  readonly sizes: number;
  readonly names: number;
  readonly stale: number;
}

export const NOTHING_UNSYNCED_SURVIVES: CutStyle = { data: 0, sizes: 0, names: 0, stale: 0 };

export function drawCutStyle(random: Random): CutStyle {
  const draw = (): number => random.pick([0, 0.1, 0.5, 0.9, 1]);
  return { data: draw(), sizes: draw(), names: draw(), stale: random.pick([0, 0, 0.5]) };
}

/** A disk at one moment. Never changes. */
export class DiskImage {
  readonly nodes: ReadonlyMap<number, Node>;
  readonly sectorBytes: number;
  /** Sectors of deleted files: what may shine through. */
  readonly trash: readonly Buffer[];

  constructor(sectorBytes: number, nodes?: ReadonlyMap<number, Node>, trash: readonly Buffer[] = []) {
    this.sectorBytes = sectorBytes;
    this.nodes = nodes ?? new Map([[ROOT, { names: new Map() }]]);
    this.trash = trash;
  }

  /** What is on the platter after a power cut. A nothing-survives style (all 0) takes the oldest of all. */
  afterPowerCut(random: Random, style: CutStyle): DiskImage {
    const choose = <T>(versions: Versions<T>, keep: number): T => {
      if (versions.length === 1 || random.chance(keep)) return newest(versions);
      const any = keep > 0 && random.chance(0.3);
      return (versions[any ? random.int(versions.length) : 0] as Version<T>).value;
    };
    const nodes = new Map<number, Node>();
    const walk = (id: number): void => {
      const node = this.nodes.get(id) as Node;
      if (nodes.has(id)) return;
      if ("names" in node) {
        const names = new Map<string, Versions<number | undefined>>();
        nodes.set(id, { names });
        for (const [name, versions] of node.names) {
          const child = choose(versions, style.names);
          if (child === undefined) continue;
          names.set(name, [{ at: 0, value: child }]);
          walk(child);
        }
      } else {
        const size = choose(node.sizes, style.sizes);
        const sectors: Versions<Buffer>[] = [];
        for (let index = 0; index * this.sectorBytes < size; index++) {
          const versions = node.sectors[index];
          let value = versions && choose(versions, style.data);
          if (value === undefined && random.chance(style.stale)) value = random.pick(this.trash);
          value = Buffer.from(value ?? Buffer.alloc(this.sectorBytes));
          // Behind its end a file is always zeros.
          value.fill(0, Math.min(this.sectorBytes, size - index * this.sectorBytes));
          sectors.push([{ at: 0, value }]);
        }
        nodes.set(id, { sizes: [{ at: 0, value: size }], sectors });
      }
    };
    walk(ROOT);
    return new DiskImage(this.sectorBytes, nodes, this.trash);
  }

  /** The files that the process sees, by path. */
  files(): Map<string, Buffer> {
    const found = new Map<string, Buffer>();
    const walk = (id: number, path: string): void => {
      const node = this.nodes.get(id) as Node;
      if (!("names" in node)) {
        found.set(path, contentOf(node, this.sectorBytes));
        return;
      }
      for (const [name, versions] of node.names) {
        const child = newest(versions);
        if (child !== undefined) walk(child, `${path}/${name}`);
      }
    };
    walk(ROOT, "");
    return found;
  }
}

export function contentOf({ sizes, sectors }: FileNode, sectorBytes: number): Buffer {
  const content = Buffer.alloc(newest(sizes));
  sectors.forEach((versions, index) => {
    if (index * sectorBytes < content.length) newest(versions)?.copy(content, index * sectorBytes);
  });
  return content;
}

export function newestChange(node: Node): number {
  const all: Versions<unknown>[] = "names" in node ? [...node.names.values()] : [node.sizes, ...node.sectors];
  const changes = all.flatMap((versions) => versions.map(({ at }) => (at === GIVEN_UP ? 0 : at)));
  return changes.reduce((highest, at) => Math.max(highest, at), 0);
}
