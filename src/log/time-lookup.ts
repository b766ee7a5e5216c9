/** Records by their time: the segments' indexes say where to begin, the records themselves have the last word. */
import {
  baseOffsetOf,
  batchBytes,
  decodeRecords,
  lastOffsetOf,
  maxTimestampOf,
} from "../wire/record-batch.ts";
import type { Partition } from "./log.ts";
import type { Segment } from "./segment.ts";

/** A body that opens to more is not looked into: it would hold everybody up. */
const MAX_BODY_BYTES = 4 << 20;

export interface RecordPlace {
  readonly offset: number;
  readonly timestamp: number;
}

type Source = Pick<Partition, "logStartOffset" | "highWatermark" | "read">;

/** The first record, by offset, with a timestamp >= `timestampMs`. */
export async function firstAtOrAfter(
  source: Source,
  segments: readonly Segment[],
  timestampMs: number,
): Promise<RecordPlace | undefined> {
  for (const segment of segments) {
    if ((await segment.newest()).timestamp < timestampMs) continue;
    const from = Math.max(await segment.offsetBefore(timestampMs), source.logStartOffset);
    const found = await findRecord(source, from, (timestamp) => timestamp >= timestampMs);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The record with the largest timestamp, the first of them where several have it. */
export async function newestOf(
  source: Source,
  segments: readonly Segment[],
): Promise<RecordPlace | undefined> {
  let newest = { timestamp: -1, offset: -1 };
  for (const segment of segments) {
    // One that was cut into by DeleteRecords: what its index knows may be gone.
    const isCut = segment.baseOffset < source.logStartOffset;
    const candidate = isCut ? await newestShown(source, segment) : await segment.newest();
    if (candidate.timestamp > newest.timestamp) newest = candidate;
  }
  const { timestamp: wanted, offset } = newest;
  if (offset < 0) return undefined;
  return findRecord(source, Math.max(offset, source.logStartOffset), (timestamp) => timestamp >= wanted);
}

/** The largest timestamp of a segment's records from the log start offset on, -1 for none. */
async function newestShown(source: Source, { end }: Segment): Promise<RecordPlace> {
  const start = source.logStartOffset;
  let newest = { timestamp: -1, offset: -1 };
  for await (const batch of batchesFrom(source, start)) {
    if (baseOffsetOf(batch) >= end) break;
    const isCut = baseOffsetOf(batch) < start;
    const timestamp = isCut ? newestFrom(batch, start) : maxTimestampOf(batch);
    if (timestamp > newest.timestamp) newest = { timestamp, offset: lastOffsetOf(batch) };
  }
  return newest;
}

/** The first record from the batch containing `from` on whose timestamp fits. */
async function findRecord(
  source: Source,
  from: number,
  fits: (timestamp: number) => boolean,
): Promise<RecordPlace | undefined> {
  for await (const batch of batchesFrom(source, from)) {
    const found = fits(maxTimestampOf(batch)) ? firstFitting(batch, source.logStartOffset, fits) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}

async function* batchesFrom(source: Source, from: number): AsyncGenerator<Buffer> {
  for (let offset = from; offset < source.highWatermark; ) {
    const buffers = await source.read(offset, 1 << 20);
    if (buffers.length === 0) return;
    for (const buffer of buffers) {
      for (let at = 0; at < buffer.length; at += batchBytes(buffer, at)) {
        offset = lastOffsetOf(buffer, at) + 1;
        yield buffer.subarray(at, at + batchBytes(buffer, at));
      }
    }
  }
}

function firstFitting(
  batch: Buffer,
  start: number,
  fits: (timestamp: number) => boolean,
): RecordPlace | undefined {
  try {
    const found = decodeRecords(batch, MAX_BODY_BYTES).find(
      ({ offset, timestamp }) => offset >= start && fits(timestamp),
    );
    return found && { offset: found.offset, timestamp: found.timestamp };
  } catch {
    // It cannot be looked into: the batch's first record is never too late.
    return { offset: Math.max(baseOffsetOf(batch), start), timestamp: maxTimestampOf(batch) };
  }
}

/** The largest timestamp from `start` on; the whole batch's where it cannot be looked into. */
function newestFrom(batch: Buffer, start: number): number {
  try {
    const shown = decodeRecords(batch, MAX_BODY_BYTES).filter(({ offset }) => offset >= start);
    return shown.reduce((newest, { timestamp }) => Math.max(newest, timestamp), -1);
  } catch {
    return maxTimestampOf(batch);
  }
}
