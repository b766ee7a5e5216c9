/**
 * A batch's records as they lie, and a batch made anew of some of them: what compaction needs.
 *
 * Nothing of a record is decoded but what says where it ends, its key, and whether it has a value; what is
 * kept is copied byte for byte, and what was compressed in any way is compressed again, in gzip.
 */
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { ProtocolError } from "../errors.ts";
import { Reader, writeInt64 } from "./buffer.ts";
import { Codec, decompress, decompressLater } from "./compression.ts";
import { crc32c } from "./crc32c.ts";
import {
  attributesOf,
  BATCH_HEADER_BYTES,
  BATCH_PREFIX_BYTES,
  baseOffsetOf,
  baseTimestampOf,
  batchBytes,
  CRC_FROM,
  codecOf,
  DELETE_HORIZON,
  hasAppendTime,
  lastOffsetOf,
  putVarint,
  recordCountOf,
  varintBytes,
  zigZag,
} from "./record-batch.ts";

/** `attributes`: which codec. */
const CODEC_BITS = 0x7;
const ATTRIBUTES_BYTES = 1;
/** A varint's bytes at most. */
const MAX_INT_BYTES = 5;
/** A varlong's bytes at most. */
const MAX_DELTA_BYTES = 10;
/** Deltas beyond it are not exact in a double once they are zig-zagged. */
const MAX_DELTA = 2 ** 51;
/** No int64 is beyond it. */
const MAX_TIMESTAMP = 2 ** 63;

export interface RawRecord {
  /** Positions in the body: the whole record, what follows its timestamp, and the key. */
  from: number;
  to: number;
  restFrom: number;
  keyFrom: number;
  /** Negative for no key. */
  keyBytes: number;
  timestampDelta: number;
  offset: number;
  isTombstone: boolean;
}

const gzipLater = promisify(gzip);

/** The records' bytes, uncompressed; undefined where they cannot be had within `maxBytes`. */
export async function bodyOf(batch: Buffer, maxBytes: number): Promise<Buffer | undefined> {
  const body = batch.subarray(BATCH_HEADER_BYTES, batchBytes(batch));
  return decompressLater(codecOf(batch), body, maxBytes).catch(undefinedFor);
}

/** As `bodyOf`, at once. */
export function bodyOfSync(batch: Buffer, maxBytes: number): Buffer | undefined {
  try {
    return decompress(codecOf(batch), batch.subarray(BATCH_HEADER_BYTES, batchBytes(batch)), maxBytes);
  } catch (error) {
    return undefinedFor(error);
  }
}

function undefinedFor(error: unknown): undefined {
  if (!(error instanceof ProtocolError)) throw error;
}

/**
 * The records in `body`, each there until the next one is asked for: a million of them make no garbage. Throws
 * ProtocolError where they do not parse or their offsets do not ascend.
 */
export function* rawRecords(batch: Buffer, body: Buffer): Generator<Readonly<RawRecord>> {
  const record: RawRecord = {
    from: 0,
    to: 0,
    restFrom: 0,
    keyFrom: 0,
    keyBytes: 0,
    timestampDelta: 0,
    offset: 0,
    isTombstone: false,
  };
  const reader = new Reader(body);
  const baseOffset = baseOffsetOf(batch);
  const lastOffset = lastOffsetOf(batch);
  const baseTimestamp = baseTimestampOf(batch);
  let before = baseOffset - 1;
  for (let left = recordCountOf(batch); left > 0; left--) {
    record.from = reader.position;
    const to = reader.varint() + reader.position;
    reader.int8();
    record.to = to;
    record.timestampDelta = reader.varlong();
    record.restFrom = reader.position;
    const offset = baseOffset + reader.varint();
    record.offset = offset;
    record.keyBytes = reader.varint();
    record.keyFrom = reader.position;
    reader.stepOver(Math.max(0, record.keyBytes));
    const valueBytes = reader.varint();
    record.isTombstone = valueBytes < 0;
    // At least the count of headers follows the value.
    const isWhole = reader.position + Math.max(0, valueBytes) < to && to <= body.length;
    const isTime = Math.abs(baseTimestamp + record.timestampDelta) <= MAX_TIMESTAMP;
    if (!isWhole || !isTime || offset <= before || offset > lastOffset) {
      throw new ProtocolError(`a record at offset ${offset} that does not parse`);
    }
    reader.position = to;
    before = offset;
    yield record;
  }
  if (reader.remaining > 0) throw new ProtocolError(`${reader.remaining} bytes behind the last record`);
}

/** A slice of the body, not a copy. */
export function keyIn(body: Buffer, { keyFrom, keyBytes }: RawRecord): Buffer | null {
  return keyBytes < 0 ? null : body.subarray(keyFrom, keyFrom + keyBytes);
}

/**
 * Why the records of `batch` are not as many as it says, each exactly as long as its fields; undefined where they
 * are, and for a compressed batch, which is not opened.
 */
export function recordsProblem(batch: Buffer): string | undefined {
  if (codecOf(batch) !== Codec.NONE) return undefined;
  return problemFrom(batch, BATCH_HEADER_BYTES, batchBytes(batch), recordCountOf(batch));
}

/** As `recordsProblem`, of an opened body. */
export function bodyProblem(batch: Buffer, body: Buffer): string | undefined {
  return problemFrom(body, 0, body.length, recordCountOf(batch));
}

// What follows sees every byte that an uncompressed Produce brings: nothing is allocated, one pass. A place that
// cannot be reached is one behind the end, and stays so.

function problemFrom(source: Buffer, from: number, end: number, count: number): string | undefined {
  let at = from;
  for (let index = 0; index < count; index++) {
    const bodyAt = behindVarint(source, at, end, MAX_INT_BYTES);
    if (bodyAt > end) return `${count} records of which ${count - index} are not there`;
    const length = signedAt(source, at, bodyAt);
    if (length < 0) return `record ${index} of negative length`;
    at = bodyAt + length;
    if (at > end) return `record ${index} that ends at byte ${at} of ${end}`;
    const problem = fieldsProblem(source, bodyAt, at);
    if (problem !== undefined) return `record ${index} ${problem}`;
  }
  return at === end ? undefined : `${count} records that end at byte ${at} of ${end}`;
}

/** Why the bytes from `from` to `end` are not exactly the fields of a record. */
function fieldsProblem(source: Buffer, from: number, end: number): string | undefined {
  let at = behindVarint(source, from + ATTRIBUTES_BYTES, end, MAX_DELTA_BYTES);
  at = behindVarint(source, at, end, MAX_INT_BYTES); // the offset
  at = behindBytes(source, at, end, -1); // the key
  at = behindBytes(source, at, end, -1); // the value
  const headersAt = behindVarint(source, at, end, MAX_INT_BYTES);
  if (headersAt > end) return "whose fields do not fit into it";
  let left = signedAt(source, at, headersAt);
  if (left < 0) return "with a negative number of headers";
  at = headersAt;
  for (; left > 0; left--) {
    const valueAt = behindBytes(source, at, end, 0);
    at = behindBytes(source, valueAt, end, -1);
    // Java consumers end at a name that is null: it must never come to the log.
    if (valueAt > end) return "with a header without a name, or with one longer than it";
    if (at > end) return "with a header that is longer than it";
  }
  return at === end ? undefined : "that is longer than its fields";
}

function behindVarint(source: Buffer, from: number, end: number, mostBytes: number): number {
  const last = Math.min(from + mostBytes, end);
  for (let at = from; at < last; ) if ((source[at++] as number) < 0x80) return at;
  return end + 1;
}

/** The end of bytes with their length before them, which is `least` or more; -1 is null. */
function behindBytes(source: Buffer, from: number, end: number, least: number): number {
  const at = behindVarint(source, from, end, MAX_INT_BYTES);
  if (at > end) return at;
  const length = signedAt(source, from, at);
  if (length < least) return end + 1;
  return length > 0 ? Math.min(at + length, end + 1) : at;
}

/** The varint that lies from `from` to `to`. */
function signedAt(source: Buffer, from: number, to: number): number {
  let raw = 0;
  for (let at = to - 1; at >= from; at--) raw = raw * 0x80 + ((source[at] as number) & 0x7f);
  return raw % 2 === 0 ? raw / 2 : -(raw + 1) / 2;
}

/**
 * The batch with only those of its records whose place in `isKept` is not 0, at least one: offsets,
 * producer and sequence as they were. With `deleteHorizonMs` the batch carries that from now on, unless its
 * timestamps are too far from it to be exact. `room` gives memory to work in, which is the caller's again then.
 */
export async function keepRecords(
  batch: Buffer,
  body: Buffer,
  isKept: Uint8Array,
  deleteHorizonMs: number | undefined,
  room: (bytes: number) => Buffer = Buffer.allocUnsafe,
): Promise<Buffer> {
  const baseTimestamp = baseTimestampOf(batch);
  const newBase = deleteHorizonMs ?? baseTimestamp;
  const kept = room(body.length + isKept.length * MAX_DELTA_BYTES);
  let end = 0;
  let count = 0;
  let maxDelta = Number.NEGATIVE_INFINITY;
  let index = 0;
  for (const { from, to, restFrom, timestampDelta } of rawRecords(batch, body)) {
    if (isKept[index++] === 0) continue;
    count++;
    maxDelta = Math.max(maxDelta, timestampDelta);
    if (newBase === baseTimestamp) {
      end += body.copy(kept, end, from, to);
      continue;
    }
    const delta = baseTimestamp + timestampDelta - newBase;
    if (Math.abs(delta) > MAX_DELTA) return keepRecords(batch, body, isKept, undefined, room);
    end = putVarint(kept, end, zigZag(1 + varintBytes(zigZag(delta)) + to - restFrom));
    kept[end++] = 0; // attributes: none are defined
    end = putVarint(kept, end, zigZag(delta));
    end += body.copy(kept, end, restFrom, to);
  }
  const raw = kept.subarray(0, end);
  const codec = codecOf(batch) === Codec.NONE ? Codec.NONE : Codec.GZIP;
  const encoded = codec === Codec.GZIP ? await gzipLater(raw) : raw;
  const result = Buffer.concat([batch.subarray(0, BATCH_HEADER_BYTES), encoded]);
  result.writeInt32BE(result.length - BATCH_PREFIX_BYTES, 8);
  const horizon = deleteHorizonMs === undefined ? 0 : DELETE_HORIZON;
  result.writeInt16BE((attributesOf(batch) & ~CODEC_BITS) | codec | horizon, 21);
  writeInt64(result, 27, newBase);
  // With LogAppendTime the largest timestamp is that of all.
  if (!hasAppendTime(batch)) writeInt64(result, 35, baseTimestamp + maxDelta);
  result.writeInt32BE(count, 57);
  result.writeUInt32BE(crc32c(result.subarray(CRC_FROM)), 17);
  return result;
}
