import fc from "fast-check";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import type { BatchAppend, Partition, StreamSettings } from "../../src/log/log.ts";
import { StreamStore, type StreamStoreOptions } from "../../src/log/stream-store.ts";
import type { StoredRecord } from "../../src/record.ts";
import { Turns } from "../../src/turns.ts";
import {
  baseOffsetOf,
  batchBytes,
  codecOf,
  deleteHorizonOf,
  lastOffsetOf,
  maxTimestampOf,
  NO_HEADERS,
  producerIdOf,
  recordsOf,
} from "../../src/wire/record-batch.ts";
import { sentBatch } from "../support/batches.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { append, BY_CALLS, openStore, partitionOf, readAll, record, silentLogger } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

const DAY_MS = 24 * 3_600_000;
const COMPACT: Partial<StreamSettings> = { cleanup: "compact", segmentBytes: 400, deleteRetentionMs: 1000 };

interface World {
  readonly disk: MemoryFileSystem;
  readonly store: StreamStore;
  readonly partition: Partition;
}

async function world(
  settings: Partial<StreamSettings> = {},
  options: Partial<StreamStoreOptions> = {},
): Promise<World> {
  const disk = new MemoryFileSystem();
  const store = await openStore("/data", { fileSystem: disk, maxTailBytes: 0, ...options });
  const stream = await store.createStream("s", 1, { ...COMPACT, ...settings }, "config");
  return { disk, store, partition: partitionOf(stream) };
}

async function reopen(disk: MemoryFileSystem, options: Partial<StreamStoreOptions> = {}): Promise<World> {
  const store = await openStore("/data", { fileSystem: disk, maxTailBytes: 0, ...options });
  return { disk, store, partition: partitionOf(store.stream("s")) };
}

/** Writes `rounds` values of each key, so that all but the last few segments are settled. */
async function fill(
  { store, partition }: World,
  keys: number,
  rounds: number,
  valueBytes = 40,
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    for (let key = 0; key < keys; key++) {
      await append(store, [record(partition, `k${key}`, `v${round}`.padEnd(valueBytes))]);
    }
  }
  await store.checkpoint();
}

it("comes at once after a start: what is killed before a round is over does not start slower each time", async () => {
  const before = await world();
  await fill(before, 3, 40);
  const { sizeBytes } = before.partition;
  const { partition } = await reopen(before.disk.snapshot(), { upkeepMs: 3_600_000 });
  await expect.poll(() => partition.sizeBytes).toBeLessThan(sizeBytes / 2);
});

async function send(store: StreamStore, partition: Partition, batch: Buffer): Promise<number> {
  const entry: BatchAppend = { partition, batch };
  await append(store, [entry]);
  return entry.offset as number;
}

/** Pushes everything before it into settled segments. */
async function settle({ store, partition }: World): Promise<void> {
  for (let at = 0; at < 8; at++) await append(store, [record(partition, "end", `${at}`.padEnd(100))]);
  await store.checkpoint();
}

type State = Record<string, string>;

/** What a reader knows that has seen these records. */
function stateOf(records: readonly { key: Buffer | null; value: Buffer | null }[]): State {
  const state = new Map<string, string>();
  for (const { key, value } of records) {
    if (value === null) state.delete(String(key));
    else state.set(String(key), String(value));
  }
  return Object.fromEntries([...state].sort());
}

const brief = (records: readonly StoredRecord[]) =>
  records.map(({ offset, key, value }) => `${offset} ${key}=${value?.toString().trim()}`);

async function batchesOf(partition: Partition): Promise<Buffer[]> {
  const batches: Buffer[] = [];
  for (let offset = 0; offset < partition.highWatermark; ) {
    for (const buffer of await partition.read(offset, 1 << 20)) {
      for (let at = 0; at < buffer.length; at += batchBytes(buffer, at)) {
        batches.push(buffer.subarray(at, at + batchBytes(buffer, at)));
        offset = lastOffsetOf(buffer, at) + 1;
      }
    }
  }
  return batches;
}

const leftovers = (disk: MemoryFileSystem) => disk.paths.filter((path) => /\.compact/.test(path));

describe("compaction", () => {
  it("keeps the latest record of each key where it was, and gives back the rest", async () => {
    const all = await world();
    const { store, partition, disk } = all;
    await fill(all, 3, 30);
    const before = partition.sizeBytes;
    const state = stateOf(await readAll(partition));
    const records = await readAll(partition);
    await store.compact();
    expect(partition.sizeBytes).toBeLessThan(before / 4);
    expect([partition.logStartOffset, partition.highWatermark]).toEqual([0, 90]);
    const kept = await readAll(partition);
    expect(stateOf(kept)).toEqual(state);
    for (const one of kept) expect(one).toEqual(records[one.offset]);
    expect(disk.paths.filter((path) => path.startsWith("/data/streams/s-0/"))).not.toContain(/compact/);

    const again = await reopen(disk.snapshot());
    expect(brief(await readAll(again.partition))).toEqual(brief(kept));
  });

  it("has its turns as a client has, so that it pauses beside others", async () => {
    const turnsTookMs: number[] = [];
    let held: (() => void) | undefined;
    class HeldTurns extends Turns {
      override end(_client: object, tookMs: number, _sinceMs: number, goOn: () => void): boolean {
        turnsTookMs.push(tookMs);
        held = goOn;
        return false;
      }
    }
    const all = await world({ segmentBytes: 100_000 }, { turns: new HeldTurns() });
    const { store, partition } = all;
    for (let round = 0; round < 50; round++) {
      const keys = Array.from({ length: 500 }, (_, key) => record(partition, `k${key}`, `v${round}`));
      await append(store, keys);
    }
    await store.checkpoint();
    const before = partition.sizeBytes;
    let isOver = false;
    const compaction = store.compact().then(() => {
      isOver = true;
    });
    while (!isOver) {
      await expect.poll(() => isOver || held !== undefined, { interval: 1 }).toBe(true);
      const goOn = held;
      held = undefined;
      goOn?.();
    }
    await compaction;
    expect(partition.sizeBytes).toBeLessThan(before / 2);
    expect(turnsTookMs.length).toBeGreaterThan(0);
    expect(Math.min(...turnsTookMs)).toBeGreaterThanOrEqual(0.5);
  });

  it("does not pause for what others did between, or a flood would starve it", async () => {
    let pauses = 0;
    class CountedTurns extends Turns {
      override end(_client: object, _tookMs: number, _sinceMs: number, goOn: () => void): boolean {
        pauses++;
        setImmediate(goOn);
        return true;
      }
    }
    const all = await world({ segmentBytes: 10_000 }, { turns: new CountedTurns() });
    const { store, partition } = all;
    for (let round = 0; round < 50; round++) {
      const keys = Array.from({ length: 100 }, (_, key) => record(partition, `k${key}`, `v${round}`));
      await append(store, keys);
    }
    await settle(all);
    const before = partition.sizeBytes;
    // Time goes by only while others work: a turn of 5 ms at each of the event loop's.
    vi.useFakeTimers({ toFake: ["performance"] });
    let othersTurns = 0;
    let next = setImmediate(function flood() {
      othersTurns++;
      vi.advanceTimersByTime(5);
      next = setImmediate(flood);
    });
    onTestFinished(() => {
      clearImmediate(next);
      vi.useRealTimers();
    });
    await store.compact();
    expect(partition.sizeBytes).toBeLessThan(before);
    expect(othersTurns).toBeGreaterThan(20);
    expect(pauses).toBeLessThan(othersTurns / 10);
  });

  it("holds its laws whatever is written, compacted, killed and restarted in between", async () => {
    const key = fc.integer({ min: 0, max: 7 }).map((n) => `k${n}`);
    const value = fc.option(fc.string({ maxLength: 60 }), { freq: 3 });
    const records = fc.array(fc.record({ key, value }), { minLength: 1, maxLength: 6 });
    const step = fc.oneof(
      { weight: 8, arbitrary: fc.record({ do: fc.constant("append" as const), records }) },
      {
        weight: 4,
        arbitrary: fc.record({
          do: fc.constant("send" as const),
          records,
          codec: fc.constantFrom(0, 1, 2),
        }),
      },
      { weight: 4, arbitrary: fc.record({ do: fc.constant("checkpoint" as const) }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constant("compact" as const) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant("wait" as const) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant("kill" as const) }) },
      {
        weight: 1,
        arbitrary: fc.record({
          do: fc.constant("set the clock" as const),
          ms: fc.constantFrom(-50 * 365 * DAY_MS, -DAY_MS, DAY_MS, 50 * 365 * DAY_MS),
        }),
      },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 10, maxLength: 60 }),
        fc.constantFrom(2, 1000),
        fc.constantFrom(0, 1000),
        fc.nat(),
        async (steps, maxCompactionKeys, deleteRetentionMs, somewhere) => {
          const clock = new FakeClock();
          const options = { clock, maxCompactionKeys };
          let { disk, store, partition } = await world({ segmentBytes: 250, deleteRetentionMs }, options);
          const written: { key: Buffer; value: Buffer | null; at: number }[] = [];
          for (const one of steps) {
            if (one.do === "append" || one.do === "send") {
              const bytes = one.records.map(({ key, value }) => ({
                key: Buffer.from(key),
                value: value === null ? null : Buffer.from(value),
              }));
              for (const { key, value } of bytes) written.push({ key, value, at: clock.now() });
              if (one.do === "send") {
                await send(store, partition, sentBatch(one.records, { codec: one.codec }));
              } else {
                const target = partition;
                await append(
                  store,
                  bytes.map((kv) => ({ partition: target, ...kv, headers: NO_HEADERS, timestamp: 5000 })),
                );
              }
            } else if (one.do === "checkpoint") await store.checkpoint();
            else if (one.do === "compact") await store.compact();
            else if (one.do === "wait") clock.advance(700);
            else if (one.do === "set the clock") clock.jump(one.ms);
            else {
              const killed = disk.snapshot();
              await store.close();
              ({ disk, store, partition } = await reopen(killed, options));
            }
          }
          const seen = await readAll(partition);
          expect([partition.logStartOffset, partition.highWatermark]).toEqual([0, written.length]);
          expect(stateOf(seen)).toEqual(stateOf(written));
          for (const [index, { offset, key, value }] of seen.entries()) {
            expect(offset).toBeGreaterThan(seen[index - 1]?.offset ?? -1);
            expect({ key, value }).toEqual({ key: written[offset]?.key, value: written[offset]?.value });
          }
          // The last word on each key is there even if it is a deletion, until its time has passed.
          const latest = new Map(written.map(({ key }, offset) => [String(key), offset]));
          const offsets = new Set(seen.map(({ offset }) => offset));
          for (const offset of latest.values()) {
            const { value, at } = written[offset] as (typeof written)[number];
            if (value !== null || clock.now() < at + deleteRetentionMs) expect(offsets).toContain(offset);
          }
          const from = somewhere % (written.length + 1);
          expect(brief(await readAll(partition, from))).toEqual(
            brief(seen.filter(({ offset }) => offset >= from)),
          );
          await store.close();
        },
      ),
      { numRuns: 100 },
    );
  });

  it("shows a deletion for its time and then no longer, counted from when what it deletes has gone", async () => {
    const clock = new FakeClock();
    const all = await world({}, { clock });
    const { store, partition } = all;
    await append(store, [record(partition, "gone", "x")]);
    await append(store, [{ ...record(partition, "gone", ""), value: null, timestamp: 77 }]);
    await settle(all);
    clock.advance(1_000_000);
    const met = clock.wallTime();
    await store.compact();
    const [tombstone] = await readAll(partition);
    expect(tombstone).toMatchObject({ offset: 1, value: null, timestamp: 77 });
    const horizons = (await batchesOf(partition)).map((batch) => deleteHorizonOf(batch));
    expect(horizons[0]).toBe(met + 1000);

    const passAfter = async (ms: number) => {
      clock.advance(ms);
      await settle(all);
      await store.compact();
      return (await readAll(partition)).some(({ offset }) => offset === 1);
    };
    clock.jump(50 * 365 * DAY_MS);
    expect(await passAfter(999)).toBe(true);
    clock.jump(-100 * 365 * DAY_MS);
    expect(await passAfter(1)).toBe(false);
  });

  it("compacts what fits when there are more keys than it can know, and the rest in later passes", async () => {
    const all = await world({}, { maxCompactionKeys: 7 });
    await fill(all, 40, 3);
    const { store, partition } = all;
    const state = stateOf(await readAll(partition));
    const sizes = [partition.sizeBytes];
    for (let pass = 0; pass < 20; pass++) {
      await store.compact();
      expect(stateOf(await readAll(partition))).toEqual(state);
      sizes.push(partition.sizeBytes);
    }
    expect(sizes).toEqual([...sizes].sort((a, b) => b - a));
    // Passes end when more than half is clean; two thirds of it could go at most.
    expect(sizes.at(-1)).toBeLessThan((sizes[0] as number) * 0.8);
  });

  it("writes nothing when little is new, or nothing would go", async () => {
    const all = await world();
    await fill(all, 3, 30);
    await all.store.compact();
    const written: string[] = [];
    const { open, rename } = all.disk;
    all.disk.rename = (from, to) => {
      written.push(to);
      return rename.call(all.disk, from, to);
    };
    await all.store.compact();
    expect(written).toEqual([]);
    const again = await reopen(all.disk.snapshot());
    const bytes = again.disk.paths.map((path) => [path, again.disk.bytes(path).length]);
    await again.store.compact();
    expect(again.disk.paths.map((path) => [path, again.disk.bytes(path).length])).toEqual(bytes);
    expect(open).toBeDefined();
  });

  it("leaves a reader in the middle of an old segment undisturbed, and answers one that comes too late", async () => {
    const filled = await world();
    await fill(filled, 3, 30);
    // Started anew, no segment is open and no index loaded.
    const { store, partition } = await reopen(filled.disk.snapshot());
    const before = brief(await readAll(partition));
    const state = stateOf(await readAll(partition));
    const compacting = store.compact();
    // Readers at every place, before, while and after segments are replaced under them.
    let isDone = false;
    void compacting.then(() => {
      isDone = true;
    });
    const readers: Promise<readonly Buffer[]>[] = [];
    const lookUps: Promise<unknown>[] = [];
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    for (let offset = 0; !isDone; offset = (offset + 7) % 90) {
      readers.push(Promise.resolve(partition.read(offset, 300)));
      lookUps.push(partition.offsetForTimestamp(1), partition.offsetForTimestamp(Number.MAX_SAFE_INTEGER));
      await turn();
    }
    expect(readers.length).toBeGreaterThan(0);
    for (const found of await Promise.all(readers)) {
      expect(found.length).toBeGreaterThan(0);
      for (const line of brief([...recordsOf(found)])) expect(before).toContain(line);
    }
    for (const found of await Promise.all(lookUps)) {
      if (found !== undefined) expect(found).toMatchObject({ timestamp: 1_700_000_000_000 });
    }
    expect(stateOf(await readAll(partition))).toEqual(state);
  });

  it("lets who is looking for a time look again when segments are replaced meanwhile", async () => {
    const filled = await world();
    await fill(filled, 3, 30);
    const { store, partition, disk } = await reopen(filled.disk.snapshot());
    let go = () => {};
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    // The look-up waits for the first segment's index, which compaction does not read.
    const readFile = disk.readFile.bind(disk);
    disk.readFile = async (path) => {
      if (path.endsWith(`${"0".repeat(20)}.index`)) await gate;
      return readFile(path);
    };
    const looking = partition.offsetForTimestamp(Number.MAX_SAFE_INTEGER);
    await store.compact();
    go();
    expect(await looking).toBeUndefined();
  });

  it("does not take what is the end of all that is synced: its place would be lost", async () => {
    const { disk, store, partition } = await world({ deleteRetentionMs: 0 }, { maxTailBytes: 1 << 20 });
    await append(store, [record(partition, "x", "1")]);
    await append(store, [{ ...record(partition, "x", ""), value: null }]);
    await store.checkpoint();
    await append(store, [record(partition, "y", "".padEnd(390))]);
    await store.compact();
    const again = await reopen(disk.snapshot());
    expect(again.partition.highWatermark).toBe(3);
    expect(stateOf(await readAll(again.partition))).toEqual({ y: "".padEnd(390) });
  });

  it("is read from any offset, in a gap too, and reads on behind a batch whose last records went", async () => {
    const all = await world();
    const { store, partition } = all;
    const keys = ["once", "a", "a", "a", "a"];
    await append(
      store,
      keys.map((key, at) => record(partition, key, `${at}`.padEnd(60))),
    );
    await settle(all);
    await append(store, [record(partition, "a", "last")]);
    for (let at = 0; at < 8; at++) await append(store, [record(partition, "end", "".padEnd(100))]);
    await store.checkpoint();
    await store.compact();
    const everything = await readAll(partition);
    expect(everything.slice(0, 2).map(({ offset }) => offset)).toEqual([0, 13]);
    for (let from = 0; from < partition.highWatermark; from++) {
      const found = [...recordsOf(await partition.read(from, 1 << 20))].filter(
        ({ offset }) => offset >= from,
      );
      expect(brief(found)).toEqual(brief(everything.filter(({ offset }) => offset >= from)));
    }
    expect(await partition.offsetForTimestamp(0)).toMatchObject({ offset: 0 });
    expect(await partition.maxTimestamp()).toMatchObject({ timestamp: 1_700_000_000_000 });
  });

  it("keeps batches that it cannot look into, and the deletions behind them", async () => {
    const clock = new FakeClock();
    const settings = { segmentBytes: 600, deleteRetentionMs: 0, retentionMs: -1 };
    const all = await world({ ...settings, cleanup: "delete" }, { clock });
    const { store, partition } = all;
    const unreadable = Buffer.from("lz4, for all we know");
    await send(store, partition, sentBatch([{ key: "x", value: "1" }], { codec: 3, body: unreadable }));
    // 20 MB of nothing in 20 kB.
    const bomb = sentBatch([{ key: "x", value: "1" }], { codec: 1, body: Buffer.alloc(20 << 20) });
    await send(store, partition, bomb);
    await store.alterStream("s", { settings: { cleanup: "compact" } });
    await append(store, [{ ...record(partition, "x", ""), value: null }]);
    await append(store, [record(partition, "y", "1")]);
    await settle(all);
    for (let pass = 0; pass < 3; pass++) {
      clock.advance(10_000);
      await store.compact();
      await settle(all);
    }
    const batches = await batchesOf(partition);
    expect(batches.slice(0, 4).map((batch) => baseOffsetOf(batch))).toEqual([0, 1, 2, 3]);
    expect(batches[0]?.subarray(-unreadable.length).equals(unreadable)).toBe(true);
    expect(batches[1]?.length).toBe(bomb.length);
  });

  it.each([
    ["gzip", 1],
    ["snappy, which goes on as gzip", 2],
  ])("looks into %s, and leaves the producer and the sequence as they were", async (_, codec) => {
    const all = await world();
    const { store, partition } = all;
    const records = [
      { key: "a", value: "1", timestamp: 10 },
      { key: "b", value: "2", timestamp: 30 },
      { key: "a", value: "3", timestamp: 20 },
      { key: "b", value: "4", timestamp: 5 },
    ];
    await send(store, partition, sentBatch(records, { codec, producerId: 7, sequence: 0 }));
    await settle(all);
    await store.compact();
    const [batch] = (await batchesOf(partition)) as [Buffer];
    expect([codecOf(batch), producerIdOf(batch), baseOffsetOf(batch), lastOffsetOf(batch)]).toEqual([
      1, 7, 0, 3,
    ]);
    expect(maxTimestampOf(batch)).toBe(20);
    expect((await readAll(partition)).slice(0, 2)).toMatchObject([
      { offset: 2, timestamp: 20 },
      { offset: 3, timestamp: 5 },
    ]);
  });

  it("does not make an idempotent producer forget what it has sent, across restarts", async () => {
    const all = await world();
    const batch = (sequence: number) =>
      sentBatch([{ key: "k", value: `${sequence}` }], { producerId: 9, sequence });
    for (let sequence = 0; sequence < 20; sequence++) {
      expect(await send(all.store, all.partition, batch(sequence))).toBe(sequence);
    }
    await append(all.store, [record(all.partition, "k", "newest")]);
    await settle(all);
    await all.store.compact();
    expect((await readAll(all.partition)).every(({ offset }) => offset >= 20)).toBe(true);
    for (const { store, partition } of [all, await reopen(all.disk.snapshot())]) {
      expect(await send(store, partition, batch(19))).toBe(19);
      await expect(send(store, partition, batch(21))).rejects.toMatchObject({
        code: "OUT_OF_ORDER_SEQUENCE",
      });
      expect(await send(store, partition, batch(20))).toBe(29);
    }
  });

  it("refuses records without a key on a compacted stream, and what does not parse, compressed or not", async () => {
    const { store, partition } = await world();
    const refused = { code: "KEYLESS_RECORD" };
    await expect(append(store, [record(partition, null, "x")])).rejects.toMatchObject(refused);
    for (const codec of [0, 1, 2]) {
      const records = [
        { key: "a", value: "1" },
        { key: null, value: "2" },
      ];
      await expect(send(store, partition, sentBatch(records, { codec }))).rejects.toMatchObject(refused);
    }
    const garbage = sentBatch([{ key: "a", value: "1" }], { body: Buffer.from("no records") });
    const bomb = sentBatch([{ key: "a", value: "1" }], { codec: 1, body: Buffer.alloc(20 << 20) });
    const unreadable = sentBatch([{ key: "a", value: "1" }], { codec: 3, body: Buffer.from("no lz4") });
    // Length, attributes, time, offset, key "k", value "v", one header: its name is null.
    const body = Buffer.from([20, 0, 0, 0, 2, 107, 2, 118, 2, 1, 0]);
    const [plain, gzipped] = [0, 1].map((codec) => sentBatch([{ key: "k", value: "v" }], { codec, body }));
    for (const one of [garbage, bomb, unreadable, plain as Buffer, gzipped as Buffer]) {
      await expect(send(store, partition, one)).rejects.toMatchObject({ code: "INVALID_RECORDS" });
    }
    expect(partition.highWatermark).toBe(0);
  });

  it("keeps records that had no key when the stream became a compacted one", async () => {
    const all = await world({ cleanup: "delete", retentionMs: -1 });
    const { store, partition } = all;
    await append(store, [record(partition, null, "old")]);
    await fill(all, 2, 30);
    await store.alterStream("s", { settings: { cleanup: "compact" } });
    await store.compact();
    expect(brief(await readAll(partition)).at(0)).toBe("0 null=old");
    // And back: what compaction left empty or with gaps is retention's like the rest.
    await store.alterStream("s", { settings: { cleanup: "delete", retentionBytes: 0 } });
    await store.retain();
    expect(partition.logStartOffset).toBeGreaterThan(50);
  });

  it("goes by age and size as well where a stream asks for both", async () => {
    const all = await world({ cleanup: "compact,delete", retentionMs: -1 });
    const { store, partition } = all;
    await fill(all, 3, 40);
    const before = partition.sizeBytes;
    await store.compact();
    expect(partition.sizeBytes).toBeLessThan(before / 2);
    expect(partition.logStartOffset).toBe(0);
    expect(new Set((await readAll(partition)).map(({ key }) => String(key))).size).toBe(3);
    await expect(append(store, [record(partition, null, "x")])).rejects.toMatchObject({
      code: "KEYLESS_RECORD",
    });
    await store.alterStream("s", { settings: { retentionBytes: 0 } });
    await store.retain();
    expect(partition.logStartOffset).toBeGreaterThan(100);
  });

  it("keeps what the gateway itself reads at its start small, without being told so", async () => {
    const disk = new MemoryFileSystem();
    const store = await openStore("/data", { fileSystem: disk, maxTailBytes: 0 });
    const partition = partitionOf(await store.createStream("__state", 1, {}, "internal"));
    for (let at = 0; at < 800; at++) {
      const entries = Array.from({ length: 4 }, (_, n) =>
        record(partition, `k${(at * 4 + n) % 50}`, "x".repeat(1000)),
      );
      await append(store, entries);
    }
    expect(partition.sizeBytes).toBeGreaterThan(3 << 20);
    await store.checkpoint();
    await store.compact();
    expect(partition.sizeBytes).toBeLessThan(1.2 * (1 << 20));
    expect(new Set((await readAll(partition)).map(({ key }) => String(key))).size).toBe(50);
  });

  it("does not make damage good: a segment with a flipped bit stays as it is", async () => {
    const all = await world();
    await fill(all, 3, 30);
    const path = all.disk.paths.filter((one) => one.endsWith(".log") && one.includes("/s-0/"))[2] as string;
    const at = 100;
    all.disk.bytes(path)[at] = (all.disk.bytes(path)[at] as number) ^ 4;
    const before = Buffer.from(all.disk.bytes(path));
    await all.store.compact();
    expect(all.disk.bytes(path).equals(before)).toBe(true);
    expect(leftovers(all.disk)).toEqual([]);
  });

  it("notices a base offset that cannot be, which no checksum covers, in compacted segments too", async () => {
    const all = await world();
    await fill(all, 3, 30);
    await all.store.compact();
    await all.store.close();
    const path = all.disk.paths.find(
      (one) => one.endsWith(".log") && one.includes("/s-0/") && all.disk.bytes(one).length > 0,
    ) as string;
    for (const wrong of [-1, 1 << 20]) {
      const damaged = all.disk.snapshot();
      for (const index of damaged.paths.filter((one) => one.endsWith("index"))) await damaged.remove(index);
      damaged.bytes(path).writeBigInt64BE(BigInt(wrong), 0);
      const { partition } = await reopen(damaged);
      await expect(readAll(partition)).rejects.toMatchObject({ code: "DAMAGED" });
    }
  });

  it("stops when its stream is deleted or the gateway stops, and leaves nothing behind", async () => {
    for (const end of ["delete", "close"] as const) {
      const all = await world({ segmentBytes: 4000 });
      await fill(all, 10, 100);
      const compacting = all.store.compact();
      await new Promise((resolve) => setImmediate(resolve));
      await (end === "delete" ? all.store.deleteStream("s") : all.store.close());
      await compacting;
      expect(leftovers(all.disk)).toEqual([]);
      if (end === "delete") expect(all.disk.paths.some((path) => path.includes("/s-0/"))).toBe(false);
    }
  });
});

describe("a crash while segments are replaced", () => {
  /** Every state of the disk between two of its operations, while `work` runs. */
  async function statesWhile(disk: MemoryFileSystem, work: () => Promise<unknown>) {
    const states: MemoryFileSystem[] = [];
    const watched = ["open", "rename", "link", "remove", "syncFolder"] as const;
    const original = watched.map((name) => [name, disk[name]] as const);
    for (const [name, operation] of original) {
      Object.assign(disk, {
        [name]: (...args: string[]) => {
          states.push(disk.snapshot());
          return (operation as (...args: string[]) => unknown).apply(disk, args);
        },
      });
    }
    await work();
    for (const [name] of original) delete (disk as unknown as Record<string, unknown>)[name];
    states.push(disk.snapshot());
    return states;
  }

  async function crashes(segmentBytes = 400) {
    // A small journal: these disks are copied many times.
    const all = await world({ segmentBytes }, { journalFileBytes: 1 << 14 });
    const rounds = 14;
    const valueBytes = segmentBytes / 12;
    await fill(all, 3, rounds, valueBytes);
    // Small segments, compacted once, become one the next time: runs of one and runs of several.
    await all.store.compact();
    for (let at = 0; at < rounds; at++) await append(all.store, [record(all.partition, `once${at}`, "")]);
    await fill(all, 3, rounds, valueBytes);
    const records = await readAll(all.partition);
    const states = await statesWhile(all.disk, () => all.store.compact());
    return { states, records, state: stateOf(records), end: all.partition.highWatermark };
  }

  async function check(
    disk: MemoryFileSystem,
    expected: Omit<Awaited<ReturnType<typeof crashes>>, "states">,
  ) {
    const store = new StreamStore({
      dataDir: "/data",
      logger: silentLogger,
      fileSystem: disk,
      journalFileBytes: 1 << 14,
      upkeepMs: BY_CALLS,
    });
    await store.start();
    const partition = partitionOf(store.stream("s"));
    const seen = await readAll(partition);
    expect(stateOf(seen)).toEqual(expected.state);
    expect([partition.logStartOffset, partition.highWatermark]).toEqual([0, expected.end]);
    const lines = brief(expected.records);
    for (const line of brief(seen)) expect(lines).toContain(line);
    expect(new Set(brief(seen)).size).toBe(seen.length);
    for (let from = 0; from < expected.end; from += 1 + (expected.end >> 3)) {
      const [first] = await readAll(partition, from);
      expect(first?.offset).toBe(seen.find(({ offset }) => offset >= from)?.offset);
    }
    expect(leftovers(disk)).toEqual([]);
    const indexes = disk.paths.filter((path) => path.endsWith("index"));
    for (const path of indexes) expect(disk.paths).toContain(path.replace(/\.\w+$/, ".log"));
    return store;
  }

  it.each([
    ["small", 400],
    ["large enough for indexes", 8000],
  ])("leaves either the old or the compacted form, at any moment: %s segments", async (_, segmentBytes) => {
    const { states, ...expected } = await crashes(segmentBytes);
    expect(states.length).toBeGreaterThan(20);
    for (const state of states) await check(state, expected);
  });

  it("and one while the start puts it in order does so, too", async () => {
    const { states, ...expected } = await crashes();
    const taken = (path: string) => path.endsWith(".compacted");
    // One replacement goes like the other: some moments of each kind will do.
    const interrupted = [
      ...states.filter((state) => leftovers(state).some(taken)).slice(0, 5),
      ...states.filter((state) => leftovers(state).length > 0 && !leftovers(state).some(taken)).slice(-1),
    ];
    expect(interrupted).toHaveLength(6);
    for (const state of interrupted) {
      const during = await statesWhile(state, () => check(state, expected));
      // Once nothing is left over it is a start like any other.
      const open = during.filter((one) => leftovers(one).length > 0);
      for (const one of open) await check(one, expected);
    }
  });

  it("removes a compacted form that had not been finished", async () => {
    const { states, ...expected } = await crashes();
    const half = states.find((state) => leftovers(state).some((path) => path.endsWith(".compacting")));
    await (
      await (half as MemoryFileSystem).open(leftovers(half as MemoryFileSystem)[0] as string, "write")
    ).write([Buffer.alloc(99, 9)], 0);
    await check(half as MemoryFileSystem, expected);
  });

  it("does without the hint of how far compaction has come", async () => {
    const { states, ...expected } = await crashes();
    const disk = states.at(-1) as MemoryFileSystem;
    for (const content of [undefined, "sluice-compaction 1\n99999", "?"]) {
      const changed = disk.snapshot();
      await changed.remove("/data/streams/s-0/compaction");
      if (content !== undefined) {
        await (await changed.open("/data/streams/s-0/compaction", "write")).write([Buffer.from(content)], 0);
      }
      const store = await check(changed, expected);
      await store.compact();
      await store.close();
      await check(changed, expected);
    }
  });
});
