/** A machine's clock stands at 1970, or anywhere, and is set: nothing that is stored may notice. */
import { type Logger, pino } from "pino";
import { describe, expect, it } from "vitest";
import type { StreamSettings } from "../../src/log/log.ts";
import type { StreamStore, StreamStoreOptions } from "../../src/log/stream-store.ts";
import { Timekeeper } from "../../src/log/timekeeper.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { append, openStore, partitionOf, readAll, record, silentLogger, values } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

const SECOND = 1_000;
const DAY = 24 * 3_600 * SECOND;
const YEAR = 365 * DAY;
const TODAY = Date.UTC(2026, 10, 25);
const settings: Partial<StreamSettings> = { retentionMs: 7 * DAY, segmentBytes: 300 };

/** A machine that may be switched off: its monotonic clock begins anew, its wall clock at whatever it says. */
function booted(wall: number, uptimeMs = 20 * SECOND): FakeClock {
  return new FakeClock(wall, uptimeMs);
}

async function timekeeper(disk: MemoryFileSystem, clock: FakeClock, bootId: string, logger = silentLogger) {
  const time = new Timekeeper(logger, clock, bootId);
  await time.start(disk, "/data");
  return time;
}

const stop = (time: Timekeeper, disk: MemoryFileSystem) => time.save(disk, "/data", []);

describe("the wall clock", () => {
  it("is believed when it says what it may say", async () => {
    const disk = new MemoryFileSystem();
    const first = await timekeeper(disk, booted(TODAY), "a");
    expect([first.isSet, first.now()]).toEqual([true, TODAY]);
    await stop(first, disk);
    // Off for a day; and a stop and start without one.
    const second = await timekeeper(disk, booted(TODAY + DAY), "b");
    expect([second.isSet, second.now()]).toEqual([true, TODAY + DAY]);
    await stop(second, disk);
    const third = await timekeeper(disk, booted(TODAY + DAY + SECOND, 21 * SECOND), "b");
    expect([third.isSet, third.now()]).toEqual([true, TODAY + DAY + SECOND]);
  });

  it("of 1970 is not: stamps go on from the last one, until it is set", async () => {
    const disk = new MemoryFileSystem();
    await stop(await timekeeper(disk, booted(TODAY), "a"), disk);
    const clock = booted(15 * SECOND);
    const time = await timekeeper(disk, clock, "b");
    expect([time.isSet, time.now()]).toEqual([false, TODAY]);
    clock.advance(90 * SECOND);
    expect([time.isSet, time.now()]).toEqual([false, TODAY + 90 * SECOND]);
    clock.jump(TODAY + 3 * DAY - clock.wallTime());
    expect([time.now(), time.isSet]).toEqual([TODAY + 3 * DAY, true]);
  });

  it("on a first start in 1970 stamps from this program's time on", async () => {
    const time = await timekeeper(new MemoryFileSystem(), booted(15 * SECOND), "a");
    expect(time.isSet).toBe(false);
    expect(new Date(time.now()).toISOString()).toBe("2026-01-01T00:00:00.000Z");
  });

  it("put back to the last shutdown is not believed: the machine was off, and it does not know", async () => {
    const disk = new MemoryFileSystem();
    await stop(await timekeeper(disk, booted(TODAY), "a"), disk);
    // Restored some seconds after the kernel's start to when the machine went down.
    const clock = booted(TODAY + 24 * SECOND, 24 * SECOND);
    const time = await timekeeper(disk, clock, "b");
    expect(time.isSet).toBe(false);
    clock.jump(8 * DAY);
    expect([time.now(), time.isSet]).toEqual([TODAY + 8 * DAY + 24 * SECOND, true]);
  });

  it("that was not set when the gateway stopped is judged as if it had gone on", async () => {
    const disk = new MemoryFileSystem();
    await stop(await timekeeper(disk, booted(TODAY), "a"), disk);
    const clock = booted(0);
    await stop(await timekeeper(disk, clock, "b"), disk);
    clock.advance(60 * SECOND);
    const again = await timekeeper(disk, clock, "b");
    expect([again.isSet, again.now()]).toEqual([false, TODAY + 60 * SECOND]);
    await stop(again, disk);
    clock.jump(TODAY + DAY);
    expect((await timekeeper(disk, clock, "b")).isSet).toBe(true);
  });

  it("is followed when it is set while it is watched, ahead or back, but not to before this program", async () => {
    const lines: string[] = [];
    const logger: Logger = pino({ level: "warn" }, { write: (line: string) => void lines.push(line) });
    const disk = new MemoryFileSystem();
    const clock = booted(TODAY + 70 * YEAR);
    const time = await timekeeper(disk, clock, "a", logger);
    await stop(time, disk);
    clock.jump(-70 * YEAR);
    expect([time.now(), time.isSet]).toEqual([TODAY, true]);
    clock.jump(-DAY);
    expect([time.now(), time.isSet]).toEqual([TODAY - DAY, true]);
    clock.jump(-50 * YEAR);
    expect([time.now(), time.isSet]).toEqual([TODAY - DAY, false]);
    clock.jump(50 * YEAR + 2 * DAY);
    expect([time.now(), time.isSet]).toEqual([TODAY + DAY, true]);
    expect(lines.map((line) => JSON.parse(line).byMs / DAY)).toEqual([-70 * 365, -1, -50 * 365, 2]);
  });

  it("that the network pulls along is not one that is set", async () => {
    const lines: string[] = [];
    const clock = booted(TODAY);
    const logger: Logger = pino({ level: "warn" }, { write: (line: string) => void lines.push(line) });
    const time = await timekeeper(new MemoryFileSystem(), clock, "a", logger);
    for (let minute = 0; minute < 100; minute++) {
      clock.advance(60 * SECOND);
      clock.jump(30);
      time.now();
    }
    expect(lines).toEqual([]);
    expect(time.now()).toBe(TODAY + 100 * 60 * SECOND + 100 * 30);
  });

  it("a damaged file is said, and time begins anew", async () => {
    const lines: string[] = [];
    const logger: Logger = pino({ level: "warn" }, { write: (line: string) => void lines.push(line) });
    const disk = new MemoryFileSystem();
    await stop(await timekeeper(disk, booted(TODAY), "a"), disk);
    disk.bytes("/data/clock").fill(0x30, 20, 22);
    const time = await timekeeper(disk, booted(TODAY), "b", logger);
    expect(time.isSet).toBe(true);
    expect(lines.join()).toContain("/data/clock");
  });
});

describe("what is stored", () => {
  /** Ten segments, stamped by the clock as it is. */
  async function filled(clock: FakeClock, options: Partial<StreamStoreOptions> = {}) {
    const disk = new MemoryFileSystem();
    const store = await openStore("/data", { fileSystem: disk, clock, maxTailBytes: 0, ...options });
    const stream = await store.createStream("s", 1, settings, "config");
    await publish(store, clock, 20, "early");
    return { disk, store, partition: partitionOf(stream) };
  }

  async function publish(store: StreamStore, clock: FakeClock, count: number, name: string): Promise<void> {
    for (let at = 0; at < count; at++) {
      const partition = partitionOf(store.stream("s"));
      await append(store, [record(partition, null, `${name}${at}`.padEnd(100), store.time.now())]);
      clock.advance(SECOND);
    }
    await store.checkpoint();
  }

  it.each([
    ["from 1970 to today", 10 * SECOND, 56 * YEAR],
    ["back to 1970", TODAY, -56 * YEAR],
    ["seventy years ahead", TODAY, 70 * YEAR],
    ["seventy years back again", TODAY + 70 * YEAR, -70 * YEAR],
  ])("is neither deleted nor hidden nor reordered by a clock that is set %s", async (_, begin, jump) => {
    const clock = booted(begin);
    const { store, partition, disk } = await filled(clock);
    const before = await values(partition);
    clock.jump(jump);
    await store.retain();
    await publish(store, clock, 20, "late");
    await store.retain();
    expect(partition.logStartOffset).toBe(0);
    expect((await values(partition)).slice(0, 20)).toEqual(before);

    // Nor by a start afterwards, nor by one with the clock where it was.
    for (const wall of [clock.wallTime() + DAY, begin]) {
      const again = await openStore("/data", { fileSystem: disk.snapshot(), clock: booted(wall) });
      await again.retain();
      const reopened = partitionOf(again.stream("s"));
      expect([reopened.logStartOffset, reopened.highWatermark]).toEqual([0, 40]);
      await again.close();
    }
  });

  it("goes when its time has really passed, whatever its stamps say", async () => {
    const clock = booted(10 * SECOND);
    const { store, partition } = await filled(clock);
    clock.jump(56 * YEAR);
    await publish(store, clock, 20, "late");
    clock.advance(7 * DAY - 30 * SECOND);
    await store.retain();
    expect(partition.logStartOffset).toBeGreaterThan(0);
    expect(partition.logStartOffset).toBeLessThanOrEqual(20);
    clock.advance(DAY);
    await store.retain();
    expect(await readAll(partition)).toEqual([]);
  });

  it("is not kept for ever for a stamp in the future, nor dropped at once for an old one", async () => {
    const clock = booted(TODAY);
    const { store, partition } = await filled(clock);
    for (const stamp of [TODAY + 100 * YEAR, 1]) {
      await append(store, [record(partition, null, "sensor's own clock".padEnd(400), stamp)]);
    }
    await store.checkpoint();
    await store.retain();
    expect(partition.logStartOffset).toBe(0);
    clock.advance(7 * DAY + SECOND);
    await store.retain();
    expect(await readAll(partition)).toEqual([]);
  });

  it("ages through restarts while the machine is on, and not while it is off", async () => {
    const clock = booted(TODAY);
    let { store, disk, partition } = await filled(clock);
    /** Killed, so without a last word. */
    const restart = async (at: FakeClock) => {
      const killed = disk.snapshot();
      await store.close();
      disk = killed;
      store = await openStore("/data", { fileSystem: disk, clock: at, maxTailBytes: 0 });
      partition = partitionOf(store.stream("s"));
      await store.retain();
    };
    for (let day = 1; day < 7; day++) {
      clock.advance(DAY);
      await store.saveTime();
      await restart(clock);
      expect([day, partition.logStartOffset]).toEqual([day, 0]);
    }
    // Off for a month, then on for what is left.
    const later = booted(TODAY + 36 * DAY, 30 * SECOND);
    await restart(later);
    expect(partition.logStartOffset).toBe(0);
    later.advance(DAY - 30 * SECOND);
    await store.retain();
    expect(partition.logStartOffset).toBe(0);
    later.advance(60 * SECOND);
    await store.retain();
    expect(await readAll(partition)).toEqual([]);
  });

  it("keeps its age when compaction rewrites it", async () => {
    const clock = booted(TODAY);
    const disk = new MemoryFileSystem();
    const store = await openStore("/data", { fileSystem: disk, clock, maxTailBytes: 0 });
    const both = { cleanup: "compact,delete", retentionMs: 7 * DAY, segmentBytes: 300 } as const;
    const partition = partitionOf(await store.createStream("s", 1, both, "config"));
    for (let at = 0; at < 30; at++) await append(store, [record(partition, `k${at % 3}`, "v".padEnd(100))]);
    await store.checkpoint();
    clock.advance(5 * DAY);
    await store.compact();
    await store.retain();
    expect((await readAll(partition)).length).toBeLessThan(10);
    expect(partition.logStartOffset).toBe(0);
    clock.advance(2 * DAY + SECOND);
    await store.retain();
    expect(await readAll(partition)).toEqual([]);
  });

  it("is found by time on both sides of the clock's being set, and after the index is read back", async () => {
    const clock = booted(10 * SECOND);
    const { store, partition, disk } = await filled(clock);
    clock.jump(TODAY - clock.wallTime());
    await publish(store, clock, 20, "late");
    const check = async (one: typeof partition) => {
      expect(await one.offsetForTimestamp(TODAY)).toEqual({ offset: 20, timestamp: TODAY });
      expect(await one.offsetForTimestamp(TODAY + 5_500)).toMatchObject({ offset: 26 });
      expect(await one.offsetForTimestamp(0)).toMatchObject({ offset: 0 });
      expect(await one.offsetForTimestamp(Date.UTC(2026, 0, 1, 0, 0, 3))).toMatchObject({ offset: 3 });
      expect(await one.offsetForTimestamp(TODAY + DAY)).toBeUndefined();
      expect(await one.maxTimestamp()).toMatchObject({ offset: 39 });
    };
    await check(partition);
    await store.close();
    await check(partitionOf((await openStore("/data", { fileSystem: disk, clock })).stream("s")));
  });

  it("is found by time when the clock was put back: the first offset from which on something is as new", async () => {
    const clock = booted(TODAY);
    const { store, partition } = await filled(clock);
    clock.jump(-DAY);
    await publish(store, clock, 20, "after");
    expect(await partition.offsetForTimestamp(TODAY - DAY)).toMatchObject({ offset: 0 });
    expect(await partition.offsetForTimestamp(TODAY + 10 * SECOND)).toMatchObject({ offset: 10 });
    expect(await partition.maxTimestamp()).toMatchObject({ offset: 19 });
  });

  it("rolls its segments by time that has passed, not by a clock that is set", async () => {
    const clock = booted(10 * SECOND);
    const disk = new MemoryFileSystem();
    const store = await openStore("/data", { fileSystem: disk, clock });
    const partition = partitionOf(await store.createStream("s", 1, { segmentMs: DAY }, "config"));
    const segments = async () => {
      await append(store, [record(partition, null, "v")]);
      await store.checkpoint();
      return disk.paths.filter((path) => /s-0\/\d+\.log$/.test(path)).length;
    };
    expect(await segments()).toBe(1);
    clock.jump(56 * YEAR);
    expect(await segments()).toBe(1);
    clock.jump(-56 * YEAR);
    expect(await segments()).toBe(1);
    clock.advance(DAY);
    expect(await segments()).toBe(2);
  });
});
