/**
 * Batches as they lie in a segment's file. Each is checked before anybody is given it: its checksum, and its offsets
 * against the batch before it. Offsets follow one another without a gap, but in closed segments: there compaction
 * leaves gaps.
 */
import { LogError } from "../errors.ts";
import {
  BATCH_HEADER_BYTES,
  baseOffsetOf,
  batchBytes,
  batchProblem,
  lastOffsetOf,
} from "../wire/record-batch.ts";
import type { File } from "./file-system.ts";
import { readMemory } from "./reused-memory.ts";

/** No batch is larger; a length beyond it is damage. */
export const MAX_BATCH_BYTES = 64 << 20;
const SCAN_BYTES = 1 << 20;

/** What a segment's file is held against. */
export interface Bounds {
  readonly baseOffset: number;
  /** All offsets are below; infinite while it grows. */
  readonly end: number;
  /** Compaction or a repair may have left gaps between batches. */
  readonly mayHaveGaps: boolean;
  /** To name the file by. */
  readonly path: string;
}

export function damaged({ path }: Bounds, position: number, what: string): never {
  throw new LogError("DAMAGED", `${path}: ${what}, at byte ${position}`, {
    mend: "Restore the file from a copy; or stop the gateway and run sluice log repair, which says what is lost.",
  });
}

/**
 * Whether a batch may stand where offset `next` is due. Base offsets lie outside the checksum; where there may
 * be gaps only their order vouches for them.
 */
export function follows({ end, mayHaveGaps }: Bounds, source: Buffer, at: number, next: number): boolean {
  const base = baseOffsetOf(source, at);
  return (
    (mayHaveGaps && Number.isFinite(end) ? base >= next : base === next) && lastOffsetOf(source, at) < end
  );
}

/** Throws when batches are missing behind the last one, which ends at `position` and before `next`. */
export function checkEnd(bounds: Bounds, position: number, next: number): void {
  const { end, mayHaveGaps } = bounds;
  if (mayHaveGaps || !Number.isFinite(end) || next === end) return;
  damaged(bounds, position, `the file ends with offset ${next - 1}, and held everything below ${end}`);
}

/** A batch's header, or less where the file ends. */
export async function headerAt(file: File, position: number): Promise<Buffer> {
  const header = Buffer.allocUnsafe(BATCH_HEADER_BYTES);
  return header.subarray(0, await file.read(header, position));
}

/**
 * Sound batches from `from` on, until the end or the first that is not whole and sound; offsets are not looked at.
 * Each is there until the next one is asked for: all are read into the same memory.
 */
export async function* scan(
  file: File,
  from: number,
  end: number,
): AsyncGenerator<{ batch: Buffer; at: number }> {
  let at = from;
  let wanted = SCAN_BYTES;
  let memory = readMemory.take(Math.min(wanted, Math.max(0, end - at)));
  try {
    while (at < end) {
      const bytes = Math.min(wanted, end - at);
      if (bytes > memory.length) {
        readMemory.give(memory);
        memory = readMemory.take(bytes);
      }
      const read = memory.subarray(0, await file.read(memory.subarray(0, bytes), at));
      let inside = 0;
      while (read.length - inside >= BATCH_HEADER_BYTES) {
        const size = batchBytes(read, inside);
        if (size < BATCH_HEADER_BYTES || size > MAX_BATCH_BYTES) return;
        if (size > read.length - inside) break;
        if (batchProblem(read, inside, MAX_BATCH_BYTES) !== undefined) return;
        yield { batch: read.subarray(inside, inside + size), at: at + inside };
        inside += size;
      }
      if (inside === 0) {
        // Not one whole batch in it: a larger one, or the end of what is sound.
        if (read.length < BATCH_HEADER_BYTES || at + batchBytes(read) > end) return;
        wanted = batchBytes(read);
      } else {
        at += inside;
        wanted = SCAN_BYTES;
      }
    }
  } finally {
    readMemory.give(memory);
  }
}

/**
 * All batches of a closed segment's file, whose first `size` bytes count; each is there until the next one is asked
 * for. Throws LogError DAMAGED.
 */
export async function* allBatches(file: File, bounds: Bounds, size: number): AsyncGenerator<Buffer> {
  let position = 0;
  let next = bounds.baseOffset;
  for await (const { batch, at } of scan(file, 0, size)) {
    if (next >= bounds.end) return;
    if (!follows(bounds, batch, 0, next)) {
      damaged(bounds, at, `offset ${baseOffsetOf(batch)} where ${next} should be`);
    }
    yield batch;
    next = lastOffsetOf(batch) + 1;
    position = at + batch.length;
  }
  if (position < size && next < bounds.end) damaged(bounds, position, "no sound batch");
  checkEnd(bounds, position, next);
}

/** Where a reader of a file stands. */
interface Place {
  /** The offset that is due. */
  next: number;
  /** The last offset of the batch that is due, as an index says; nothing is known of its first. */
  indexed: number | undefined;
}

/**
 * Whole batches from the first that ends at or behind `offset`, about `maxBytes`, at least one; empty when the file's
 * first `size` bytes end before it. `start`: where to look from on, and the last offset of the batch there if an index
 * says it. `isLast`: they end with what was found. Throws LogError DAMAGED for the first batch that is not sound; what
 * comes before it is given first.
 */
export async function readBatches(
  file: File,
  bounds: Bounds,
  size: number,
  start: { position: number; lastOffset: number | undefined },
  offset: number,
  maxBytes: number,
): Promise<{ found: Buffer; isLast: boolean }> {
  let { position } = start;
  const place: Place = { next: bounds.baseOffset, indexed: start.lastOffset };
  // Up to an index interval lies before the batch that is sought.
  let wanted = maxBytes + 2 * 4096;
  while (position < size) {
    const bytes = Math.min(wanted, size - position);
    const chunk = readMemory.take(bytes).subarray(0, bytes);
    const read = chunk.subarray(0, await file.read(chunk, position));
    const { from, to, needed, problem } = soundBatches(bounds, read, place, offset, maxBytes);
    if (to > from) return { found: read.subarray(from, to), isLast: position + to >= size };
    readMemory.give(chunk);
    position += from;
    if (problem !== undefined) damaged(bounds, position, problem);
    if (
      position < size &&
      (position + needed > size || read.length < Math.min(chunk.length, from + needed))
    ) {
      damaged(bounds, position, "the file ends within a batch");
    }
    wanted = Math.max(needed, wanted);
  }
  if (place.indexed === undefined) checkEnd(bounds, position, place.next);
  return { found: Buffer.alloc(0), isLast: true };
}

/**
 * The part of `chunk` with sound, whole batches from the first that ends at or behind `offset`; `needed`: bytes
 * of the next one, which is not whole; `problem`: why it is not sound. `place` moves along.
 */
function soundBatches(
  bounds: Bounds,
  chunk: Buffer,
  place: Place,
  offset: number,
  maxBytes: number,
): { from: number; to: number; needed: number; problem?: string } {
  let from = 0;
  let at = 0;
  while (chunk.length - at >= BATCH_HEADER_BYTES) {
    const size = batchBytes(chunk, at);
    const isWhole = size >= BATCH_HEADER_BYTES && size <= chunk.length - at;
    if (size > MAX_BATCH_BYTES || (size >= BATCH_HEADER_BYTES && !isWhole)) {
      const problem = size > MAX_BATCH_BYTES ? `a batch of ${size} bytes` : undefined;
      return { from, to: at, needed: size, ...(problem && { problem }) };
    }
    if (at > from && at + size - from > maxBytes) break;
    const problem = batchProblem(chunk, at, MAX_BATCH_BYTES) ?? misplaced(bounds, chunk, at, place);
    if (problem !== undefined) return { from, to: at, needed: BATCH_HEADER_BYTES, problem };
    place.indexed = undefined;
    place.next = lastOffsetOf(chunk, at) + 1;
    at += size;
    if (place.next <= offset) from = at;
  }
  return { from, to: at, needed: BATCH_HEADER_BYTES };
}

function misplaced(bounds: Bounds, chunk: Buffer, at: number, { next, indexed }: Place): string | undefined {
  if (indexed !== undefined) {
    const last = lastOffsetOf(chunk, at);
    return last === indexed ? undefined : `a batch that ends with offset ${last} instead of ${indexed}`;
  }
  if (follows(bounds, chunk, at, next)) return undefined;
  return `offset ${baseOffsetOf(chunk, at)} where ${next} should be`;
}
