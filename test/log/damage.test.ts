/** Whatever byte flips, and whatever file is missing: found, never served, and mended as far as it can be. */
import { describe, expect, it } from "vitest";
import type { LogError } from "../../src/errors.ts";
import { inspect } from "../../src/log/inspection.ts";
import { repair } from "../../src/log/repair.ts";
import { StreamStore } from "../../src/log/stream-store.ts";
import { recordsOf } from "../../src/wire/record-batch.ts";
import { sentBatch } from "../support/batches.ts";
import { append, BY_CALLS, partitionOf, readAll, record, silentLogger, values } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

const DATA = "/data";

async function open(disk: MemoryFileSystem): Promise<StreamStore> {
  const store = new StreamStore({
    ...{ dataDir: DATA, logger: silentLogger, fileSystem: disk },
    // So few that the oldest entries are gone from the journal.
    ...{ journalFileBytes: 8192, maxJournalFiles: 2, maxTailBytes: 0, upkeepMs: BY_CALLS },
  });
  await store.start();
  return store;
}

const RECORDS = 30;

/** A small log: segments, with indexes where records are of 600 bytes, and what is in the journal only. */
async function small(bytes = 600): Promise<MemoryFileSystem> {
  const disk = new MemoryFileSystem();
  const store = await open(disk);
  const stream = await store.createStream("s", 1, { segmentBytes: 15 * Math.max(bytes, 80) }, "config");
  for (let at = 0; at < RECORDS; at++) {
    await append(store, [record(partitionOf(stream), null, `${at}`.padEnd(bytes), 1_700_000_000_000 + at)]);
    if (at === RECORDS - 5) await store.checkpoint();
  }
  const left = disk.snapshot();
  await store.close();
  return left;
}

const number = (value: string): number => Number.parseInt(value, 10);

/** Offset and value of each record that a reader is shown, as far as it comes; a wrong one ends the test. */
async function shown(disk: MemoryFileSystem): Promise<{ offsets: number[]; error: LogError | undefined }> {
  const offsets: number[] = [];
  try {
    const store = await open(disk);
    const partition = partitionOf(store.stream("s"));
    for (let offset = partition.logStartOffset; offset < partition.highWatermark; offset++) {
      const [first] = await readOne(partition, offset);
      expect(first).toEqual({ offset, value: offset });
      offsets.push(offset);
    }
    for (const at of [0, 7, 20]) {
      const found = await partition.offsetForTimestamp(1_700_000_000_000 + at);
      expect(found).toEqual({ offset: at, timestamp: 1_700_000_000_000 + at });
    }
    await store.close();
    return { offsets, error: undefined };
  } catch (error) {
    if ((error as LogError).code === undefined) throw error;
    return { offsets, error: error as LogError };
  }
}

async function readOne(partition: ReturnType<typeof partitionOf>, offset: number) {
  const batches = await partition.read(offset, 1);
  return [...recordsOf(batches)].map((one) => ({
    offset: one.offset,
    value: number(one.value?.toString() ?? ""),
  }));
}

function flip(disk: MemoryFileSystem, path: string, at: number): MemoryFileSystem {
  const changed = disk.snapshot();
  const bytes = changed.bytes(path);
  bytes[at] = (bytes[at] as number) ^ (1 << (at % 8));
  return changed;
}

const pathsOf = (disk: MemoryFileSystem, ending: RegExp): string[] =>
  disk.paths.filter((path) => ending.test(path));

describe("a flipped bit", () => {
  it("in any byte of a segment is never served: it is said with file and byte, found offline, and mended", async () => {
    const disk = await small(3);
    const paths = pathsOf(disk, /s-0.*\.log$/);
    expect(paths.length).toBeGreaterThan(1);
    let told = 0;
    for (const path of paths) {
      const size = disk.bytes(path).length;
      // All of the first two batches and of the last one; those between are as the second.
      for (let at = 0; at < size; at += at < 160 || at >= size - 80 ? 1 : 17) {
        const damaged = flip(disk, path, at);
        const name = path.slice(DATA.length + 1);
        const inspection = await inspect(damaged, DATA);
        // The leader epoch is the one thing that no checksum covers and no neighbour gives away.
        const findings = inspection.findings.filter(({ file, kind }) => file === name && kind === "damage");
        const { offsets, error } = await shown(damaged.snapshot());
        if (findings.length === 0) {
          expect(offsets).toHaveLength(RECORDS);
          continue;
        }
        told++;
        expect(findings[0]?.position).toBeLessThanOrEqual(at);
        if (error !== undefined) expect(error.message).toMatch(/DAMAGED|byte \d+|is sound up to/);
        const mended = damaged.snapshot();
        const { lost, quarantine } = await repair(mended, DATA);
        expect(lost).toHaveLength(1);
        expect(mended.paths.some((one) => one.startsWith(`${DATA}/${quarantine}/streams`))).toBe(true);
        expect((await inspect(mended, DATA)).findings).toEqual([]);
        const { from, to } = lost[0] as { from: number; to: number };
        const store = await open(mended);
        const kept = await readAll(partitionOf(store.stream("s")));
        const expected = Array.from({ length: RECORDS }, (_, one) => one).filter(
          (one) => one < from || one >= to,
        );
        expect(kept.map((one) => [one.offset, number(one.value?.toString() ?? "")])).toEqual(
          expected.map((one) => [one, one]),
        );
        expect(to - from).toBe(1);
        await append(store, [record(partitionOf(store.stream("s")), null, `${RECORDS}`)]);
        await store.close();
      }
    }
    expect(told).toBeGreaterThan(50);
  }, 60_000);

  it("in any byte of an index is found offline, and changes nothing for a reader", async () => {
    const disk = await small();
    const paths = pathsOf(disk, /s-0.*index$/).filter((path) => disk.bytes(path).length > 0);
    expect(paths.length).toBeGreaterThan(2);
    for (const path of paths) {
      for (let at = 0; at < disk.bytes(path).length; at++) {
        const damaged = flip(disk, path, at);
        const { findings } = await inspect(damaged, DATA);
        expect(findings.map(({ file, kind }) => [file, kind])).toEqual([
          [path.slice(DATA.length + 1), "rebuilt"],
        ]);
        const { offsets, error } = await shown(damaged);
        expect(error).toBeUndefined();
        expect(offsets).toHaveLength(RECORDS);
      }
    }
  });

  it("in any byte of the journal behind which more follows is refused, and mended", async () => {
    const disk = await small(12);
    const path = pathsOf(disk, /\.journal$/).find((one) => disk.bytes(one).includes("29   ")) as string;
    const bytes = disk.bytes(path);
    // A flipped bit in the very last entry looks like a torn end.
    const end = bytes.lastIndexOf("SLJ2", bytes.indexOf("29   "));
    const [first, , third] = [...bytes.toString("latin1").matchAll(/SLJ2/g)].map(({ index }) => index);
    expect(first).toBe(0);
    let refused = 0;
    // All of the first two entries; the others are as they are.
    for (let at = 0; at < end; at += at < (third as number) ? 1 : 29) {
      const damaged = flip(disk, path, at);
      const { error, offsets } = await shown(damaged.snapshot());
      const { findings } = await inspect(damaged, DATA);
      if (error === undefined) {
        // What the segments hold for good already.
        expect(findings).toEqual([]);
        expect(offsets).toHaveLength(RECORDS);
        continue;
      }
      refused++;
      expect(error.code).toBe("JOURNAL_DAMAGED");
      expect(findings[0]).toMatchObject({ kind: "damage", file: path.slice(DATA.length + 1) });
      expect(findings[0]?.position).toBeLessThanOrEqual(at);
      const { lost } = await repair(damaged, DATA);
      expect((await inspect(damaged, DATA)).findings).toEqual([]);
      const missing = lost.reduce((sum, { from, to }) => sum + to - from, 0);
      expect(missing).toBeLessThanOrEqual(1);
      const kept = await values(partitionOf((await open(damaged)).stream("s")));
      expect(kept).toHaveLength(RECORDS - missing);
      expect(number(kept.at(-1) ?? "")).toBe(RECORDS - 1);
    }
    expect(refused).toBeGreaterThan(30);
  });

  it.each(["meta.json", "checkpoint"])("in any byte of %s is refused, and made anew", async (name) => {
    const disk = await small();
    const path = `${DATA}/${name}`;
    for (let at = 0; at < disk.bytes(path).length; at++) {
      const damaged = flip(disk, path, at);
      const { error } = await shown(damaged.snapshot());
      if (error === undefined) continue; // the line's end
      // Of another version by its looks: repair touches nothing of that.
      if (/NEWER|OLDER/.test(error.code)) continue;
      await repair(damaged, DATA);
      const { offsets, error: after } = await shown(damaged);
      expect(after).toBeUndefined();
      expect(offsets).toHaveLength(RECORDS);
    }
  });

  it("in a snapshot or in a partition's metadata costs nothing", async () => {
    const disk = new MemoryFileSystem();
    const store = await open(disk);
    const stream = await store.createStream("s", 1, {}, "config");
    const batch = (sequence: number) => sentBatch([{ key: null, value: "x" }], { producerId: 7, sequence });
    for (let at = 0; at < 3; at++)
      await append(store, [{ partition: partitionOf(stream), batch: batch(at) }]);
    await store.close();
    for (const path of pathsOf(disk, /s-0\/(.*snapshot|partition\.metadata)$/)) {
      for (let at = 0; at < disk.bytes(path).length; at += 7) {
        const again = await open(flip(disk, path, at));
        const partition = partitionOf(again.stream("s"));
        expect(await values(partition)).toEqual(["x", "x", "x"]);
        // Sent again, it is still known.
        const entry = { partition, batch: batch(2), offset: -1 };
        await append(again, [entry]);
        expect(entry.offset).toBe(2);
      }
    }
  });
});

describe("a folder that was copied in part", () => {
  const start = async (disk: MemoryFileSystem): Promise<LogError | undefined> =>
    open(disk).then(
      () => undefined,
      (error) => error as LogError,
    );

  it.each([
    ["checkpoint", "DATA_FOLDER_INCOMPLETE"],
    ["meta.json", "DATA_FOLDER_INCOMPLETE"],
  ])(
    "without its %s is not started on, nothing in it is touched, and it can be mended",
    async (name, code) => {
      const disk = await small();
      await disk.remove(`${DATA}/${name}`);
      const before = disk.snapshot();
      const error = await start(disk);
      // With the journal there it says how much is missing; without, that segments are there.
      expect([code, "JOURNAL_DAMAGED"]).toContain(error?.code);
      expect(error?.mend).toContain("sluice log repair");
      for (const path of before.paths) expect(disk.bytes(path).equals(before.bytes(path))).toBe(true);
      await repair(disk, DATA);
      expect((await shown(disk)).offsets).toHaveLength(RECORDS);
    },
  );

  it("without journal and checkpoint keeps what the segments hold", async () => {
    const disk = await small();
    for (const path of [...pathsOf(disk, /\.journal$/), `${DATA}/checkpoint`]) await disk.remove(path);
    const error = await start(disk);
    expect(error).toMatchObject({ code: "DATA_FOLDER_INCOMPLETE", exitCode: 73 });
    await repair(disk, DATA);
    const { offsets } = await shown(disk);
    expect(offsets.length).toBeGreaterThan(RECORDS - 8);
  });

  it("with a segment missing is said, and started on once its loss is", async () => {
    const disk = await small();
    const path = pathsOf(disk, /s-0.*\.log$/)[1] as string;
    await disk.remove(path);
    const { findings, lost } = await inspect(disk, DATA);
    expect(findings.some(({ kind }) => kind === "damage")).toBe(true);
    const mended = await repair(disk, DATA);
    expect(mended.lost.reduce((sum, { from, to }) => sum + to - from, 0)).toBe(
      lost.reduce((sum, { from, to }) => sum + to - from, 0),
    );
    expect((await inspect(disk, DATA)).findings).toEqual([]);
    const kept = await readAll(partitionOf((await open(disk)).stream("s")));
    for (const { offset, value } of kept) expect(number(value?.toString() ?? "")).toBe(offset);
    expect(kept).toHaveLength(RECORDS - (mended.lost[0] ? mended.lost[0].to - mended.lost[0].from : 0));
  });

  it("with another folder's journal file is refused by its name", async () => {
    const disk = await small();
    const other = await small();
    const path = pathsOf(other, /0001\.journal$/)[0] as string;
    await (await disk.open(`${DATA}/journal/0009.journal`, "write")).write([other.bytes(path)], 0);
    const error = await start(disk);
    expect(error).toMatchObject({ code: "JOURNAL_FOREIGN" });
    expect(error?.message).toContain("0009.journal");
    await repair(disk, DATA);
    expect((await shown(disk)).offsets).toHaveLength(RECORDS);
  });

  it("whose catalog is lost gets its streams back from their folders", async () => {
    const disk = await small();
    for (const path of pathsOf(disk, /__catalog-0/)) await disk.remove(path);
    expect(await start(disk)).toMatchObject({ code: "DAMAGED" });
    const { lost, done } = await repair(disk, DATA);
    expect(lost[0]?.stream).toBe("__catalog");
    expect(done.join("\n")).toContain("streams/s-*");
    expect((await shown(disk)).offsets).toHaveLength(RECORDS);
  });

  it("holds foreign files: they are named, left alone, and no reason not to start", async () => {
    const disk = await small();
    for (const name of ["holiday.jpg", "streams/s-0/notes.txt", "streams/gone-0/x"]) {
      await (await disk.open(`${DATA}/${name}`, "write")).write([Buffer.from("x")], 0);
    }
    const { findings } = await inspect(disk, DATA);
    expect(findings.map(({ file, kind }) => `${kind} ${file}`)).toEqual([
      "foreign holiday.jpg",
      "foreign streams/gone-0",
      "foreign streams/s-0/notes.txt",
    ]);
    expect((await shown(disk)).offsets).toHaveLength(RECORDS);
  });

  it("that is sound is found sound, and a repair loses nothing of it", async () => {
    const disk = await small();
    expect(await inspect(disk, DATA)).toMatchObject({ findings: [], lost: [] });
    expect(await repair(disk, DATA)).toMatchObject({ lost: [], quarantine: undefined });
    expect(await inspect(disk, DATA)).toMatchObject({ findings: [], lost: [] });
    expect((await shown(disk)).offsets).toHaveLength(RECORDS);
  });
});
