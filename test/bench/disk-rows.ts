/** The rows about the disk: commits, starting on what lies there, and how much is written. */
import { mkdtemp, readdir, rm, stat, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ControlClient } from "../../src/control/client.ts";
import type { GatewayStatus, LogStats } from "../../src/gateway.ts";
import { deviceBytes } from "../../src/log/counted-disk.ts";
import { StreamStore } from "../../src/log/stream-store.ts";
import { createLogger } from "../../src/logger.ts";
import { batchOf, encodeHeaders, NO_HEADERS } from "../../src/wire/record-batch.ts";
import type { Gateway } from "../interop/support/gateway.ts";
import { run } from "../interop/support/process.ts";
import { comparison, type Figure, ms } from "./figure.ts";
import { Sensor, usageOf } from "./load.ts";
import { BENCH, load, median, script, sleep, withGateway } from "./measure.ts";

async function withFolder<T>(body: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "sluice-bench-"));
  try {
    return await body(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Commits of equally many records, all to one partition or spread over 100. A thousand is what gathers while
 * a disk syncs under load; with a hundred, each of the 100 batches holds one record, so the second figure is
 * what 100 batch headers cost when nothing is shared.
 */
export async function commits(): Promise<Figure[]> {
  return withFolder(async (folder) => {
    const store = new StreamStore({ dataDir: join(folder, "data"), logger: createLogger("silent") });
    await store.start();
    const { partitions } = await store.createStream("touched", 100, {}, "config");
    const record = { key: Buffer.from("device"), value: Buffer.alloc(64, "x"), headers: NO_HEADERS };
    const commit = async (records: number, touched: number): Promise<number> => {
      const entries = Array.from({ length: records }, (_, index) => ({
        ...record,
        partition: partitions[index % touched] as (typeof partitions)[number],
        timestamp: Date.now(),
      }));
      const startedAt = performance.now();
      await new Promise<void>((resolve, reject) => {
        store.append(entries, (error) => (error === null ? resolve() : reject(error)));
      });
      return performance.now() - startedAt;
    };
    const compare = async (records: number, rounds: number): Promise<Figure> => {
      const [few, many]: [number[], number[]] = [[], []];
      for (let round = 0; round < rounds + 300; round++) {
        // Alternating, so that whatever else happens on the disk happens to both; the first ones warm up.
        const [one, hundred] = [await commit(records, 1), await commit(records, 100)];
        if (round < 300) continue;
        few.push(one);
        many.push(hundred);
      }
      const what = `commit of ${records} records, 1 → 100 partitions touched`;
      return comparison(what, thirds(few), thirds(many), 30, "ms");
    };
    const thousand = await compare(1_000, 600);
    const { met: _, ...hundred } = await compare(100, 1_000);
    await store.close();
    return [thousand, { ...hundred, target: "printed" }];
  });
}

const thirds = (values: readonly number[]): number[] =>
  [0, 1, 2].map((part) => median(values.slice((part * values.length) / 3, ((part + 1) * values.length) / 3)));

/** Fills a stopped gateway's data folder, through the log itself. */
export async function fill(dataDir: string, bytes: number): Promise<void> {
  const store = new StreamStore({ dataDir, logger: createLogger("error") });
  await store.start();
  const stream = store.stream("telemetry") ?? (await store.createStream("telemetry", 4, {}, "config"));
  const headers = encodeHeaders([{ key: "site", value: Buffer.from("north") }]);
  const records = Array.from({ length: 2_000 }, (_, index) => ({
    key: Buffer.from(`d${index % 100}`),
    value: Buffer.alloc(64, "x"),
    headers,
    timestamp: Date.now(),
  }));
  const batch = batchOf(records);
  for (let written = 0; written < bytes; ) {
    // A producer's batch is an append of its own; the log keeps the bytes, so each gets a copy.
    const appends = stream.partitions.map(
      (partition) =>
        new Promise<void>((resolve, reject) => {
          const entry = { partition, batch: Buffer.from(batch) };
          store.append([entry], (error) => (error === null ? resolve() : reject(error)));
        }),
    );
    await Promise.all(appends);
    written += batch.length * appends.length;
  }
  await store.close();
}

export async function readiness(): Promise<Figure[]> {
  const starts = async (gateway: Gateway, before: () => Promise<void>): Promise<number[]> => {
    const times: number[] = [];
    for (let round = 0; round < 5; round++) {
      await before();
      const startedAt = performance.now();
      await gateway.again();
      times.push(performance.now() - startedAt);
      await gateway.stop();
    }
    return times;
  };
  return withGateway(BENCH, async (gateway) => {
    await gateway.stop();
    const empty = await starts(gateway, () => rm(gateway.dataDir, { recursive: true, force: true }));
    await fill(gateway.dataDir, 1e9);
    const full = await starts(gateway, async () => {});
    const figure = (what: string, times: readonly number[], limitMs: number, note: string): Figure => ({
      what,
      figure: ms(median(times)),
      target: `≤ ${limitMs} ms`,
      met: median(times) <= limitMs,
      detail: `from spawn to both ports accepting, ${times.map((time) => time.toFixed(0)).join(" ")} ms${note}`,
      values: { medianMs: median(times) },
    });
    return [
      figure("ready to accept, empty data folder", empty, 700, ""),
      figure(
        "ready to accept, 1 GB data folder",
        full,
        1_500,
        "; after an orderly stop, files in the page cache",
      ),
    ];
  });
}

const TEN_GB = 10e9;

/** From spawn to the first acknowledged publish. */
async function untilAcknowledged(gateway: Gateway): Promise<number> {
  const startedAt = performance.now();
  const started = gateway.again();
  for (;;) {
    try {
      const sensor = await Sensor.open(gateway.mqttPort, 0, 64);
      await new Promise<void>((resolve) => {
        sensor.onAcknowledged = () => resolve();
        sensor.send();
      });
      sensor.close();
      break;
    } catch {
      await sleep(5); // it does not listen yet
    }
  }
  const elapsedMs = performance.now() - startedAt;
  await started;
  return elapsedMs;
}

/** Lets the page cache forget a folder's files, as a machine that was switched off has. */
async function forget(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const of = `of=${join(entry.parentPath, entry.name)}`;
    await run("dd", [of, "oflag=nocache", "conv=notrunc,fdatasync", "count=0"], { timeoutMs: 60_000 });
  }
}

export async function killedWhileLarge(): Promise<Figure[]> {
  return withGateway(BENCH, async (gateway) => {
    await gateway.stop();
    const { bavail, bsize } = await statfs(gateway.folder);
    if (bavail * bsize < 2 * TEN_GB) throw new Error("less than 20 GB of room");
    await fill(gateway.dataDir, TEN_GB);
    await gateway.again();
    const times: number[] = [];
    for (let round = 0; round < 3; round++) {
      const running = script("load.ts", {
        ...{ port: gateway.mqttPort, connections: 100, window: 20, payloadBytes: 64 },
        ...{ warmUpMs: 1_000, durationMs: 60_000 },
      });
      await running.until(({ stdout }) => stdout.includes("begin"), "the load's begin", 30_000);
      await gateway.kill();
      await running.end("SIGKILL");
      await forget(gateway.dataDir);
      times.push(await untilAcknowledged(gateway));
    }
    return [
      {
        what: "10 GB data folder, kill -9 under load: the first publish is acknowledged",
        figure: ms(median(times)),
        target: "≤ 2,000 ms",
        met: median(times) <= 2_000,
        detail: `from spawn, files out of the page cache, ${times.map((time) => time.toFixed(0)).join(" ")} ms`,
        values: { medianMs: median(times) },
      },
    ];
  });
}

async function segmentBytes(dataDir: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(join(dataDir, "streams"), { recursive: true })) {
    if (/telemetry-\d+\/\d{20}\.log$/.test(name)) bytes += (await stat(join(dataDir, "streams", name))).size;
  }
  return bytes;
}

/** What a process has given to write calls, up to its end, which it is told to make. */
async function writeCallsUntilEnd(gateway: Gateway): Promise<number> {
  const { pid } = gateway.process;
  let bytes = usageOf(pid).writeCallBytes;
  let ended = false;
  const end = gateway.stop().finally(() => {
    ended = true;
  });
  while (!ended) {
    try {
      bytes = usageOf(pid).writeCallBytes;
    } catch {} // gone between two looks
    await sleep(1);
  }
  await end;
  return bytes;
}

export async function bytesWritten(): Promise<Figure[]> {
  return withGateway(BENCH, async (gateway) => {
    const options = {
      port: gateway.mqttPort,
      connections: 100,
      window: 1,
      payloadBytes: 64,
      ratePerSecond: 1_000,
    };
    const callsBefore = usageOf(gateway.process.pid).writeCallBytes;
    const deviceBefore = deviceBytes(gateway.folder) ?? Number.NaN;
    const result = await load({ ...options, warmUpMs: 0, durationMs: 20_000 });
    // The orderly stop belongs to it: what is still in memory only has to be written some time.
    const calls = (await writeCallsUntilEnd(gateway)) - callsBefore;
    const device = (deviceBytes(gateway.folder) ?? Number.NaN) - deviceBefore;
    const taken = result.acknowledgedInAll * result.packetBytes;
    // A PUBACK is four bytes of a write call too.
    const written = calls - 4 * result.acknowledgedInAll;
    const kept = await segmentBytes(gateway.dataDir);
    return [
      {
        what: "bytes written per byte taken, 1,000 messages/s",
        figure: (written / kept).toFixed(2),
        target: "printed; mark 2.2",
        detail: `write calls per byte of record batch kept, the orderly stop included; per byte of the PUBLISH packets (${result.packetBytes} bytes each): ${(written / taken).toFixed(2)}, and ${(device / taken).toFixed(1)} at the device, whole blocks and whoever else writes there included`,
        values: { written, kept, taken, device },
      },
    ];
  });
}

const LINGERS = ["0ms", "20ms", "1s"];
const WEAR_MS = 10_000;

/** What is written for what is taken, at three rates and three lingers; single sensors send no faster than they are answered. */
export async function wear(): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const ratePerSecond of [1, 100, 10_000]) {
    for (const linger of LINGERS) {
      figures.push(
        await withGateway({ ...BENCH, commit: { linger } }, (gateway) =>
          wearAt(gateway, ratePerSecond, linger),
        ),
      );
    }
  }
  return figures;
}

async function wearAt(gateway: Gateway, ratePerSecond: number, linger: string): Promise<Figure> {
  const statsOf = async (): Promise<LogStats> => {
    const { stats } = await new ControlClient(gateway.dataDir).ask<GatewayStatus>("GET /status");
    return (stats as NonNullable<typeof stats>).log;
  };
  const connections = Math.min(100, ratePerSecond);
  const before = await statsOf();
  const result = await load({
    ...{ port: gateway.mqttPort, connections, window: 1, payloadBytes: 64, ratePerSecond },
    ...{ warmUpMs: 0, durationMs: WEAR_MS },
  });
  const after = await statsOf();
  const since = (key: "committedBytes" | "writtenBytes" | "syncs"): number => after[key] - before[key];
  const device = (after.deviceBytes ?? Number.NaN) - (before.deviceBytes ?? 0);
  const [taken, written] = [since("committedBytes"), since("writtenBytes")];
  const minutes = result.seconds / 60;
  const rate = result.acknowledgedInAll / result.seconds;
  return {
    what: `${ratePerSecond} messages/s, linger ${linger}`,
    figure: `${(written / taken).toFixed(1)} bytes written per byte taken, ${Math.round(since("syncs") / minutes)} syncs/min`,
    target: "printed",
    detail: `${Math.round(rate)} messages/s acknowledged: ${taken} bytes of record batches taken, ${written} written (whole pages); on the device by everybody: ${(device / taken).toFixed(1)} per byte; as a day: ${(((written / WEAR_MS) * 86.4e6) / 2 ** 30).toFixed(2)} GiB`,
    values: { taken, written, device, syncs: since("syncs"), rate },
  };
}
