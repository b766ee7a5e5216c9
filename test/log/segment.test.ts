import { expect, it } from "vitest";
import type { StreamSettings } from "../../src/log/log.ts";
import { append, openStore, partitionOf, record } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

/** Counts what is read of files. */
class MeteredDisk extends MemoryFileSystem {
  readBytes = 0;

  override async open(path: string, mode: "read" | "write" | "durable") {
    const file = await super.open(path, mode);
    const read = file.read.bind(file);
    file.read = async (target, position) => {
      const bytes = await read(target, position);
      this.readBytes += bytes;
      // As a disk: others come meanwhile.
      await new Promise((resolve) => setImmediate(resolve));
      return bytes;
    };
    return file;
  }
}

it("readers who come to a cold segment together share the look at it", async () => {
  const disk = new MeteredDisk();
  const options = { fileSystem: disk, maxTailBytes: 0 };
  const store = await openStore("/data", options);
  const stream = await store.createStream("s", 1, { segmentBytes: 400_000 }, "config");
  // No index on disk: a look is a scan.
  for (let at = 0; at < 60; at++)
    await append(store, [record(partitionOf(stream), null, "x".repeat(10_000))]);
  await store.close();
  for (const path of disk.paths) if (path.endsWith("index")) await disk.remove(path);
  const again = await openStore("/data", options);
  const partition = partitionOf(again.stream("s"));
  disk.readBytes = 0;
  await Promise.all(Array.from({ length: 50 }, () => partition.read(0, 1)));
  expect(disk.readBytes).toBeLessThan(400_000 + 50 * 40_000);
});

it("a start reads but the ends of segments whose timestamps do not grow, and look-ups by time find them", async () => {
  const disk = new MeteredDisk();
  const options = { fileSystem: disk, maxTailBytes: 0 };
  const store = await openStore("/data", options);
  await store.createStream("s", 1, { segmentBytes: 400_000 }, "config");
  const at = (offset: number): number => (offset === 50 ? 2_000 : 1_000);
  const add = (from: Awaited<ReturnType<typeof openStore>>, offset: number): Promise<void> =>
    append(from, [record(partitionOf(from.stream("s")), null, "x".repeat(10_000), at(offset))]);
  for (let offset = 0; offset < 60; offset++) await add(store, offset);
  await store.checkpoint();
  disk.readBytes = 0;
  const again = await openStore("/data", { ...options, fileSystem: disk });
  expect(disk.readBytes).toBeLessThan(50_000);
  for (let offset = 60; offset < 65; offset++) await add(again, offset);
  const partition = partitionOf(again.stream("s"));
  expect(partition.highWatermark).toBe(65);
  expect(await partition.maxTimestamp()).toEqual({ offset: 50, timestamp: 2_000 });
  expect(await partition.offsetForTimestamp(1_001)).toEqual({ offset: 50, timestamp: 2_000 });
  expect(await partition.offsetForTimestamp(500)).toEqual({ offset: 0, timestamp: 1_000 });
  await again.close();
});

it("what lies behind in an index file when a start finds it is cut off before more is written", async () => {
  const disk = new MemoryFileSystem();
  const add = async (store: Awaited<ReturnType<typeof openStore>>, count: number): Promise<void> => {
    const partition = partitionOf(store.stream("s"));
    for (let at = 0; at < count; at++) await append(store, [record(partition, null, "x".repeat(5_000))]);
    await store.checkpoint();
  };
  const store = await openStore("/data", { fileSystem: disk });
  await store.createStream("s", 1, {}, "config");
  await add(store, 10);
  const killed = disk.snapshot();
  const path = disk.paths.find((one) => one.endsWith("/s-0/00000000000000000000.index")) as string;
  const index = await killed.open(path, "write");
  // Of offsets that do not grow: more than the next checkpoint writes over.
  await index.write([Buffer.alloc(4_000)], await index.size());
  const again = await openStore("/data", { fileSystem: killed });
  await add(again, 10);
  await add(again, 10);
  const content = (await killed.readFile(path)) as Buffer;
  const offsets = Array.from({ length: content.length / 8 }, (_, at) => content.readInt32BE(at * 8));
  expect(offsets).toEqual([...new Set(offsets)].sort((a, b) => a - b));
  expect(offsets.at(-1)).toBe(29);
});

it("a segment loses its name and then gives its space back, whoever takes it", async () => {
  const gone: string[] = [];
  const givenBack: string[] = [];
  class Disk extends MemoryFileSystem {
    override async removeName(path: string) {
      gone.push(path);
      const giveBack = await super.removeName(path);
      return async () => {
        givenBack.push(path);
        await giveBack();
      };
    }
  }
  const disk = new Disk();
  const store = await openStore("/data", { fileSystem: disk, maxTailBytes: 0 });
  const fill = async (name: string, settings: Partial<StreamSettings>): Promise<void> => {
    const stream = await store.createStream(name, 1, { segmentBytes: 500, ...settings }, "config");
    for (let at = 0; at < 20; at++)
      await append(store, [record(partitionOf(stream), "key", `${at}`.padEnd(100))]);
    await store.checkpoint();
  };
  const segmentsOf = (name: string): string[] =>
    disk.paths.filter((path) => path.includes(`/${name}-0/`) && path.endsWith(".log"));
  const removedBy = async (work: () => Promise<unknown>): Promise<string[]> => {
    gone.length = 0;
    givenBack.length = 0;
    await work();
    expect(gone.length).toBeGreaterThan(1);
    expect(givenBack.toSorted()).toEqual(gone.toSorted());
    return gone.toSorted();
  };
  await fill("retained", { retentionBytes: 500, retentionMs: -1 });
  const retained = segmentsOf("retained");
  expect(await removedBy(() => store.retain())).toEqual(
    retained.filter((path) => !segmentsOf("retained").includes(path)),
  );
  await fill("compacted", { cleanup: "compact" });
  const compacted = segmentsOf("compacted");
  expect(await removedBy(() => store.compact())).toEqual(compacted.slice(0, -1));
  const deleted = segmentsOf("compacted");
  expect(await removedBy(() => store.deleteStream("compacted"))).toEqual(deleted);
  expect(disk.paths.filter((path) => path.includes("compacted"))).toEqual([]);
});
