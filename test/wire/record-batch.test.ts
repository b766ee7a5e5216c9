import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ProtocolError } from "../../src/errors.ts";
import { crc32c } from "../../src/wire/crc32c.ts";
import { bodyProblem, rawRecords, recordsProblem } from "../../src/wire/raw-records.ts";
import {
  BATCH_HEADER_BYTES,
  baseOffsetOf,
  batchBytes,
  batchOf,
  batchProblem,
  decodeRecords,
  encodeHeaders,
  lastOffsetOf,
  maxTimestampOf,
  recordBytesBound,
  recordsOf,
  withHeader,
} from "../../src/wire/record-batch.ts";

const blob = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
const header = fc.record({ key: fc.string(), value: fc.option(blob) });
const record = fc.record({
  key: fc.option(blob),
  value: fc.option(blob),
  headers: fc.array(header, { maxLength: 4 }),
  timestamp: fc.integer({ min: -1, max: 2 ** 45 }),
});

describe("a record batch", () => {
  it("comes back as it was encoded", () => {
    fc.assert(
      fc.property(
        fc.array(record, { minLength: 1, maxLength: 20 }),
        fc.nat(2 ** 40),
        (records, baseOffset) => {
          const encodable = records.map((one) => ({ ...one, headers: encodeHeaders(one.headers) }));
          const batch = batchOf(encodable, baseOffset);
          expect(batchProblem(batch, 0, batch.length)).toBeUndefined();
          expect(batchBytes(batch)).toBe(batch.length);
          expect(lastOffsetOf(batch)).toBe(baseOffset + records.length - 1);
          expect(maxTimestampOf(batch)).toBe(Math.max(...records.map(({ timestamp }) => timestamp)));
          const bound = encodable.reduce((sum, one) => sum + recordBytesBound(one), BATCH_HEADER_BYTES);
          expect(batch.length).toBeLessThanOrEqual(bound);
          expect(decodeRecords(batch)).toEqual(
            records.map((one, at) => ({ ...one, offset: baseOffset + at })),
          );
        },
      ),
    );
  });

  it("takes one more header at the end of a section", () => {
    fc.assert(
      fc.property(fc.array(header, { maxLength: 130 }), header, (headers, more) => {
        expect(withHeader(encodeHeaders(headers), more)).toEqual(encodeHeaders([...headers, more]));
      }),
    );
  });

  it("shows any flipped bit behind its prefix", () => {
    const batch = batchOf([
      { key: null, value: Buffer.from("21.5"), headers: encodeHeaders([]), timestamp: 5 },
    ]);
    for (let bit = 16 * 8; bit < batch.length * 8; bit++) {
      const flipped = Buffer.from(batch);
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
      expect(batchProblem(flipped, 0, 1 << 20)).toBeDefined();
    }
  });

  it("is read when it is compressed with gzip", () => {
    const plain = batchOf(
      [{ key: null, value: Buffer.from("x"), headers: encodeHeaders([]), timestamp: 1 }],
      9,
    );
    const body = gzipSync(plain.subarray(BATCH_HEADER_BYTES));
    const batch = Buffer.concat([plain.subarray(0, BATCH_HEADER_BYTES), body]);
    batch.writeInt32BE(batch.length - 12, 8);
    batch.writeInt16BE(1, 21);
    batch.writeUInt32BE(crc32c(batch.subarray(21)), 17);
    expect(batchProblem(batch, 0, 1 << 20)).toBeUndefined();
    expect([...recordsOf([batch])].map(({ offset, value }) => [offset, value?.toString()])).toEqual([
      [9, "x"],
    ]);
  });

  it("with anything in it is read, or refused with a ProtocolError and nothing else", () => {
    const changes = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 6 });
    const some = fc.array(record, { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(some, changes, fc.nat(5), (records, changed, codec) => {
        const batch = Buffer.from(
          batchOf(records.map((one) => ({ ...one, headers: encodeHeaders(one.headers) }))),
        );
        for (const [at, byte] of changed) batch[57 + (at % (batch.length - 57))] = byte;
        batch.writeInt16BE(codec, 21);
        for (const look of [
          () => decodeRecords(batch, 1 << 20),
          () => [...rawRecords(batch, batch.subarray(BATCH_HEADER_BYTES))],
          () => recordsProblem(batch),
        ]) {
          try {
            look();
          } catch (error) {
            expect(error).toBeInstanceOf(ProtocolError);
          }
        }
      }),
      { numRuns: 500 },
    );
  });

  it("says when the records' lengths do not add up to what its header says", () => {
    const plain = { key: null, headers: encodeHeaders([]), timestamp: 1 };
    const batch = batchOf(["a", "bb", "ccc"].map((text) => ({ ...plain, value: Buffer.from(text) })));
    expect(recordsProblem(batch)).toBeUndefined();
    for (const count of [0, 2, 4, 2 ** 31 - 1]) {
      const wrong = Buffer.from(batch);
      wrong.writeInt32BE(count, 57);
      expect(recordsProblem(wrong)).toMatch(/records/);
    }
  });

  it("has no problem with records as they are encoded", () => {
    fc.assert(
      fc.property(fc.array(record, { minLength: 1, maxLength: 20 }), (records) => {
        const batch = batchOf(records.map((one) => ({ ...one, headers: encodeHeaders(one.headers) })));
        expect(recordsProblem(batch)).toBeUndefined();
        expect(bodyProblem(batch, batch.subarray(BATCH_HEADER_BYTES))).toBeUndefined();
      }),
    );
  });

  // Attributes, time and offset, then as a rule key "k", value "v", headers.
  it.each([
    ["a header without a name", [0, 0, 2, 2, 107, 2, 118, 2, 1, 0], /record 1 with a header without a name/],
    ["a negative number of headers", [0, 0, 2, 2, 107, 2, 118, 1], /record 1 with a negative number/],
    ["a header's value of length -2", [0, 0, 2, 2, 107, 2, 118, 2, 0, 3], /record 1 with a header/],
    ["a header's name that goes beyond it", [0, 0, 2, 2, 107, 2, 118, 2, 2], /record 1 with a header/],
    ["fewer headers than it says", [0, 0, 2, 2, 107, 2, 118, 4, 0, 0], /record 1 with a header/],
    ["a key of length -2", [0, 0, 2, 3, 0, 0], /record 1 whose fields/],
    ["a value of length -2", [0, 0, 2, 1, 3, 0], /record 1 whose fields/],
    ["a key that goes beyond it", [0, 0, 2, 12, 107, 2, 118, 0], /record 1 whose fields/],
    ["no fields", [], /record 1 whose fields/],
    ["a byte behind its headers", [0, 0, 2, 2, 107, 2, 118, 0, 0], /record 1 that is longer/],
    ["a number of six bytes", [0, 0, 128, 128, 128, 128, 128, 0, 1, 1, 0], /record 1 whose fields/],
    ["a negative length", [0, 0, 2, 1, 1, 0], /record 1 of negative length/, 1],
    ["a length beyond the batch", [0, 0, 2, 1, 1, 0], /record 1 that ends/, 14],
    ["a length that is not whole", [], /2 records of which 1 are not there/, 0x80],
  ])(
    "is told from one with %s in a record, which it names",
    (_, fields, words, length = fields.length * 2) => {
      const plain = { key: null, headers: encodeHeaders([]), timestamp: 1 };
      const sound = batchOf([{ ...plain, value: Buffer.from("first") }]);
      const batch = Buffer.concat([sound, Buffer.from([length, ...fields])]);
      batch.writeInt32BE(batch.length - 12, 8);
      batch.writeInt32BE(1, 23);
      batch.writeInt32BE(2, 57);
      expect(recordsProblem(batch)).toMatch(words);
      expect(bodyProblem(batch, batch.subarray(BATCH_HEADER_BYTES))).toMatch(words);
      batch.writeInt16BE(1, 21);
      expect(recordsProblem(batch)).toBeUndefined();
    },
  );

  it("is sound with a header whose value is null, and with an empty name", () => {
    const headers = encodeHeaders([{ key: "", value: null }]);
    expect(recordsProblem(batchOf([{ key: null, value: null, headers, timestamp: 1 }]))).toBeUndefined();
  });

  it("keeps offsets and times beyond 32 bits", () => {
    const offset = 2 ** 40 + 3;
    const time = 2 ** 41 + 5;
    const batch = batchOf([{ key: null, value: null, headers: encodeHeaders([]), timestamp: time }], offset);
    expect(baseOffsetOf(batch)).toBe(offset);
    expect(maxTimestampOf(batch)).toBe(time);
  });
});

describe("CRC-32C", () => {
  it("gives the check value of the Castagnoli polynomial", () => {
    expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
    expect(crc32c(Buffer.from("6789"), crc32c(Buffer.from("12345")))).toBe(0xe3069283);
  });
});
