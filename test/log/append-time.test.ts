import { expect, it } from "vitest";
import { batchProblem, hasAppendTime } from "../../src/wire/record-batch.ts";
import { sentBatch } from "../support/batches.ts";
import { append, openStore, partitionOf, readAll, record } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

it("LogAppendTime gives every record the time of its append, whoever sent it and however compressed", async () => {
  let now = 50_000;
  const disk = new MemoryFileSystem();
  const options = { fileSystem: disk, now: () => now };
  const store = await openStore("/data", options);
  const stream = await store.createStream("s", 1, { timestampType: "LogAppendTime" }, "protocol");
  const partition = partitionOf(stream);
  await append(store, [record(partition, "k", "over MQTT", 7)]);
  now = 60_000;
  for (const codec of [0, 1]) {
    const records = [1, 9, 5].map((timestamp) => ({ key: "k", value: "produced", timestamp }));
    await append(store, [{ partition, batch: sentBatch(records, { codec }) }]);
  }
  const times = [50_000, 60_000, 60_000, 60_000, 60_000, 60_000, 60_000];
  expect((await readAll(partition)).map(({ timestamp }) => timestamp)).toEqual(times);
  expect(await partition.offsetForTimestamp(50_001)).toEqual({ offset: 1, timestamp: 60_000 });
  expect(await partition.maxTimestamp()).toEqual({ offset: 1, timestamp: 60_000 });
  for (const batch of await partition.read(0, 1 << 20)) {
    expect(batchProblem(batch, 0, 1 << 20)).toBeUndefined();
    expect(hasAppendTime(batch)).toBe(true);
  }
  await store.alterStream("s", { settings: { timestampType: "CreateTime" } });
  await append(store, [record(partition, "k", "its own", 7)]);
  expect((await readAll(partition)).at(-1)?.timestamp).toBe(7);
  const again = await openStore("/data", { ...options, fileSystem: disk.snapshot() });
  expect((await readAll(partitionOf(again.stream("s")))).slice(0, 7).map((one) => one.timestamp)).toEqual(
    times,
  );
});
