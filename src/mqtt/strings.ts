/**
 * The UTF-8 strings in a client's packets (MQTT 3.1.1, section 1.5.3): what is ill-formed, surrogates included, or
 * holds U+0000 ends the connection [MQTT-1.5.3-1, -2]. The parser would put U+FFFD in its place, and so make two
 * different topics one.
 *
 * Only lengths are followed here, field by field; where they do not fit, the parser says so.
 */
import { isUtf8 } from "node:buffer";

/** What a body is made of: so many bytes, a string, bytes with their length, or CONNECT's flags. */
type Field = number | "string" | "binary" | "flags";

const CONNECT = 1;
const PUBLISH = 3;
const SUBSCRIBE = 8;
const UNSUBSCRIBE = 10;
const FIELDS: Readonly<Record<number, readonly Field[]>> = {
  [CONNECT]: ["string", 1, "flags", 2, "string"],
  [PUBLISH]: ["string"],
  [SUBSCRIBE]: [2, "string", 1],
  [UNSUBSCRIBE]: [2, "string"],
};
/** Behind the packet id it begins again with each filter. */
const REPEATED_FROM: Readonly<Record<number, number>> = { [SUBSCRIBE]: 1, [UNSUBSCRIBE]: 1 };
const WILL_FLAG = 0x04;
const USER_NAME_FLAG = 0x80;
const NONE: readonly Field[] = [];

export class StringGuard {
  private fields: readonly Field[] = NONE;
  private type = 0;
  private next = 0;
  /** The beginning of a field whose rest is still to come. */
  private held: Uint8Array | undefined;

  /** A packet's body begins. */
  begin(type: number): void {
    this.type = type;
    this.fields = FIELDS[type] ?? NONE;
    this.next = 0;
    this.held = undefined;
  }

  /** No string is to come in this packet. */
  get isDone(): boolean {
    return this.next === this.fields.length;
  }

  /** What is wrong with the strings that end in this piece of the body, `chunk` from `from` to `to`, or undefined. */
  check(chunk: Uint8Array, from: number, to: number): string | undefined {
    if (this.held === undefined) return this.checkIn(chunk, from, to);
    const bytes = Buffer.concat([this.held, chunk.subarray(from, to)]);
    this.held = undefined;
    return this.checkIn(bytes, 0, bytes.length);
  }

  private checkIn(bytes: Uint8Array, from: number, to: number): string | undefined {
    for (let at = from; !this.isDone; ) {
      const field = this.fields[this.next] as Field;
      const hasLength = field === "string" || field === "binary";
      const isCut = hasLength && at + 2 > to;
      const end = at + (hasLength ? 2 + uint16(bytes, at) : field === "flags" ? 1 : field);
      if (isCut || end > to) {
        this.held = bytes.slice(at, to);
        return undefined;
      }
      if (field === "string" && !isText(bytes, at + 2, end)) {
        return "text that is not well-formed UTF-8, or with U+0000 in it";
      }
      if (field === "flags") this.fields = [...this.fields, ...fieldsBehind(bytes[at] as number)];
      at = end;
      this.next++;
      if (this.isDone) this.next = REPEATED_FROM[this.type] ?? this.next;
    }
    return undefined;
  }
}

export const uint16 = (bytes: Uint8Array, at: number): number =>
  (bytes[at] as number) * 256 + (bytes[at + 1] as number);

/** What follows the client id, by CONNECT's flags; a password is only bytes. */
function fieldsBehind(flags: number): Field[] {
  const will: Field[] = (flags & WILL_FLAG) === 0 ? [] : ["string", "binary"];
  return (flags & USER_NAME_FLAG) === 0 ? will : [...will, "string"];
}

/** Whether these bytes are well-formed UTF-8 without U+0000. */
export function isText(bytes: Uint8Array, from: number, to: number): boolean {
  for (let at = from; at < to; at++) {
    const byte = bytes[at] as number;
    if (byte === 0) return false;
    if (byte >= 0x80) return !bytes.subarray(at, to).includes(0) && isUtf8(bytes.subarray(at, to));
  }
  return true;
}
