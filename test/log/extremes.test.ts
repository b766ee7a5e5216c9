/** What a batch's header claims is within its types' bounds and no more: a checkpoint that failed for it would fail for ever. */
import { expect, it } from "vitest";
import { nodeFileSystem } from "../../src/log/file-system.ts";
import { inspect } from "../../src/log/inspection.ts";
import { Writer } from "../../src/wire/buffer.ts";
import { crc32c } from "../../src/wire/crc32c.ts";
import { sentBatch } from "../support/batches.ts";
import { append, openStore, partitionOf } from "../support/log.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const LONG_MAX = 2n ** 63n - 1n;
const INT_MAX = 2 ** 31 - 1;

/** `claim` writes into the header. */
function claiming(claim: (batch: Buffer) => void, codec = 0): Buffer {
  const batch = sentBatch([{ key: "k", value: "v".repeat(5_000) }], { codec, producerId: 7, sequence: 0 });
  claim(batch);
  batch.writeUInt32BE(crc32c(batch.subarray(21)), 17);
  return batch;
}

it("timestamps and producer ids up to the largest int64 are kept through checkpoints and a restart", async () => {
  const folder = await temporaryFolder();
  const store = await openStore(folder);
  const partition = partitionOf(await store.createStream("s", 1, { segmentBytes: 6_000 }, "protocol"));
  const batch = () =>
    claiming((header) => {
      for (const at of [27, 35, 43]) header.writeBigInt64BE(LONG_MAX, at);
    });
  await append(store, [{ partition, batch: batch() }]);
  await append(store, [{ partition, batch: claiming((header) => header.writeBigInt64BE(8n, 43)) }]);
  await store.checkpoint();
  await store.close();
  expect((await inspect(nodeFileSystem, folder)).findings).toEqual([]);

  const again = await openStore(folder);
  const found = partitionOf(again.stream("s"));
  const sentTwice = { partition: found, batch: batch(), offset: -1 };
  await append(again, [sentTwice]);
  expect(sentTwice.offset).toBe(0);
  expect(found.highWatermark).toBe(2);
  expect(await found.maxTimestamp()).toMatchObject({ offset: 0 });
  expect(await found.offsetForTimestamp(Number(LONG_MAX))).toMatchObject({ offset: 0 });
});

it("compressed batches that claim two thousand million records each lie in segments of their own", async () => {
  const folder = await temporaryFolder();
  const store = await openStore(folder);
  const partition = partitionOf(await store.createStream("s", 1, {}, "protocol"));
  for (let at = 0; at < 4; at++) {
    const batch = claiming((header) => {
      header.writeInt32BE(INT_MAX - 1, 23);
      header.writeBigInt64BE(BigInt(at), 43);
      header.writeInt32BE(INT_MAX, 57);
    }, 1);
    await append(store, [{ partition, batch }]);
    for (let more = 0; more < 3; more++) {
      await append(store, [{ partition, batch: sentBatch([{ key: null, value: "v".repeat(3_000) }]) }]);
    }
  }
  await store.checkpoint();
  const end = partition.highWatermark;
  await store.close();
  const again = await openStore(folder);
  expect(partitionOf(again.stream("s")).highWatermark).toBe(end);
});

it("a record whose time is beyond any int64 stays in its batch as it is, and compaction goes on around it", async () => {
  const store = await openStore(await temporaryFolder());
  const stream = await store.createStream("s", 1, { segmentBytes: 200, minDirtyRatio: 0 }, "protocol");
  const partition = partitionOf(stream);
  const records = new Writer();
  for (const at of [0, 1]) {
    const rest = new Writer();
    rest.int8(0);
    rest.varlong(2 ** 50);
    rest.varint(at);
    rest.varint(2);
    rest.raw(Buffer.from(`k${at}`));
    for (const part of [-1, 0]) rest.varint(part);
    records.varint(rest.length);
    records.raw(rest.toBuffer());
  }
  const none = { key: null, value: null };
  const odd = sentBatch([none, none], { body: records.toBuffer() });
  odd.writeBigInt64BE(LONG_MAX, 27);
  odd.writeUInt32BE(crc32c(odd.subarray(21)), 17);
  await append(store, [{ partition, batch: odd }]);
  await store.alterStream("s", { settings: { cleanup: "compact" } });
  for (let at = 0; at < 10; at++) {
    await append(store, [{ partition, batch: sentBatch([{ key: "k1", value: `${at}` }]) }]);
  }
  await store.checkpoint();
  const before = partition.sizeBytes;
  await store.compact();
  expect(partition.sizeBytes).toBeLessThan(before / 2);
});
