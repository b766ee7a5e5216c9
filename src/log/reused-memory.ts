/**
 * Large buffers that are used again instead of being left to the garbage collector: to V8 each one that lives for a
 * while is a reason to mark the whole heap, and that costs more than what is done with the bytes.
 *
 * Whoever takes a buffer is its only owner, and gives it back when nobody can still look at any part of it. Where
 * that cannot be known it is never given back, and collected like any other: forgetting is safe, giving too early
 * is not.
 */

/**
 * Less costs little, and there is much of it: such a buffer is not used again. Well below what Kafka's producer sends by
 * itself, batches of just under 16 KiB: new memory for each of them was a third of the server's processor time.
 */
export const SMALL_BYTES = 8 << 10;
/** A free one serves for what is at least this part of it. */
const MIN_USE = 0.75;

/** It knows its owner: to look for it in a set of all that are taken costs more, the garbage collector too. */
class Memory extends ArrayBuffer {
  /** Whom it is to be given back to, while somebody has it. */
  owner: ReusedMemory | undefined;
}

export class ReusedMemory {
  private readonly maxFreeBytes: number;
  private readonly free: Buffer[] = [];
  private freeBytes = 0;

  constructor(maxFreeBytes: number) {
    this.maxFreeBytes = maxFreeBytes;
  }

  /** At least so many bytes, of whatever content. */
  take(bytes: number): Buffer {
    if (bytes < SMALL_BYTES) return Buffer.allocUnsafe(bytes);
    const size = Math.ceil(bytes / SMALL_BYTES) * SMALL_BYTES;
    const index = this.free.findLastIndex(({ length }) => length >= size && length * MIN_USE <= size);
    const [found] = index < 0 ? [] : this.free.splice(index, 1);
    if (found !== undefined) this.freeBytes -= found.length;
    const buffer = found ?? Buffer.from(new Memory(size));
    (buffer.buffer as Memory).owner = this;
    return buffer;
  }

  /** Somebody else has a part of it now, for nobody knows how long: it will not be used again. */
  letGo(part: Buffer): void {
    this.disown(part);
  }

  /** Takes back the buffer of which this is a part, unless it was let go or never was from here. */
  give(part: Buffer): void {
    const memory = this.disown(part);
    if (memory === undefined) return;
    this.free.push(Buffer.from(memory));
    this.freeBytes += memory.byteLength;
    while (this.freeBytes > this.maxFreeBytes) this.freeBytes -= (this.free.shift() as Buffer).length;
  }

  private disown({ buffer }: Buffer): Memory | undefined {
    if (!(buffer instanceof Memory) || buffer.owner !== this) return undefined;
    buffer.owner = undefined;
    return buffer;
  }
}

/** What commits are written from; then it is their partitions' tail. */
export const commitMemory = new ReusedMemory(4 << 20);
/** What is read from segments for those who say when they are done with it: one answer, and what is read ahead. */
export const readMemory = new ReusedMemory(16 << 20);
