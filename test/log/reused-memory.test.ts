import { describe, expect, it, vi } from "vitest";
import { commitMemory, ReusedMemory, SMALL_BYTES } from "../../src/log/reused-memory.ts";
import { batchOf, NO_HEADERS } from "../../src/wire/record-batch.ts";
import { append, openStore, partitionOf } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

describe("reused memory", () => {
  it("gives what was given back to the next who asks for about as much", () => {
    const memory = new ReusedMemory(1 << 20);
    const first = memory.take(100_000);
    const part = first.subarray(5, 90_000);
    memory.give(part);
    expect(memory.take(20_000).buffer).not.toBe(first.buffer);
    expect(memory.take(99_000).buffer).toBe(first.buffer);
    expect(memory.take(99_000).buffer).not.toBe(first.buffer);
  });

  it("uses what was made for a size again for that size, whatever size it is", () => {
    for (let bytes = SMALL_BYTES; bytes < 10 * SMALL_BYTES; bytes += 61) {
      const memory = new ReusedMemory(1 << 20);
      const first = memory.take(bytes);
      memory.give(first);
      expect(memory.take(bytes).buffer, `${bytes} bytes`).toBe(first.buffer);
    }
  });

  it("never uses again what was let go, what is not its own, and what was given back before", () => {
    const memory = new ReusedMemory(1 << 20);
    const kept = memory.take(100_000);
    memory.letGo(kept.subarray(10));
    memory.give(kept);
    memory.give(Buffer.alloc(100_000));
    const once = memory.take(100_000);
    memory.give(once);
    memory.give(once);
    const two = [memory.take(100_000), memory.take(100_000)];
    expect(two[0]?.buffer).toBe(once.buffer);
    expect(two[1]?.buffer).not.toBe(once.buffer);
    expect(two.some(({ buffer }) => buffer === kept.buffer)).toBe(false);
  });

  it("keeps no more free than it may", () => {
    const memory = new ReusedMemory(250_000);
    const three = [memory.take(100_000), memory.take(100_000), memory.take(100_000)];
    for (const buffer of three) memory.give(buffer);
    const again = [memory.take(100_000), memory.take(100_000), memory.take(100_000)].map(
      ({ buffer }) => buffer,
    );
    expect(again.filter((buffer) => three.some((one) => one.buffer === buffer))).toHaveLength(2);
  });
});

/** One record of so many bytes, all of them `fill`. */
const batchFilled = (fill: number, bytes = 50_000): Buffer =>
  batchOf([{ key: null, value: Buffer.alloc(bytes, fill), headers: NO_HEADERS, timestamp: 1 }]);

describe("the log's memory", () => {
  it("is not used again while a reader may look at it, however many commits come behind", async () => {
    const store = await openStore("/data", { fileSystem: new MemoryFileSystem(), maxTailBytes: 300_000 });
    const partition = partitionOf(await store.createStream("s", 1, {}, "config"));
    const seen: { given: Buffer; copy: Buffer }[] = [];
    for (let number = 0; number < 200; number++) {
      await append(store, [{ partition, batch: batchFilled(number) }]);
      if (number % 7 !== 0) continue;
      for (const given of await partition.read(Math.max(0, number - 3), 200_000)) {
        seen.push({ given, copy: Buffer.from(given) });
      }
    }
    for (const { given, copy } of seen) expect(given.equals(copy)).toBe(true);
    let offset = 0;
    while (offset < 200) {
      const [batch] = await partition.read(offset, 1);
      expect(batch?.subarray(-1_000, -1)).toEqual(Buffer.alloc(999, offset));
      offset++;
    }
    await store.close();
  });

  it("is used again where nobody has read: a flood of batches is no work for the garbage collector", async () => {
    const store = await openStore("/data", { fileSystem: new MemoryFileSystem(), maxTailBytes: 300_000 });
    const partition = partitionOf(await store.createStream("s", 1, {}, "config"));
    const take = vi.spyOn(commitMemory, "take");
    for (let number = 0; number < 100; number++) {
      await append(store, [{ partition, batch: batchFilled(number) }]);
    }
    const buffers = new Set(take.mock.results.map(({ value }) => value.buffer));
    expect(take).toHaveBeenCalledTimes(100);
    expect(buffers.size).toBeLessThan(20);
    take.mockRestore();
    await store.close();
  });

  it("keeps a producer's batch as it came, whatever its sender does with the bytes afterwards", async () => {
    const store = await openStore("/data", { fileSystem: new MemoryFileSystem() });
    const partition = partitionOf(await store.createStream("s", 1, {}, "config"));
    const batch = batchFilled(1);
    await append(store, [{ partition, batch }]);
    const sent = Buffer.from(batch);
    batch.fill(0);
    expect((await partition.read(0, 1))[0]?.equals(sent)).toBe(true);
    await store.close();
  });
});
