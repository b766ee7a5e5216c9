/**
 * Cuts a byte stream into Kafka's frames: a 4-byte length, then as many bytes.
 *
 * A length is a claim: memory grows with the bytes that arrive (at most to twice of them), never with the
 * claim. Frames are slices of what arrived, copied only when a frame spans several chunks.
 */
import { ProtocolError } from "../errors.ts";

const LENGTH_BYTES = 4;
/** API key, version, correlation id and the length of the client id (request header v1). */
const MIN_FRAME_BYTES = 10;
const NOTHING = Buffer.alloc(0);

export class FrameReader {
  private readonly maxFrameBytes: number;
  private store: Buffer = NOTHING;
  private start = 0;
  private end = 0;

  constructor(maxFrameBytes: number) {
    this.maxFrameBytes = maxFrameBytes;
  }

  /** Bytes that have come and were not taken yet. */
  get pendingBytes(): number {
    return this.end - this.start;
  }

  /** Takes the next bytes of the stream; `chunk` must not change afterwards. */
  push(chunk: Buffer): void {
    const pending = this.pendingBytes;
    if (pending === 0) {
      this.store = chunk;
      this.start = 0;
      this.end = chunk.length;
      return;
    }
    if (this.end + chunk.length > this.store.length) {
      const needed = pending + chunk.length;
      const frame = LENGTH_BYTES + (pending >= LENGTH_BYTES ? this.store.readInt32BE(this.start) : 0);
      const grown = Buffer.allocUnsafeSlow(Math.max(needed, Math.min(frame, needed * 2)));
      this.store.copy(grown, 0, this.start, this.end);
      this.store = grown;
      this.start = 0;
      this.end = pending;
    }
    // Frames already handed out lie before `end` in the same store: nothing of them is overwritten.
    this.end += chunk.copy(this.store, this.end);
  }

  /** Bytes of the frame at the front without its length, or undefined as long as that is not known. */
  frameBytes(): number | undefined {
    if (this.pendingBytes < LENGTH_BYTES) return undefined;
    const length = this.store.readInt32BE(this.start);
    if (length < MIN_FRAME_BYTES || length > this.maxFrameBytes) {
      throw new ProtocolError(
        `a frame of ${length} bytes; ${MIN_FRAME_BYTES} to ${this.maxFrameBytes} are taken`,
      );
    }
    return length;
  }

  /** The next frame without its length, or undefined as long as it is not whole. */
  take(): Buffer | undefined {
    const length = this.frameBytes();
    if (length === undefined || this.pendingBytes < LENGTH_BYTES + length) return undefined;
    const from = this.start + LENGTH_BYTES;
    const frame = this.store.subarray(from, from + length);
    this.start = from + length;
    if (this.start === this.end) this.clear();
    return frame;
  }

  clear(): void {
    this.store = NOTHING;
    this.start = 0;
    this.end = 0;
  }
}
