/**
 * Kafka's record batch, magic 2: the form in which records are encoded once, lie on disk, and go out.
 *
 * ```
 *  0 i64 baseOffset             ── outside the checksum: the log assigns it
 *  8 i32 batchLength            bytes after this field
 * 12 i32 partitionLeaderEpoch   ── outside the checksum: the log assigns it
 * 16 i8  magic = 2
 * 17 u32 crc                    CRC-32C of everything from 21 on
 * 21 i16 attributes             bits 0–2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon
 * 23 i32 lastOffsetDelta
 * 27 i64 baseTimestamp
 * 35 i64 maxTimestamp
 * 43 i64 producerId             -1 for none
 * 51 i16 producerEpoch
 * 53 i32 baseSequence
 * 57 i32 records                count
 * 61 records, each: varint length | i8 attributes | varlong timestampDelta | varint offsetDelta
 *                   | varint keyLength | key | varint valueLength | value
 *                   | varint headerCount | (varint nameLength | name | varint valueLength | value)…
 * ```
 * (Kafka documentation, "Message Format"; records are compressed together where the codec is not 0.)
 */
import { ProtocolError } from "../errors.ts";
import type { RecordHeader, StoredRecord } from "../record.ts";
import { Reader, readInt64, writeInt64 } from "./buffer.ts";
import { decompress } from "./compression.ts";
import { crc32c } from "./crc32c.ts";

export const BATCH_HEADER_BYTES = 61;
/** Bytes before what `batchLength` counts. */
export const BATCH_PREFIX_BYTES = 12;
export const CRC_FROM = 21;
export const NO_PRODUCER = -1;
/** The attribute that makes `baseTimestamp` a delete horizon; the records' deltas count from it all the same. */
export const DELETE_HORIZON = 0x40;

/** A record as the encoder takes it. */
export interface EncodableRecord {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  /** As `encodeHeaders` makes it. */
  readonly headers: Buffer;
  readonly timestamp: number;
}

export function varintBytes(raw: number): number {
  // `raw` is already zig-zagged, and below 2^49 here: lengths, deltas of time and offset.
  if (raw < 0x80) return 1;
  if (raw < 0x4000) return 2;
  if (raw < 0x20_0000) return 3;
  if (raw < 0x1000_0000) return 4;
  let bytes = 5;
  for (let rest = Math.floor(raw / 0x8_0000_0000); rest > 0; rest = Math.floor(rest / 0x80)) bytes++;
  return bytes;
}

export function zigZag(value: number): number {
  return value >= 0 ? value * 2 : -value * 2 - 1;
}

export function putVarint(target: Buffer, at: number, raw: number): number {
  let position = at;
  let rest = raw;
  while (rest >= 0x1000_0000) {
    target[position++] = (rest % 0x80) + 0x80;
    rest = Math.floor(rest / 0x80);
  }
  while (rest >= 0x80) {
    target[position++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  target[position++] = rest;
  return position;
}

/** The header section of a record: varint count, then names and values. Made once per mapped topic, not per record. */
export function encodeHeaders(headers: readonly RecordHeader[]): Buffer {
  const names = headers.map((header) => Buffer.from(header.key));
  let size = varintBytes(zigZag(headers.length));
  headers.forEach((header, index) => {
    const name = names[index] as Buffer;
    size += varintBytes(zigZag(name.length)) + name.length;
    size += header.value === null ? 1 : varintBytes(zigZag(header.value.length)) + header.value.length;
  });
  const target = Buffer.allocUnsafe(size);
  let at = putVarint(target, 0, zigZag(headers.length));
  headers.forEach((header, index) => {
    const name = names[index] as Buffer;
    at = putVarint(target, at, zigZag(name.length));
    at += name.copy(target, at);
    if (header.value === null) {
      at = putVarint(target, at, zigZag(-1));
    } else {
      at = putVarint(target, at, zigZag(header.value.length));
      at += header.value.copy(target, at);
    }
  });
  return target;
}

/** A header section with one more header behind the others. */
export function withHeader(section: Buffer, header: RecordHeader): Buffer {
  const count = new Reader(section).varint();
  const [before, after] = [varintBytes(zigZag(count)), varintBytes(zigZag(count + 1))];
  const one = encodeHeaders([header]).subarray(1);
  const target = Buffer.allocUnsafe(after + section.length - before + one.length);
  putVarint(target, 0, zigZag(count + 1));
  section.copy(target, after, before);
  one.copy(target, target.length - one.length);
  return target;
}

/** What `encodeHeaders` made. */
export function decodeHeaders(section: Buffer): RecordHeader[] {
  return headersIn(new Reader(section));
}

function headersIn(reader: Reader): RecordHeader[] {
  const headers: RecordHeader[] = [];
  for (let left = reader.varint(); left > 0; left--) {
    const key = reader.raw(reader.varint()).toString();
    const length = reader.varint();
    headers.push({ key, value: length < 0 ? null : reader.raw(length) });
  }
  return headers;
}

/** The header section of a record without headers. */
export const NO_HEADERS: Buffer = encodeHeaders([]);

/** The attribute for LogAppendTime: `maxTimestamp` is the time of every record, their deltas say nothing. */
const APPEND_TIME = 0x8;

/** An upper bound of what a record takes in a batch, cheap to compute. */
export function recordBytesBound(record: EncodableRecord): number {
  return (record.key?.length ?? 0) + (record.value?.length ?? 0) + record.headers.length + 32;
}

function copyInto(target: Buffer, at: number, source: Buffer): number {
  target.set(source, at);
  return at + source.length;
}

/**
 * Encodes records as one uncompressed batch into `target` from `at` on, base offset and epoch included, and
 * returns where it ends. `target` must have room: `BATCH_HEADER_BYTES` and each `recordBytesBound`.
 */
export function encodeBatch(
  target: Buffer,
  at: number,
  records: readonly EncodableRecord[],
  baseOffset: number,
  leaderEpoch: number,
): number {
  const count = records.length;
  const baseTimestamp = (records[0] as EncodableRecord).timestamp;
  let maxTimestamp = baseTimestamp;
  let position = at + BATCH_HEADER_BYTES;
  for (let index = 0; index < count; index++) {
    const { key, value, headers, timestamp } = records[index] as EncodableRecord;
    if (timestamp > maxTimestamp) maxTimestamp = timestamp;
    const timeDelta = zigZag(timestamp - baseTimestamp);
    const keyLength = key === null ? 1 : key.length * 2;
    const valueLength = value === null ? 1 : value.length * 2;
    const body =
      1 +
      varintBytes(timeDelta) +
      varintBytes(index * 2) +
      varintBytes(keyLength) +
      (key === null ? 0 : key.length) +
      varintBytes(valueLength) +
      (value === null ? 0 : value.length) +
      headers.length;
    position = putVarint(target, position, body * 2);
    target[position++] = 0;
    position = putVarint(target, position, timeDelta);
    position = putVarint(target, position, index * 2);
    position = putVarint(target, position, keyLength);
    if (key !== null) position = copyInto(target, position, key);
    position = putVarint(target, position, valueLength);
    if (value !== null) position = copyInto(target, position, value);
    position = copyInto(target, position, headers);
  }
  writeInt64(target, at, baseOffset);
  target.writeInt32BE(position - at - BATCH_PREFIX_BYTES, at + 8);
  target.writeInt32BE(leaderEpoch, at + 12);
  target[at + 16] = 2;
  target.writeInt16BE(0, at + 21);
  target.writeInt32BE(count - 1, at + 23);
  writeInt64(target, at + 27, baseTimestamp);
  writeInt64(target, at + 35, maxTimestamp);
  target.fill(0xff, at + 43, at + 57); // no producer: id, epoch and sequence are -1
  target.writeInt32BE(count, at + 57);
  target.writeUInt32BE(crc32c(target.subarray(at + CRC_FROM, position)), at + 17);
  return position;
}

/** Encodes a batch of its own, for tools and tests; the log encodes into its journal entry instead. */
export function batchOf(records: readonly EncodableRecord[], baseOffset = 0, leaderEpoch = 0): Buffer {
  const bound = records.reduce((sum, record) => sum + recordBytesBound(record), BATCH_HEADER_BYTES);
  const target = Buffer.allocUnsafe(bound);
  return target.subarray(0, encodeBatch(target, 0, records, baseOffset, leaderEpoch));
}

// Views of a batch that begins at `at`. The caller has checked that the header is there.

/** The whole batch's size in bytes. */
export const batchBytes = (source: Buffer, at = 0): number => BATCH_PREFIX_BYTES + source.readInt32BE(at + 8);
export const baseOffsetOf = (source: Buffer, at = 0): number => readInt64(source, at);
export const lastOffsetOf = (source: Buffer, at = 0): number =>
  readInt64(source, at) + source.readInt32BE(at + 23);
export const leaderEpochOf = (source: Buffer, at = 0): number => source.readInt32BE(at + 12);
export const magicOf = (source: Buffer, at = 0): number => source.readInt8(at + 16);
export const attributesOf = (source: Buffer, at = 0): number => source.readInt16BE(at + 21);
export const baseTimestampOf = (source: Buffer, at = 0): number => readInt64(source, at + 27);
export const maxTimestampOf = (source: Buffer, at = 0): number => readInt64(source, at + 35);
export const producerIdOf = (source: Buffer, at = 0): number => readInt64(source, at + 43);
export const producerEpochOf = (source: Buffer, at = 0): number => source.readInt16BE(at + 51);
export const baseSequenceOf = (source: Buffer, at = 0): number => source.readInt32BE(at + 53);
export const recordCountOf = (source: Buffer, at = 0): number => source.readInt32BE(at + 57);
export const codecOf = (source: Buffer, at = 0): number => attributesOf(source, at) & 0x7;
export const isTransactional = (source: Buffer, at = 0): boolean => (attributesOf(source, at) & 0x10) !== 0;
/** KIP-534: a tombstone in it may go from this time on; undefined while compaction has not met it. */
export const deleteHorizonOf = (source: Buffer, at = 0): number | undefined =>
  (attributesOf(source, at) & DELETE_HORIZON) === 0 ? undefined : baseTimestampOf(source, at);
export const hasAppendTime = (source: Buffer, at = 0): boolean =>
  (attributesOf(source, at) & APPEND_TIME) !== 0;
export const isControl = (source: Buffer, at = 0): boolean => (attributesOf(source, at) & 0x20) !== 0;

/** Puts a producer's batch at its place in the log; both fields lie outside the checksum. */
export function placeBatch(target: Buffer, at: number, baseOffset: number, leaderEpoch: number): void {
  writeInt64(target, at, baseOffset);
  target.writeInt32BE(leaderEpoch, at + 12);
}

/** Gives all records the time of their append (`message.timestamp.type`), as Kafka does it. */
export function stampAppendTime(target: Buffer, at: number, timestampMs: number): void {
  target.writeInt16BE(attributesOf(target, at) | APPEND_TIME, at + 21);
  writeInt64(target, at + 35, timestampMs);
  target.writeUInt32BE(crc32c(target.subarray(at + CRC_FROM, at + batchBytes(target, at))), at + 17);
}

/**
 * Why the bytes at `at` are not a whole, sound batch, or undefined if they are. `maxBytes` bounds the length
 * that the batch may claim.
 */
export function batchProblem(source: Buffer, at: number, maxBytes: number): string | undefined {
  const left = source.length - at;
  if (left < BATCH_HEADER_BYTES) return `${left} bytes are less than a batch header`;
  const size = batchBytes(source, at);
  if (size < BATCH_HEADER_BYTES || size > maxBytes) return `a batch length of ${size} bytes`;
  if (size > left) return `a batch of ${size} bytes of which only ${left} are there`;
  if (magicOf(source, at) !== 2) return `magic ${magicOf(source, at)} instead of 2`;
  if (source.readUInt32BE(at + 17) !== crc32c(source.subarray(at + CRC_FROM, at + size))) {
    return "a checksum that does not match";
  }
  if (source.readInt32BE(at + 23) < 0 || recordCountOf(source, at) < 0) return "a negative record count";
  return undefined;
}

/** The records of a batch, values as slices; throws `ProtocolError` on what does not parse, or is more than `maxBytes`. */
export function decodeRecords(batch: Buffer, maxBytes = 64 << 20): StoredRecord[] {
  const stored = batch.subarray(BATCH_HEADER_BYTES, batchBytes(batch));
  const body = decompress(codecOf(batch), stored, maxBytes);
  const baseOffset = baseOffsetOf(batch);
  const baseTimestamp = baseTimestampOf(batch);
  const appendTime = hasAppendTime(batch) ? maxTimestampOf(batch) : undefined;
  const reader = new Reader(body);
  const records: StoredRecord[] = [];
  const blob = (length: number): Buffer | null => (length < 0 ? null : reader.raw(length));
  for (let count = recordCountOf(batch); count > 0; count--) {
    const end = reader.varint() + reader.position;
    reader.int8();
    const timeDelta = reader.varlong();
    const offset = baseOffset + reader.varint();
    const key = blob(reader.varint());
    const value = blob(reader.varint());
    const headers = headersIn(reader);
    if (reader.position !== end) throw new ProtocolError(`a record at offset ${offset} with a wrong length`);
    records.push({ offset, timestamp: appendTime ?? baseTimestamp + timeDelta, key, value, headers });
  }
  return records;
}

/**
 * One past the last offset of what a read returned: where to read on. The last record's offset would not do:
 * compaction may have taken the records behind it, and the same batch would come again.
 */
export function endOffsetOf(batches: readonly Buffer[]): number {
  const last = batches.at(-1) as Buffer;
  let end = 0;
  // A Kafka broker may cut the last batch short.
  for (let at = 0; at + BATCH_HEADER_BYTES <= last.length; at += batchBytes(last, at)) {
    if (at + batchBytes(last, at) > last.length) break;
    end = lastOffsetOf(last, at) + 1;
  }
  return end;
}

/** Each by itself of batches that lie one after another, e.g. what a fetch returned, as far as they are whole. */
export function* batchesIn(buffers: readonly Buffer[]): Generator<Buffer> {
  for (const buffer of buffers) {
    for (let at = 0; at + BATCH_HEADER_BYTES <= buffer.length; ) {
      const size = batchBytes(buffer, at);
      if (at + size > buffer.length) return;
      yield buffer.subarray(at, at + size);
      at += size;
    }
  }
}

/** All records of them. */
export function* recordsOf(buffers: readonly Buffer[]): Generator<StoredRecord> {
  for (const batch of batchesIn(buffers)) if (!isControl(batch)) yield* decodeRecords(batch);
}
