import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { BatchAppend, Partition } from "../../src/log/log.ts";
import { crc32c } from "../../src/wire/crc32c.ts";
import { batchOf, NO_HEADERS } from "../../src/wire/record-batch.ts";
import { append, openStore, partitionOf, values } from "../support/log.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

/** A batch as an idempotent producer sends it. */
function produced(partition: Partition, sequence: number, texts: readonly string[], epoch = 0): BatchAppend {
  const batch = batchOf(
    texts.map((text) => ({ key: null, value: Buffer.from(text), headers: NO_HEADERS, timestamp: 1 })),
  );
  batch.writeBigInt64BE(77n, 43);
  batch.writeInt16BE(epoch, 51);
  batch.writeInt32BE(sequence, 53);
  batch.writeUInt32BE(crc32c(batch.subarray(21)), 17);
  return { partition, batch };
}

describe("an idempotent producer", () => {
  it("gets the original offset for a batch it sends again, among its last five", async () => {
    const store = await openStore(await temporaryFolder());
    const partition = partitionOf(await store.createStream("s", 1, {}, "protocol"));
    for (let at = 0; at < 6; at++) await append(store, [produced(partition, at * 2, [`${at}a`, `${at}b`])]);
    const again = produced(partition, 4, ["2a", "2b"]);
    await append(store, [again]);
    expect(again.offset).toBe(4);
    expect(await values(partition)).toHaveLength(12);
    // It may be written or not: nobody remembers, so nobody says that it is.
    await expect(append(store, [produced(partition, 0, ["0a", "0b"])])).rejects.toMatchObject({
      code: "OUT_OF_ORDER_SEQUENCE",
    });
  });

  it("waits for the first copy when it sends a batch again before that is on disk", async () => {
    const store = await openStore(await temporaryFolder());
    const partition = partitionOf(await store.createStream("s", 1, {}, "protocol"));
    const copies = [
      produced(partition, 0, ["x"]),
      produced(partition, 0, ["x"]),
      produced(partition, 1, ["y"]),
    ];
    await Promise.all(copies.map((copy) => append(store, [copy])));
    expect(copies.map(({ offset }) => offset)).toEqual([0, 0, 1]);
    expect(await values(partition)).toEqual(["x", "y"]);
  });

  it("is told of a gap in its sequence and of an old epoch", async () => {
    const store = await openStore(await temporaryFolder());
    const partition = partitionOf(await store.createStream("s", 1, {}, "protocol"));
    await append(store, [produced(partition, 5, ["first of an unknown producer"])]);
    await expect(append(store, [produced(partition, 9, ["gap"])])).rejects.toMatchObject({
      code: "OUT_OF_ORDER_SEQUENCE",
    });
    await append(store, [produced(partition, 0, ["next epoch"], 1)]);
    await expect(append(store, [produced(partition, 6, ["zombie"], 0)])).rejects.toMatchObject({
      code: "INVALID_PRODUCER_EPOCH",
    });
    expect(await values(partition)).toHaveLength(2);
  });

  it("leaves two snapshot files at most, also of those that a start has found", async () => {
    const folder = await temporaryFolder();
    const snapshots = () =>
      readdirSync(join(folder, "streams", "s-0")).filter((name) => name.endsWith(".snapshot"));
    let sequence = 0;
    for (let start = 0; start < 3; start++) {
      const store = await openStore(folder);
      const partition = partitionOf(store.stream("s") ?? (await store.createStream("s", 1, {}, "protocol")));
      for (let at = 0; at < 3; at++) {
        await append(store, [produced(partition, sequence++, ["x"])]);
        await store.checkpoint();
      }
      expect(snapshots().map((name) => Number(name.slice(0, 20)))).toEqual([sequence - 1, sequence]);
      await store.close();
    }
  });

  it("is remembered with its last five batches after a clean stop and across checkpoints", async () => {
    const folder = await temporaryFolder();
    const store = await openStore(folder);
    const partition = partitionOf(await store.createStream("s", 1, {}, "protocol"));
    const sent = (at: number, where: Partition) => produced(where, at * 2, [`${at}`, `and ${at}`]);
    for (let at = 0; at < 7; at++) {
      await append(store, [sent(at, partition)]);
      await store.checkpoint();
    }
    await store.close();
    const again = await openStore(folder);
    const reopened = partitionOf(again.stream("s"));
    expect(reopened.activeProducers).toEqual([{ producerId: 77, epoch: 0, lastSequence: 13, timestamp: 1 }]);
    for (let at = 6; at >= 2; at--) {
      const repeated = sent(at, reopened);
      await append(again, [repeated]);
      expect(repeated.offset).toBe(at * 2);
    }
    const older = { code: "OUT_OF_ORDER_SEQUENCE" };
    await expect(append(again, [sent(1, reopened)])).rejects.toMatchObject(older);
    await append(again, [sent(7, reopened)]);
    expect(await values(reopened)).toHaveLength(16);
  });

  it("is refused with a batch whose checksum does not match, and nothing is written", async () => {
    const store = await openStore(await temporaryFolder());
    const partition = partitionOf(await store.createStream("s", 1, {}, "protocol"));
    const bad = produced(partition, 0, ["x"]);
    bad.batch[bad.batch.length - 2] = 0x55;
    await expect(append(store, [bad])).rejects.toMatchObject({ code: "CORRUPT_BATCH" });
    expect(partition.highWatermark).toBe(0);
  });
});
