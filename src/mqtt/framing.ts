/**
 * Bounds a client's packets before anything buffers them: follows the fixed headers (MQTT 3.1.1, section 2.2)
 * across chunks as they are read, without copying, and says when one announces more than is allowed, or is not as
 * MQTT 3.1.1 has it: type, flags and length here, what is in it in `strings.ts`. The PUBLISH packets that the lane
 * takes past it are right in all this by their first byte.
 */
import { FieldGuard } from "./strings.ts";

/** The flags of a first byte, by type (table 2.2); PUBLISH has its own. What a client may not send is left out. */
const FLAGS: Readonly<Record<number, number>> = { 1: 0, 4: 0, 5: 0, 6: 2, 7: 0, 8: 2, 10: 2, 12: 0, 14: 0 };
/** PUBACK, PUBREC, PUBREL and PUBCOMP are a packet id, PINGREQ and DISCONNECT nothing. */
const LENGTHS: Readonly<Record<number, number>> = { 4: 2, 5: 2, 6: 2, 7: 2, 12: 0, 14: 0 };
const PUBLISH = 3;

export class FramingGuard {
  private readonly maxPacketBytes: number;
  /** Bytes of the current packet's body that are still to come. */
  private bodyLeft = 0;
  /** Bytes of the current fixed header that were seen. */
  private headerBytes = 0;
  private remainingLength = 0;
  private firstByte = 0;
  private readonly fields = new FieldGuard();
  /** Where the last `check` stopped. */
  end = 0;

  constructor(maxPacketBytes: number) {
    this.maxPacketBytes = maxPacketBytes;
  }

  /** The next byte is a packet's first. */
  get isBetweenPackets(): boolean {
    return this.bodyLeft === 0 && this.headerBytes === 0;
  }

  /** What is wrong is the protocol level of a CONNECT, which has its own answer. */
  get isOfOtherLevel(): boolean {
    return this.fields.isOfOtherLevel;
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
        const { fields } = this;
        let problem = fields.isDone ? undefined : fields.check(chunk, at, at + skipped);
        this.bodyLeft -= skipped;
        if (this.bodyLeft === 0) problem ??= fields.end();
        if (problem !== undefined) return problem;
        at += skipped;
        continue;
      }
      const byte = chunk[at] as number;
      if (this.headerBytes === 0) {
        if (at > from && stopsAt?.(byte)) break;
        at++;
        this.firstByte = byte;
        const problem = firstByteProblem(byte);
        if (problem !== undefined) return problem;
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
      const type = this.firstByte >> 4;
      const body = this.remainingLength;
      if (body !== (LENGTHS[type] ?? body)) return `a packet of type ${type} with ${body} bytes in it`;
      this.fields.begin(this.firstByte);
      this.bodyLeft = body;
      this.headerBytes = 0;
      this.remainingLength = 0;
      const problem = body === 0 ? this.fields.end() : undefined;
      if (problem !== undefined) return problem;
    }
    this.end = at;
    return undefined;
  }
}

function firstByteProblem(byte: number): string | undefined {
  const type = byte >> 4;
  if (type === PUBLISH) {
    if ((byte & 0x06) === 0x06) return "a PUBLISH of QoS 3"; // [MQTT-3.3.1-4]
    return (byte & 0x0e) === 0x08 ? "a PUBLISH of QoS 0 with DUP" : undefined; // [MQTT-3.3.1-2]
  }
  if (type === 0 || type === 15) return `a packet of type ${type}, which MQTT 3.1.1 reserves`;
  const flags = FLAGS[type];
  if (flags === undefined) return `a packet of type ${type}, which only a server sends`;
  if ((byte & 0x0f) === flags) return undefined;
  return `a packet of type ${type} with the flags ${byte & 0x0f} instead of ${flags}`; // [MQTT-2.2.2-2]
}
