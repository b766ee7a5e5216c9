/**
 * A partition's newest batches, in memory: readers of news are answered from here, and the segments' files get them
 * from here. The oldest go when they are in the files and the room is needed (write-behind.ts).
 */
import { baseOffsetOf, lastOffsetOf } from "../wire/record-batch.ts";
import { Deque } from "./deque.ts";
import { commitMemory } from "./reused-memory.ts";
import type { Segment } from "./segment.ts";

/** More pieces would cost more in the system call than they save in copying. */
export const MAX_PIECES = 512;

interface TailBatch {
  readonly buffer: Buffer;
  readonly baseOffset: number;
  readonly lastOffset: number;
  readonly segment: Segment;
}

export class Tail {
  private readonly batches = new Deque<TailBatch>();
  /** How many, from the front, are in their segments' files. */
  private flushedCount = 0;

  push(buffer: Buffer, segment: Segment): void {
    this.batches.push({
      buffer,
      baseOffset: baseOffsetOf(buffer),
      lastOffset: lastOffsetOf(buffer),
      segment,
    });
  }

  /** Whether the oldest `count` are in the files. */
  hasFlushed(count: number): boolean {
    return count <= this.flushedCount;
  }

  /** Drops the oldest `count`, which have been flushed. */
  drop(count: number): void {
    this.batches.drop(count);
    this.flushedCount -= count;
  }

  /** The oldest ones of one segment that its file does not have. */
  unflushed(): { segment: Segment; buffers: readonly Buffer[] } | undefined {
    const segment = this.batches.at(this.flushedCount)?.segment;
    if (segment === undefined) return undefined;
    const buffers: Buffer[] = [];
    for (let at = this.flushedCount; this.batches.at(at)?.segment === segment; at++) {
      buffers.push((this.batches.at(at) as TailBatch).buffer);
    }
    return { segment, buffers };
  }

  flushed(count: number): void {
    this.flushedCount += count;
  }

  /** No file will get them. */
  giveUp(): void {
    this.flushedCount = this.batches.length;
  }

  /** The offset from which on the files have nothing; undefined when they have everything. */
  get unflushedFrom(): number | undefined {
    return this.batches.at(this.flushedCount)?.baseOffset;
  }

  /** Whether the batch that contains `offset`, which is below the end, is here, and all behind it. */
  reaches(offset: number): boolean {
    const oldest = this.batches.at(0);
    return oldest !== undefined && offset >= oldest.baseOffset;
  }

  /** See Partition.read. */
  read(offset: number, maxBytes: number): readonly Buffer[] {
    const buffers: Buffer[] = [];
    let bytes = 0;
    for (let at = this.find(offset); at < this.batches.length; at++) {
      const { buffer } = this.batches.at(at) as TailBatch;
      if (buffers.length > 0 && (bytes + buffer.length > maxBytes || buffers.length >= MAX_PIECES)) break;
      commitMemory.letGo(buffer);
      buffers.push(buffer);
      bytes += buffer.length;
    }
    return buffers;
  }

  bytesFrom(offset: number): number {
    let bytes = 0;
    for (let at = this.find(offset); at < this.batches.length; at++) {
      bytes += (this.batches.at(at) as TailBatch).buffer.length;
    }
    return bytes;
  }

  private find(offset: number): number {
    let low = 0;
    let high = this.batches.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.batches.at(middle) as TailBatch).lastOffset < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
