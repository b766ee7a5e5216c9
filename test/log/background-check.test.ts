import { type Logger, pino } from "pino";
import { describe, expect, it } from "vitest";
import { checkInBackground } from "../../src/log/background-check.ts";
import type { PartitionLog } from "../../src/log/partition-log.ts";
import { append, openStore, partitionOf, record, silentLogger } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

const log = () => {
  const lines: { error?: string; msg: string; damaged?: number }[] = [];
  const logger: Logger = pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) });
  return { lines, logger };
};

async function filled(options: { logger?: Logger } = {}) {
  const disk = new MemoryFileSystem();
  const store = await openStore("/data", { fileSystem: disk, maxTailBytes: 0, ...options });
  const partition = partitionOf(await store.createStream("s", 1, { segmentBytes: 1000 }, "config"));
  for (let at = 0; at < 40; at++) await append(store, [record(partition, null, `v${at}`.padEnd(100))]);
  await store.checkpoint();
  return { disk, store, partition: partition as PartitionLog };
}

const logs = (disk: MemoryFileSystem) => disk.paths.filter((path) => /s-0\/\d+\.log$/.test(path));
const flip = (disk: MemoryFileSystem, path: string, at: number) => {
  const bytes = disk.bytes(path);
  bytes[at] = (bytes[at] as number) ^ 1;
};

describe("the background check", () => {
  const options = { logger: silentLogger, bytesPerSecond: 1e12, signal: new AbortController().signal };

  it("finds every damaged segment, names file and byte, and goes on", async () => {
    const { disk, partition } = await filled();
    const [first, , third] = logs(disk) as [string, string, string];
    flip(disk, first, 400);
    flip(disk, third, 80);
    const { lines, logger } = log();
    expect(await checkInBackground([partition], { ...options, logger })).toBe(2);
    const errors = lines.flatMap(({ error }) => error ?? []);
    expect(errors[0]).toMatch(new RegExp(`${first}: no sound batch, at byte \\d+`));
    expect(errors[1]).toContain(`${third}: no sound batch, at byte 0`);
    expect(lines.at(-1)).toMatchObject({ damaged: 2 });
  });

  it("says that all is sound, whatever retention takes meanwhile", async () => {
    const { store, partition } = await filled();
    await store.alterStream("s", { settings: { retentionBytes: 1000 } });
    const checking = checkInBackground([partition], options);
    await store.retain();
    expect(await checking).toBe(0);
    expect(partition.logStartOffset).toBeGreaterThan(0);
  });

  it("takes its time, and stops at once when it is told to", async () => {
    const { partition } = await filled();
    const stop = new AbortController();
    const slow = { ...options, bytesPerSecond: 1, pieceBytes: 1000, signal: stop.signal };
    let ended = false;
    const checking = checkInBackground([partition], slow).finally(() => {
      ended = true;
    });
    for (let at = 0; at < 200; at++) await new Promise((resolve) => setImmediate(resolve));
    expect(ended).toBe(false);
    stop.abort();
    expect(await checking).toBeUndefined();
  });

  it("runs after a stop that was no clean one, and only then", async () => {
    const { disk, store, partition } = await filled();
    const clean = log();
    await append(store, [record(partition, null, "in the journal only")]);
    const killed = disk.snapshot();
    await store.close();
    const again = await openStore("/data", { fileSystem: disk, logger: clean.logger });
    await again.close();
    expect(clean.lines.filter(({ msg }) => msg.includes("has been read"))).toEqual([]);

    flip(killed, logs(killed)[0] as string, 400);
    const after = log();
    const recovered = await openStore("/data", { fileSystem: killed, logger: after.logger });
    await append(recovered, [record(partitionOf(recovered.stream("s")), null, "meanwhile")]);
    while (!after.lines.some(({ msg }) => msg.includes("has been read"))) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(after.lines.some(({ error }) => error?.includes(logs(killed)[0] as string))).toBe(true);
  });
});
