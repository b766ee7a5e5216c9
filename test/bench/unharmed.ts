/** What everybody else notices while clients freeze, flood, or say nothing: p99, against nobody doing so. */
import type { Gateway, GatewayOptions } from "../interop/support/gateway.ts";
import { SLOW_DISK_ARGS, slowDisk, TROUBLES, type Trouble } from "../interop/support/trouble.ts";
import { fill } from "./disk-rows.ts";
import { type Figure, mb, ms } from "./figure.ts";
import type { LatencyResult } from "./latency.ts";
import {
  BENCH,
  load,
  MAPPING,
  median,
  residentBytes,
  resultOf,
  script,
  sleep,
  withGateway,
} from "./measure.ts";

const ROUND_MS = 3_000;
const WARM_UP_MS = 2_000;
const LARGE = 400e6;
const MEMORY_BYTES = 150e6;

const OPTIONS: GatewayOptions = {
  ...BENCH,
  // Readings and what the others do go to different streams.
  streams: { readings: { partitions: 4 }, telemetry: { partitions: 4 } },
  mappings: [{ ...MAPPING, to: "readings" }],
  nodeArgs: SLOW_DISK_ARGS,
};

interface Seen {
  readonly p99: number;
  readonly missing: number;
  readonly mostBytes: number;
}

/** 50 sensors, 500 messages a second, one kafkajs subscriber; the median p99 of three rounds. */
async function observe(gateway: Gateway, lastOnesMs: number): Promise<Seen> {
  const { mqttPort, brokers } = gateway;
  const options = { brokers, stream: "readings", warmUpMs: WARM_UP_MS, roundMs: ROUND_MS };
  const subscriber = script("latency.ts", { ...options, fromBeginning: false });
  await subscriber.until(({ stdout }) => stdout.includes("joined"), "the subscriber to join", 60_000);
  let mostBytes = 0;
  const watch = setInterval(() => {
    mostBytes = Math.max(mostBytes, residentBytes(gateway.process.pid));
  }, 50);
  const sensors = { port: mqttPort, connections: 50, window: 1, payloadBytes: 64, stamp: true };
  const sent = await load({ ...sensors, ratePerSecond: 500, warmUpMs: WARM_UP_MS, durationMs: 3 * ROUND_MS });
  await sleep(lastOnesMs);
  clearInterval(watch);
  await subscriber.end("SIGTERM");
  const { received, rounds } = await resultOf<LatencyResult>(subscriber);
  const p99 = median(rounds.slice(0, 3).map((round) => round.p99));
  return { p99, missing: sent.acknowledgedInAll - received, mostBytes };
}

export async function unharmed(): Promise<Figure[]> {
  return withGateway(OPTIONS, async (gateway) => {
    await gateway.stop();
    await fill(gateway.dataDir, LARGE);
    await gateway.again();
    await sleep(2_000);
    const idle = residentBytes(gateway.process.pid);
    const figures: Figure[] = [];
    const cases = process.env.SLUICE_BENCH_CASES?.split(",") ?? [""];
    for (const trouble of [...TROUBLES, slowDisk]) {
      if (!cases.some((part) => trouble.name.includes(part))) continue;
      // With a slow disk kafkajs, which commits each partition's offset before it reads on, is some seconds behind.
      const lastOnesMs = trouble.slowsOthers === true ? 15_000 : 2_000;
      const calm = await observe(gateway, 2_000);
      const end = trouble === slowDisk ? await trouble.begin(gateway) : await elsewhere(trouble, gateway);
      try {
        figures.push(figureOf(trouble, calm, await observe(gateway, lastOnesMs), idle));
      } finally {
        await end();
      }
    }
    return figures;
  });
}

async function elsewhere({ name }: Trouble, { mqttPort, kafkaPort }: Gateway): Promise<() => Promise<void>> {
  const process = script("trouble.ts", { name, mqttPort, kafkaPort });
  await process.until(({ stdout }) => stdout.includes("begun"), `${name} to begin`, 60_000);
  return async () => {
    await process.end("SIGTERM");
  };
}

function figureOf({ name, slowsOthers }: Trouble, calm: Seen, seen: Seen, idle: number): Figure {
  const ratio = seen.p99 / calm.p99;
  const above = seen.mostBytes - idle;
  const sound = seen.missing === 0 && above <= MEMORY_BYTES;
  return {
    what: name,
    figure: `p99 ${ratio.toFixed(1)}×, ${mb(above)} above idle`,
    target: slowsOthers ? "≤ 150 MB, 0 missing" : "p99 ≤ 2×, ≤ 150 MB, 0 missing",
    met: sound && (slowsOthers === true || ratio <= 2),
    detail: `p99 from publish to kafkajs ${ms(seen.p99)} against ${ms(calm.p99)} just before; missing ${seen.missing}`,
    values: { ratio, p99: seen.p99, calm: calm.p99, above, missing: seen.missing },
  };
}
