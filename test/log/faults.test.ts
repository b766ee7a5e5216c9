/** A disk that fills, fails, and comes back: what was acknowledged stays, what was not is never taken for it. */
import { describe, expect, it } from "vitest";
import type { LogError } from "../../src/errors.ts";
import type { StreamStore } from "../../src/log/stream-store.ts";
import { type Fault, FaultyFileSystem } from "../support/faulty-file-system.ts";
import { append, openStore, partitionOf, record, values } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

const DATA = "/data";
const SMALL = { journalFileBytes: 4096, maxJournalFiles: 3, maxTailBytes: 1 << 20, retryMs: 10 };
const EIO: Fault = { code: "EIO" };
const ENOSPC: Fault = { code: "ENOSPC" };

async function fresh(
  options = {},
): Promise<{ disk: MemoryFileSystem; faulty: FaultyFileSystem; store: StreamStore }> {
  const disk = new MemoryFileSystem();
  const faulty = new FaultyFileSystem(disk);
  const store = await openStore(DATA, { fileSystem: faulty, ...SMALL, ...options });
  await store.createStream("s", 1, { segmentBytes: 3000 }, "config");
  return { disk, faulty, store };
}

const add = (store: StreamStore, value: string): Promise<void> =>
  append(store, [record(partitionOf(store.stream("s")), null, value)]);

const kept = (store: StreamStore): Promise<string[]> => values(partitionOf(store.stream("s")));

/** What a start finds on the disk as it is now. */
async function found(disk: MemoryFileSystem): Promise<string[]> {
  return kept(await openStore(DATA, { fileSystem: disk.snapshot(), ...SMALL }));
}

/** The code an append ends with, or "kept". */
const outcome = (added: Promise<void>): Promise<string> =>
  added.then(
    () => "kept",
    (error: LogError) => error.code,
  );

async function untilWritable(store: StreamStore): Promise<void> {
  while (store.stats.readOnly) await new Promise((next) => setTimeout(next, 1));
}

const isJournal = (path: string): boolean => /\.journal(\.tmp)?$/.test(path);
const isSegment = (path: string): boolean => path.endsWith(".log");

describe("a commit that the disk refuses", () => {
  it.each(["nothing", "half", "all"] as const)(
    "is not acknowledged, and does not count when %s of it got to the disk; the next one takes its offset",
    async (done) => {
      const { disk, faulty, store } = await fresh();
      await add(store, "a");
      let refusals = 1;
      faulty.fault = (step, path) =>
        step === "write" && isJournal(path) && refusals-- > 0 ? { code: "EIO", done } : undefined;
      expect(await outcome(add(store, "lost"))).toBe("READ_ONLY");
      await untilWritable(store);
      await add(store, "b");
      expect(await kept(store)).toEqual(["a", "b"]);
      expect(await found(disk)).toEqual(["a", "b"]);
    },
  );

  it("is there for good or not at all when the process dies at once", async () => {
    const { disk, faulty, store } = await fresh();
    await add(store, "a");
    faulty.fault = (step, path) =>
      step === "write" && isJournal(path) ? { code: "EIO", done: "all" } : undefined;
    expect(await outcome(add(store, "unacknowledged"))).toBe("READ_ONLY");
    const left = disk.snapshot();
    const once = await found(left);
    expect(["a", "a unacknowledged"]).toContain(once.join(" "));
    expect(await found(left)).toEqual(once);
  });

  it("makes room for a new file where the disk had a bad place", async () => {
    const { disk, faulty, store } = await fresh();
    await add(store, "a");
    let bad = true;
    const removed: string[] = [];
    faulty.fault = (step, path) => {
      if (step === "remove" && isJournal(path)) removed.push(path);
      return bad && step === "write" && path.endsWith("0001.journal") ? EIO : undefined;
    };
    expect(await outcome(add(store, "lost"))).toBe("READ_ONLY");
    await untilWritable(store);
    bad = false;
    for (let at = 0; at < 40; at++) await add(store, `${at}`.padEnd(400));
    expect(removed).toContain(`${DATA}/journal/0001.journal`);
    expect(await found(disk)).toHaveLength(41);
  });

  it("stops no reader, and appends are taken again by themselves when the disk is back", async () => {
    const { disk, faulty, store } = await fresh();
    await add(store, "a");
    let writes = 0;
    faulty.fault = (step, path) => {
      if (step !== "write" || !isJournal(path)) return undefined;
      writes++;
      return EIO;
    };
    expect(await outcome(add(store, "x"))).toBe("READ_ONLY");
    while (writes < 4) await new Promise((next) => setTimeout(next, 1));
    expect(store.stats.readOnly).toBe(true);
    // Refused without asking the disk: it is asked at intervals, not for each publisher.
    const asked = writes;
    for (let at = 0; at < 100; at++) expect(await outcome(add(store, "x"))).toBe("READ_ONLY");
    expect(writes - asked).toBeLessThan(3);
    expect(await kept(store)).toEqual(["a"]);
    faulty.fault = () => undefined;
    await untilWritable(store);
    await add(store, "b");
    expect(await found(disk)).toEqual(["a", "b"]);
  });

  it("leaves an idempotent producer and a stop as they should be", async () => {
    const { disk, faulty, store } = await fresh();
    await add(store, "a");
    faulty.fault = () => ({ code: "EROFS" });
    expect(await outcome(add(store, "x"))).toBe("READ_ONLY");
    // Stopping waits for no disk to come back.
    await store.close();
    expect(await outcome(add(store, "y"))).toBe("CLOSED");
    expect(await found(disk)).toEqual(["a"]);
  });
});

describe("a full disk", () => {
  it("has room for commits: the journal's files are there, and a new one is done without", async () => {
    const { disk, faulty, store } = await fresh();
    await add(store, "0".padEnd(400));
    let isFull = true;
    // New journal files only: segments still find a place.
    faulty.fault = (step, path) =>
      isFull && step === "write" && /000[23]\.journal/.test(path) ? ENOSPC : undefined;
    for (let at = 1; at < 40; at++) await add(store, `${at}`.padEnd(400));
    isFull = false;
    expect(await found(disk)).toHaveLength(40);
  });

  it("of which segments get nothing is met by the journal until that is full, then appends are refused", async () => {
    const { disk, faulty, store } = await fresh();
    faulty.fault = (step, path) => (step === "write" && !isJournal(path) ? ENOSPC : undefined);
    let acknowledged = 0;
    let last = "kept";
    while (last === "kept") {
      last = await outcome(add(store, `${acknowledged}`.padEnd(400)));
      if (last === "kept") acknowledged++;
      expect(acknowledged).toBeLessThan(100);
    }
    expect(last).toBe("READ_ONLY");
    expect(acknowledged).toBeGreaterThan(15);
    expect(await kept(store)).toHaveLength(acknowledged);
    // Killed now, and started on the full disk: readers have everything, appends wait for room.
    const left = new FaultyFileSystem(disk.snapshot());
    left.fault = faulty.fault;
    const again = await openStore(DATA, { fileSystem: left, ...SMALL });
    expect(await kept(again)).toHaveLength(acknowledged);
    expect(await outcome(add(again, "x"))).toBe("READ_ONLY");
    left.fault = () => undefined;
    await untilWritable(again);
    await add(again, "more");
    expect(await kept(again)).toHaveLength(acknowledged + 1);
    // And the first one goes on as well.
    faulty.fault = () => undefined;
    await untilWritable(store);
    await add(store, "more");
    expect(await found(disk)).toHaveLength(acknowledged + 1);
  });

  it.each(["index", "checkpoint.tmp"])("at the %s costs nothing that was acknowledged", async (file) => {
    const { disk, faulty, store } = await fresh();
    faulty.fault = (step, path) => (step === "write" && path.endsWith(file) ? ENOSPC : undefined);
    for (let at = 0; at < 10; at++) await add(store, `${at}`.padEnd(400));
    await store.checkpoint().catch(() => {});
    expect(await found(disk)).toHaveLength(10);
    faulty.fault = () => undefined;
    await store.checkpoint();
    expect(await found(disk)).toHaveLength(10);
  });
});

describe("a segment", () => {
  it("whose sync failed is written again before the next sync is believed", async () => {
    const { faulty, store } = await fresh();
    await add(store, "a");
    const steps: string[] = [];
    let fails = true;
    faulty.fault = (step, path) => {
      if (!isSegment(path) || !path.includes("/s-0/") || (step !== "write" && step !== "sync"))
        return undefined;
      steps.push(step);
      return fails && step === "sync" ? EIO : undefined;
    };
    await expect(store.checkpoint()).rejects.toThrow("EIO");
    fails = false;
    await store.checkpoint();
    expect(steps).toEqual(["write", "sync", "write", "sync"]);
  });

  it("that compaction has put in place is read there, also when the disk refuses to make that safe", async () => {
    const { faulty, store } = await fresh({ maxTailBytes: 0 });
    await store.alterStream("s", { settings: { cleanup: "compact", segmentBytes: 300 } });
    const partition = partitionOf(store.stream("s"));
    for (let at = 0; at < 20; at++) await append(store, [record(partition, "k", `${at}`.padEnd(100))]);
    await store.checkpoint();
    let isInPlace = false;
    faulty.fault = (step, path) => {
      isInPlace ||= step === "link" && /s-0\/0+\.log$/.test(path);
      return isInPlace && step === "sync folder" ? EIO : undefined;
    };
    await store.compact();
    expect(isInPlace).toBe(true);
    faulty.fault = () => undefined;
    expect((await kept(store)).at(-1)?.trim()).toBe("19");
    expect(await kept(store)).toHaveLength(19);
  });

  it("of which the disk has lost what it could not sync is left to the journal, and said", async () => {
    const { disk, faulty, store } = await fresh();
    await add(store, "a");
    faulty.fault = (step, path) => (step === "sync" && /s-0.*[.]log/.test(path) ? EIO : undefined);
    await expect(store.checkpoint()).rejects.toThrow("EIO");
    faulty.fault = () => undefined;
    disk.bytes(`${DATA}/streams/s-0/${"0".repeat(20)}.log`).fill(0);
    await expect(store.checkpoint()).rejects.toThrow("the journal still has it");
    expect(await found(disk)).toEqual(["a"]);
  });

  it("is read on a disk that takes no writes", async () => {
    const { disk, faulty, store } = await fresh({ maxTailBytes: 0 });
    for (let at = 0; at < 20; at++) await add(store, `${at}`.padEnd(400));
    await store.close();
    const again = await openStore(DATA, { fileSystem: faulty, ...SMALL });
    const modes: string[] = [];
    const open = disk.open.bind(disk);
    disk.open = (path, mode) => {
      if (isSegment(path)) modes.push(mode);
      return open(path, mode);
    };
    expect(await kept(again)).toHaveLength(20);
    expect(new Set(modes)).toEqual(new Set(["read"]));
  });

  it("that cannot be opened or read costs its reader an error, and nobody else anything", async () => {
    const { faulty, store: before } = await fresh({ maxTailBytes: 0 });
    for (let at = 0; at < 20; at++) await add(before, `${at}`.padEnd(400));
    await before.close();
    const store = await openStore(DATA, { fileSystem: faulty, ...SMALL });
    for (const [step, code] of [
      ["open", "EMFILE"],
      ["read", "EIO"],
    ] as const) {
      faulty.fault = (one, path) => (one === step && isSegment(path) ? { code } : undefined);
      await expect(kept(store)).rejects.toMatchObject({ code });
      await add(store, "meanwhile");
      faulty.fault = () => undefined;
    }
    expect(await kept(store)).toHaveLength(22);
  });
});

describe("whichever step a disk refuses", () => {
  // Each step of a history is refused once, or from there on for a while; what was acknowledged is there.
  it.each(["EIO", "ENOSPC", "EMFILE"])(
    "once with %s, what was acknowledged is there, in order, once",
    async (code) => {
      for (let nth = 0; ; nth += 5) {
        const { disk, faulty, store } = await fresh({ maxTailBytes: 2000, retryMs: 1 });
        let steps = 0;
        const length = 1 + (nth % 4) * 3;
        faulty.fault = (step) => {
          if (step === "read") return undefined;
          const at = steps++;
          return at >= nth && at < nth + length
            ? { code, done: (["nothing", "half", "all"] as const)[at % 3] as "all" }
            : undefined;
        };
        const acknowledged: string[] = [];
        for (let at = 0; at < 24; at++) {
          const value = `${at}`.padEnd(600);
          if ((await outcome(add(store, value))) === "kept") acknowledged.push(value);
          else await untilWritable(store);
          if (at === 12) await store.checkpoint().catch(() => {});
        }
        expect(await kept(store)).toEqual(acknowledged);
        expect(await found(disk)).toEqual(acknowledged);
        await store.close();
        expect(await found(disk)).toEqual(acknowledged);
        if (steps < nth) break;
      }
    },
  );
});
