/** What a careful reader leaves out of a fetch (KIP-98). */
import { expect, test } from "vitest";
import { committedOf } from "../../src/uplink/committed-reader.ts";
import { baseOffsetOf, batchOf, NO_HEADERS } from "../../src/wire/record-batch.ts";

const TRANSACTIONAL = 0x10;
const CONTROL = 0x20;

/** A batch of one record by a producer, as far as the filter looks at it. */
function batch(offset: number, producerId: number, attributes: number): Buffer {
  const record = { key: null, value: Buffer.from(String(offset)), headers: NO_HEADERS, timestamp: 0 };
  const made = batchOf([record], offset);
  made.writeInt16BE(attributes, 21);
  made.writeBigInt64BE(BigInt(producerId), 43);
  return made;
}

test("aborted transactions are left out, by producer and up to their markers; markers always are", () => {
  const fetched = [
    batch(10, 1, TRANSACTIONAL), // aborted
    batch(11, 2, TRANSACTIONAL),
    batch(12, -1, 0),
    batch(13, 1, TRANSACTIONAL), // aborted
    batch(14, 1, TRANSACTIONAL | CONTROL),
    batch(15, 1, TRANSACTIONAL), // the next transaction of the same producer
    batch(16, 2, TRANSACTIONAL | CONTROL),
    batch(17, 3, TRANSACTIONAL), // aborted
  ];
  const aborted = [
    { producerId: 3, firstOffset: 17 },
    { producerId: 1, firstOffset: 10 },
  ];
  // In one buffer or several: as a connection brings it.
  for (const buffers of [fetched, [Buffer.concat(fetched)]]) {
    expect([...committedOf(buffers, aborted)].map((one) => baseOffsetOf(one))).toEqual([11, 12, 15]);
  }
});

test("a batch that the fetch has cut off is left for the next one", () => {
  const [first, second] = [batch(0, -1, 0), batch(1, -1, 0)];
  const cut = Buffer.concat([first, second.subarray(0, second.length - 1)]);
  expect([...committedOf([cut], [])].map((one) => baseOffsetOf(one))).toEqual([0]);
});
