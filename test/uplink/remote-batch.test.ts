/** What goes out is what lay in the log: bytes, order, timestamps; and where it came from is added. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ORIGIN_HEADERS, Origin, RemoteBatch, takeRecords } from "../../src/uplink/remote-batch.ts";
import {
  BATCH_HEADER_BYTES,
  batchOf,
  batchProblem,
  encodeHeaders,
  lastOffsetOf,
  producerIdOf,
  recordsOf,
} from "../../src/wire/record-batch.ts";

const bytes = fc.option(
  fc.uint8Array({ maxLength: 40 }).map((array) => Buffer.from(array)),
  { nil: null },
);
const record = fc.record({
  key: bytes,
  value: bytes,
  // Ten digits and thirteen: compared as text, as kafkajs does, their order is another.
  timestamp: fc.integer({ min: -1, max: 2_000_000_000_000 }),
  headers: fc.array(fc.record({ key: fc.string({ maxLength: 10 }), value: bytes }), { maxLength: 4 }),
});

const NOBODY = { producerId: 7, producerEpoch: 1, sequence: 5, transactional: true };

async function forwarded(
  records: readonly {
    key: Buffer | null;
    value: Buffer | null;
    timestamp: number;
    headers: { key: string; value: Buffer | null }[];
  }[],
  baseOffset: number,
  origin: Origin,
  from = baseOffset,
) {
  const source = batchOf(
    records.map((one) => ({ ...one, headers: encodeHeaders(one.headers) })),
    baseOffset,
  );
  const target = new RemoteBatch("remote", 0, 64);
  const limits = { from, maxRecords: Number.POSITIVE_INFINITY, maxBatchBytes: 1 << 20 };
  const body = source.subarray(BATCH_HEADER_BYTES);
  const end = lastOffsetOf(source) + 1;
  const took = takeRecords({ header: source, body }, end, origin, limits, () => target);
  return { took, batch: target.count === 0 ? undefined : await target.seal(NOBODY, "none", undefined) };
}

describe("records on their way to the cluster", () => {
  test("keep key, value, timestamp, and headers in their order, whatever they are; the origin comes behind", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(record, { minLength: 1, maxLength: 20 }),
        fc.nat(2 ** 40),
        async (records, base) => {
          const origin = new Origin({ gateway: "g", stream: "s", partition: 3 });
          const { batch } = await forwarded(records, base, origin);
          expect(batchProblem(batch as Buffer, 0, 1 << 20)).toBeUndefined();
          expect(producerIdOf(batch as Buffer)).toBe(7);
          const read = [...recordsOf([batch as Buffer])];
          expect(read.map(({ key, value, timestamp }) => ({ key, value, timestamp }))).toEqual(
            records.map(({ key, value, timestamp }) => ({ key, value, timestamp })),
          );
          for (const [index, { headers }] of read.entries()) {
            expect(headers).toEqual([
              ...(records[index]?.headers ?? []),
              { key: ORIGIN_HEADERS.gateway, value: Buffer.from("g") },
              { key: ORIGIN_HEADERS.stream, value: Buffer.from("s") },
              { key: ORIGIN_HEADERS.partition, value: Buffer.from("3") },
              { key: ORIGIN_HEADERS.offset, value: Buffer.from(String(base + index)) },
            ]);
          }
        },
      ),
    );
  });

  test("a record is taken once, wherever a read or a full batch ends", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(record, { minLength: 1, maxLength: 30 }),
        fc.integer({ min: 1, max: 7 }),
        fc.integer({ min: 80, max: 600 }),
        async (records, maxRecords, maxBatchBytes) => {
          const source = batchOf(
            records.map((one) => ({ ...one, headers: encodeHeaders(one.headers) })),
            100,
          );
          const body = source.subarray(BATCH_HEADER_BYTES);
          const end = 100 + records.length;
          const values: (Buffer | null)[] = [];
          for (let from = 100; from < end; ) {
            const target = new RemoteBatch("remote", 0, 64);
            const limits = { from, maxRecords, maxBatchBytes };
            const { taken, next } = takeRecords(
              { header: source, body },
              end,
              new Origin(undefined),
              limits,
              () => target,
            );
            expect(next).toBe(from + taken);
            expect(taken).toBeGreaterThan(0);
            values.push(
              ...[...recordsOf([await target.seal(NOBODY, "none", undefined)])].map(({ value }) => value),
            );
            from = next;
          }
          expect(values).toEqual(records.map(({ value }) => value));
        },
      ),
    );
  });

  test("what was read already is not taken again", async () => {
    const records = ["a", "b", "c"].map((value) => ({
      key: null,
      value: Buffer.from(value),
      timestamp: 1,
      headers: [],
    }));
    const { took, batch } = await forwarded(records, 10, new Origin(undefined), 12);
    expect(took).toMatchObject({ taken: 1, next: 13, last: { offset: 12, timestamp: 1 } });
    expect([...recordsOf([batch as Buffer])].map(({ value }) => value?.toString())).toEqual(["c"]);
  });
});
