import { expect, it } from "vitest";
import type { Partition } from "../../src/log/log.ts";
import { wholePartition } from "../../src/log/whole-partition.ts";
import { batchOf, NO_HEADERS } from "../../src/wire/record-batch.ts";

function fakePartition(batches: readonly Buffer[]): Partition {
  return {
    stream: { name: "s" },
    index: 0,
    logStartOffset: 0,
    highWatermark: 10,
    read: () => batches,
  } as unknown as Partition;
}

it("a batch that claims offsets and holds no records ends a start with an error, not with all memory", async () => {
  const record = { key: null, value: null, headers: NO_HEADERS, timestamp: 0 };
  const empty = batchOf([record]);
  empty.writeInt32BE(-1, 23); // last offset delta
  empty.writeInt32BE(0, 57); // records
  for (const batches of [[empty], []]) {
    const reading = wholePartition(fakePartition(batches));
    await expect(reading.next()).rejects.toMatchObject({ code: "DAMAGED" });
  }
});
