/**
 * Records on their way to a topic of the cluster: taken from the log's batches as they lie, key, value, headers
 * and timestamp untouched, with headers added that say where each came from.
 *
 * A record is read once, as far as its length and its key, and copied once, into the batch that goes out.
 */
import { ProtocolError } from "../errors.ts";
import { readMemory } from "../log/reused-memory.ts";
import { Reader, writeInt64 } from "../wire/buffer.ts";
import { crc32c } from "../wire/crc32c.ts";
import {
  BATCH_HEADER_BYTES,
  BATCH_PREFIX_BYTES,
  baseOffsetOf,
  baseTimestampOf,
  CRC_FROM,
  hasAppendTime,
  maxTimestampOf,
  putVarint,
  recordCountOf,
  varintBytes,
  zigZag,
} from "../wire/record-batch.ts";
import type { Witness } from "./places.ts";

/** Kafka's codec numbers. */
export const CODECS = { none: 0, gzip: 1, snappy: 2, lz4: 3, zstd: 4 } as const;
export type Codec = keyof typeof CODECS;
export type Compress = (body: Buffer) => Promise<Buffer>;

export const ORIGIN_HEADERS = {
  gateway: "sluice.gateway",
  stream: "sluice.stream",
  partition: "sluice.partition",
  offset: "sluice.offset",
} as const;

/** What the headers of one source partition have in common: all but the offset, as it lies in a record. */
export class Origin {
  /** gateway, stream, partition, and the offset header's name. */
  readonly fixed: Buffer;
  readonly count: number;

  /** `undefined` adds nothing. */
  constructor(place: { gateway: string; stream: string; partition: number } | undefined) {
    this.count = place === undefined ? 0 : 4;
    this.fixed =
      place === undefined
        ? Buffer.alloc(0)
        : Buffer.concat([
            header(ORIGIN_HEADERS.gateway, place.gateway),
            header(ORIGIN_HEADERS.stream, place.stream),
            header(ORIGIN_HEADERS.partition, String(place.partition)),
            text(ORIGIN_HEADERS.offset),
          ]);
  }
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  const target = Buffer.allocUnsafe(bytes.length + 5);
  const at = putVarint(target, 0, zigZag(bytes.length));
  return target.subarray(0, at + bytes.copy(target, at));
}

const header = (name: string, value: string): Buffer => Buffer.concat([text(name), text(value)]);

/** One source batch's body, uncompressed, and what its records count from. */
export interface SourceBatch {
  readonly header: Buffer;
  readonly body: Buffer;
}

/** A batch that grows until it is sealed, its header's place kept free before the records. */
export class RemoteBatch {
  readonly topic: string;
  readonly partition: number;
  count = 0;
  private body: Buffer;
  private at = BATCH_HEADER_BYTES;
  private baseTimestamp = 0;
  private maxTimestamp = 0;

  constructor(topic: string, partition: number, sizeHint = 16 << 10) {
    this.topic = topic;
    this.partition = partition;
    this.body = readMemory.take(BATCH_HEADER_BYTES + sizeHint);
  }

  get bytes(): number {
    return this.at;
  }

  /** `tail`: from the key's length to the end of the headers' count; `headers`: the headers themselves. */
  add(
    source: Buffer,
    keyFrom: number,
    headersFrom: number,
    headerCountFrom: number,
    headerCount: number,
    to: number,
    timestamp: number,
    origin: Origin,
    offset: number,
  ): void {
    if (this.count === 0) {
      this.baseTimestamp = timestamp;
      this.maxTimestamp = timestamp;
    } else if (timestamp > this.maxTimestamp) this.maxTimestamp = timestamp;
    const { fixed, count: added } = origin;
    const digits = added === 0 ? "" : String(offset);
    const timeDelta = zigZag(timestamp - this.baseTimestamp);
    const newCount = zigZag(headerCount + added);
    const bodyBytes =
      1 +
      varintBytes(timeDelta) +
      varintBytes(this.count * 2) +
      (headerCountFrom - keyFrom) +
      varintBytes(newCount) +
      (to - headersFrom) +
      (added === 0 ? 0 : fixed.length + 1 + digits.length);
    if (this.at + bodyBytes + 10 > this.body.length) this.grow(bodyBytes + 10);
    const { body } = this;
    let at = putVarint(body, this.at, bodyBytes * 2);
    body[at++] = 0;
    at = putVarint(body, at, timeDelta);
    at = putVarint(body, at, this.count * 2);
    at += source.copy(body, at, keyFrom, headerCountFrom);
    at = putVarint(body, at, newCount);
    at += source.copy(body, at, headersFrom, to);
    if (added > 0) {
      body.set(fixed, at);
      at += fixed.length;
      body[at++] = digits.length * 2; // at most 16 digits
      for (let index = 0; index < digits.length; index++) body[at++] = digits.charCodeAt(index);
    }
    this.at = at;
    this.count++;
  }

  private grow(bytes: number): void {
    const grown = readMemory.take(Math.max(this.body.length * 2, this.at + bytes));
    this.body.copy(grown, 0, 0, this.at);
    readMemory.give(this.body);
    this.body = grown;
  }

  /** It has been sent, and nobody looks at it any more. */
  release(): void {
    readMemory.give(this.body);
  }

  /** The batch as it goes out, once; `producerId` -1 for none. */
  async seal(
    producer: { producerId: number; producerEpoch: number; sequence: number; transactional: boolean },
    codec: Codec,
    compress: Compress | undefined,
  ): Promise<Buffer> {
    let target = this.body.subarray(0, this.at);
    if (compress !== undefined) {
      const packed = await compress(target.subarray(BATCH_HEADER_BYTES));
      target = Buffer.allocUnsafe(BATCH_HEADER_BYTES + packed.length);
      packed.copy(target, BATCH_HEADER_BYTES);
    }
    writeInt64(target, 0, 0);
    target.writeInt32BE(target.length - BATCH_PREFIX_BYTES, 8);
    target.writeInt32BE(-1, 12);
    target[16] = 2;
    target.writeInt16BE(
      (compress === undefined ? 0 : CODECS[codec]) | (producer.transactional ? 0x10 : 0),
      21,
    );
    target.writeInt32BE(this.count - 1, 23);
    writeInt64(target, 27, this.baseTimestamp);
    writeInt64(target, 35, this.maxTimestamp);
    writeInt64(target, 43, producer.producerId);
    target.writeInt16BE(producer.producerEpoch, 51);
    target.writeInt32BE(producer.sequence, 53);
    target.writeInt32BE(this.count, 57);
    target.writeUInt32BE(crc32c(target.subarray(CRC_FROM)), 17);
    return target;
  }
}

export interface Taken {
  readonly taken: number;
  /** The offset behind the last record that was added. */
  readonly next: number;
  /** The last record that was added. */
  readonly last: Witness | undefined;
}

export interface TakeLimits {
  /** Records below it are not wanted: a read begins at the batch that contains what was asked for. */
  readonly from: number;
  readonly maxRecords: number;
  /** A batch that would become larger than this takes no further record; a single one always fits. */
  readonly maxBatchBytes: number;
}

/**
 * Adds the records of a source batch, in order, to what `batchFor` gives for each; stops where a batch is full.
 * `next` is `end` when all were added.
 */
export function takeRecords(
  { header: head, body }: SourceBatch,
  end: number,
  origin: Origin,
  limits: TakeLimits,
  batchFor: (key: Buffer | null) => RemoteBatch,
): Taken {
  const reader = new Reader(body);
  const baseOffset = baseOffsetOf(head);
  const baseTimestamp = baseTimestampOf(head);
  const appendTime = hasAppendTime(head) ? maxTimestampOf(head) : undefined;
  let taken = 0;
  let last = { offset: -1, timestamp: 0, from: 0, to: 0 };
  const result = (next: number): Taken => {
    const { offset, timestamp, from, to } = last;
    return {
      taken,
      next,
      last: taken === 0 ? undefined : { offset, timestamp, crc: crc32c(body.subarray(from, to)) },
    };
  };
  for (let left = recordCountOf(head); left > 0; left--) {
    const to = reader.varint() + reader.position;
    reader.int8();
    const delta = reader.varlong();
    const timestamp = appendTime ?? baseTimestamp + delta;
    const offset = baseOffset + reader.varint();
    if (to > body.length) throw new ProtocolError(`a record at offset ${offset} that does not parse`);
    if (offset < limits.from) {
      reader.position = to;
      continue;
    }
    if (taken === limits.maxRecords) return result(offset);
    const keyFrom = reader.position;
    const keyBytes = reader.varint();
    const key = keyBytes < 0 ? null : reader.raw(keyBytes);
    const valueBytes = reader.varint();
    if (valueBytes > 0) reader.position += valueBytes;
    const headerCountFrom = reader.position;
    const headerCount = reader.varint();
    const headersFrom = reader.position;
    if (headersFrom > to) throw new ProtocolError(`a record at offset ${offset} that does not parse`);
    const batch = batchFor(key);
    const bound = to - keyFrom + origin.fixed.length + 48;
    if (batch.count > 0 && batch.bytes + bound > limits.maxBatchBytes) return result(offset);
    batch.add(body, keyFrom, headersFrom, headerCountFrom, headerCount, to, timestamp, origin, offset);
    taken++;
    last = { offset, timestamp, from: keyFrom, to };
    reader.position = to;
  }
  return result(end);
}
