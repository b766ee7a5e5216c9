import { describe, expect, it } from "vitest";
import type { LogError } from "../../src/errors.ts";
import type { StorageRules } from "../../src/log/disk-space.ts";
import type { StreamStore } from "../../src/log/stream-store.ts";
import { FaultyFileSystem } from "../support/faulty-file-system.ts";
import { append, openStore, partitionOf, record, values } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

const SEGMENT = { segmentBytes: 1000 };

/** A disk of `bytes`, of which the segments take some. */
async function smallDisk(
  bytes: number,
  storage: StorageRules,
): Promise<{ store: StreamStore; disk: MemoryFileSystem; room: { bytes: number } }> {
  const disk = new MemoryFileSystem();
  const faulty = new FaultyFileSystem(disk);
  const room = { bytes };
  const used = (): number =>
    disk.paths
      .filter((path) => path.endsWith(".log"))
      .reduce((sum, path) => sum + disk.bytes(path).length, 0);
  faulty.freeBytes = async () => room.bytes - used();
  const store = await openStore("/data", { fileSystem: faulty, storage, spaceCheckMs: 1, maxTailBytes: 0 });
  return { store, disk, room };
}

const add = (store: StreamStore, stream: string, value: string): Promise<void> =>
  append(store, [record(partitionOf(store.stream(stream)), "k", value)]);

const outcome = (added: Promise<void>): Promise<string> =>
  added.then(
    () => "kept",
    (error: LogError) => error.code,
  );

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((next) => setTimeout(next, 1));
}

describe("a disk with less room than is to stay free", () => {
  it("takes nothing on public streams, everything on internal ones, and all again when there is room", async () => {
    const { store, room } = await smallDisk(1 << 20, { minFreeBytes: 1000, whenFull: "refuse" });
    await store.createStream("s", 1, SEGMENT, "config");
    await store.createStream("__own", 1, SEGMENT, "internal");
    await add(store, "s", "a");
    room.bytes = 0;
    await until(() => store.stats.diskFull);
    expect(await outcome(add(store, "s", "b"))).toBe("DISK_FULL");
    expect(await outcome(add(store, "__own", "b"))).toBe("kept");
    // What belongs together is refused together.
    const both = ["__own", "s"].map((name) => record(partitionOf(store.stream(name)), "k", "c"));
    expect(await outcome(append(store, both))).toBe("DISK_FULL");
    expect(await values(partitionOf(store.stream("s")))).toEqual(["a"]);
    expect(await values(partitionOf(store.stream("__own")))).toEqual(["b"]);
    room.bytes = 1 << 20;
    await until(() => !store.stats.diskFull);
    await add(store, "s", "d");
    expect(await values(partitionOf(store.stream("s")))).toEqual(["a", "d"]);
  });

  it("takes records again when all that fills it is past its retention, in the newest segments too", async () => {
    const { store, room } = await smallDisk(1 << 20, { minFreeBytes: 1000, whenFull: "refuse" });
    await store.createStream("s", 1, { ...SEGMENT, retentionMs: 200 }, "config");
    await add(store, "s", "a".padEnd(800));
    room.bytes = 1800;
    await until(() => store.stats.diskFull);
    expect(await outcome(add(store, "s", "b"))).toBe("DISK_FULL");
    await until(() => !store.stats.diskFull);
    expect(partitionOf(store.stream("s")).logStartOffset).toBe(1);
    await add(store, "s", "c");
  });

  it("gives up nothing at a start before those who hold records have said so", async () => {
    const rules = { minFreeBytes: 1000, whenFull: "refuse" } as const;
    const { store, disk } = await smallDisk(1 << 20, rules);
    await store.createStream("s", 1, { ...SEGMENT, retentionMs: 1 }, "config");
    for (const value of ["a", "b", "c"]) await add(store, "s", value.padEnd(800));
    await store.close();
    const faulty = new FaultyFileSystem(disk);
    faulty.freeBytes = async () => 0;
    const options = { fileSystem: faulty, storage: rules, spaceCheckMs: 1, upkeepMs: 1, awaitsHolders: true };
    const again = await openStore("/data", options);
    const partition = partitionOf(again.stream("s"));
    expect(again.stats.diskFull).toBe(true);
    await new Promise((next) => setTimeout(next, 20));
    expect(partition.logStartOffset).toBe(0);
    partition.hold("somebody", 1);
    await again.lookAfter();
    await until(() => partition.logStartOffset === 1);
    await new Promise((next) => setTimeout(next, 20));
    expect(partition.logStartOffset).toBe(1);
    partition.hold("somebody", undefined);
    await until(() => partition.logStartOffset > 1);
  });

  it("is made room on by the stream that takes most, oldest first, and by no other", async () => {
    const { store, room, disk } = await smallDisk(1 << 20, { minFreeBytes: 10_000, whenFull: "dropOldest" });
    for (const name of ["flood", "quiet"]) await store.createStream(name, 1, SEGMENT, "config");
    await store.createStream("latest", 1, { ...SEGMENT, cleanup: "compact" }, "config");
    await store.createStream("__own", 1, SEGMENT, "internal");
    for (let at = 0; at < 60; at++) {
      await add(store, "flood", `${at}`.padEnd(400));
      if (at % 10 === 0)
        for (const name of ["quiet", "latest", "__own"]) await add(store, name, `${at}`.padEnd(400));
    }
    await store.checkpoint();
    const used = disk.paths
      .filter((path) => path.endsWith(".log"))
      .reduce((sum, path) => sum + disk.bytes(path).length, 0);
    room.bytes = used;
    await until(() => store.stats.droppedBytes > 0);
    await until(() => partitionOf(store.stream("flood")).logStartOffset > 10);
    expect(store.stats.diskFull).toBe(false);
    const flood = partitionOf(store.stream("flood"));
    expect(store.stats.droppedRecords).toBe(flood.logStartOffset);
    expect((await values(flood)).at(-1)?.trim()).toBe("59");
    for (const name of ["quiet", "latest", "__own"])
      expect(await values(partitionOf(store.stream(name)))).toHaveLength(6);
    await add(store, "flood", "more");
  });

  it("refuses when nothing is left to drop", async () => {
    const { store, room } = await smallDisk(1 << 20, { minFreeBytes: 10_000, whenFull: "dropOldest" });
    await store.createStream("s", 1, SEGMENT, "config");
    for (let at = 0; at < 5; at++) await add(store, "s", `${at}`.padEnd(400));
    room.bytes = -1_000_000;
    await until(() => store.stats.diskFull);
    expect(await outcome(add(store, "s", "x"))).toBe("DISK_FULL");
    expect(partitionOf(store.stream("s")).logStartOffset).toBe(5);
  });

  it("is not looked at when nothing is to stay free", async () => {
    const { store } = await smallDisk(0, { minFreeBytes: 0, whenFull: "refuse" });
    await store.createStream("s", 1, SEGMENT, "config");
    await add(store, "s", "a");
    expect(store.stats.diskFull).toBe(false);
  });
});
