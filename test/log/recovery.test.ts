import { describe, expect, it } from "vitest";
import type { LogError } from "../../src/errors.ts";
import { decodeEntry, encodeEntry, newMark, readJournalFile } from "../../src/log/journal.ts";
import { StreamStore } from "../../src/log/stream-store.ts";
import { append, BY_CALLS, partitionOf, readAll, record, silentLogger } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

const DATA = "/data";
const SMALL = { journalFileBytes: 8192, maxJournalFiles: 3, maxTailBytes: 32768, upkeepMs: BY_CALLS };

async function open(disk: MemoryFileSystem): Promise<StreamStore> {
  const store = new StreamStore({ dataDir: DATA, logger: silentLogger, fileSystem: disk, ...SMALL });
  await store.start();
  return store;
}

/** What a reader sees of every stream but the catalog. */
async function contents(store: StreamStore): Promise<Record<string, string[]>> {
  const seen: Record<string, string[]> = {};
  for (const stream of store.streams) {
    if (stream.internal) continue;
    for (const partition of stream.partitions) {
      const records = await readAll(partition);
      records.forEach(({ offset }, index) => {
        expect(offset).toBe(partition.logStartOffset + index);
      });
      seen[`${stream.name}-${partition.index}`] = records.map(({ value }) => value?.toString() ?? "");
    }
  }
  return seen;
}

/** A disk as a kill leaves it after `count` commits to two partitions, and what had been acknowledged. */
async function killedAfter(
  count: number,
  options: { checkpointAt?: number; segmentBytes?: number } = {},
): Promise<{ disk: MemoryFileSystem; acknowledged: Record<string, string[]> }> {
  const disk = new MemoryFileSystem();
  const store = await open(disk);
  const stream = await store.createStream(
    "s",
    2,
    { segmentBytes: options.segmentBytes ?? 1 << 20 },
    "config",
  );
  const acknowledged: Record<string, string[]> = { "s-0": [], "s-1": [] };
  for (let at = 0; at < count; at++) {
    await append(store, [
      record(partitionOf(stream, 0), `k${at}`, `a${at}`),
      record(partitionOf(stream, 1), null, `b${at}`.padEnd(20 + (at % 7))),
    ]);
    acknowledged["s-0"]?.push(`a${at}`);
    acknowledged["s-1"]?.push(`b${at}`.padEnd(20 + (at % 7)));
    if (at === options.checkpointAt) await store.checkpoint();
  }
  const left = disk.snapshot();
  await store.close();
  return { disk: left, acknowledged };
}

const JOURNAL = `${DATA}/journal/0001.journal`;

function markOf(disk: MemoryFileSystem): Buffer {
  return Buffer.from(JSON.parse(disk.bytes(`${DATA}/meta.json`).toString()).mark, "base64url");
}

/** Where each entry of the journal's first file begins, and where the last one ends. */
function entryBounds(disk: MemoryFileSystem): number[] {
  const [bytes, mark] = [disk.bytes(JOURNAL), markOf(disk)];
  const bounds = [0];
  for (let entry = decodeEntry(bytes, 0, mark); entry !== undefined; ) {
    bounds.push((bounds.at(-1) as number) + entry.bytes);
    entry = decodeEntry(bytes, bounds.at(-1) as number, mark);
  }
  return bounds;
}

async function expectDamage(disk: MemoryFileSystem, code: string): Promise<LogError> {
  const error = await open(disk).then(
    () => undefined,
    (reason) => reason as LogError,
  );
  expect(error?.code).toBe(code);
  return error as LogError;
}

describe("recovery", () => {
  it("keeps every commit that is whole when the journal is cut at any byte", async () => {
    const { disk } = await killedAfter(6);
    const bounds = entryBounds(disk);
    const cuts = new Set(bounds.flatMap((bound) => [Math.max(0, bound - 1), bound, bound + 1]));
    for (let cut = 0; cut <= (bounds.at(-1) as number); cut += 7) cuts.add(cut);
    for (const cut of cuts) {
      const torn = disk.snapshot();
      torn.bytes(JOURNAL).fill(0xff, cut);
      const store = await open(torn);
      // The first entry made the stream.
      const whole = bounds.filter((end) => end <= cut).length - 2;
      const seen = await contents(store);
      expect(seen["s-0"]?.length ?? -1).toBe(whole < 0 ? -1 : whole);
      expect(seen["s-1"]?.length ?? -1).toBe(whole < 0 ? -1 : whole);
    }
  });

  it("takes a last entry torn at any byte for one that was never acknowledged", async () => {
    const { disk, acknowledged } = await killedAfter(4);
    const bounds = entryBounds(disk);
    const [from, to] = bounds.slice(-2) as [number, number];
    for (let at = from; at < to; at++) {
      const torn = disk.snapshot();
      torn.bytes(JOURNAL)[at] = (torn.bytes(JOURNAL)[at] as number) ^ 0x5a;
      const seen = await contents(await open(torn));
      expect(seen["s-0"]).toEqual(acknowledged["s-0"]?.slice(0, 3));
    }
  });

  it("says a damaged entry before sound ones aloud, at any byte of it", async () => {
    const { disk } = await killedAfter(4);
    const bounds = entryBounds(disk);
    const [from, to] = bounds.slice(1, 3) as [number, number];
    for (let at = from; at < to; at++) {
      const damaged = disk.snapshot();
      damaged.bytes(JOURNAL)[at] = (damaged.bytes(JOURNAL)[at] as number) ^ 0x5a;
      const error = await expectDamage(damaged, "JOURNAL_DAMAGED");
      expect(error.message).toContain(`${JOURNAL}: at byte ${from}`);
    }
  });

  it("replays over segments that are cut or torn anywhere behind the checkpoint", async () => {
    const { disk, acknowledged } = await killedAfter(12, { checkpointAt: 5 });
    const path = `${DATA}/streams/s-1/${"0".repeat(20)}.log`;
    const synced = disk.bytes(path).length;
    expect(synced).toBeGreaterThan(0);
    for (let extra = 0; extra <= 200; extra++) {
      const torn = disk.snapshot();
      const file = await torn.open(path, "write");
      // What a flush that was never synced may leave: a length with anything in it.
      await file.write([Buffer.alloc(extra, extra)], synced);
      expect(await contents(await open(torn))).toEqual(acknowledged);
    }
  });

  it("says it when a segment is shorter than its checkpoint, wherever it is cut", async () => {
    const { disk } = await killedAfter(8, { checkpointAt: 7 });
    const path = `${DATA}/streams/s-0/${"0".repeat(20)}.log`;
    const size = disk.bytes(path).length;
    for (let cut = 0; cut < size; cut++) {
      const damaged = disk.snapshot();
      await (await damaged.open(path, "write")).truncate(cut);
      await expectDamage(damaged, "DAMAGED");
    }
  });

  it("changes nothing when it recovers a recovered log", async () => {
    const { disk, acknowledged } = await killedAfter(30, { segmentBytes: 600 });
    await open(disk);
    const once = disk.snapshot();
    expect(await contents(await open(disk))).toEqual(acknowledged);
    const segments = once.paths.filter((path) => path.endsWith(".log"));
    expect(disk.paths.filter((path) => path.endsWith(".log"))).toEqual(segments);
    for (const path of segments) expect(disk.bytes(path).equals(once.bytes(path))).toBe(true);
  });

  it("does not take the entries of an earlier generation behind today's end for new ones", async () => {
    const disk = new MemoryFileSystem();
    let store = await open(disk);
    const stream = await store.createStream("s", 1, {}, "config");
    for (let at = 0; at < 300; at++) await append(store, [record(partitionOf(stream), null, `v${at}`)]);
    await store.close();
    const generations = new Set<number>();
    for (let round = 0; round < 5; round++) {
      store = await open(disk);
      await append(store, [record(partitionOf(store.stream("s")), null, `round ${round}`)]);
      const killed = disk.snapshot();
      for (const path of killed.paths.filter((one) => one.endsWith(".journal"))) {
        const bytes = killed.bytes(path);
        const mark = markOf(killed);
        for (let at = bytes.indexOf(mark); at >= 0; at = bytes.indexOf(mark, at + 1)) {
          const entry = decodeEntry(bytes, at, mark);
          if (entry !== undefined) generations.add(entry.generation);
        }
      }
      const values = (await contents(await open(killed)))["s-0"];
      expect(values).toHaveLength(300 + round + 1);
      expect(values?.at(-1)).toBe(`round ${round}`);
      await store.close();
    }
    // The scenario is only one if recycled files did hold old entries.
    expect(generations.size).toBeGreaterThan(5);
  });

  it("recovers when it is itself interrupted at any point", async () => {
    const { disk, acknowledged } = await killedAfter(30, { segmentBytes: 600, checkpointAt: 10 });
    // Every state of the disk that a recovery goes through is one that it can be killed in.
    const states: MemoryFileSystem[] = [];
    const watched = disk.snapshot();
    const opened = watched.open.bind(watched);
    watched.open = async (path, mode) => {
      states.push(watched.snapshot());
      return opened(path, mode);
    };
    await open(watched);
    expect(states.length).toBeGreaterThan(10);
    for (const state of states) expect(await contents(await open(state))).toEqual(acknowledged);
  });

  it("takes over what a crash left between the checkpoint's file and its name", async () => {
    const { disk, acknowledged } = await killedAfter(10, { checkpointAt: 5 });
    await (await disk.open(`${DATA}/checkpoint.tmp`, "write")).write([Buffer.from("half a che")], 0);
    expect(await contents(await open(disk))).toEqual(acknowledged);
  });

  it("makes a partition's folder anew from the journal when the crash came before it was made", async () => {
    const { disk, acknowledged } = await killedAfter(5);
    expect(disk.paths.some((path) => path.includes("/streams/"))).toBe(false);
    expect(await contents(await open(disk))).toEqual(acknowledged);
  });

  it("removes segments that were begun behind the checkpoint, and fills them again", async () => {
    const { disk, acknowledged } = await killedAfter(20, { segmentBytes: 400, checkpointAt: 3 });
    const name = `${"0".repeat(18)}15.log`;
    await (await disk.open(`${DATA}/streams/s-0/${name}`, "write")).write([Buffer.alloc(77, 7)], 0);
    expect(await contents(await open(disk))).toEqual(acknowledged);
  });

  it("does without indexes, and without believing wrong ones", async () => {
    const { disk, acknowledged } = await killedAfter(200, { checkpointAt: 150 });
    for (const change of ["remove", "zero", "garble"]) {
      const changed = disk.snapshot();
      const indexes = changed.paths.filter((path) => path.endsWith("index"));
      expect(indexes.length).toBeGreaterThan(0);
      for (const path of indexes) {
        if (change === "remove") await changed.remove(path);
        else changed.bytes(path).fill(change === "zero" ? 0 : 3);
      }
      expect(await contents(await open(changed))).toEqual(acknowledged);
    }
  });

  it("says a gap between the segments and the journal, with the folder's name", async () => {
    const { disk } = await killedAfter(20, { checkpointAt: 15 });
    await disk.remove(`${DATA}/streams/s-1`);
    await expectDamage(disk, "DAMAGED");
  });

  it("refuses a damaged checkpoint rather than guess", async () => {
    const { disk } = await killedAfter(5, { checkpointAt: 3 });
    const bytes = disk.bytes(`${DATA}/checkpoint`);
    bytes[30] = (bytes[30] as number) ^ 1;
    await expectDamage(disk, "DAMAGED");
  });

  it("does not take a payload for an entry, whatever an outsider puts into it", async () => {
    // An outsider may know everything of the format, but not the folder's mark.
    for (const secret of [newMark(), Buffer.alloc(16), Buffer.from("SLJ2............")]) {
      const forged = encodeEntry(secret, 1_000_000, 1_000_000_000, []);
      const disk = new MemoryFileSystem();
      let store = await open(disk);
      const stream = await store.createStream("s", 1, {}, "config");
      const payload = Buffer.concat(Array.from({ length: 20 }, () => Buffer.concat(forged.pieces)));
      for (let at = 0; at < 30; at++) {
        const entry = record(partitionOf(stream), null, "");
        await append(store, [{ ...entry, value: payload }]);
      }
      await store.close();
      // The recycled file holds the payloads behind its end.
      store = await open(disk);
      await append(store, [record(partitionOf(store.stream("s")), null, "new")]);
      const killed = disk.snapshot();
      expect(killed.bytes(JOURNAL).includes(forged.pieces[0] as Buffer)).toBe(true);
      expect((await contents(await open(killed)))["s-0"]).toHaveLength(31);
    }
  });

  it("refuses what was copied without its meta.json, and changes nothing in it", async () => {
    const { disk } = await killedAfter(3, { checkpointAt: 1 });
    await disk.remove(`${DATA}/meta.json`);
    const before = disk.snapshot();
    const error = await expectDamage(disk, "DATA_FOLDER_INCOMPLETE");
    expect(error.message).toContain("checkpoint, journal/0001.journal, streams/__catalog-0, 2 more");
    expect(disk.paths).toEqual(before.paths);
  });

  it("notices any flipped bit of meta.json", async () => {
    const { disk } = await killedAfter(1);
    const size = disk.bytes(`${DATA}/meta.json`).length;
    for (let at = 0; at < size; at++) {
      const damaged = disk.snapshot();
      damaged.bytes(`${DATA}/meta.json`)[at] = (damaged.bytes(`${DATA}/meta.json`)[at] as number) ^ 1;
      const error = await open(damaged).then(
        () => undefined,
        (reason) => reason as LogError,
      );
      expect(error?.code).toMatch(/^DATA_FOLDER/);
    }
  });

  it("refuses a folder of the format before the first release in words", async () => {
    const disk = new MemoryFileSystem();
    const file = await disk.open(`${DATA}/meta.json`, "write");
    await file.write([Buffer.from('{"version":1,"clusterId":"x"}\n')], 0);
    const error = await expectDamage(disk, "DATA_FOLDER_OLDER");
    expect(error.message).toContain("format 1");
    expect(error.exitCode).toBe(73);
  });

  it("refuses a folder of a newer format in words", async () => {
    const disk = new MemoryFileSystem();
    await (await disk.open(`${DATA}/meta.json`, "write")).write(
      [Buffer.from('{"version":99,"clusterId":"x"}')],
      0,
    );
    const error = await expectDamage(disk, "DATA_FOLDER_NEWER");
    expect(error.message).toContain("newer Sluice");
    expect(error.exitCode).toBe(73);
  });
});

it("a number that a refused write left in an earlier generation proves no damage, where another one tore the file", () => {
  const mark = newMark();
  const entries = [15, 16, 17].map((sequence) => encodeEntry(mark, 4, sequence, []).pieces);
  const content = Buffer.concat([...entries.flat(), Buffer.alloc(100)]);
  // 17 was refused, and the next generation began with it; the file was free again, and a write to it tore its beginning.
  const [head] = encodeEntry(mark, 11, 24, []).pieces as [Buffer];
  head.copy(content, 0, 0, 28);
  expect(decodeEntry(content, 0, mark)).toBeUndefined();
  expect(readJournalFile(content, { sequence: 16, generation: 7 }, mark)).toBeUndefined();
  expect(readJournalFile(content, { sequence: 16, generation: 4 }, mark)?.damagedAt).toBe(0);
});
