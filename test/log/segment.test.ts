import { expect, it } from "vitest";
import { append, openStore, partitionOf, record } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

/** Counts what is read of files. */
class MeteredDisk extends MemoryFileSystem {
  readBytes = 0;

  override async open(path: string, mode: "read" | "write" | "durable") {
    const file = await super.open(path, mode);
    const read = file.read.bind(file);
    file.read = async (target, position) => {
      const bytes = await read(target, position);
      this.readBytes += bytes;
      // As a disk: others come meanwhile.
      await new Promise((resolve) => setImmediate(resolve));
      return bytes;
    };
    return file;
  }
}

it("readers who come to a cold segment together share the look at it", async () => {
  const disk = new MeteredDisk();
  const options = { fileSystem: disk, maxTailBytes: 0 };
  const store = await openStore("/data", options);
  const stream = await store.createStream("s", 1, { segmentBytes: 400_000 }, "config");
  // All of one time: the index says nothing of what lies behind, and a look is a scan.
  for (let at = 0; at < 60; at++)
    await append(store, [record(partitionOf(stream), null, "x".repeat(10_000))]);
  await store.close();
  const again = await openStore("/data", options);
  const partition = partitionOf(again.stream("s"));
  disk.readBytes = 0;
  await Promise.all(Array.from({ length: 50 }, () => partition.read(0, 1)));
  expect(disk.readBytes).toBeLessThan(400_000 + 50 * 40_000);
});
