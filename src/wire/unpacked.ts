/** What LZ4 and snappy write, byte runs and copies of what was before, bounded. Throws ProtocolError on more. */
import { ProtocolError } from "../errors.ts";

export class Unpacked {
  readonly maxBytes: number;
  length = 0;
  private readonly what: string;
  private buffer: Buffer;

  /** `what` completes "more than 5 bytes in …". */
  constructor(what: string, maxBytes: number, guessBytes: number) {
    this.what = what;
    this.maxBytes = maxBytes;
    this.buffer = Buffer.allocUnsafe(Math.min(maxBytes, guessBytes));
  }

  /** A slice: the rest of its memory goes with it. */
  get content(): Buffer {
    return this.buffer.subarray(0, this.length);
  }

  private grow(bytes: number): void {
    const needed = this.length + bytes;
    if (needed > this.maxBytes) throw new ProtocolError(`more than ${this.maxBytes} bytes in ${this.what}`);
    if (needed <= this.buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.min(this.maxBytes, Math.max(needed, this.buffer.length * 2)));
    this.buffer.copy(larger, 0, 0, this.length);
    this.buffer = larger;
  }

  /** Bytes as they stand in the source. */
  literals(source: Buffer, from: number, to: number): void {
    this.grow(to - from);
    this.length += source.copy(this.buffer, this.length, from, to);
  }

  /** Bytes that stand `distance` before the end. */
  match(distance: number, length: number): void {
    if (distance === 0 || distance > this.length) {
      throw new ProtocolError(`a copy from nowhere in ${this.what}`);
    }
    this.grow(length);
    // Byte by byte where it overlaps itself: that is how a run is written.
    const from = this.length - distance;
    if (distance >= length) this.buffer.copyWithin(this.length, from, from + length);
    else for (let at = 0; at < length; at++) this.buffer[this.length + at] = this.buffer[from + at] as number;
    this.length += length;
  }
}
