/** Real file systems of a few MiB: full, and read-only. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { LogError } from "../../src/errors.ts";
import type { StreamStore, StreamStoreOptions } from "../../src/log/stream-store.ts";
import { append, openStore, partitionOf, record, values } from "../support/log.ts";
import { MAY_MOUNT, remount, smallDisk } from "../support/small-disk.ts";

const SIZES: Partial<StreamStoreOptions> = {
  journalFileBytes: 256 << 10,
  maxTailBytes: 64 << 10,
  retryMs: 5,
};

const add = (store: StreamStore, value: string): Promise<void> =>
  append(store, [record(partitionOf(store.stream("s")), null, value)]);

/** Appends until that is refused; returns what was kept. */
async function fill(store: StreamStore, from = 0): Promise<{ kept: number; code: string }> {
  for (let at = from; ; at++) {
    const code = await add(store, `${at} `.padEnd(8000, "x")).then(
      () => undefined,
      (error: LogError) => error.code,
    );
    if (code !== undefined) return { kept: at - from, code };
  }
}

async function numbers(store: StreamStore): Promise<number[]> {
  return (await values(partitionOf(store.stream("s")))).map((value) => Number.parseInt(value, 10));
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, at) => at);

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((next) => setTimeout(next, 2));
}

describe.skipIf(!MAY_MOUNT)("a real disk of a few MiB", () => {
  it("that is full to the last byte refuses, loses nothing, and takes more when there is room", async () => {
    const folder = await smallDisk("4m");
    const store = await openStore(join(folder, "data"), SIZES);
    await store.createStream("s", 1, { segmentBytes: 512 << 10, retentionBytes: -1 }, "config");
    const { kept, code } = await fill(store);
    expect(code).toBe("READ_ONLY");
    expect(kept).toBeGreaterThan(200);
    expect(await numbers(store)).toEqual(upTo(kept));
    // Killed and started on the full disk.
    await store.close();
    const again = await openStore(join(folder, "data"), SIZES);
    expect(await numbers(again)).toEqual(upTo(kept));
    remount(folder, "size=8m");
    await until(() => !again.stats.readOnly);
    await add(again, `${kept} more`);
    expect(await numbers(again)).toEqual(upTo(kept + 1));
  });

  it("of which something is to stay free keeps that, or drops its oldest records for it", async () => {
    const folder = await smallDisk("6m");
    const storage = { minFreeBytes: 2 << 20, whenFull: "refuse" } as const;
    const store = await openStore(join(folder, "data"), { ...SIZES, storage, spaceCheckMs: 2 });
    await store.createStream("s", 1, { segmentBytes: 256 << 10 }, "config");
    const { kept, code } = await fill(store);
    expect(code).toBe("DISK_FULL");
    expect(await numbers(store)).toEqual(upTo(kept));
    store.storage = { ...storage, whenFull: "dropOldest" };
    await until(() => !store.stats.diskFull);
    for (let at = kept; at < kept + 1000; at++) {
      await until(() => !store.stats.diskFull);
      await add(store, `${at} `.padEnd(8000, "x")).catch(() => at--);
    }
    const left = await numbers(store);
    expect(left.at(-1)).toBe(kept + 999);
    expect(left[0]).toBeGreaterThan(0);
    expect(left[0]).toBeLessThanOrEqual(store.stats.droppedRecords);
    expect(left).toEqual(upTo(kept + 1000).slice(left[0]));
  });

  // While a gateway runs the kernel refuses to mount its disk anew, unless the disk fails: that is in faults.test.ts.
  it("that takes no writes is no place to start on, which is said; and it is when it takes them", async () => {
    const folder = await smallDisk("8m");
    const store = await openStore(join(folder, "data"), SIZES);
    await store.createStream("s", 1, {}, "config");
    for (let at = 0; at < 100; at++) await add(store, `${at} `.padEnd(2000, "x"));
    expect(() => remount(folder, "ro")).toThrow(/busy/);
    await store.close();
    remount(folder, "ro");
    await expect(openStore(join(folder, "data"), SIZES)).rejects.toMatchObject({
      code: "DATA_FOLDER",
      exitCode: 73,
    });
    remount(folder, "rw");
    expect(await numbers(await openStore(join(folder, "data"), SIZES))).toEqual(upTo(100));
  });
});
