/**
 * Cuts a byte stream into Kafka's frames: a 4-byte length, then as many bytes.
 *
 * A length is a claim: memory grows with the bytes that arrive (at most to twice of them), never with the
 * claim. Each frame has a buffer of its own: whoever takes it may give it back to `readMemory` when nobody looks at
 * it any more.
 */
import { ProtocolError } from "../errors.ts";
import { readMemory } from "../log/reused-memory.ts";

const LENGTH_BYTES = 4;
/** API key, version, correlation id and the length of the client id (request header v1). */
const MIN_FRAME_BYTES = 10;
const NOTHING = Buffer.alloc(0);

export class FrameReader {
  private readonly maxFrameBytes: number;
  /** What came last, from `start` on; behind the frame in `store`, if there is one. */
  private chunk: Buffer = NOTHING;
  private start = 0;
  /** The beginning of a frame, its length included, that goes on in the next chunk: `filled` bytes of it. */
  private store: Buffer = NOTHING;
  private filled = 0;

  constructor(maxFrameBytes: number) {
    this.maxFrameBytes = maxFrameBytes;
  }

  private get restBytes(): number {
    return this.chunk.length - this.start;
  }

  /** Bytes that have come and were not taken yet. */
  get pendingBytes(): number {
    return this.filled + this.restBytes;
  }

  /** Takes the next bytes of the stream; `chunk` must not change before `keepRest`. */
  push(chunk: Buffer): void {
    const total = this.awaitedBytes();
    if (total !== undefined) {
      this.assemble(chunk, total);
    } else {
      // Nothing, less than a length, or frames that nobody has taken yet.
      this.chunk = this.restBytes === 0 ? chunk : Buffer.concat([this.chunk.subarray(this.start), chunk]);
      this.start = 0;
    }
  }

  private assemble(chunk: Buffer, total: number): void {
    const { filled: before, restBytes: rest } = this;
    const used = Math.min(chunk.length, total - before - rest);
    if (before + rest + used > this.store.length) {
      const grown = readMemory.take(Math.min(total, 2 * (before + rest + used)));
      this.store.copy(grown, 0, 0, before);
      readMemory.give(this.store);
      this.store = grown;
    }
    this.filled += this.chunk.copy(this.store, before, this.start);
    this.filled += chunk.copy(this.store, this.filled, 0, used);
    this.chunk = chunk;
    this.start = used;
  }

  private claimed(): number | undefined {
    if (this.filled > 0) return this.store.readInt32BE(0);
    return this.restBytes < LENGTH_BYTES ? undefined : this.chunk.readInt32BE(this.start);
  }

  /** Bytes of the frame at the front with its length, where more of it is to come. */
  private awaitedBytes(): number | undefined {
    const length = this.claimed();
    if (length === undefined || !this.isPossible(length)) return undefined;
    return this.pendingBytes < LENGTH_BYTES + length ? LENGTH_BYTES + length : undefined;
  }

  private isPossible(length: number): boolean {
    return length >= MIN_FRAME_BYTES && length <= this.maxFrameBytes;
  }

  /** Bytes of the frame at the front without its length, or undefined as long as that is not known. */
  frameBytes(): number | undefined {
    const length = this.claimed();
    if (length === undefined || this.isPossible(length)) return length;
    throw new ProtocolError(
      `a frame of ${length} bytes; ${MIN_FRAME_BYTES} to ${this.maxFrameBytes} are taken`,
    );
  }

  /** The next frame without its length, or undefined as long as it is not whole. */
  take(): Buffer | undefined {
    const length = this.frameBytes();
    if (length === undefined) return undefined;
    if (this.filled > 0) {
      if (this.filled < LENGTH_BYTES + length) return undefined;
      const frame = this.store.subarray(LENGTH_BYTES, LENGTH_BYTES + length);
      this.store = NOTHING;
      this.filled = 0;
      return frame;
    }
    const from = this.start + LENGTH_BYTES;
    if (this.chunk.length < from + length) return undefined;
    const frame = readMemory.take(length).subarray(0, length);
    this.chunk.copy(frame, 0, from);
    this.start = from + length;
    if (this.restBytes === 0) this.drop();
    return frame;
  }

  /** Copies what of the last chunk nobody has taken: the beginning of a frame to where the rest of it will come. */
  keepRest(): void {
    const total = this.awaitedBytes();
    if (total !== undefined) {
      this.assemble(NOTHING, total);
      return;
    }
    this.chunk = this.restBytes === 0 ? NOTHING : Buffer.from(this.chunk.subarray(this.start));
    this.start = 0;
  }

  private drop(): void {
    this.chunk = NOTHING;
    this.start = 0;
  }

  clear(): void {
    this.drop();
    this.store = NOTHING;
    this.filled = 0;
  }
}
