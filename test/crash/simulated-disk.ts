/**
 * A disk in memory that does what disk-image.ts says. Every step that changes something is a *boundary*, told before it,
 * between asking and having (the change is there to see but nothing of it is safe), and after what it makes safe is
 * safe.
 */
import type { File, FileSystem, OpenMode } from "../../src/log/file-system.ts";
import {
  contentOf,
  DiskImage,
  type FileNode,
  type FolderNode,
  GIVEN_UP,
  type Node,
  newest,
  newestChange,
  ROOT,
  settled,
  type Version,
  type Versions,
} from "./disk-image.ts";
import type { Random } from "./random.ts";

/** Where in the work on a disk something could happen to it. */
export interface Boundary {
  readonly moment: "before" | "during" | "after";
  /** What is being done, in words for a person. */
  readonly step: string;
}

export type Refusal = "ENOSPC" | "EIO";

export interface SimulatedDiskOptions {
  readonly onBoundary?: (boundary: Boundary) => void;
  /** A step waits for this before anything else, so that a test can put steps in an order. */
  readonly hold?: (step: string) => Promise<void> | undefined;
  /** Draws how many turns of the event loop each step takes; without it, none. */
  readonly latency?: Random;
  /** What a step is refused with, asked for each that could be. */
  readonly refuse?: (step: string) => Refusal | undefined;
  /** Draws what a refused step leaves. */
  readonly spoils?: Random;
  /** A durable write takes up to so many: what comes meanwhile waits for it. */
  readonly maxCommitTurns?: number;
}

const MAX_TURNS = 4;
const MAX_TRASH_SECTORS = 64;

function missing(path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`ENOENT: ${path}`), { code: "ENOENT" });
}

export class SimulatedDisk implements FileSystem {
  private readonly sectorBytes: number;
  private readonly nodes: Map<number, Node>;
  private readonly trash: Buffer[];
  private readonly options: SimulatedDiskOptions;
  /** The number of the newest change. */
  private changes = 1;
  private nextNode: number;
  private isDead = false;
  private readonly tellDeath: () => void;
  /** Resolves when the power has gone. */
  readonly death: Promise<void>;

  constructor(image: DiskImage, options: SimulatedDiskOptions = {}) {
    this.sectorBytes = image.sectorBytes;
    this.nodes = new Map(image.nodes);
    this.trash = [...image.trash];
    this.options = options;
    this.nextNode = Math.max(...image.nodes.keys()) + 1;
    for (const node of image.nodes.values()) this.changes = Math.max(this.changes, newestChange(node) + 1);
    let tell = (): void => {};
    this.death = new Promise((resolve) => {
      tell = resolve;
    });
    this.tellDeath = tell;
  }

  image(): DiskImage {
    return new DiskImage(this.sectorBytes, new Map(this.nodes), [...this.trash]);
  }

  /** From here on nothing that is asked of the disk is ever answered. */
  die(): void {
    this.isDead = true;
    this.tellDeath();
  }

  /**
   * One step: `apply` is seen at once, and when it is done `settle` makes safe what it promises. With `spoil` it may
   * be refused: that is what it then does.
   */
  private async step<T>(
    words: string,
    apply: () => T,
    settle?: () => void,
    { spoil, maxTurns }: { spoil?: (random: Random) => void; maxTurns?: number | undefined } = {},
  ): Promise<T> {
    await this.options.hold?.(words);
    await this.turns();
    await this.boundary("before", words);
    const { refuse, spoils } = this.options;
    const refusal = spoil && spoils && refuse?.(words);
    if (refusal !== undefined) {
      spoil?.(spoils as Random);
      await this.boundary("during", `${words} refused with ${refusal}`);
      throw Object.assign(new Error(`${refusal}: ${words}`), { code: refusal });
    }
    const result = apply();
    await this.boundary("during", words);
    await this.turns(maxTurns);
    if (settle !== undefined) {
      settle();
      await this.boundary("after", words);
    }
    return result;
  }

  private boundary(moment: Boundary["moment"], step: string): Promise<void> | undefined {
    if (!this.isDead) this.options.onBoundary?.({ moment, step });
    return this.alive();
  }

  private alive(): Promise<void> | undefined {
    return this.isDead ? new Promise(() => {}) : undefined;
  }

  private async turns(most = MAX_TURNS): Promise<void> {
    const { latency } = this.options;
    for (let left = latency?.int(most) ?? 0; left > 0; left--) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    await this.alive();
  }

  private find(path: string): { id: number; node: Node } | undefined {
    let id: number | undefined = ROOT;
    for (const name of namesIn(path)) {
      const node = this.nodes.get(id) as Node;
      const versions: Versions<number | undefined> | undefined =
        "names" in node ? node.names.get(name) : undefined;
      id = versions && newest(versions);
      if (id === undefined) return undefined;
    }
    return { id, node: this.nodes.get(id) as Node };
  }

  private folder(path: string): { id: number; node: FolderNode } {
    const found = this.find(path);
    if (found === undefined || !("names" in found.node)) throw missing(path);
    return found as { id: number; node: FolderNode };
  }

  private setName(path: string, value: number | undefined): void {
    const cut = path.lastIndexOf("/");
    const name = path.slice(cut + 1);
    const { id, node } = this.folder(path.slice(0, cut));
    const before = node.names.get(name) ?? [{ at: 0, value: undefined }];
    const names = new Map(node.names).set(name, [...before, { at: ++this.changes, value }]);
    this.nodes.set(id, { names });
  }

  private make(path: string, node: Node): number {
    const id = this.nextNode++;
    this.nodes.set(id, node);
    this.setName(path, id);
    return id;
  }

  async open(path: string, mode: OpenMode): Promise<File> {
    await this.alive();
    let id = this.find(path)?.id;
    if (id === undefined) {
      if (mode === "read") throw missing(path);
      const empty: FileNode = { sizes: [{ at: 0, value: 0 }], sectors: [] };
      const make = (): number => this.find(path)?.id ?? this.make(path, empty);
      id = await this.step(`create ${path}`, make, undefined, { spoil: () => {} });
    }
    return this.handle(id, path);
  }

  private handle(id: number, path: string): File {
    const node = (): FileNode => this.nodes.get(id) as FileNode;
    return {
      read: async (target, position) => {
        await this.alive();
        return this.read(node(), target, position);
      },
      write: (buffers, position) => {
        const bytes = Buffer.concat(buffers);
        return this.step(
          `write ${bytes.length} bytes at ${position} of ${path}`,
          () => {
            this.write(id, bytes, position);
          },
          undefined,
          { spoil: (random) => this.writePart(id, bytes, position, random) },
        );
      },
      writeDurably: (buffers, position) => {
        let at = 0;
        const bytes = Buffer.concat(buffers);
        return this.step(
          `write ${bytes.length} bytes at ${position} of ${path} durably`,
          () => {
            at = this.write(id, bytes, position);
          },
          () => this.settleFile(id, at, position, position + bytes.length),
          {
            spoil: (random) => this.writePart(id, bytes, position, random),
            maxTurns: this.options.maxCommitTurns,
          },
        );
      },
      sync: () => {
        let at = 0;
        return this.step(
          `sync ${path}`,
          () => {
            at = this.changes;
          },
          () => this.settleFile(id, at, 0, Number.POSITIVE_INFINITY),
          { spoil: (random) => this.giveUp(id, random) },
        );
      },
      truncate: (bytes) => this.step(`cut ${path} to ${bytes} bytes`, () => this.truncate(id, bytes)),
      size: async () => {
        await this.alive();
        return newest(node().sizes);
      },
      close: async () => {},
    };
  }

  private read({ sizes, sectors }: FileNode, target: Buffer, position: number): number {
    const end = Math.min(position + target.length, newest(sizes));
    for (let at = position; at < end; ) {
      const inside = at % this.sectorBytes;
      const length = Math.min(this.sectorBytes - inside, end - at);
      const versions = sectors[(at - inside) / this.sectorBytes];
      const sector = versions && newest(versions);
      if (sector === undefined) target.fill(0, at - position, at - position + length);
      else sector.copy(target, at - position, inside, inside + length);
      at += length;
    }
    return Math.max(0, end - position);
  }

  /** Returns the change's number. */
  private write(id: number, bytes: Buffer, position: number): number {
    const { sizes, sectors } = this.nodes.get(id) as FileNode;
    const at = ++this.changes;
    const changed = [...sectors];
    const end = position + bytes.length;
    while (changed.length * this.sectorBytes < end) changed.push([{ at: 0, value: undefined }]);
    for (let index = Math.floor(position / this.sectorBytes); index * this.sectorBytes < end; index++) {
      const start = index * this.sectorBytes;
      const versions = changed[index] as Versions<Buffer | undefined>;
      const before = newest(versions);
      const value = before === undefined ? Buffer.alloc(this.sectorBytes) : Buffer.from(before);
      bytes.copy(value, Math.max(0, position - start), Math.max(0, start - position));
      changed[index] = [...versions, { at, value }];
    }
    const grown = end > newest(sizes) ? [...sizes, { at, value: end }] : sizes;
    this.nodes.set(id, { sizes: grown, sectors: changed });
    return at;
  }

  private writePart(id: number, bytes: Buffer, position: number, random: Random): void {
    const length = random.pick([0, bytes.length, random.int(bytes.length + 1)]);
    if (length > 0) this.write(id, bytes.subarray(0, length), position);
  }

  /** A refused sync: some sectors are safe, the others the process still sees, and no later sync makes them safe. */
  private giveUp(id: number, random: Random): void {
    const { sizes, sectors } = this.nodes.get(id) as FileNode;
    const left = sectors.map((versions): Versions<Buffer | undefined> => {
      if (versions.length === 1) return versions;
      if (random.chance(0.5)) return versions.slice(-1);
      return versions.map((version, index) => (index === 0 ? version : { ...version, at: GIVEN_UP }));
    });
    this.nodes.set(id, { sizes, sectors: left });
  }

  private truncate(id: number, bytes: number): void {
    const { sizes, sectors } = this.nodes.get(id) as FileNode;
    if (bytes === newest(sizes)) return;
    const at = ++this.changes;
    const changed = sectors.map((versions, index): Versions<Buffer | undefined> => {
      const start = index * this.sectorBytes;
      const before = newest(versions);
      if (before === undefined || start + this.sectorBytes <= bytes) return versions;
      this.discard(before);
      if (start >= bytes) return [...versions, { at, value: undefined }];
      const value = Buffer.from(before);
      return [...versions, { at, value: value.fill(0, bytes - start) }];
    });
    this.nodes.set(id, { sizes: [...sizes, { at, value: bytes }], sectors: changed });
  }

  private discard(sector: Buffer): void {
    this.trash.push(sector);
    if (this.trash.length > MAX_TRASH_SECTORS) this.trash.shift();
  }

  /** What was changed in a range of a file up to the change `at` is on the platter, and so is the size. */
  private settleFile(id: number, at: number, from: number, to: number): void {
    const { sizes, sectors } = this.nodes.get(id) as FileNode;
    const safe = sectors.map((versions, index) => {
      const start = index * this.sectorBytes;
      if (start + this.sectorBytes <= from || start >= to) return versions;
      const left = settled(versions, at);
      const [first, ...later] = left as [Version<Buffer | undefined>, ...Version<Buffer | undefined>[]];
      return first.value === undefined && first.at <= at && start < newest(sizes)
        ? [{ at: first.at, value: Buffer.alloc(this.sectorBytes) }, ...later]
        : left;
    });
    this.nodes.set(id, { sizes: settled(sizes, at), sectors: safe });
  }

  async list(path: string): Promise<string[]> {
    await this.alive();
    const node = this.find(path)?.node;
    if (node === undefined || !("names" in node)) return [];
    return [...node.names].filter(([, versions]) => newest(versions) !== undefined).map(([name]) => name);
  }

  async makeFolder(path: string): Promise<void> {
    const parts = namesIn(path);
    for (let depth = 1; depth <= parts.length; depth++) {
      const part = `/${parts.slice(0, depth).join("/")}`;
      if (this.find(part) !== undefined) continue;
      await this.step(`make folder ${part}`, () => {
        if (this.find(part) === undefined) this.make(part, { names: new Map() });
      });
    }
  }

  async rename(from: string, to: string): Promise<void> {
    const id = this.find(from)?.id;
    if (id === undefined) throw missing(from);
    const rename = (): void => {
      this.setName(to, id);
      this.setName(from, undefined);
    };
    await this.step(`rename ${from} to ${to}`, rename, undefined, { spoil: () => {} });
  }

  async link(from: string, to: string): Promise<void> {
    const id = this.find(from)?.id;
    if (id === undefined) throw missing(from);
    await this.step(`link ${from} to ${to}`, () => this.setName(to, id), undefined, { spoil: () => {} });
  }

  async remove(path: string): Promise<void> {
    await this.alive();
    const node = this.find(path)?.node;
    if (node === undefined) return;
    if ("names" in node) for (const name of await this.list(path)) await this.remove(`${path}/${name}`);
    const remove = (): void => {
      if (this.find(path) === undefined) return;
      if ("sectors" in node) for (const sector of node.sectors) this.discardNewest(sector);
      this.setName(path, undefined);
    };
    await this.step(`remove ${path}`, remove, undefined, { spoil: () => {} });
  }

  async removeName(path: string): Promise<() => Promise<void>> {
    await this.alive();
    const id = this.find(path)?.id;
    await this.remove(path);
    return async () => {
      if (id !== undefined) await this.step(`give back ${path}`, () => this.truncate(id, 0));
    };
  }

  private discardNewest(versions: Versions<Buffer | undefined>): void {
    const sector = newest(versions);
    if (sector !== undefined) this.discard(sector);
  }

  async syncFolder(path: string): Promise<void> {
    let at = 0;
    const { id } = this.folder(path);
    await this.step(
      `sync folder ${path}`,
      () => {
        at = this.changes;
      },
      () => {
        const names = new Map<string, Versions<number | undefined>>();
        for (const [name, versions] of (this.nodes.get(id) as FolderNode).names) {
          const left = settled(versions, at);
          if (left.length > 1 || newest(left) !== undefined) names.set(name, left);
        }
        this.nodes.set(id, { names });
      },
      { spoil: () => {} },
    );
  }

  async freeBytes(): Promise<number> {
    return Number.POSITIVE_INFINITY;
  }

  async readFile(path: string): Promise<Buffer | undefined> {
    await this.alive();
    const node = this.find(path)?.node;
    return node === undefined || "names" in node ? undefined : contentOf(node, this.sectorBytes);
  }

  /** Who holds it dies with the process. */
  async lockFolder(): Promise<() => Promise<void>> {
    return async () => {};
  }
}

/** Paths are few, and looked for again and again. */
const split = new Map<string, readonly string[]>();

function namesIn(path: string): readonly string[] {
  let names = split.get(path);
  if (names === undefined) {
    names = path.split("/").filter((name) => name !== "");
    if (split.size > 10_000) split.clear();
    split.set(path, names);
  }
  return names;
}
