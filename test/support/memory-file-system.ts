/**
 * A disk in memory, for tests that open a log thousands of times. `snapshot` is what a killed process leaves;
 * files can be looked at and changed byte by byte.
 */
import type { File, FileSystem } from "../../src/log/file-system.ts";

interface MemoryNode {
  content: Buffer;
  size: number;
}

function missing(path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`ENOENT: ${path}`), { code: "ENOENT" });
}

class MemoryFile implements File {
  private readonly node: MemoryNode;

  constructor(node: MemoryNode) {
    this.node = node;
  }

  async read(target: Buffer, position: number): Promise<number> {
    return this.node.content.copy(target, 0, position, Math.max(position, this.node.size));
  }

  async write(buffers: readonly Buffer[], position: number): Promise<void> {
    let at = position;
    for (const buffer of buffers) {
      this.grow(at + buffer.length);
      buffer.copy(this.node.content, at);
      at += buffer.length;
    }
  }

  private grow(size: number): void {
    if (size > this.node.content.length) {
      const larger = Buffer.alloc(Math.max(size, this.node.content.length * 2));
      this.node.content.copy(larger, 0, 0, this.node.size);
      this.node.content = larger;
    }
    this.node.size = Math.max(this.node.size, size);
  }

  writeDurably(buffers: readonly Buffer[], position: number): Promise<void> {
    return this.write(buffers, position);
  }

  async sync(): Promise<void> {}

  async truncate(bytes: number): Promise<void> {
    if (bytes < this.node.size) this.node.content.fill(0, bytes, this.node.size);
    else this.grow(bytes);
    this.node.size = bytes;
  }

  async size(): Promise<number> {
    return this.node.size;
  }

  async close(): Promise<void> {}
}

export class MemoryFileSystem implements FileSystem {
  private readonly nodes = new Map<string, MemoryNode>();

  /** What a killed process leaves. */
  snapshot(): MemoryFileSystem {
    const copy = new MemoryFileSystem();
    for (const [path, { content, size }] of this.nodes) {
      copy.nodes.set(path, { content: Buffer.from(content.subarray(0, size)), size });
    }
    return copy;
  }

  get paths(): string[] {
    return [...this.nodes.keys()].sort();
  }

  /** A file's bytes, to look at or to change. */
  bytes(path: string): Buffer {
    const node = this.nodes.get(path);
    if (node === undefined) throw missing(path);
    return node.content.subarray(0, node.size);
  }

  async open(path: string, mode: "read" | "write" | "durable"): Promise<File> {
    let node = this.nodes.get(path);
    if (node === undefined) {
      if (mode === "read") throw missing(path);
      node = { content: Buffer.alloc(0), size: 0 };
      this.nodes.set(path, node);
    }
    return new MemoryFile(node);
  }

  async list(path: string): Promise<string[]> {
    const prefix = `${path}/`;
    const names = this.paths.filter((one) => one.startsWith(prefix)).map((one) => one.slice(prefix.length));
    return [...new Set(names.map((name) => name.split("/")[0] as string))];
  }

  async makeFolder(): Promise<void> {}

  async rename(from: string, to: string): Promise<void> {
    const moved = this.paths.filter((path) => path === from || path.startsWith(`${from}/`));
    if (moved.length === 0) throw missing(from);
    for (const path of moved) {
      this.nodes.set(to + path.slice(from.length), this.nodes.get(path) as MemoryNode);
      this.nodes.delete(path);
    }
  }

  async link(from: string, to: string): Promise<void> {
    const node = this.nodes.get(from);
    if (node === undefined) throw missing(from);
    this.nodes.set(to, node);
  }

  async remove(path: string): Promise<void> {
    for (const one of this.paths) if (one === path || one.startsWith(`${path}/`)) this.nodes.delete(one);
  }

  async removeName(path: string): Promise<() => Promise<void>> {
    const node = this.nodes.get(path);
    await this.remove(path);
    return async () => {
      if (node !== undefined && ![...this.nodes.values()].includes(node)) node.size = 0;
    };
  }

  async syncFolder(): Promise<void> {}

  async freeBytes(): Promise<number> {
    return Number.POSITIVE_INFINITY;
  }

  async readFile(path: string): Promise<Buffer | undefined> {
    const node = this.nodes.get(path);
    return node && Buffer.from(node.content.subarray(0, node.size));
  }

  async lockFolder(): Promise<() => Promise<void>> {
    return async () => {};
  }
}
