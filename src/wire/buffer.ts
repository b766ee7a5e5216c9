/**
 * Reading and writing the primitive types of the Kafka protocol (protocol guide, "Protocol Primitive Types").
 *
 * A `Reader` never reads beyond its buffer and never allocates by a length it has not checked: every failure
 * is a `ProtocolError`. A `Writer` gathers into pieces, so that record batches pass through by reference.
 */
import { ProtocolError } from "../errors.ts";

const TWO_32 = 0x1_0000_0000;
const TWO_63 = 2 ** 63;

/** Offsets, timestamps and producer ids stay far inside the safe integers; beyond them precision is lost. */
export function readInt64(source: Buffer, at: number): number {
  return source.readInt32BE(at) * TWO_32 + source.readUInt32BE(at + 4);
}

/** What `readInt64` gave: that rounds the largest ones, which anybody may send, up to one more than there is. */
export function writeInt64(target: Buffer, at: number, value: number): void {
  const high = value === TWO_63 ? TWO_32 / 2 - 1 : Math.floor(value / TWO_32);
  target.writeInt32BE(high, at);
  target.writeUInt32BE(value === TWO_63 ? TWO_32 - 1 : value - high * TWO_32, at + 4);
}

/** Kafka's text form of a UUID: 16 bytes as unpadded base64url. */
export const ZERO_UUID = "AAAAAAAAAAAAAAAAAAAAAA";

export class Reader {
  readonly buffer: Buffer;
  position: number;
  /**
   * How many array elements may still be read. A frame of a few megabytes can claim millions of one-byte
   * elements, each of which becomes an object a hundred times its size: who reads for a stranger sets this.
   */
  elementsLeft = Number.POSITIVE_INFINITY;

  constructor(buffer: Buffer, position = 0) {
    this.buffer = buffer;
    this.position = position;
  }

  get remaining(): number {
    return this.buffer.length - this.position;
  }

  /** Moves over `bytes` and returns where they began. */
  private take(bytes: number): number {
    const at = this.position;
    if (bytes < 0 || bytes > this.buffer.length - at) {
      throw new ProtocolError(`${bytes} bytes wanted at ${at}, ${this.buffer.length - at} left`);
    }
    this.position = at + bytes;
    return at;
  }

  int8(): number {
    return this.buffer.readInt8(this.take(1));
  }

  boolean(): boolean {
    return this.int8() !== 0;
  }

  int16(): number {
    return this.buffer.readInt16BE(this.take(2));
  }

  uint16(): number {
    return this.buffer.readUInt16BE(this.take(2));
  }

  int32(): number {
    return this.buffer.readInt32BE(this.take(4));
  }

  int64(): number {
    return readInt64(this.buffer, this.take(8));
  }

  uuid(): string {
    const at = this.take(16);
    return this.buffer.toString("base64url", at, at + 16);
  }

  /** UNSIGNED_VARINT: at most five bytes. */
  uvarint(): number {
    let value = 0;
    // A power would cost more than all the rest.
    for (let scale = 1; scale < 2 ** 35; scale *= 0x80) {
      const byte = this.buffer[this.take(1)] as number;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw new ProtocolError(`varint of more than five bytes at ${this.position}`);
  }

  /** VARINT, zig-zag encoded. */
  varint(): number {
    const raw = this.uvarint();
    return raw % 2 === 0 ? raw / 2 : -(raw + 1) / 2;
  }

  /** VARLONG, zig-zag encoded; precise inside the safe integers. */
  varlong(): number {
    let low = 0;
    let high = 0;
    for (let index = 0, scale = 1; index < 10; index++, scale = index === 4 ? 1 : scale * 0x80) {
      const byte = this.buffer[this.take(1)] as number;
      // 28 bits below, the rest above: both halves stay exact.
      if (index < 4) low += (byte & 0x7f) * scale;
      else high += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        const raw = high * 2 ** 28 + low;
        return low % 2 === 0 ? raw / 2 : -(raw + 1) / 2;
      }
    }
    throw new ProtocolError(`varlong of more than ten bytes at ${this.position}`);
  }

  /** A length that came over the wire, checked against what is left; -1 is null. */
  private checkedLength(length: number): number {
    if (length < -1 || length > this.remaining) {
      throw new ProtocolError(`length ${length} at ${this.position}, ${this.remaining} bytes left`);
    }
    return length;
  }

  /** A length or count in the encoding of the message: compact is UNSIGNED_VARINT of N+1, else INT32. */
  length32(compact: boolean): number {
    return this.checkedLength(compact ? this.uvarint() - 1 : this.int32());
  }

  /** The length of an array, taken from what `elementsLeft` allows; -1 is null. */
  arrayLength(compact: boolean): number {
    const length = this.length32(compact);
    if (length > this.elementsLeft) {
      throw new ProtocolError(`an array of ${length} elements where ${this.elementsLeft} are allowed`);
    }
    if (length > 0) this.elementsLeft -= length;
    return length;
  }

  string(compact: boolean): string | null {
    const length = this.checkedLength(compact ? this.uvarint() - 1 : this.int16());
    if (length < 0) return null;
    const at = this.take(length);
    return this.buffer.toString("utf8", at, at + length);
  }

  /** A slice of the frame, not a copy. */
  bytes(compact: boolean): Buffer | null {
    const length = this.length32(compact);
    return length < 0 ? null : this.raw(length);
  }

  stepOver(bytes: number): void {
    this.take(bytes);
  }

  /** A slice of the frame, not a copy. */
  raw(length: number): Buffer {
    const at = this.take(length);
    return this.buffer.subarray(at, at + length);
  }

  /** Steps over a section of tagged fields, giving those that `known` takes to it. */
  taggedFields(known?: (tag: number, field: Reader) => void): void {
    const count = this.uvarint();
    for (let index = 0; index < count; index++) {
      const tag = this.uvarint();
      const size = this.uvarint();
      const body = this.raw(size);
      if (known === undefined) continue;
      const field = new Reader(body);
      field.elementsLeft = this.elementsLeft;
      known(tag, field);
      this.elementsLeft = field.elementsLeft;
    }
  }
}

const PIECE_BYTES = 512;

export class Writer {
  private readonly pieces: Buffer[] = [];
  private current: Buffer;
  private at = 0;
  /** Bytes in `pieces`. */
  private sealed = 0;

  constructor(sizeHint = PIECE_BYTES) {
    this.current = Buffer.allocUnsafe(sizeHint);
  }

  /** Bytes written so far. */
  get length(): number {
    return this.sealed + this.at;
  }

  private room(bytes: number): number {
    const at = this.at;
    if (at + bytes > this.current.length) {
      this.seal();
      this.current = Buffer.allocUnsafe(Math.max(bytes, PIECE_BYTES, Math.min(this.sealed, 1 << 16)));
      this.at = bytes;
      return 0;
    }
    this.at = at + bytes;
    return at;
  }

  private seal(): void {
    if (this.at === 0) return;
    this.pieces.push(this.current.subarray(0, this.at));
    this.sealed += this.at;
    this.current = this.current.subarray(this.at);
    this.at = 0;
  }

  int8(value: number): void {
    const at = this.room(1);
    this.current.writeInt8(value, at);
  }

  boolean(value: boolean): void {
    this.int8(value ? 1 : 0);
  }

  int16(value: number): void {
    const at = this.room(2);
    this.current.writeInt16BE(value, at);
  }

  uint16(value: number): void {
    const at = this.room(2);
    this.current.writeUInt16BE(value, at);
  }

  int32(value: number): void {
    const at = this.room(4);
    this.current.writeInt32BE(value, at);
  }

  int64(value: number): void {
    const at = this.room(8);
    writeInt64(this.current, at, value);
  }

  uuid(value: string): void {
    const bytes = Buffer.from(value, "base64url");
    if (bytes.length !== 16) throw new RangeError(`not a UUID: ${value}`);
    this.raw(bytes);
  }

  uvarint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.byte((rest % 0x80) + 0x80);
      rest = Math.floor(rest / 0x80);
    }
    this.byte(rest);
  }

  varint(value: number): void {
    this.uvarint(value >= 0 ? value * 2 : -value * 2 - 1);
  }

  /** The same as `varint`: both are exact inside the safe integers divided by two. */
  varlong(value: number): void {
    this.varint(value);
  }

  private byte(value: number): void {
    const at = this.room(1);
    this.current[at] = value;
  }

  /** The counterpart of `Reader.length32`. */
  length32(compact: boolean, length: number): void {
    if (compact) this.uvarint(length + 1);
    else this.int32(length);
  }

  string(compact: boolean, value: string | null): void {
    if (value === null) {
      if (compact) this.uvarint(0);
      else this.int16(-1);
      return;
    }
    const length = Buffer.byteLength(value);
    if (compact) this.uvarint(length + 1);
    else this.int16(length);
    const at = this.room(length);
    this.current.write(value, at, length, "utf8");
  }

  bytes(compact: boolean, value: Buffer | null): void {
    this.length32(compact, value === null ? -1 : value.length);
    if (value !== null) this.raw(value);
  }

  /** Copies. */
  raw(value: Buffer): void {
    const at = this.room(value.length);
    value.copy(this.current, at);
  }

  /** Takes the buffers as they are: they go out by reference and must not change until they are sent. */
  reference(values: readonly Buffer[]): void {
    this.seal();
    for (const value of values) {
      if (value.length === 0) continue;
      this.pieces.push(value);
      this.sealed += value.length;
    }
  }

  /** The pieces in order; the writer is done after this. */
  finish(): Buffer[] {
    this.seal();
    return this.pieces;
  }

  /** Everything as one buffer (a copy when there is more than one piece). */
  toBuffer(): Buffer {
    const pieces = this.finish();
    return pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces, this.sealed);
  }
}
