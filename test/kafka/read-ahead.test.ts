import { afterEach, expect, it, vi } from "vitest";
import { EndSignal } from "../../src/end-signal.ts";
import type { ClientContext } from "../../src/kafka/api.ts";
import { fetch } from "../../src/kafka/apis/01-fetch.ts";
import { ByteBudget } from "../../src/kafka/byte-budget.ts";
import { ReadAhead } from "../../src/kafka/read-ahead.ts";
import type { Partition } from "../../src/log/log.ts";
import { Turns } from "../../src/turns.ts";
import { batchOf, endOffsetOf, NO_HEADERS, recordsOf } from "../../src/wire/record-batch.ts";
import { append, openStore, partitionOf } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";
import { type Broker, type Client, startBrokerOn } from "./harness.ts";

let broker: Broker<never> | undefined;
afterEach(() => broker?.close());

const inFiles = (read: Partition["read"] = async () => [Buffer.from("found")]): Partition =>
  ({ highWatermark: 100, bytesFrom: () => Number.POSITIVE_INFINITY, read }) as unknown as Partition;

it("is for whoever comes first, and for the very place", async () => {
  const memory = new ByteBudget(10_000);
  const ahead = new ReadAhead(memory);
  const partition = inFiles();
  ahead.begin(partition, 7, 1_000);
  expect(memory.heldBytes).toBe(1_000);
  expect(ahead.take(inFiles(), 7)).toBeUndefined();
  expect(ahead.take(partition, 8)).toBeUndefined();
  expect(await ahead.take(partition, 7)).toEqual([Buffer.from("found")]);
  expect(memory.heldBytes).toBe(0);
  expect(ahead.take(partition, 7)).toBeUndefined();
});

it("reads nothing that is in memory, that is not there yet, or for which memory is short", () => {
  const memory = new ByteBudget(4_000);
  const ahead = new ReadAhead(memory);
  ahead.begin({ ...inFiles(), bytesFrom: () => 10 } as Partition, 7, 1_000);
  ahead.begin({ ...inFiles(), bytesFrom: () => 0 } as Partition, 100, 1_000);
  ahead.begin(inFiles(), 7, 2_000); // of three quarters
  expect(memory.heldBytes).toBe(0);
});

it("begins behind what was given, when that has been sent and its memory is used again", async () => {
  const batch = batchOf([{ key: null, value: null, headers: NO_HEADERS, timestamp: 1 }]);
  const partition = { ...inFiles(async () => [batch]), logStartOffset: 0, leaderEpoch: 0 };
  const begun: number[] = [];
  const ahead = { take: () => undefined, begin: (_: Partition, offset: number) => begun.push(offset) };
  const log = { stream: () => ({ partitions: [partition] }) };
  const services = { log, ahead, memory: new ByteBudget(1 << 20), turns: new Turns() };
  const context = { ...services, signal: new EndSignal() } as unknown as ClientContext;
  const partitions = [{ partition: 0, fetchOffset: 0, partitionMaxBytes: 1 << 20, currentLeaderEpoch: -1 }];
  const body = { topics: [{ topic: "s", partitions }], sessionEpoch: -1, maxWaitMs: 0, minBytes: 0 };
  const asked = { ...body, maxBytes: 1 << 20, isolationLevel: 0 } as never;
  const answer = await fetch.handle(asked, context, { version: 11, correlationId: 1, clientId: null });
  expect(begun).toEqual([]);
  const [given] = answer?.responses?.[0]?.partitions?.[0]?.records ?? [];
  (given as Buffer).fill(0x7f);
  await new Promise((resolve) => setImmediate(resolve));
  expect(begun).toEqual([1]);
});

it("keeps few, the first that came, none for long, and an error for whoever asks", async () => {
  const memory = new ByteBudget(1 << 20);
  const ahead = new ReadAhead(memory);
  const partition = inFiles();
  for (let offset = 0; offset < 20; offset++) ahead.begin(partition, offset, 1_000);
  expect(memory.heldBytes).toBe(8_000);
  expect(ahead.take(partition, 8)).toBeUndefined();
  expect(await ahead.take(partition, 7)).toEqual([Buffer.from("found")]);
  ahead.begin(partition, 8, 1_000);
  expect(memory.heldBytes).toBe(8_000);
  ahead.sweep(performance.now() + 60_000);
  expect(memory.heldBytes).toBe(0);
  const broken = inFiles(() => Promise.reject(new Error("no disk")));
  ahead.begin(broken, 1, 1_000);
  await expect(ahead.take(broken, 1)).rejects.toThrow("no disk");
});

/** A stream whose records lie in the files: of record n all bytes are n. */
async function oldStream(records: number) {
  const log = await openStore("/data", { fileSystem: new MemoryFileSystem(), maxTailBytes: 1 });
  const partition = partitionOf(await log.createStream("old", 1, {}, "protocol"));
  for (let number = 0; number < records; number++) {
    const value = Buffer.alloc(40_000, number);
    const batch = batchOf([{ key: null, value, headers: NO_HEADERS, timestamp: 1 }]);
    await append(log, [{ partition, batch }]);
  }
  await log.checkpoint();
  return log;
}

function fetchOld(client: Client, fetchOffset: number, partitionMaxBytes: number) {
  const partitions = [{ partition: 0, fetchOffset, partitionMaxBytes }];
  const topics = [{ topic: "old", partitions }];
  return client.send("Fetch", 11, { maxWaitMs: 0, minBytes: 1, maxBytes: 4 << 20, topics });
}

it("gives each of many what is his, while memory is used again and others leave in the middle", async () => {
  broker = (await startBrokerOn(await oldStream(100))) as Broker<never>;
  const sizes = [50_000, 200_000, 600_000];
  const readers = Array.from({ length: 9 }, async (_, reader) => {
    const client = await (broker as Broker<never>).connect();
    for (let turn = 0; turn < 20; turn++) {
      const offsets = [1, 2, 3].map((step) => (reader * 11 + turn * 7 + step * 29) % 100);
      const asked = offsets.map((offset, at) => fetchOld(client, offset, sizes[(at + turn) % 3] as number));
      if (reader % 3 === 2 && turn === 10) {
        client.socket.destroy();
        return;
      }
      for (const [at, { responses }] of (await Promise.all(asked)).entries()) {
        const found = [...recordsOf(responses[0].partitions[0].records)];
        expect(found[0]?.offset).toBe(offsets[at]);
        for (const { offset, value } of found) expect(value?.equals(Buffer.alloc(40_000, offset))).toBe(true);
      }
    }
  });
  await Promise.all(readers);
});

it("gives consumers of old records what the files hold, and most of it was read before they asked", async () => {
  const taken = vi.spyOn(ReadAhead.prototype, "take");
  broker = (await startBrokerOn(await oldStream(60))) as Broker<never>;
  const client = await broker.connect();
  let answers = 0;
  for (let offset = 0; offset < 60; answers++) {
    const { responses } = await fetchOld(client, offset, 200_000);
    const [records] = responses[0].partitions[0].records;
    expect(records.at(-2)).toBe(endOffsetOf([records]) - 1);
    offset = endOffsetOf([records]);
  }
  const found = taken.mock.results.filter(({ value }) => value !== undefined);
  expect(found.length).toBeGreaterThan(answers / 2);
  taken.mockRestore();
});
