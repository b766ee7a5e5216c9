import { cp } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Stream } from "../../src/log/log.ts";
import { recordsOf } from "../../src/wire/record-batch.ts";
import { append, openStore, partitionOf, readAll, record, values } from "../support/log.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

describe("the stream store", () => {
  it("keeps records in order and gives them their offsets", async () => {
    const store = await openStore(await temporaryFolder());
    const stream = await store.createStream("s", 2, {}, "config");
    const first = partitionOf(stream, 0);
    const second = partitionOf(stream, 1);
    const entries = [record(first, "a", "1"), record(second, "b", "2"), record(first, "a", "3")];
    await append(store, entries);
    expect(entries.map(({ offset }) => offset)).toEqual([0, 0, 1]);
    expect(await values(first)).toEqual(["1", "3"]);
    expect(await values(second)).toEqual(["2"]);
  });

  it("has everything again after a clean stop", async () => {
    const folder = await temporaryFolder();
    const store = await openStore(folder);
    const stream = await store.createStream("s", 1, { retentionMs: 5000 }, "protocol");
    for (let at = 0; at < 20; at++) await append(store, [record(partitionOf(stream), null, `v${at}`)]);
    await store.close();
    const again = await openStore(folder);
    const reopened = again.stream("s");
    expect(reopened?.id).toBe(stream.id);
    expect(reopened?.settings.retentionMs).toBe(5000);
    expect(await values(partitionOf(reopened))).toHaveLength(20);
    await append(again, [record(partitionOf(reopened), null, "more")]);
    expect((await readAll(partitionOf(reopened))).at(-1)?.offset).toBe(20);
  });

  it("has everything acknowledged when its process was killed", async () => {
    const folder = await temporaryFolder();
    const store = await openStore(folder);
    const stream = await store.createStream("s", 3, {}, "config");
    for (let at = 0; at < 50; at++) {
      await append(store, [record(partitionOf(stream, at % 3), null, `v${at}`)]);
    }
    // What a kill leaves: the files as they are now, nothing flushed, no checkpoint.
    const copy = join(await temporaryFolder(), "copy");
    await cp(folder, copy, { recursive: true, filter: (path) => !path.endsWith(".sock") });
    const again = await openStore(copy);
    const counts = await Promise.all(
      (again.stream("s")?.partitions ?? []).map(async (p) => (await values(p)).length),
    );
    expect(counts).toEqual([17, 17, 16]);
  });

  it("moves through many journal files and segments without losing a record", async () => {
    const folder = await temporaryFolder();
    const options = { journalFileBytes: 64 << 10, maxTailBytes: 64 << 10 };
    const store = await openStore(folder, options);
    const stream = await store.createStream("s", 2, { segmentBytes: 100_000 }, "config");
    const payload = "x".repeat(500);
    let sent = 0;
    for (let round = 0; round < 40; round++) {
      await Promise.all(
        Array.from({ length: 50 }, () =>
          append(store, [record(partitionOf(stream, sent % 2), null, `${sent++} ${payload}`)]),
        ),
      );
    }
    const check = async (from: Stream | undefined): Promise<void> => {
      for (const index of [0, 1]) {
        const numbers = (await values(partitionOf(from, index))).map((value) => Number.parseInt(value, 10));
        expect(numbers).toEqual(Array.from({ length: 1000 }, (_, at) => at * 2 + index));
      }
    };
    await check(stream);
    await store.close();
    const again = await openStore(folder, options);
    await check(again.stream("s"));
  });

  it("finds records by time", async () => {
    const store = await openStore(await temporaryFolder());
    const stream = await store.createStream("s", 1, { segmentBytes: 4000 }, "config");
    const partition = partitionOf(stream);
    for (let at = 0; at < 100; at++)
      await append(store, [record(partition, null, `v${at}`.padEnd(100), 1000 + at * 10)]);
    await store.checkpoint();
    expect(await partition.offsetForTimestamp(0)).toEqual({ offset: 0, timestamp: 1000 });
    expect(await partition.offsetForTimestamp(1501)).toEqual({ offset: 51, timestamp: 1510 });
    expect(await partition.offsetForTimestamp(1990)).toEqual({ offset: 99, timestamp: 1990 });
    expect(await partition.offsetForTimestamp(1991)).toBeUndefined();
    expect(await partition.maxTimestamp()).toEqual({ offset: 99, timestamp: 1990 });
  });

  it("refuses a second gateway on the same folder", async () => {
    const folder = await temporaryFolder();
    await openStore(folder);
    await expect(openStore(folder)).rejects.toMatchObject({ code: "DATA_FOLDER_IN_USE" });
  });

  it("forgets a deleted stream and starts a new one of the same name at zero", async () => {
    const folder = await temporaryFolder();
    const store = await openStore(folder);
    const stream = await store.createStream("s", 1, {}, "protocol");
    await append(store, [record(partitionOf(stream), null, "old")]);
    await store.deleteStream("s");
    const anew = await store.createStream("s", 1, {}, "protocol");
    await append(store, [record(partitionOf(anew), null, "new")]);
    await store.close();
    const again = await openStore(folder);
    expect(again.stream("s")?.id).toBe(anew.id);
    expect(await values(partitionOf(again.stream("s")))).toEqual(["new"]);
  });

  it("goes on writing after a stream was deleted whose records were only in memory", async () => {
    const store = await openStore(await temporaryFolder(), { maxTailBytes: 4096 });
    const stream = await store.createStream("gone", 1, {}, "protocol");
    const other = partitionOf(await store.createStream("stays", 1, {}, "protocol"));
    await append(store, [record(partitionOf(stream), null, "x")]);
    await store.deleteStream("gone");
    for (let at = 0; at < 50; at++) await append(store, [record(other, null, `v${at}`.padEnd(500))]);
    await store.checkpoint();
    expect(await values(other)).toHaveLength(50);
  });

  it("reads on where a small read ended, never in the segment behind", async () => {
    const store = await openStore(await temporaryFolder(), { maxTailBytes: 0 });
    const partition = partitionOf(await store.createStream("s", 1, { segmentBytes: 4000 }, "config"));
    for (let at = 0; at < 100; at++) await append(store, [record(partition, null, `v${at}`.padEnd(100))]);
    await store.checkpoint();
    const offsets: number[] = [];
    while (offsets.length < 100) {
      const batches = await partition.read(offsets.length, 700);
      for (const { offset } of recordsOf(batches)) offsets.push(offset);
    }
    expect(offsets).toEqual(Array.from({ length: 100 }, (_, at) => at));
  });
});
