/**
 * Bounds a client's packets before anything buffers them: follows the fixed headers (MQTT 3.1.1, section 2.2)
 * across chunks as they are read, without copying, and says when one announces more than is allowed, or holds
 * text that is none (`strings.ts`). The parser behind it checks the rest.
 */
import { StringGuard } from "./strings.ts";

export class FramingGuard {
  private readonly maxPacketBytes: number;
  /** Bytes of the current packet's body that are still to come. */
  private bodyLeft = 0;
  /** Bytes of the current fixed header that were seen. */
  private headerBytes = 0;
  private remainingLength = 0;
  private type = 0;
  private readonly strings = new StringGuard();
  /** Where the last `check` stopped. */
  end = 0;

  constructor(maxPacketBytes: number) {
    this.maxPacketBytes = maxPacketBytes;
  }

  /** The next byte is a packet's first. */
  get isBetweenPackets(): boolean {
    return this.bodyLeft === 0 && this.headerBytes === 0;
  }

  /**
   * What is wrong with the stream from `from` up to the end of this chunk, or undefined. It may stop in front of
   * a later packet, by that one's first byte: `end` says where.
   */
  check(chunk: Uint8Array, from = 0, stopsAt?: (firstByte: number) => boolean): string | undefined {
    const { length } = chunk;
    let at = from;
    while (at < length) {
      if (this.bodyLeft > 0) {
        const skipped = Math.min(this.bodyLeft, length - at);
        const problem = this.strings.isDone ? undefined : this.strings.check(chunk, at, at + skipped);
        if (problem !== undefined) return problem;
        this.bodyLeft -= skipped;
        at += skipped;
        continue;
      }
      const byte = chunk[at] as number;
      if (this.headerBytes === 0) {
        if (at > from && stopsAt?.(byte)) break;
        at++;
        const type = byte >> 4;
        this.type = type;
        if (type === 0 || type === 15) return `a packet of type ${type}, which MQTT 3.1.1 reserves`;
        this.headerBytes = 1;
        continue;
      }
      at++;
      // Remaining length: seven bits a byte, at most four bytes (section 2.2.3).
      this.remainingLength += (byte & 0x7f) * 128 ** (this.headerBytes - 1);
      this.headerBytes++;
      if (byte >= 0x80) {
        if (this.headerBytes > 4) return "a remaining length of more than four bytes";
        continue;
      }
      if (this.headerBytes + this.remainingLength > this.maxPacketBytes) {
        return `a packet of ${this.headerBytes + this.remainingLength} bytes, over the limit of ${this.maxPacketBytes}`;
      }
      this.strings.begin(this.type);
      this.bodyLeft = this.remainingLength;
      this.headerBytes = 0;
      this.remainingLength = 0;
    }
    this.end = at;
    return undefined;
  }
}
