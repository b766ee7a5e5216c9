/** Record batches as producers send them, for tests. */
import { gzipSync } from "node:zlib";
import { compressSync as compress } from "snappy";
import { crc32c } from "../../src/wire/crc32c.ts";
import { BATCH_HEADER_BYTES, batchOf, NO_HEADERS } from "../../src/wire/record-batch.ts";

export interface SentRecord {
  readonly key: string | null;
  readonly value: string | null;
  readonly timestamp?: number;
}

export interface BatchFields {
  /** 0 none, 1 gzip, 2 snappy; of the others only the header says so. */
  readonly codec?: number;
  readonly producerId?: number;
  readonly sequence?: number;
  /** In the place of the records' bytes, before they are compressed. */
  readonly body?: Buffer;
}

export function sentBatch(records: readonly SentRecord[], fields: BatchFields = {}): Buffer {
  const bytes = (text: string | null) => (text === null ? null : Buffer.from(text));
  const plain = batchOf(
    records.map(({ key, value, timestamp = 1_700_000_000_000 }) => ({
      key: bytes(key),
      value: bytes(value),
      headers: NO_HEADERS,
      timestamp,
    })),
  );
  const { codec = 0, producerId = -1, sequence = -1 } = fields;
  const body = fields.body ?? plain.subarray(BATCH_HEADER_BYTES);
  const batch = Buffer.concat([plain.subarray(0, BATCH_HEADER_BYTES), compressed(codec, Buffer.from(body))]);
  batch.writeInt32BE(batch.length - 12, 8);
  batch.writeInt16BE(codec, 21);
  batch.writeBigInt64BE(BigInt(producerId), 43);
  batch.writeInt16BE(producerId < 0 ? -1 : 0, 51);
  batch.writeInt32BE(sequence, 53);
  batch.writeUInt32BE(crc32c(batch.subarray(21)), 17);
  return batch;
}

function compressed(codec: number, body: Buffer<ArrayBuffer>): Buffer {
  return codec === 1 ? gzipSync(body) : codec === 2 ? compress(body) : body;
}
