/**
 * A record as one line: for people (`pretty`) or for programs (`json`). Neither ever holds a raw control
 * character: what a sensor sends must not drive the terminal of the one who reads it.
 */
import { isUtf8 } from "node:buffer";
import { createColors } from "picocolors";
import type { RecordHeader } from "../record.ts";

export interface ReceivedRecord {
  readonly stream: string;
  readonly partition: number;
  readonly offset: number;
  /** Milliseconds since the epoch. */
  readonly timestamp: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: readonly RecordHeader[];
}

/** Turns a record into a line, without its line end. */
export type Formatter = (record: ReceivedRecord) => string;

/** Bytes of a binary key or value that a person is shown. */
const HEX_PREVIEW_BYTES = 24;

/**
 * One JSON object. Keys, values and headers are text; what is not UTF-8 is base64, and `encoding` then names
 * the fields that are (`"key"`, `"value"`, `"headers.<name>"`). A header that repeats has an array.
 */
export function formatJson(record: ReceivedRecord): string {
  const encoded: string[] = [];
  const text = (field: string, bytes: Buffer | null): string | null => {
    if (bytes === null || isUtf8(bytes)) return bytes === null ? null : bytes.toString("utf8");
    encoded.push(field);
    return bytes.toString("base64");
  };
  // No prototype: a header may be called anything, `__proto__` too.
  const headers: Record<string, unknown> = Object.create(null);
  const key = text("key", record.key);
  const value = text("value", record.value);
  for (const header of record.headers) {
    const item = text(`headers.${header.key}`, header.value);
    const before = headers[header.key];
    if (before === undefined) headers[header.key] = item;
    else headers[header.key] = Array.isArray(before) ? [...before, item] : [before, item];
  }
  const { stream, partition, offset, timestamp } = record;
  const encoding =
    encoded.length === 0 ? {} : { encoding: Object.fromEntries(encoded.map((field) => [field, "base64"])) };
  return JSON.stringify({ stream, partition, offset, timestamp, key, value, headers, ...encoding });
}

/** Time, place, key, headers, value; in colour when `colour` is set. */
export function prettyFormatter(options: { colour: boolean }): Formatter {
  const paint = createColors(options.colour);
  const shown = (bytes: Buffer | null): string => {
    if (bytes === null) return paint.dim("null");
    if (!isUtf8(bytes) || bytes.includes(0)) return paint.magenta(hexPreview(bytes));
    return printable(bytes.toString("utf8"));
  };
  const colourful = (bytes: Buffer | null): string => {
    const text = shown(bytes);
    const isJson = options.colour && bytes !== null && /^\s*[[{]/.test(text);
    return isJson ? highlightJson(text, paint) : text;
  };
  return (record) => {
    const place = `${record.stream}/${record.partition}@${record.offset}`;
    const parts = [paint.dim(timeOf(record.timestamp)), paint.cyan(place)];
    if (record.key !== null) parts.push(paint.bold(shown(record.key)));
    const headers = record.headers.map(({ key, value }) => `${printable(key)}=${shown(value)}`).join(" ");
    if (headers !== "") parts.push(paint.dim(headers));
    parts.push(colourful(record.value));
    return parts.join("  ");
  };
}

function hexPreview(bytes: Buffer): string {
  const hex = bytes
    .subarray(0, HEX_PREVIEW_BYTES)
    .toString("hex")
    .replace(/(..)(?=.)/g, "$1 ");
  const more = bytes.length > HEX_PREVIEW_BYTES ? " …" : "";
  return `${hex}${more} (${bytes.length} ${bytes.length === 1 ? "byte" : "bytes"})`;
}

/** Control characters, C1 and the bidirectional overrides included, as escapes that can be read. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu, (character) => {
    const named = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[character];
    return named ?? `\\u${(character.codePointAt(0) as number).toString(16).padStart(4, "0")}`;
  });
}

function highlightJson(text: string, paint: ReturnType<typeof createColors>): string {
  const token = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
  return text.replace(token, (all, string: string | undefined, colon: string | undefined, word?: string) => {
    if (string !== undefined) return colon === undefined ? paint.green(string) : paint.blue(string) + colon;
    return word === undefined ? paint.yellow(all) : paint.magenta(all);
  });
}

/** Local time; the date as well when it was not today. */
function timeOf(timestampMs: number): string {
  const date = new Date(timestampMs);
  if (Number.isNaN(date.getTime())) return String(timestampMs);
  const two = (value: number): string => String(value).padStart(2, "0");
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const time = `${clock}.${String(date.getMilliseconds()).padStart(3, "0")}`;
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}`;
}
