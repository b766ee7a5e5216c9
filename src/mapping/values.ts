/**
 * The values that expressions work with: null, true and false, numbers, text, bytes, lists and maps, as JSON
 * and CBOR give them. There is one kind of number; a whole number too large to be exact as one is a bigint, so
 * that it can be a key without being rounded.
 */
import { SluiceError } from "../errors.ts";

/** What an expression asks for and the message does not have, or what cannot be done with it. */
export class RenderError extends SluiceError {
  /** Where in the field's text, in UTF-16 units; undefined where no place is to blame. */
  readonly position: number | undefined;
  /** A value is not there; other errors mean that one is there and cannot be used. */
  readonly missing: boolean;

  constructor(message: string, options: { position?: number | undefined; missing?: boolean } = {}) {
    super("MAPPING_RENDER", message);
    this.position = options.position;
    this.missing = options.missing ?? false;
  }
}

/**
 * That what stands at a place of an expression has no value. The error is made when it is first thrown, and then
 * once: neither ten thousand rules nor a million messages pay for its stack trace.
 */
export class Missing {
  private readonly text: string;
  private readonly start: number;
  private readonly end: number;
  private readonly offset: number;
  private made: RenderError | undefined;

  /** `text`: an expression, of which a stretch is meant; `offset`: where it begins in its field. */
  constructor(text: string, start: number, end: number, offset: number) {
    this.text = text;
    this.start = start;
    this.end = end;
    this.offset = offset;
  }

  get error(): RenderError {
    this.made ??= this.make();
    return this.made;
  }

  private make(): RenderError {
    const { text, start, end, offset } = this;
    const words = `${shortened(text.slice(start, end))} has no value`;
    return new RenderError(words, { position: offset + start, missing: true });
  }
}

/** A piece of an expression, for a message. */
export function shortened(text: string): string {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}

/** What one message may cost, in steps of about 50 ns: a rule cannot stall the broker. */
export class Budget {
  static readonly STEPS = 250_000;
  private left = Budget.STEPS;

  spend(steps: number): void {
    this.left -= steps;
    if (this.left < 0) {
      throw new RenderError(`takes more than the ${Budget.STEPS} steps that a message may cost`);
    }
  }
}

/** Characters, bytes or elements that a value made by an expression may have. */
export const MAX_LENGTH = 1 << 20;
/** Lists and maps within each other. */
export const MAX_DEPTH = 64;

export type Kind = "null" | "bool" | "number" | "text" | "bytes" | "list" | "map";

export function kindOf(value: unknown): Kind {
  switch (typeof value) {
    case "string":
      return "text";
    case "number":
    case "bigint":
      return "number";
    case "boolean":
      return "bool";
    default:
      if (value === null || value === undefined) return "null";
      if (Array.isArray(value)) return "list";
      return value instanceof Uint8Array ? "bytes" : "map";
  }
}

const KIND_WORDS: Readonly<Record<Kind, string>> = {
  null: "null",
  bool: "true or false",
  number: "a number",
  text: "text",
  bytes: "bytes",
  list: "a list",
  map: "a map",
};

/** `a number`, for "needs text, not a number". */
export const kindWords = (value: unknown): string => KIND_WORDS[kindOf(value)];
export const wordsOfKind = (kind: Kind): string => KIND_WORDS[kind];

/** A map's own field, names from prototypes being names like any others. */
export function setField(map: object, name: string, value: unknown): void {
  if (name !== "__proto__") (map as Record<string, unknown>)[name] = value;
  else Object.defineProperty(map, name, { value, enumerable: true, configurable: true, writable: true });
}

/** Equal in kind and content; a number and text never are. */
export function isEqual(a: unknown, b: unknown, budget: Budget | undefined, depth = 0): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) {
    // A bigint is a whole number beyond the safe ones.
    // biome-ignore lint/suspicious/noDoubleEquals: between a number and a bigint only == compares, and exactly
    return typeof a !== typeof b && kindOf(a) === "number" && kindOf(b) === "number" && a == b;
  }
  const kind = kindOf(a);
  if (kind !== kindOf(b)) return false;
  if (depth > MAX_DEPTH) throw new RenderError(`compares values nested more than ${MAX_DEPTH} deep`);
  if (kind === "bytes") {
    budget?.spend((a as Uint8Array).length >> 5);
    return Buffer.compare(a as Uint8Array, b as Uint8Array) === 0;
  }
  if (kind === "list") {
    const [one, other] = [a as unknown[], b as unknown[]];
    budget?.spend(one.length);
    return (
      one.length === other.length && one.every((item, at) => isEqual(item, other[at], budget, depth + 1))
    );
  }
  const names = Object.keys(a);
  budget?.spend(names.length);
  return (
    names.length === Object.keys(b).length &&
    names.every(
      (name) =>
        Object.hasOwn(b, name) &&
        isEqual(
          (a as Record<string, unknown>)[name],
          (b as Record<string, unknown>)[name],
          budget,
          depth + 1,
        ),
    )
  );
}

/** A value as text: numbers as JSON writes them, bytes as UTF-8, lists and maps as JSON. */
export function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value === "object" && value !== null) {
    return value instanceof Uint8Array ? Buffer.from(value).toString() : writeJson(value);
  }
  if (typeof value === "number" && !Number.isFinite(value)) throw new RenderError(`comes to ${value}`);
  return String(value);
}

/** A record's value: bytes as they are, null for none, what is text as text, lists and maps as JSON. */
export function bytesOf(value: unknown): Buffer | null {
  if (value === null || value === undefined) return null;
  if (!(value instanceof Uint8Array)) return Buffer.from(textOf(value));
  return Buffer.isBuffer(value) ? value : Buffer.from(value.buffer, value.byteOffset, value.byteLength);
}

/** JSON, with bytes as base64 and large whole numbers exact. Throws `RenderError` for what JSON cannot say. */
export function writeJson(value: unknown): string {
  const parts: string[] = [];
  let length = 0;
  const put = (text: string): void => {
    length += text.length;
    if (length > MAX_LENGTH) throw new RenderError(`comes to more than ${MAX_LENGTH} characters of JSON`);
    parts.push(text);
  };
  const write = (value: unknown, depth: number): void => {
    if (depth > MAX_DEPTH) throw new RenderError(`nests lists and maps more than ${MAX_DEPTH} deep`);
    if (typeof value === "string") put(JSON.stringify(value));
    else if (typeof value !== "object" || value === null) put(textOf(value));
    else if (value instanceof Uint8Array) put(`"${Buffer.from(value).toString("base64")}"`);
    else if (Array.isArray(value)) {
      put("[");
      for (let at = 0; at < value.length; at++) {
        if (at > 0) put(",");
        write(value[at], depth + 1);
      }
      put("]");
    } else {
      let first = true;
      put("{");
      for (const name of Object.keys(value)) {
        put(`${first ? "" : ","}${JSON.stringify(name)}:`);
        first = false;
        write((value as Record<string, unknown>)[name], depth + 1);
      }
      put("}");
    }
  };
  write(value, 0);
  return parts.join("");
}
