import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { commitMemory } from "../../src/log/reused-memory.ts";
import { batchOf, encodeHeaders } from "../../src/wire/record-batch.ts";
import { append, openStore, partitionOf, readAll, record, values } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

/** A disk whose durable writes wait until they are let go, or fail. */
class HeldDisk extends MemoryFileSystem {
  hold = false;
  failure: Error | undefined;
  durableWrites = 0;
  private waiting: (() => void)[] = [];

  override async open(path: string, mode: "read" | "write" | "durable") {
    const file = await super.open(path, mode);
    if (mode !== "durable") return file;
    const write = file.writeDurably.bind(file);
    file.writeDurably = async (buffers, position) => {
      this.durableWrites++;
      if (this.hold) await new Promise<void>((resolve) => this.waiting.push(resolve));
      if (this.failure !== undefined) throw this.failure;
      await write(buffers, position);
    };
    return file;
  }

  letGo(): void {
    this.hold = false;
    for (const go of this.waiting.splice(0)) go();
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("the group commit", () => {
  it("acknowledges and shows nothing before it is on disk", async () => {
    const disk = new HeldDisk();
    const store = await openStore("/data", { fileSystem: disk });
    const partition = partitionOf(await store.createStream("s", 1, {}, "config"));
    disk.hold = true;
    let acknowledged = false;
    let told = 0;
    partition.onCommit(() => told++);
    const done = append(store, [record(partition, null, "x")]).then(() => {
      acknowledged = true;
    });
    for (let at = 0; at < 5; at++) await turn();
    expect([acknowledged, partition.highWatermark, told]).toEqual([false, 0, 0]);
    disk.letGo();
    await done;
    expect([acknowledged, partition.highWatermark]).toEqual([true, 1]);
  });

  it("gathers what comes while a commit is under way into one next commit", async () => {
    const disk = new HeldDisk();
    const store = await openStore("/data", { fileSystem: disk });
    const partition = partitionOf(await store.createStream("s", 1, {}, "config"));
    const before = disk.durableWrites;
    disk.hold = true;
    const first = append(store, [record(partition, null, "first")]);
    await turn();
    const rest = Array.from({ length: 100 }, (_, at) => append(store, [record(partition, null, `v${at}`)]));
    disk.letGo();
    await Promise.all([first, ...rest]);
    expect(disk.durableWrites - before).toBe(2);
    const batches = await partition.read(1, 1 << 20);
    expect(batches).toHaveLength(1);
    expect(await values(partition)).toHaveLength(101);
  });

  it("lays a large commit into several buffers of few sizes, and gives them to those that come later", async () => {
    const store = await openStore("/data", { fileSystem: new MemoryFileSystem(), maxTailBytes: 1 << 20 });
    const stream = await store.createStream("s", 3, {}, "config");
    const partitions = [0, 1, 2].map((index) => partitionOf(stream, index));
    const values = Array.from({ length: 60 }, (_, at) => String.fromCharCode(97 + (at % 26)).repeat(60_000));
    const buffers = new Set<ArrayBufferLike>();
    for (let commit = 0; commit < 5; commit++) {
      const take = vi.spyOn(commitMemory, "take");
      await append(
        store,
        values
          .slice(commit * 12, commit * 12 + 12)
          .map((value, at) => record(partitionOf(stream, at % 3), null, value)),
      );
      expect(take.mock.calls.length).toBeGreaterThan(2);
      // A whole number of records each: room that is left over would not be counted.
      for (const [bytes] of take.mock.calls) expect(bytes % 60_000).toBeLessThan(2_000);
      for (const { value } of take.mock.results) {
        expect(value.length).toBeLessThanOrEqual(256 << 10);
        buffers.add(value.buffer);
      }
      take.mockRestore();
      await store.checkpoint();
    }
    expect(buffers.size).toBeLessThan(15);
    for (const [index, partition] of partitions.entries()) {
      const given = values.filter((_, at) => (at % 12) % 3 === index);
      expect((await readAll(partition)).map(({ value }) => value?.toString())).toEqual(given);
    }
    await store.close();
  });

  it("puts all entries of an append into the same commit, or none", async () => {
    const store = await openStore("/data", { fileSystem: new MemoryFileSystem() });
    const stream = await store.createStream("s", 3, { maxMessageBytes: 200 }, "config");
    const entries = [0, 1, 2].map((index) =>
      record(partitionOf(stream, index), null, "x".repeat(index * 100)),
    );
    await expect(append(store, entries)).rejects.toMatchObject({ code: "TOO_LARGE" });
    expect(stream.partitions.map(({ highWatermark }) => highWatermark)).toEqual([0, 0, 0]);
  });

  it("acknowledges nothing of a commit that the disk refused, nor anything behind it", async () => {
    const disk = new HeldDisk();
    const store = await openStore("/data", { fileSystem: disk });
    const partition = partitionOf(await store.createStream("s", 1, {}, "config"));
    await append(store, [record(partition, null, "kept")]);
    disk.hold = true;
    const under = append(store, [record(partition, null, "under way")]);
    await turn();
    const queued = append(store, [record(partition, null, "queued")]);
    disk.failure = new Error("EIO");
    disk.letGo();
    const outcomes = await Promise.allSettled([under, queued]);
    expect(outcomes.map((outcome) => outcome.status)).toEqual(["rejected", "rejected"]);
    expect(await values(partition)).toEqual(["kept"]);
  });

  it("takes a stop in order: what was queued is written, what comes later is refused", async () => {
    const disk = new MemoryFileSystem();
    const store = await openStore("/data", { fileSystem: disk });
    const partition = partitionOf(await store.createStream("s", 1, {}, "config"));
    const queued = append(store, [record(partition, null, "queued")]);
    const closed = store.close();
    await expect(append(store, [record(partition, null, "late")])).rejects.toMatchObject({ code: "CLOSED" });
    await Promise.all([queued, closed]);
    const again = await openStore("/data", { fileSystem: disk });
    expect(await values(partitionOf(again.stream("s")))).toEqual(["queued"]);
  });

  it("takes no producer's batch with a header that has no name, and says which record it is in", async () => {
    const store = await openStore("/data", { fileSystem: new MemoryFileSystem() });
    const partition = partitionOf(await store.createStream("s", 1, {}, "protocol"));
    const { key, value, timestamp } = record(partition, null, "x");
    const good = { key, value, timestamp, headers: encodeHeaders([{ key: "", value: null }]) };
    const nameless = { ...good, headers: Buffer.from([2, 1, 0]) };
    await expect(append(store, [{ partition, batch: batchOf([good, nameless]) }])).rejects.toMatchObject({
      code: "INVALID_RECORDS",
      message: "a record batch with record 1 with a header without a name, or with one longer than it",
    });
    await append(store, [{ partition, batch: batchOf([good, good]) }]);
    expect(partition.highWatermark).toBe(2);
  });

  it("spreads records without a key by commits, not by records", async () => {
    const store = await openStore("/data", { fileSystem: new MemoryFileSystem() });
    const stream = await store.createStream("s", 3, {}, "config");
    for (let commit = 0; commit < 6; commit++) {
      await Promise.all(
        Array.from({ length: 10 }, () => append(store, [record(stream.keylessPartition(), null, "x")])),
      );
    }
    expect(stream.partitions.map(({ highWatermark }) => highWatermark)).toEqual([20, 20, 20]);
  });

  describe("with a moment's wait for those who were just answered", () => {
    const HOUR = 3_600_000;
    let now: number;
    beforeEach(() => {
      now = 0;
      vi.spyOn(performance, "now").mockImplementation(() => now);
    });
    afterEach(() => vi.restoreAllMocks());

    /** Two appends are being committed, which takes two hours, and three wait; then the two are answered. */
    async function answered(maxWaitMs: number) {
      const disk = new HeldDisk();
      const store = await openStore("/data", { fileSystem: disk, maxWaitMs });
      const partition = partitionOf(await store.createStream("s", 1, {}, "config"));
      const send = (value: string) => append(store, [record(partition, null, value)]);
      const before = disk.durableWrites;
      disk.hold = true;
      const first = [send("a"), send("b")];
      for (let at = 0; at < 5; at++) await turn();
      const others = [send("c"), send("d"), send("e")];
      now += 2 * HOUR;
      disk.letGo();
      await Promise.all(first);
      for (let at = 0; at < 20; at++) await turn();
      return { store, send, others, writes: () => disk.durableWrites - before };
    }

    it("has all who come back in one commit", async () => {
      const { send, others, writes } = await answered(HOUR);
      expect(writes()).toBe(1);
      const f = send("f");
      for (let at = 0; at < 20; at++) await turn();
      expect(writes()).toBe(1);
      await Promise.all([f, send("g"), ...others]);
      expect(writes()).toBe(2);
    });

    it("goes without them when the time is up, and does not wait for them again the next time", async () => {
      const { send, others, writes } = await answered(HOUR);
      now += HOUR;
      await Promise.all([send("f"), ...others]);
      expect(writes()).toBe(2);
      await send("g");
      expect(writes()).toBe(3);
    });

    it("waits for nobody where it may not", async () => {
      const { others, writes } = await answered(0);
      await Promise.all(others);
      expect(writes()).toBe(2);
    });

    it("waits no more when the log closes", async () => {
      const { store, others, writes } = await answered(HOUR);
      expect(writes()).toBe(1);
      await Promise.all([store.close(), ...others]);
    });
  });

  describe("with a linger", () => {
    async function lingering(lingerMs: number) {
      const disk = new HeldDisk();
      const store = await openStore("/data", { fileSystem: disk, lingerMs, journalFileBytes: 8 << 20 });
      const partition = partitionOf(await store.createStream("s", 1, {}, "config"));
      return { disk, store, partition, before: disk.durableWrites };
    }
    const rounds = async (count: number) => {
      for (let at = 0; at < count; at++) await turn();
    };

    it("gathers from the first append on, acknowledges together, and is not waited for by the catalog", async () => {
      const { disk, store, partition, before } = await lingering(200);
      const began = performance.now();
      const all: Promise<void>[] = [];
      for (let at = 0; at < 20; at++) {
        all.push(append(store, [record(partition, null, `v${at}`)]));
        await turn();
      }
      await Promise.all(all);
      expect(disk.durableWrites - before).toBe(1);
      // Timers may be a millisecond early.
      expect(performance.now() - began).toBeGreaterThan(198);
    });

    it("a full window, a change of the catalog, a stop and a shorter linger do not wait", async () => {
      const { disk, store, partition } = await lingering(3_600_000);
      const big = Array.from({ length: 5 }, () =>
        append(store, [record(partition, null, "x".repeat(900_000))]),
      );
      await Promise.all(big.slice(0, 4));
      expect(disk.durableWrites).toBeGreaterThan(0);
      await store.createStream("other", 1, {}, "config");
      await Promise.all(big);
      const last = append(store, [record(partition, null, "last")]);
      await rounds(3);
      store.stopLingering();
      await last;
      await append(store, [record(partition, null, "after")]);
      store.lingerMs = 3_600_000;
      const queued = append(store, [record(partition, null, "closing")]);
      await Promise.all([store.close(), queued]);
    });
  });
});
