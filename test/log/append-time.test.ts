import { expect, it } from "vitest";
import { batchProblem, hasAppendTime } from "../../src/wire/record-batch.ts";
import { sentBatch } from "../support/batches.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { append, openStore, partitionOf, readAll, record } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

it("LogAppendTime gives every record the time of its append, whoever sent it and however compressed", async () => {
  const begin = 1_800_000_000_000;
  const clock = new FakeClock(begin);
  const disk = new MemoryFileSystem();
  const options = { fileSystem: disk, clock };
  const store = await openStore("/data", options);
  const stream = await store.createStream("s", 1, { timestampType: "LogAppendTime" }, "protocol");
  const partition = partitionOf(stream);
  await append(store, [record(partition, "k", "over MQTT", 7)]);
  clock.advance(10_000);
  for (const codec of [0, 1]) {
    const records = [1, 9, 5].map((timestamp) => ({ key: "k", value: "produced", timestamp }));
    await append(store, [{ partition, batch: sentBatch(records, { codec }) }]);
  }
  const times = [0, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000].map((ms) => begin + ms);
  expect((await readAll(partition)).map(({ timestamp }) => timestamp)).toEqual(times);
  expect(await partition.offsetForTimestamp(begin + 1)).toEqual({ offset: 1, timestamp: begin + 10_000 });
  expect(await partition.maxTimestamp()).toEqual({ offset: 1, timestamp: begin + 10_000 });
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
