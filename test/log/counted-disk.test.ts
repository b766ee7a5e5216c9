import { expect, it } from "vitest";
import { CountedDisk, deviceBytes } from "../../src/log/counted-disk.ts";
import { append, openStore, partitionOf, record } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

it("counts the pages that writes touch, and every sync", async () => {
  const disk = new CountedDisk(new MemoryFileSystem());
  const file = await disk.open("/f", "durable");
  await file.writeDurably([Buffer.alloc(10)], 0);
  expect([disk.writtenBytes, disk.syncs]).toEqual([4096, 1]);
  await file.write([Buffer.alloc(100), Buffer.alloc(100)], 4000);
  expect([disk.writtenBytes, disk.syncs]).toEqual([3 * 4096, 1]);
  await file.write([], 4000);
  await file.sync();
  await disk.syncFolder("/");
  expect([disk.writtenBytes, disk.syncs]).toEqual([3 * 4096, 3]);
});

it("a log tells what it took and what it wrote for it", async () => {
  const store = await openStore("/data", { fileSystem: new MemoryFileSystem() });
  const partition = partitionOf(await store.createStream("s", 1, {}, "config"));
  const before = store.stats;
  await append(store, [record(partition, null, "x".repeat(100))]);
  const { committedBytes, writtenBytes, syncs, commits } = store.stats;
  expect(committedBytes - before.committedBytes).toBeGreaterThan(100);
  expect([writtenBytes - before.writtenBytes, syncs - before.syncs, commits - before.commits]).toEqual([
    4096, 1, 1,
  ]);
});

it("the device's counter is a number, or left out", () => {
  const bytes = deviceBytes(".");
  expect(bytes === undefined || bytes > 0).toBe(true);
  expect(deviceBytes("/no/such/folder")).toBeUndefined();
});
