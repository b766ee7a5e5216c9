/**
 * How expressions see a payload. What is not what it claims to be is said in words, and bounded: nesting, numbers
 * that cannot be exact, names that are there twice, bytes that are no UTF-8.
 */
import { isAscii, isUtf8 } from "node:buffer";
import { randomUUID } from "node:crypto";
import { decode as decodeCbor } from "cborg";
import { messageOf } from "../errors.ts";
import { kindOf, MAX_DEPTH, RenderError, setField } from "./values.ts";

/** `auto`: JSON where it is JSON, otherwise text where it is UTF-8, otherwise bytes. */
export const PAYLOAD_KINDS = ["auto", "json", "text", "number", "cbor", "bytes"] as const;
export type PayloadKind = (typeof PAYLOAD_KINDS)[number];

/** Throws `RenderError` with what is wrong. */
export function decodePayload(kind: PayloadKind, bytes: Buffer): unknown {
  switch (kind) {
    case "auto":
      return decodeAuto(bytes);
    case "json":
      return decodeJson(bytes);
    case "text":
      return textOfPayload(bytes);
    case "number":
      return numberOf(textOfPayload(bytes).trim());
    case "cbor":
      return decodeBoundedCbor(bytes);
    case "bytes":
      return bytes;
  }
}

function decodeAuto(bytes: Buffer): unknown {
  const text = textOf(bytes);
  if (text === undefined) return bytes;
  try {
    return parseJson(bytes, text);
  } catch (error) {
    // What opens like JSON was meant to be JSON: as text it would only hide what is wrong with it.
    if (/^\s*[[{]/.test(text)) throw error;
    return text;
  }
}

const notUtf8 = (): RenderError => new RenderError("the payload is not text: its bytes are no UTF-8");

function textOfPayload(bytes: Buffer): string {
  const text = textOf(bytes);
  if (text === undefined) throw notUtf8();
  return text;
}

/** Undefined for what is no UTF-8. Most payloads are ASCII, of which a string is a mere copy. */
function textOf(bytes: Buffer): string | undefined {
  if (isAscii(bytes)) return bytes.toString("latin1");
  return isUtf8(bytes) ? bytes.toString() : undefined;
}

const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;

function numberOf(text: string): number | bigint {
  const shown = text.length > 40 ? `${text.slice(0, 40)}…` : text;
  if (text.length > 400 || !NUMBER.test(text)) throw new RenderError(`the payload is no number: "${shown}"`);
  const value = Number(text);
  if (!Number.isFinite(value)) throw new RenderError(`the payload's number is too large: "${shown}"`);
  return /^[+-]?\d+$/.test(text) && !Number.isSafeInteger(value) ? BigInt(text.replace("+", "")) : value;
}

/** Throws `RenderError`. A whole number beyond 2^53 becomes a bigint. */
export function decodeJson(bytes: Buffer): unknown {
  return parseJson(bytes, textOfPayload(bytes));
}

function parseJson(bytes: Buffer, text: string): unknown {
  const { colons, longNumber } = scan(bytes);
  let value: unknown;
  try {
    value = longNumber ? parseExactly(text) : JSON.parse(text);
  } catch (error) {
    if (error instanceof RenderError) throw error;
    throw new RenderError(`the payload is not JSON: ${jsonProblem(text, messageOf(error))}`);
  }
  if (colons > 0 && countFields(value) !== colons) {
    throw new RenderError(`the payload has the field ${duplicateIn(text)} twice, and which is meant is open`);
  }
  return value;
}

/** V8 quotes the payload around the place; a person needs the place. */
function jsonProblem(text: string, message: string): string {
  if (text.trim() === "") return "it is empty";
  const word = /-?\b(?:NaN|Infinity|nan|inf|None|undefined)\b/.exec(text.replace(/"(?:[^"\\]|\\.)*"/g, '""'));
  if (word !== null) return `${word[0]} is not a JSON value`;
  return (message.split(/, (?:\.\.\.)?"/)[0] as string).slice(0, 120);
}

const [QUOTE, POINT, BACKSLASH, COLON] = [0x22, 0x2e, 0x5c, 0x3a];
const [OPEN_LIST, CLOSE_LIST, OPEN_MAP, CLOSE_MAP] = [0x5b, 0x5d, 0x7b, 0x7d];

/** One pass over the bytes before they are parsed. */
function scan(bytes: Buffer): { colons: number; longNumber: boolean } {
  const { length } = bytes;
  let colons = 0;
  let depth = 0;
  let digits = 0;
  let longNumber = false;
  for (let at = 0; at < length; at++) {
    const byte = bytes[at] as number;
    if (byte >= 0x30 && byte <= 0x39) {
      if (++digits >= 16) longNumber = true;
      continue;
    }
    // What follows a point is no whole number, however long.
    digits = byte === POINT ? Number.NEGATIVE_INFINITY : 0;
    if (byte === QUOTE) {
      for (at++; at < length && bytes[at] !== QUOTE; at++) if (bytes[at] === BACKSLASH) at++;
    } else if (byte === COLON) colons++;
    else if (byte === OPEN_LIST || byte === OPEN_MAP) {
      if (++depth > MAX_DEPTH) throw new RenderError(`the payload nests more than ${MAX_DEPTH} deep`);
    } else if (byte === CLOSE_LIST || byte === CLOSE_MAP) depth--;
  }
  return { colons, longNumber };
}

function countFields(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  let count = 0;
  if (Array.isArray(value)) {
    for (let at = 0; at < value.length; at++) {
      if (typeof value[at] === "object") count += countFields(value[at]);
    }
    return count;
  }
  for (const name in value) {
    count++;
    const field = (value as Record<string, unknown>)[name];
    if (typeof field === "object") count += countFields(field);
  }
  return count;
}

function duplicateIn(text: string): string {
  const open: Set<string>[] = [];
  for (const [token, name] of text.matchAll(/("(?:[^"\\]|\\.)*")\s*:|"(?:[^"\\]|\\.)*"|[{}]/g)) {
    if (token === "{") open.push(new Set());
    else if (token === "}") open.pop();
    else if (name !== undefined) {
      const names = open.at(-1);
      const field = String(JSON.parse(name));
      if (names?.has(field)) return JSON.stringify(field.slice(0, 40));
      names?.add(field);
    }
  }
  return "of one name";
}

/** Stands before the digits of a number that JSON.parse would round; nobody can guess it. */
const EXACT = `${randomUUID()}:`;
const MAX_DIGITS = 100;

function parseExactly(text: string): unknown {
  const marked = text.replace(/"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g, (token) => {
    if (token[0] === '"' || !/^-?\d+$/.test(token) || Number.isSafeInteger(Number(token))) return token;
    if (token.length > MAX_DIGITS)
      throw new RenderError(`the payload has a number of ${token.length} digits`);
    return `"${EXACT}${token}"`;
  });
  return JSON.parse(marked, (_, value) =>
    typeof value === "string" && value.startsWith(EXACT) ? BigInt(value.slice(EXACT.length)) : value,
  );
}

/** Tags that are read: dates as they are written, numbers in milliseconds; the rest is refused by name. */
const CBOR_TAGS = {
  0: (decode: () => unknown) => decode(),
  1: (decode: () => unknown) => Number(decode()) * 1_000,
  55799: (decode: () => unknown) => decode(),
};

function decodeBoundedCbor(bytes: Buffer): unknown {
  try {
    return plain(decodeCbor(bytes, { useMaps: true, rejectDuplicateMapKeys: true, tags: CBOR_TAGS }), 0);
  } catch (error) {
    if (error instanceof RenderError) throw error;
    const why =
      error instanceof RangeError
        ? "it nests too deep"
        : messageOf(error)
            .replace(/^CBOR decode error: /, "")
            .slice(0, 120);
    throw new RenderError(`the payload is not CBOR: ${why}`);
  }
}

/** Maps as the rest of the house knows them; keys that are not text become text. */
function plain(value: unknown, depth: number): unknown {
  if (depth > MAX_DEPTH) throw new RenderError(`the payload nests more than ${MAX_DEPTH} deep`);
  if (Array.isArray(value)) return value.map((item) => plain(item, depth + 1));
  if (!(value instanceof Map)) return value === undefined ? null : value;
  const map = {};
  for (const [key, item] of value) {
    const kind = kindOf(key);
    if (kind !== "text" && kind !== "number" && kind !== "bool") {
      throw new RenderError("the payload has a map whose names are neither text nor numbers");
    }
    setField(map, String(key), plain(item, depth + 1));
  }
  return map;
}
