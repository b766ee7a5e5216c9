/**
 * What is sound in a file that may be damaged: batches of a segment, entries of the journal. For looking a
 * data folder over and for mending it; what runs does not go on behind damage.
 *
 * A file is looked at as a whole, in memory: a segment is 64 MiB unless the configuration says otherwise.
 */
import {
  BATCH_HEADER_BYTES,
  baseOffsetOf,
  batchBytes,
  batchProblem,
  lastOffsetOf,
} from "../wire/record-batch.ts";
import { decodeEntry, type JournalEntry } from "./journal.ts";
import { MAX_BATCH_BYTES } from "./segment-batches.ts";

/** A sound batch in its place. */
export interface SoundBatch {
  readonly at: number;
  readonly bytes: number;
  readonly first: number;
  readonly last: number;
}

export interface Unsound {
  readonly at: number;
  readonly bytes: number;
  readonly problem: string;
}

export interface Sifted {
  readonly sound: readonly SoundBatch[];
  readonly unsound: readonly Unsound[];
  /** Offsets from `base` on that no sound batch has, as [from, to). Not where gaps are allowed, but by damage. */
  readonly holes: readonly (readonly [number, number])[];
  /** Where what counts ends: behind it lies what was never synced. */
  readonly position: number;
  /** The offset after the last sound batch. */
  readonly next: number;
}

export interface SegmentPlace {
  readonly base: number;
  /** All of its offsets are below. */
  readonly end: number;
  /** Offsets from here on do not count; they are what was not synced. */
  readonly limit: number;
  readonly mayHaveGaps: boolean;
}

export function siftSegment(content: Buffer, { base, end, limit, mayHaveGaps }: SegmentPlace): Sifted {
  const sound: SoundBatch[] = [];
  const unsound: Unsound[] = [];
  const holes: [number, number][] = [];
  let next = base;
  let at = 0;
  let isBehindDamage = false;
  const due = Math.min(end, limit);
  while (at < content.length && next < due) {
    const problem = problemAt(content, at, next, end, mayHaveGaps || isBehindDamage);
    if (problem === undefined) {
      const [bytes, first, last] = [
        batchBytes(content, at),
        baseOffsetOf(content, at),
        lastOffsetOf(content, at),
      ];
      if (first > next && isBehindDamage) holes.push([next, first]);
      sound.push({ at, bytes, first, last });
      next = last + 1;
      at += bytes;
      isBehindDamage = false;
      continue;
    }
    const to = nextSound(content, at, next, end);
    unsound.push({ at, bytes: to - at, problem });
    at = to;
    isBehindDamage = true;
  }
  if (next < due && (isBehindDamage || !mayHaveGaps || end > limit)) holes.push([next, due]);
  return { sound, unsound, holes, position: at, next };
}

function problemAt(
  content: Buffer,
  at: number,
  next: number,
  end: number,
  gaps: boolean,
): string | undefined {
  const problem = batchProblem(content, at, MAX_BATCH_BYTES);
  if (problem !== undefined) return problem;
  const first = baseOffsetOf(content, at);
  const isInPlace = (gaps ? first >= next : first === next) && lastOffsetOf(content, at) < end;
  return isInPlace ? undefined : `offset ${first} where ${next} should be`;
}

/** Where the next sound batch begins behind `from`, or the end. */
function nextSound(content: Buffer, from: number, next: number, end: number): number {
  // Most damage leaves the length as it was.
  const size = content.length - from >= BATCH_HEADER_BYTES ? batchBytes(content, from) : 0;
  const behind = from + size;
  if (size >= BATCH_HEADER_BYTES && behind < content.length && !problemAt(content, behind, next, end, true))
    return behind;
  // Bytes 16 to 20 of a header: the magic, and nothing else that is known. Bytes 8 and 16 decide most.
  for (let at = content.indexOf(2, from + 17) - 16; at > from; at = content.indexOf(2, at + 17) - 16) {
    if (content.length - at < BATCH_HEADER_BYTES) break;
    const bytes = batchBytes(content, at);
    if (bytes < BATCH_HEADER_BYTES || bytes > content.length - at) continue;
    if (problemAt(content, at, next, end, true) === undefined) return at;
  }
  return content.length;
}

/** All sound entries of the newest generation in a journal file, whatever lies between them. */
export function siftJournal(content: Buffer, mark: Buffer): JournalEntry[] {
  const entries: JournalEntry[] = [];
  for (let at = content.indexOf(mark); at >= 0; ) {
    const entry = decodeEntry(content, at, mark);
    if (entry !== undefined) entries.push(entry);
    at = content.indexOf(mark, at + (entry?.bytes ?? 1));
  }
  const newest = entries.reduce((highest, { generation }) => Math.max(highest, generation), -1);
  return entries.filter(({ generation }) => generation === newest);
}

/** The mark that a journal file's first entry has, if that is sound by itself. */
export function markOfJournal(content: Buffer): Buffer | undefined {
  const mark = Buffer.from(content.subarray(0, 16));
  return mark.toString("latin1").startsWith("SLJ2") && decodeEntry(content, 0, mark) !== undefined
    ? mark
    : undefined;
}
