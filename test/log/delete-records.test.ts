import { describe, expect, it } from "vitest";
import type { Partition } from "../../src/log/log.ts";
import type { StreamStore } from "../../src/log/stream-store.ts";
import { baseOffsetOf } from "../../src/wire/record-batch.ts";
import { sentBatch } from "../support/batches.ts";
import { append, openStore, partitionOf, readAll, record, values } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

const DATA = "/data";
const open = (fileSystem: MemoryFileSystem) => openStore(DATA, { fileSystem });

async function fill(store: StreamStore, partition: Partition, from: number, to: number): Promise<void> {
  for (let at = from; at < to; at++) await append(store, [record(partition, "k", `v${at}`, 1000 + at)]);
}

describe("deleting records", () => {
  it("shows nothing below, says where the log starts now, and does not go back", async () => {
    const store = await open(new MemoryFileSystem());
    const partition = partitionOf(await store.createStream("s", 1, {}, "protocol"));
    await fill(store, partition, 0, 10);
    expect(await store.deleteRecords(partition, 4)).toBe(4);
    expect(partition.logStartOffset).toBe(4);
    expect(await values(partition)).toEqual(["v4", "v5", "v6", "v7", "v8", "v9"]);
    expect(() => partition.read(3, 1000)).toThrow(expect.objectContaining({ code: "OFFSET_OUT_OF_RANGE" }));
    expect(await store.deleteRecords(partition, 2)).toBe(4);
    const beyond = { code: "OFFSET_OUT_OF_RANGE" };
    await expect(store.deleteRecords(partition, 11)).rejects.toMatchObject(beyond);
    await expect(store.deleteRecords(partition, -1)).rejects.toMatchObject(beyond);
    expect(await store.deleteRecords(partition, 10)).toBe(10);
    expect(await values(partition)).toEqual([]);
    await fill(store, partition, 10, 11);
    expect((await readAll(partition)).map(({ offset }) => offset)).toEqual([10]);
  });

  it("holds after a kill, after a clean stop, and after both", async () => {
    const disk = new MemoryFileSystem();
    const store = await open(disk);
    const partition = partitionOf(await store.createStream("s", 1, { segmentBytes: 400 }, "protocol"));
    await fill(store, partition, 0, 30);
    await store.deleteRecords(partition, 17);
    const killed = disk.snapshot();
    await store.close();
    for (const left of [killed, disk]) {
      for (let restart = 0; restart < 2; restart++) {
        const again = await open(left);
        const found = partitionOf(again.stream("s"));
        expect(found.logStartOffset).toBe(17);
        expect(await values(found)).toHaveLength(13);
        await again.close();
      }
    }
  });

  it("asked for twice at once does not go back to the lower offset after a kill", async () => {
    const disk = new MemoryFileSystem();
    const store = await open(disk);
    const partition = partitionOf(await store.createStream("s", 1, {}, "protocol"));
    await fill(store, partition, 0, 10);
    expect(await Promise.all([8, 4].map((before) => store.deleteRecords(partition, before)))).toEqual([8, 8]);
    expect(partitionOf((await open(disk.snapshot())).stream("s")).logStartOffset).toBe(8);
  });

  it("frees the segments that are wholly below, when they are settled", async () => {
    const store = await open(new MemoryFileSystem());
    const settings = { segmentBytes: 400, retentionMs: -1 };
    const partition = partitionOf(await store.createStream("s", 1, settings, "protocol"));
    await fill(store, partition, 0, 60);
    await store.checkpoint();
    const before = partition.sizeBytes;
    await store.deleteRecords(partition, 59);
    await store.retain();
    expect(partition.sizeBytes).toBeLessThan(before / 5);
    expect(await values(partition)).toEqual(["v59"]);
    await store.deleteRecords(partition, 60);
    await store.retain();
    expect(partition.sizeBytes).toBe(0);
    expect(partition.logStartOffset).toBe(60);
  });

  it("is forgotten with its stream: one made anew under the name begins at 0", async () => {
    const disk = new MemoryFileSystem();
    const store = await open(disk);
    const partition = partitionOf(await store.createStream("s", 1, {}, "protocol"));
    await fill(store, partition, 0, 5);
    await store.deleteRecords(partition, 5);
    await store.deleteStream("s");
    await expect(store.deleteRecords(partition, 5)).rejects.toMatchObject({ code: "UNKNOWN_STREAM" });
    await store.createStream("s", 1, {}, "protocol");
    await store.close();
    expect(partitionOf((await open(disk)).stream("s")).logStartOffset).toBe(0);
  });

  it("looks for times only in what is left, within a batch too", async () => {
    const store = await open(new MemoryFileSystem());
    const partition = partitionOf(await store.createStream("s", 1, {}, "protocol"));
    const times = [500, 900, 300, 400];
    const batch = sentBatch(times.map((timestamp, at) => ({ key: "k", value: `${at}`, timestamp })));
    await append(store, [{ partition, batch }]);
    await append(store, [record(partition, "k", "4", 350)]);
    expect(await partition.maxTimestamp()).toEqual({ offset: 1, timestamp: 900 });
    expect(await partition.offsetForTimestamp(450)).toEqual({ offset: 0, timestamp: 500 });
    await store.deleteRecords(partition, 2);
    expect(await partition.maxTimestamp()).toEqual({ offset: 3, timestamp: 400 });
    expect(await partition.offsetForTimestamp(350)).toEqual({ offset: 3, timestamp: 400 });
    expect(await partition.offsetForTimestamp(450)).toBeUndefined();
    // The batch that contains the offset comes whole.
    expect(baseOffsetOf((await partition.read(2, 1000))[0] as Buffer)).toBe(0);
    await store.deleteRecords(partition, 5);
    expect(await partition.maxTimestamp()).toBeUndefined();
  });
});
