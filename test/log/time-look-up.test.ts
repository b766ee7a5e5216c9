import { expect, it } from "vitest";
import { append, openStore, partitionOf, record } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

it("a time is looked up in what no segment file has yet", async () => {
  const store = await openStore("/data", { fileSystem: new MemoryFileSystem() });
  const partition = partitionOf(await store.createStream("s", 1, {}, "protocol"));
  const value = "x".repeat(3_000); // some index entries, and less than the log keeps in memory
  for (let index = 0; index < 20; index++) {
    await append(store, [record(partition, "k", value, 1_000 + index)]);
  }
  for (const offset of [0, 7, 19]) {
    const timestamp = 1_000 + offset;
    expect(await partition.offsetForTimestamp(timestamp)).toEqual({ offset, timestamp });
  }
  expect(await partition.offsetForTimestamp(5_000)).toBeUndefined();
  expect(await partition.maxTimestamp()).toEqual({ offset: 19, timestamp: 1_019 });
});
