import { describe, expect, it } from "vitest";
import { leaderEpochOf } from "../../src/wire/record-batch.ts";
import { append, openStore, partitionOf, record } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

const open = (fileSystem: MemoryFileSystem) => openStore("/data", { fileSystem });

describe("the leader epoch", () => {
  it("stays over clean stops, and over a kill that left nothing to recover", async () => {
    const disk = new MemoryFileSystem();
    const store = await open(disk);
    const partition = partitionOf(await store.createStream("s", 1, {}, "protocol"));
    await append(store, [record(partition, "k", "v")]);
    await store.close();
    const again = await open(disk);
    expect(partitionOf(again.stream("s")).leaderEpoch).toBe(0);
    expect(partitionOf((await open(disk.snapshot())).stream("s")).leaderEpoch).toBe(0);
  });

  it("goes up when a start had to recover, and tells where each one before it ended", async () => {
    let disk = new MemoryFileSystem();
    let store = await open(disk);
    await store.createStream("s", 1, {}, "protocol");
    for (let epoch = 0; epoch < 20; epoch++) {
      const partition = partitionOf(store.stream("s"));
      expect(partition.leaderEpoch).toBe(epoch);
      for (let at = 0; at < 3; at++) await append(store, [record(partition, "k", "v")]);
      const [batch] = (await partition.read(partition.highWatermark - 1, 1)) as Buffer[];
      expect(leaderEpochOf(batch as Buffer)).toBe(epoch);
      disk = disk.snapshot(); // killed
      store = await open(disk);
    }
    const ends = (known: typeof store) =>
      [4, 5, 18, 19, 20, 21, -1].map((epoch) => partitionOf(known.stream("s")).endOfEpoch(epoch));
    // Sixteen are remembered; who knows only an older one is told where the oldest of them began.
    expect(ends(store)).toEqual([15, 18, 57, 60, 60, undefined, undefined]);
    // What is older than that has none that is known.
    const epochs = (known: typeof store) =>
      [0, 14, 15, 17, 18, 57, 59, 60].map((offset) => partitionOf(known.stream("s")).epochAt(offset));
    expect(epochs(store)).toEqual([undefined, undefined, 5, 5, 6, 19, 19, 20]);
    await store.close();
    expect(epochs(await open(disk))).toEqual(epochs(store));
    expect(ends(await open(disk))).toEqual([15, 18, 57, 60, 60, undefined, undefined]);
  });

  it("of a stream that was made since has ended before its first record", async () => {
    const disk = new MemoryFileSystem();
    const first = await open(disk);
    await append(first, [record(partitionOf(await first.createStream("s", 1, {}, "protocol")), "k", "v")]);
    const store = await open(disk.snapshot());
    const late = partitionOf(await store.createStream("late", 1, {}, "protocol"));
    await append(store, [record(late, "k", "v")]);
    expect([late.leaderEpoch, late.endOfEpoch(1), late.endOfEpoch(0)]).toEqual([1, 1, 0]);
    expect([0, 1].map((offset) => late.epochAt(offset))).toEqual([1, 1]);
    const early = partitionOf(store.stream("s"));
    expect([0, 1].map((offset) => early.epochAt(offset))).toEqual([0, 1]);
  });
});
