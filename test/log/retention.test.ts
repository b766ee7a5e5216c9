import { describe, expect, it } from "vitest";
import { FakeClock } from "../support/fake-clock.ts";
import { append, openStore, partitionOf, readAll, record, values } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

describe("retention", () => {
  it("deletes whole segments that are older than the time, the newest last, and keeps the offsets", async () => {
    const disk = new MemoryFileSystem();
    const clock = new FakeClock();
    const options = { fileSystem: disk, clock };
    const store = await openStore("/data", options);
    const stream = await store.createStream("s", 1, { retentionMs: 1000, segmentBytes: 500 }, "config");
    const partition = partitionOf(stream);
    for (let at = 0; at < 20; at++) {
      await append(store, [record(partition, null, `v${at}`.padEnd(100))]);
      clock.advance(1);
    }
    await store.checkpoint();
    clock.advance(990);
    await store.retain();
    expect(partition.logStartOffset).toBeGreaterThan(0);
    expect(partition.logStartOffset).toBeLessThanOrEqual(10);
    expect(() => partition.read(0, 100)).toThrow(/offset 0 of s-0 is not in/);

    clock.advance(1000);
    await store.retain();
    expect(partition.logStartOffset).toBe(20);
    expect(await readAll(partition)).toEqual([]);
    const killed = disk.snapshot();
    await store.close();

    const again = await openStore("/data", { ...options, fileSystem: killed });
    const reopened = partitionOf(again.stream("s"));
    await append(again, [record(reopened, null, "next")]);
    expect((await readAll(reopened)).map(({ offset }) => offset)).toEqual([20]);
  });

  it("deletes by size while the rest stays above the limit", async () => {
    const store = await openStore("/data", { fileSystem: new MemoryFileSystem() });
    const stream = await store.createStream(
      "s",
      1,
      { retentionMs: -1, retentionBytes: 2000, segmentBytes: 600 },
      "config",
    );
    const partition = partitionOf(stream);
    for (let at = 0; at < 50; at++) await append(store, [record(partition, null, `v${at}`.padEnd(100))]);
    await store.checkpoint();
    await store.retain();
    expect(partition.sizeBytes).toBeGreaterThanOrEqual(2000);
    expect(partition.sizeBytes).toBeLessThan(2000 + 600);
    expect((await values(partition)).at(-1)?.trim()).toBe("v49");
  });

  it("leaves what comes while it removes again what the disk had refused to remove", async () => {
    class Disk extends MemoryFileSystem {
      removing = async (): Promise<void> => {};

      override async remove(path: string): Promise<void> {
        if (/s-0\/0+\.log$/.test(path)) await this.removing();
        return super.remove(path);
      }
    }
    const disk = new Disk();
    const store = await openStore("/data", { fileSystem: disk });
    const settings = { retentionMs: -1, retentionBytes: 0, segmentBytes: 300 };
    const partition = partitionOf(await store.createStream("s", 1, settings, "config"));
    const add = (value: string): Promise<void> => append(store, [record(partition, null, value)]);
    await add("0".padEnd(220));
    await add("1");
    await store.checkpoint();
    disk.removing = () => Promise.reject(Object.assign(new Error("EIO"), { code: "EIO" }));
    await store.retain();
    expect(partition.logStartOffset).toBe(1);
    disk.removing = () => add("2");
    await store.retain();
    await store.checkpoint();
    const left = await openStore("/data", { fileSystem: disk.snapshot() });
    expect((await readAll(partitionOf(left.stream("s")))).at(-1)?.offset).toBe(2);
  });

  it("leaves what somebody still wants, and takes it when the last one has had it", async () => {
    const store = await openStore("/data", { fileSystem: new MemoryFileSystem() });
    const settings = { retentionMs: -1, retentionBytes: 0, segmentBytes: 300 };
    const partition = partitionOf(await store.createStream("s", 1, settings, "config"));
    for (let at = 0; at < 20; at++) await append(store, [record(partition, null, `v${at}`.padEnd(100))]);
    await store.checkpoint();
    partition.hold("one", 0);
    partition.hold("other", 10);
    await store.retain();
    expect(partition.logStartOffset).toBe(0);
    partition.hold("one", undefined);
    await store.retain();
    expect(partition.logStartOffset).toBeGreaterThan(5);
    expect(partition.logStartOffset).toBeLessThanOrEqual(10);
    partition.hold("other", 20);
    await store.retain();
    expect(partition.logStartOffset).toBeGreaterThan(15);
  });

  it("keeps what a reader is reading until it is done", async () => {
    const disk = new MemoryFileSystem();
    const store = await openStore("/data", { fileSystem: disk, maxTailBytes: 0 });
    const settings = { retentionMs: -1, retentionBytes: 0, segmentBytes: 300 };
    const partition = partitionOf(await store.createStream("s", 1, settings, "config"));
    for (let at = 0; at < 10; at++) await append(store, [record(partition, null, `v${at}`.padEnd(100))]);
    await store.checkpoint();
    const reading = partition.read(0, 1 << 20);
    await store.retain();
    expect((await reading).length).toBeGreaterThan(0);
    expect(partition.logStartOffset).toBeGreaterThan(0);
  });
});
