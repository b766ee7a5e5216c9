/**
 * The fields of a client's packets, as far as the parser behind would take what it must not.
 *
 * UTF-8 strings (MQTT 3.1.1, section 1.5.3): what is ill-formed, surrogates included, or holds U+0000 ends the
 * connection [MQTT-1.5.3-1, -2]. The parser would put U+FFFD in its place, and so make two different topics one.
 * CONNECT's protocol and flags, packet ids and the QoS that SUBSCRIBE asks for: it does not look at all of them, and
 * reads a packet that ends within a field on into the next one.
 */
import { isUtf8 } from "node:buffer";

/** What a body is made of: so many bytes, a string, bytes with their length, or one of those that have rules. */
type Field = number | "string" | "binary" | "protocol" | "level" | "flags" | "packet id" | "qos";

const CONNECT = 1;
const PUBLISH = 3;
const SUBSCRIBE = 8;
const UNSUBSCRIBE = 10;
const FIELDS: Readonly<Record<number, readonly Field[]>> = {
  [CONNECT]: ["protocol", "level", "flags", 2, "string"],
  [PUBLISH]: ["string"],
  [SUBSCRIBE]: ["packet id", "string", "qos"],
  [UNSUBSCRIBE]: ["packet id", "string"],
};
/** At QoS 1 and 2; whether its packet id is 0 is looked at where it is taken. */
const ACKNOWLEDGED_PUBLISH: readonly Field[] = ["string", 2];
/** Behind the packet id it begins again with each filter. */
const REPEATED_FROM: Readonly<Record<number, number>> = { [SUBSCRIBE]: 1, [UNSUBSCRIBE]: 1 };
/** Protocol levels by name: 3.1.1 under the older name is none, 3.1 under the newer one has always been served. */
const LEVELS: ReadonlyMap<string, readonly number[]> = new Map([
  ["MQTT", [3, 4]],
  ["MQIsdp", [3]],
]);
/** Bridges set it beside the level (mosquitto, `try_private`). */
const BRIDGE_BIT = 0x80;
const RESERVED_FLAG = 0x01;
const WILL_FLAG = 0x04;
const WILL_QOS_FLAGS = 0x18;
const WILL_RETAIN_FLAG = 0x20;
const PASSWORD_FLAG = 0x40;
const USER_NAME_FLAG = 0x80;
const NONE: readonly Field[] = [];

export class FieldGuard {
  private fields: readonly Field[] = NONE;
  private type = 0;
  private next = 0;
  private levels: readonly number[] = [];
  private hasFilter = false;
  /** The beginning of a field whose rest is still to come. */
  private held: Uint8Array | undefined;
  /** It is a CONNECT of a level that is not spoken here: what follows may be laid out in any way. */
  isOfOtherLevel = false;

  /** A packet's body begins. */
  begin(firstByte: number): void {
    this.type = firstByte >> 4;
    const isAcknowledged = this.type === PUBLISH && (firstByte & 0x06) !== 0;
    this.fields = isAcknowledged ? ACKNOWLEDGED_PUBLISH : (FIELDS[this.type] ?? NONE);
    this.next = 0;
    this.hasFilter = false;
    this.held = undefined;
  }

  /** No field is to come in this packet that is looked at. */
  get isDone(): boolean {
    return this.next === this.fields.length;
  }

  /** What is wrong with the fields that end in this piece of the body, `chunk` from `from` to `to`, or undefined. */
  check(chunk: Uint8Array, from: number, to: number): string | undefined {
    if (this.held === undefined) return this.checkIn(chunk, from, to);
    const bytes = Buffer.concat([this.held, chunk.subarray(from, to)]);
    this.held = undefined;
    return this.checkIn(bytes, 0, bytes.length);
  }

  /** What is wrong with a packet whose body ends here, or undefined. */
  end(): string | undefined {
    if (this.isOfOtherLevel) return "a protocol level that is neither MQTT 3.1's nor 3.1.1's"; // [MQTT-3.1.2-2]
    const isBetweenFilters = this.next === REPEATED_FROM[this.type] && (this.held?.length ?? 0) === 0;
    if (isBetweenFilters && !this.hasFilter) return "no topic filter"; // [MQTT-3.8.3-3], [MQTT-3.10.3-2]
    if (this.isDone || isBetweenFilters) return undefined;
    return "a packet that ends within its topic, filter or another field";
  }

  private checkIn(bytes: Uint8Array, from: number, to: number): string | undefined {
    for (let at = from; !this.isDone; ) {
      const field = this.fields[this.next] as Field;
      const hasLength = field === "string" || field === "binary" || field === "protocol";
      const isCut = hasLength && at + 2 > to;
      const end = at + (hasLength ? 2 + uint16(bytes, at) : sizeOf(field));
      if (isCut || end > to) {
        this.held = bytes.slice(at, to);
        return undefined;
      }
      const problem = this.fieldProblem(field, bytes, at, end);
      if (problem !== undefined) return problem;
      at = end;
      this.next++;
      if (!this.isDone) continue;
      this.hasFilter = true;
      this.next = REPEATED_FROM[this.type] ?? this.next;
    }
    return undefined;
  }

  private fieldProblem(field: Field, bytes: Uint8Array, at: number, end: number): string | undefined {
    const byte = bytes[at] as number;
    switch (field) {
      case "string":
        return isText(bytes, at + 2, end) ? undefined : NO_TEXT;
      case "protocol": {
        const levels = LEVELS.get(String.fromCharCode(...bytes.subarray(at + 2, Math.min(end, at + 9))));
        this.levels = levels ?? [];
        return levels === undefined ? "a protocol that is not MQTT" : undefined; // [MQTT-3.1.2-1]
      }
      case "level":
        this.isOfOtherLevel = !this.levels.includes(byte & ~BRIDGE_BIT);
        if (this.isOfOtherLevel) this.fields = this.fields.slice(0, this.next + 1);
        return undefined;
      case "flags":
        this.fields = [...this.fields, ...fieldsBehind(byte)];
        return flagsProblem(byte);
      case "packet id":
        return uint16(bytes, at) === 0 ? "a packet id of 0" : undefined; // [MQTT-2.3.1-1]
      case "qos":
        return byte > 2 ? `a subscription with the QoS byte ${byte}` : undefined; // [MQTT-3.8.3-4]
      default:
        return undefined;
    }
  }
}

const NO_TEXT = "text that is not well-formed UTF-8, or with U+0000 in it";

const sizeOf = (field: Field): number => (typeof field === "number" ? field : field === "packet id" ? 2 : 1);

export const uint16 = (bytes: Uint8Array, at: number): number =>
  (bytes[at] as number) * 256 + (bytes[at + 1] as number);

/** What follows the client id, by CONNECT's flags. */
function fieldsBehind(flags: number): Field[] {
  const fields: Field[] = (flags & WILL_FLAG) === 0 ? [] : ["string", "binary"];
  if ((flags & USER_NAME_FLAG) !== 0) fields.push("string");
  if ((flags & PASSWORD_FLAG) !== 0) fields.push("binary");
  return fields;
}

function flagsProblem(flags: number): string | undefined {
  if ((flags & RESERVED_FLAG) !== 0) return "a reserved flag in CONNECT"; // [MQTT-3.1.2-3]
  if ((flags & WILL_FLAG) === 0 && (flags & (WILL_QOS_FLAGS | WILL_RETAIN_FLAG)) !== 0) {
    return "the QoS or retain flag of a will, and no will"; // [MQTT-3.1.2-11, -13, -15]
  }
  if ((flags & WILL_QOS_FLAGS) === WILL_QOS_FLAGS) return "a will of QoS 3"; // [MQTT-3.1.2-14]
  if ((flags & PASSWORD_FLAG) !== 0 && (flags & USER_NAME_FLAG) === 0) {
    return "a password without a user name"; // [MQTT-3.1.2-22]
  }
  return undefined;
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
