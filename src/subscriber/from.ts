/** Where reading starts: the words of `--from`, and what they come to in each partition. */
import { parseDuration } from "../config/units.ts";
import { SluiceError } from "../errors.ts";

export type From =
  | { readonly kind: "beginning" }
  | { readonly kind: "latest" }
  /** Milliseconds since the epoch. */
  | { readonly kind: "time"; readonly timestampMs: number }
  | { readonly kind: "offset"; readonly offset: number };

/** What a partition holds: the first offset that can be read, and one past the last. */
export interface OffsetRange {
  readonly low: number;
  readonly high: number;
}

const ISO_8601 = /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?$/i;

/**
 * `beginning`, `latest`, an offset (`1042`), a time ago (`15m`), or a time as ISO 8601 (without a zone: local,
 * a date alone: its local midnight). Throws SluiceError FROM otherwise.
 */
export function parseFrom(text: string, nowMs: number): From {
  if (text === "beginning" || text === "earliest") return { kind: "beginning" };
  if (text === "latest" || text === "end") return { kind: "latest" };
  if (/^\d+$/.test(text) && Number.isSafeInteger(Number(text)))
    return { kind: "offset", offset: Number(text) };
  const ago = /^\d/.test(text) ? parseDuration(text) : { problem: "no duration" };
  if ("value" in ago) return { kind: "time", timestampMs: nowMs - ago.value };
  if (ISO_8601.test(text)) {
    // ECMAScript reads a date alone as UTC, and a time without a zone as local; people mean local in both.
    const timestampMs = Date.parse(text.length === 10 ? `${text}T00:00` : text.replace(" ", "T"));
    if (!Number.isNaN(timestampMs)) return { kind: "time", timestampMs };
  }
  throw new SluiceError("FROM", `--from cannot be ${JSON.stringify(text)}`, {
    mend: "say beginning, latest, an offset (1042), a time ago (15m, 2h) or a time (2026-06-01T08:00)",
    exitCode: 64,
  });
}

/** The offset to begin at; `atTime` is the first offset at or after the time. Never outside of the partition. */
export function startOffset(from: From, range: OffsetRange, atTime: number | undefined): number {
  switch (from.kind) {
    case "beginning":
      return range.low;
    case "latest":
      return range.high;
    case "time":
      return Math.min(Math.max(atTime ?? range.high, range.low), range.high);
    case "offset":
      return Math.min(Math.max(from.offset, range.low), range.high);
  }
}
