/** What the simulator of power cuts (test/crash) has found, each as a test of its own. */
import { describe, expect, it } from "vitest";
import { inspect } from "../../src/log/inspection.ts";
import { StreamStore } from "../../src/log/stream-store.ts";
import { DiskImage, drawCutStyle, NOTHING_UNSYNCED_SURVIVES } from "../crash/disk-image.ts";
import { Random } from "../crash/random.ts";
import { SimulatedDisk } from "../crash/simulated-disk.ts";
import { append, BY_CALLS, partitionOf, record, silentLogger, values } from "../support/log.ts";

const DATA = "/var/data";
const FIRST = `${"0".repeat(20)}.log`;

async function open(disk: SimulatedDisk, options: { maxTailBytes?: number } = {}): Promise<StreamStore> {
  const store = new StreamStore({
    dataDir: DATA,
    logger: silentLogger,
    fileSystem: disk,
    journalFileBytes: 4096,
    maxTailBytes: 1 << 20,
    upkeepMs: BY_CALLS,
    ...options,
  });
  await store.start();
  return store;
}

/** Everything that was not synced is gone, or (`style`) what of it is not. */
function powerCut(disk: SimulatedDisk, style = NOTHING_UNSYNCED_SURVIVES): SimulatedDisk {
  return new SimulatedDisk(disk.image().afterPowerCut(new Random(1), style));
}

/** The process is gone and the next one sees what it saw. */
function kill(disk: SimulatedDisk): SimulatedDisk {
  return new SimulatedDisk(disk.image());
}

/** Runs `work` and stops the disk for good in the middle of the first step whose words fit. */
async function diesDuring(
  step: RegExp,
  disk: SimulatedDisk,
  work: (disk: SimulatedDisk) => Promise<unknown>,
) {
  const dying: SimulatedDisk = new SimulatedDisk(disk.image(), {
    onBoundary: ({ moment, step: words }) => {
      if (moment === "during" && step.test(words)) dying.die();
    },
  });
  const ended = await Promise.race([work(dying).then(() => "ended"), dying.death.then(() => "died")]);
  expect(ended).toBe("died");
  return dying;
}

/** Steps of a disk that wait until a test lets them go on. */
class Gates {
  private readonly closed: { step: RegExp; tell: () => void; passed: Promise<void> }[] = [];

  pass(words: string): Promise<void> | undefined {
    const gate = this.closed.find(({ step }) => step.test(words));
    gate?.tell();
    return gate?.passed;
  }

  close(step: RegExp): { reached: Promise<void>; open: () => void } {
    let tell = (): void => {};
    let open = (): void => {};
    const reached = new Promise<void>((resolve) => {
      tell = resolve;
    });
    const passed = new Promise<void>((resolve) => {
      open = resolve;
    });
    this.closed.push({ step, tell, passed });
    return { reached, open };
  }
}

async function until(condition: () => Promise<unknown>): Promise<void> {
  while (!(await condition())) await new Promise((next) => setImmediate(next));
}

const freshDisk = (): SimulatedDisk => new SimulatedDisk(new DiskImage(512));

const add = (store: StreamStore, value: string, index = 0): Promise<void> =>
  append(store, [record(partitionOf(store.stream("s"), index), null, value)]);

const kept = (store: StreamStore, index = 0): Promise<string[]> =>
  values(partitionOf(store.stream("s"), index));

describe("after a power cut", () => {
  it("the folders that a first start makes are there", async () => {
    const disk = freshDisk();
    const store = await open(disk);
    await store.createStream("s", 1, {}, "config");
    await add(store, "a");
    expect(await kept(await open(powerCut(disk)))).toEqual(["a"]);
  });

  it("a journal file is there that a killed process had made and its successor wrote", async () => {
    const dying = await diesDuring(/rename .*0001\.journal/, freshDisk(), open);
    const disk = kill(dying);
    const store = await open(disk);
    await store.createStream("s", 1, {}, "config");
    await add(store, "a");
    expect(await kept(await open(powerCut(disk)))).toEqual(["a"]);
  });

  it("a journal file that was being made does not show what one before it held", async () => {
    const dying = await diesDuring(/write 4096 bytes at 0 of .*0002\.journal/, freshDisk(), async (disk) => {
      const store = await open(disk);
      await store.createStream("s", 1, {}, "config");
      for (let at = 0; at < 10; at++) await add(store, `${at}`);
      // As one that is made anew when the disk has failed a commit: its entries lie in what is then free.
      const removed = await disk.open(`${DATA}/removed`, "write");
      await removed.write([(await disk.readFile(`${DATA}/journal/0001.journal`)) as Buffer], 0);
      await removed.sync();
      await disk.remove(`${DATA}/removed`);
      for (let at = 10; at < 30; at++) await add(store, `${at}`);
    });
    for (let seed = 1; seed <= 20; seed++) {
      const cut = dying.image().afterPowerCut(new Random(seed), { data: 0, sizes: 1, names: 1, stale: 1 });
      expect((await kept(await open(new SimulatedDisk(cut)))).slice(0, 10)).toEqual([..."0123456789"]);
    }
  });

  it("a checkpoint is there that a killed process had put in place and its successor relied on", async () => {
    const disk = freshDisk();
    const store = await open(disk);
    await store.createStream("s", 1, {}, "config");
    await add(store, "a");
    const dying = await diesDuring(/rename .*checkpoint/, disk, async (one) => {
      const again = await open(one);
      await again.close();
    });
    const later = kill(dying);
    const successor = await open(later);
    await add(successor, "b");
    expect(await kept(await open(powerCut(later)))).toEqual(["a", "b"]);
  });

  it("a partition's folder is there that a flush had made before the checkpoint", async () => {
    const disk = freshDisk();
    const store = await open(disk, { maxTailBytes: 0 });
    await store.createStream("s", 1, {}, "config");
    await add(store, "a");
    // The flush of the commit is over when the file has its bytes.
    const path = `${DATA}/streams/s-0/${FIRST}`;
    await until(async () => (await disk.readFile(path))?.length);
    await store.checkpoint();
    expect(await kept(await open(powerCut(disk)))).toEqual(["a"]);
  });

  it("what lies behind the recovery point may be another file's batches", async () => {
    const disk = freshDisk();
    const store = await open(disk);
    await store.createStream("s", 2, { segmentBytes: 100 }, "config");
    await add(store, "other", 1);
    await add(store, "a");
    await store.checkpoint();
    await add(store, "b");
    const stale = await disk.readFile(`${DATA}/streams/s-1/${FIRST}`);
    const next = await disk.open(`${DATA}/streams/s-0/${"0".repeat(19)}1.log`, "write");
    await next.write([stale as Buffer], 0);
    expect(await kept(await open(kill(disk)))).toEqual(["a", "b"]);
  });

  it.each(["that was killed and done again", "that went through"])(
    "a segment that was removed by a recovery %s does not come back in the place of what was replayed",
    async (recovery) => {
      let disk = freshDisk();
      let store = await open(disk);
      await store.createStream("s", 1, { segmentBytes: 100 }, "config");
      await add(store, "a");
      await store.checkpoint();
      await add(store, "b");
      await add(store, "c");
      await store.alterStream("s", { settings: { segmentBytes: 10_000 } });
      // As a flush before the change would have left it.
      await disk.open(`${DATA}/streams/s-0/${"0".repeat(19)}2.log`, "write");
      await disk.syncFolder(`${DATA}/streams/s-0`);
      disk = kill(disk);
      if (recovery.includes("killed")) disk = kill(await diesDuring(/^sync .*s-0\/0+\.log/, disk, open));
      store = await open(disk);
      expect(await kept(await open(powerCut(disk)))).toEqual(["a", "b", "c"]);
    },
  );

  it("a run of segments, or its compacted form, is there whole, wherever the power goes in the exchange", async () => {
    const disk = freshDisk();
    const store = await open(disk);
    await store.createStream("s", 1, { cleanup: "compact", segmentBytes: 200 }, "config");
    const partition = partitionOf(store.stream("s"));
    for (let at = 0; at < 12; at++) {
      await append(store, [record(partition, `k${at % 3}`, `v${at}`)]);
    }
    // Small segments that together are one segment's worth.
    await store.alterStream("s", { settings: { segmentBytes: 10_000 } });
    await store.checkpoint();
    const folder = `${DATA}/streams/s-0`;
    const cuts: { step: string; image: DiskImage }[] = [];
    const busy: SimulatedDisk = new SimulatedDisk(disk.image(), {
      onBoundary: ({ step }) => {
        if (step.includes(folder)) cuts.push({ step, image: busy.image() });
      },
    });
    const compacting = await open(busy);
    const begun = cuts.length;
    await compacting.compact();
    expect(cuts.findIndex(({ step }) => /link .*compacted to/.test(step))).toBeGreaterThan(begun);
    for (const [at, { image }] of cuts.entries()) {
      for (let seed = 0; at >= begun && seed < 40; seed++) {
        const random = new Random(seed, at);
        const after = new SimulatedDisk(image.afterPowerCut(random, drawCutStyle(random)));
        const found = await kept(await open(after));
        expect(found.slice(-3)).toEqual(["v9", "v10", "v11"]);
        expect(found).toEqual([...new Set(found)].sort((a, b) => Number(a.slice(1)) - Number(b.slice(1))));
      }
    }
  });

  it("a compacted segment is there that a killed process had renamed and its successor moved in", async () => {
    const disk = freshDisk();
    const store = await open(disk);
    await store.createStream("s", 1, { cleanup: "compact", segmentBytes: 200 }, "config");
    const partition = partitionOf(store.stream("s"));
    await append(store, [record(partition, "once", "latest of its key")]);
    for (let at = 0; at < 12; at++) await append(store, [record(partition, `k${at % 3}`, `v${at}`)]);
    await store.alterStream("s", { settings: { segmentBytes: 10_000 } });
    await append(store, [record(partition, "k0", "v12")]);
    await store.checkpoint();
    const renamed = await diesDuring(/rename .*compacting to/, disk, async (dying) =>
      (await open(dying)).compact(),
    );
    const moving = await diesDuring(/remove .*\.log$/, kill(renamed), open);
    for (let seed = 0; seed < 100; seed++) {
      const random = new Random(seed);
      const after = new SimulatedDisk(moving.image().afterPowerCut(random, drawCutStyle(random)));
      expect(await kept(await open(after))).toContain("latest of its key");
    }
  });

  it("a checkpoint does not count on a sync that one before it had begun, and that failed", async () => {
    for (let seed = 0; seed < 8; seed++) {
      const gates = new Gates();
      const writing = gates.close(/^write .*s-0\/0+\.log/);
      const syncing = gates.close(/^sync .*s-1\/0+\.log/);
      let refused = [/^write .*s-0\/0+\.log/, /^sync .*s-1\/0+\.log/];
      const disk = new SimulatedDisk(new DiskImage(512), {
        hold: (step) => gates.pass(step),
        refuse: (step) => {
          const found = refused.find((one) => one.test(step));
          refused = refused.filter((one) => one !== found);
          return found && "EIO";
        },
        spoils: new Random(seed),
      });
      const store = await open(disk);
      await store.createStream("s", 2, {}, "config");
      await add(store, "a");
      await add(store, "b", 1);
      const again = store.checkpoint().catch(() => store.checkpoint());
      await syncing.reached;
      writing.open();
      // Whatever goes on beside the sync has its time.
      for (let turns = 0; turns < 200; turns++) await new Promise((next) => setImmediate(next));
      syncing.open();
      await again;
      const partition = partitionOf((await open(powerCut(disk))).stream("s"), 1);
      expect(await values(partition)).toEqual(["b"]);
    }
  });

  it("retention has left no hole, and the segment that keeps the place", async () => {
    const disk = freshDisk();
    const store = await open(disk);
    const stream = await store.createStream(
      "s",
      1,
      { segmentBytes: 100, retentionMs: -1, retentionBytes: 0 },
      "config",
    );
    for (const value of ["a", "b", "c", "d"]) await add(store, value);
    await store.checkpoint();
    await add(store, "e");
    await store.retain();
    expect(partitionOf(stream).logStartOffset).toBe(4);
    for (let seed = 0; seed < 50; seed++) {
      const style = { ...NOTHING_UNSYNCED_SURVIVES, names: 0.5 };
      const left = new SimulatedDisk(disk.image().afterPowerCut(new Random(seed), style));
      const found = await kept(await open(left));
      expect(["d e", "e"]).toContain(found.join(" "));
    }
  });

  it("what retention had removed and was then deleted on request does not come back", async () => {
    const disk = freshDisk();
    const store = await open(disk);
    const settings = { segmentBytes: 100, retentionMs: -1, retentionBytes: 0 };
    const partition = partitionOf(await store.createStream("s", 1, settings, "config"));
    for (const value of ["a", "b", "c", "d"]) await add(store, value);
    await store.checkpoint();
    await add(store, "e");
    await store.retain();
    expect(partition.logStartOffset).toBe(4);
    await store.deleteRecords(partition, 4);
    expect(await kept(await open(powerCut(disk)))).toEqual(["e"]);
  });

  it("a segment is not taken for older than it is when half of its index is missing", async () => {
    const disk = freshDisk();
    let store = await open(disk);
    await store.createStream("s", 1, {}, "config");
    for (let at = 0; at < 4; at++) {
      const value = `${at}`.padEnd(1500);
      await append(store, [record(partitionOf(store.stream("s")), null, value, 1_700_000_000_000 + at)]);
    }
    await store.checkpoint();
    const path = `${DATA}/streams/s-0/${FIRST.replace(".log", "")}`;
    expect(await disk.readFile(`${path}.index`)).not.toHaveLength(0);
    await disk.remove(`${path}.timeindex`);
    store = await open(kill(disk));
    const partition = partitionOf(store.stream("s"));
    expect(await partition.maxTimestamp()).toEqual({ offset: 3, timestamp: 1_700_000_000_003 });
    expect(await partition.offsetForTimestamp(1_700_000_000_002)).toEqual({
      offset: 2,
      timestamp: 1_700_000_000_002,
    });
  });

  it("an index is not believed that leads to where no batch begins but its header could be read", async () => {
    const disk = freshDisk();
    let store = await open(disk);
    await store.createStream("s", 1, {}, "config");
    for (let at = 0; at < 4; at++) await add(store, `${at}`.padEnd(1500));
    await store.checkpoint();
    const path = `${DATA}/streams/s-0/${FIRST.replace(".log", "")}`;
    const index = await disk.open(`${path}.index`, "write");
    // The last offset 0, at byte 1.
    await index.write([Buffer.from([0, 0, 0, 0, 0, 0, 0, 1])], 0);
    await disk.remove(`${path}.timeindex`);
    store = await open(kill(disk));
    expect(await kept(store)).toHaveLength(4);
  });

  it("a closed segment is whole behind whose end lies what was cut off and is back, in its indexes, too", async () => {
    const lived = async (disk: SimulatedDisk, rollsAfter: number): Promise<StreamStore> => {
      const store = await open(disk);
      await store.createStream("s", 1, {}, "config");
      for (let at = 0; at < 8; at++) {
        if (at === rollsAfter) await store.alterStream("s", { settings: { segmentBytes: 100 } });
        const value = `${at}`.padEnd(1500);
        await append(store, [record(partitionOf(store.stream("s")), null, value, 1_700_000_000_000 + at)]);
      }
      await store.checkpoint();
      return store;
    };
    const [before, after] = [freshDisk(), freshDisk()];
    await lived(before, 8);
    await (await lived(after, 3)).close();
    for (const ending of ["log", "index", "timeindex"]) {
      const path = `${DATA}/streams/s-0/${FIRST.replace("log", ending)}`;
      const file = await after.open(path, "write");
      const back = (await before.readFile(path)) as Buffer;
      expect(back.length).toBeGreaterThan(await file.size());
      await file.write([back], 0);
    }
    const { findings } = await inspect(after, DATA);
    expect(findings.filter(({ kind }) => kind === "damage")).toEqual([]);
    const store = await open(after);
    const partition = partitionOf(store.stream("s"));
    expect(await partition.offsetForTimestamp(1_700_000_000_002)).toMatchObject({ offset: 2 });
    expect((await kept(store)).map((value) => value.trim())).toEqual([..."01234567"]);
  });

  it("a stream is whole whose deletion was asked for before a checkpoint and is not durable", async () => {
    const disk = freshDisk();
    const store = await open(disk);
    await store.createStream("s", 1, {}, "config");
    await add(store, "a");
    // This disk answers within the turn, and the tombstone's commit comes with the next one.
    const deleted = store.deleteStream("s");
    await Promise.resolve();
    await store.checkpoint();
    expect(partitionOf(store.stream("s"))).toMatchObject({ isGone: true });
    expect(await kept(await open(powerCut(disk)))).toEqual(["a"]);
    await deleted;
    expect((await open(powerCut(disk))).stream("s")).toBeUndefined();
  });

  it("a stream made anew holds nothing of the one of its name that was deleted before it was flushed", async () => {
    const disk = freshDisk();
    const store = await open(disk, { maxTailBytes: 4000 });
    await store.createStream("s", 1, {}, "config");
    for (let at = 0; at < 3; at++) await add(store, `old ${at}`);
    await store.deleteStream("s");
    await store.createStream("s", 1, {}, "config");
    await add(store, "new");
    await store.checkpoint();
    const path = `${DATA}/streams/s-0/${FIRST}`;
    const synced = (await disk.readFile(path))?.length as number;
    const large = "large".padEnd(1500);
    // Enough for a flush of all that has not been flushed.
    await add(store, large);
    await until(async () => ((await disk.readFile(path))?.length ?? 0) > synced);
    expect(await kept(await open(kill(disk)))).toEqual(["new", large]);
    // What nobody wants any more does not keep the tail from being given back.
    for (let at = 0; at < 8; at++) await add(store, large);
    await until(() =>
      Promise.resolve(partitionOf(store.stream("s")).bytesFrom(0) === Number.POSITIVE_INFINITY),
    );
  });

  it("a segment has its name that a flush began while a checkpoint was made", async () => {
    const gates = new Gates();
    const disk = new SimulatedDisk(new DiskImage(512), { hold: (step) => gates.pass(step) });
    const store = await open(disk, { maxTailBytes: 0 });
    await store.createStream("s", 1, { segmentBytes: 100 }, "config");
    const syncing = gates.close(new RegExp(`^sync .*s-0/${FIRST}`));
    await add(store, "a");
    const checkpoint = store.checkpoint();
    await syncing.reached;
    const creating = gates.close(/create .*s-0\/0{19}1\.log/);
    await add(store, "b");
    await creating.reached;
    syncing.open();
    await checkpoint;
    creating.open();
    await store.checkpoint();
    expect(await kept(await open(powerCut(disk)))).toEqual(["a", "b"]);
  });

  it("every segment is synced that a checkpoint counts, though retention removes some meanwhile", async () => {
    const gates = new Gates();
    const disk = new SimulatedDisk(new DiskImage(512), { hold: (step) => gates.pass(step) });
    const store = await open(disk);
    await store.createStream("s", 1, { segmentBytes: 100, retentionMs: -1, retentionBytes: 200 }, "config");
    await add(store, "a");
    await store.checkpoint();
    for (const value of ["b", "c", "d"]) await add(store, value);
    const syncing = gates.close(/^sync .*s-0\/0{19}1\.log/);
    const checkpoint = store.checkpoint();
    await syncing.reached;
    const retained = store.retain();
    for (let turns = 0; turns < 20; turns++) await new Promise((next) => setImmediate(next));
    syncing.open();
    await Promise.all([checkpoint, retained]);
    expect((await kept(await open(powerCut(disk)))).slice(-2)).toEqual(["c", "d"]);
  });
});

describe("a full journal", () => {
  it("waits for a checkpoint of its own when one of before its last entries is under way", async () => {
    const gates = new Gates();
    const disk = new SimulatedDisk(new DiskImage(512), { hold: (step) => gates.pass(step) });
    const store = await open(disk);
    await store.createStream("s", 1, {}, "config");
    await add(store, "a");
    const renaming = gates.close(/^rename .*checkpoint/);
    // Asked for in the middle of a file, it stands still until all files are full.
    const asked = store.checkpoint();
    await renaming.reached;
    const added = (async () => {
      for (let at = 0; at < 12; at++) await add(store, `${at}`.padEnd(2000));
    })();
    for (let turns = 0; turns < 200; turns++) await new Promise((next) => setImmediate(next));
    renaming.open();
    await asked;
    await added;
    expect(await kept(await open(powerCut(disk)))).toHaveLength(13);
  });
});
