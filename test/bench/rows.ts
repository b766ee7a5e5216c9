/** The figures that Sluice is held to. A row measures, and says what it measured; nothing here is estimated. */
import { type Gateway, program, STANDARD } from "../interop/support/gateway.ts";
import { Running, run } from "../interop/support/process.ts";
import { has, TOOLS, type Tool, tool } from "../interop/support/tools.ts";
import { bytesWritten, commits, killedWhileLarge, readiness, wear } from "./disk-rows.ts";
import { comparison, type Figure, k, mb, ms, spread } from "./figure.ts";
import { kafkaPerformance } from "./kafka-performance.ts";
import { compacting, deleting, fanOut, fetchingAll, idleConsumers } from "./kafka-rows.ts";
import type { LatencyResult } from "./latency.ts";
import type { LoadResult } from "./load.ts";
import { mappingAgainstNodeRed, mappingRules } from "./mapping-rows.ts";
import {
  BENCH,
  load,
  MAPPING,
  median,
  rateOf,
  residentBytes,
  resultOf,
  script,
  sleep,
  withGateway,
  withMosquitto,
} from "./measure.ts";
import { reloading } from "./reload-row.ts";
import { unharmed } from "./unharmed.ts";
import { drain, idleUplink, ingestDuringDrain, outage, remoteLatency } from "./uplink-rows.ts";

export interface Row {
  /** Selects the row on the command line, as do the words in it. */
  readonly name: string;
  /** Without these the row is named as not measured. */
  readonly needs?: readonly Tool[];
  measure(): Promise<Figure[]>;
}

/** In flight on each connection, for both brokers; few enough at 1,000 to be sensors rather than one pipe. */
const WINDOWS = new Map([
  [1, 1_000],
  [100, 20],
  [1_000, 5],
]);

async function throughput(): Promise<Figure[]> {
  return withMosquitto((rival) =>
    withGateway(BENCH, async ({ mqttPort }) => {
      const figures: Figure[] = [];
      for (const [connections, window] of WINDOWS) {
        const rates: Record<"sluice" | "mosquitto", number[]> = { sluice: [], mosquitto: [] };
        let generatorLoad = 0;
        for (let round = 0; round < 3; round++) {
          for (const [name, port] of [["mosquitto", rival] as const, ["sluice", mqttPort] as const]) {
            const times = { warmUpMs: 800, durationMs: 1_500 };
            const result = await load({ port, connections, window, payloadBytes: 64, ...times });
            rates[name].push(rateOf(result));
            generatorLoad = Math.max(generatorLoad, result.generatorLoad);
          }
        }
        const [ours, theirs] = [median(rates.sluice), median(rates.mosquitto)];
        const target = connections === 1_000 ? 0.5 : 1;
        figures.push({
          what: `QoS 1, synced, against mosquitto in memory, ${connections} connections`,
          figure: `${(ours / theirs).toFixed(2)}×`,
          target: `≥ ${target}×`,
          met: ours / theirs >= target,
          detail: `${k(ours)}/s (${spread(rates.sluice)}) against ${k(theirs)}/s (${spread(rates.mosquitto)}); ${window} in flight per connection; generator at most ${Math.round(generatorLoad * 100)}% of a core`,
          values: { ours, theirs, connections, window, generatorLoad },
        });
      }
      return figures;
    }),
  );
}

async function endToEnd(): Promise<Figure[]> {
  const rates: number[] = [];
  let lost = 0;
  for (let round = 0; round < 3; round++) {
    await withGateway(BENCH, async (gateway) => {
      // One "." for each record that comes out: counting costs next to nothing.
      const args = ["-b", gateway.brokers, "-C", "-q", "-u", "-t", "telemetry", "-o", "beginning", "-f", "."];
      const kcat = new Running(tool("kcat"), args);
      const window = WINDOWS.get(100) as number;
      const options = { connections: 100, window, payloadBytes: 64, warmUpMs: 1_500, durationMs: 3_000 };
      const running = script("load.ts", { port: gateway.mqttPort, ...options });
      await running.until(({ stdout }) => stdout.includes("begin"), "the load's begin", 30_000);
      const [countBefore, before] = [kcat.stdout.length, performance.now()];
      await sleep(3_000);
      rates.push(((kcat.stdout.length - countBefore) / (performance.now() - before)) * 1_000);
      const { acknowledgedInAll } = await resultOf<LoadResult>(running);
      await kcat
        .until(({ stdout }) => stdout.length >= acknowledgedInAll, "every record at kcat", 30_000)
        .catch(() => {});
      lost += Math.max(0, acknowledgedInAll - kcat.stdout.length);
      await kcat.end("SIGKILL");
    });
  }
  const rate = median(rates);
  return [
    {
      what: "100 sensors, QoS 1 → stream → kcat, counted where it comes out",
      figure: `${k(rate)}/s`,
      target: "≥ 60k/s",
      met: rate >= 60_000 && lost === 0,
      detail: `runs ${spread(rates)}; acknowledged but not read: ${lost}. Mosquitto, Telegraf and Kafka on two cores: 24k/s, unsynced`,
      values: { rate, lost },
    },
  ];
}

async function latency(): Promise<Figure[]> {
  return withGateway(BENCH, async ({ mqttPort, brokers }) => {
    const [warmUpMs, roundMs] = [6_000, 4_000];
    const subscriber = script("latency.ts", { brokers, stream: "telemetry", warmUpMs, roundMs });
    await subscriber.until(({ stdout }) => stdout.includes("joined"), "the subscriber to join");
    const sensors = { port: mqttPort, connections: 100, window: 1, payloadBytes: 64, stamp: true };
    const sent = await load({ ...sensors, ratePerSecond: 1_000, warmUpMs, durationMs: 3 * roundMs });
    await sleep(1_000);
    await subscriber.end("SIGTERM");
    const { received, rounds } = await resultOf<LatencyResult>(subscriber);
    const missing = sent.acknowledgedInAll - received;
    const three = rounds.slice(0, 3); // a last message may begin a fourth
    const [p50, p99] = [median(three.map((round) => round.p50)), median(three.map((round) => round.p99))];
    const each = three.map((round) => `${ms(round.p50)}, ${ms(round.p99)}, ${ms(round.max)}`).join("; ");
    return [
      {
        what: "publish → kafkajs subscriber, 1,000 messages/s",
        figure: `p50 ${ms(p50)}, p99 ${ms(p99)}`,
        target: "p50 < 3 ms, p99 < 10 ms",
        met: three.length === 3 && p50 < 3 && p99 < 10 && missing === 0,
        detail: `medians of three rounds of ${roundMs / 1_000} s (p50, p99, longest: ${each}); 100 sensors, missing ${missing}. Mosquitto, Telegraf, Kafka: 70 and 127 ms; Redpanda Connect: 17 and 29`,
        values: { p50, p99, missing },
      },
    ];
  });
}

const CPU_RATE = 5_000;

/** CPU time of the gateway per message, in microseconds. */
async function cpuPerMessage({ mqttPort, process }: Gateway, connections: number): Promise<number> {
  const options = { port: mqttPort, connections, window: 1, payloadBytes: 64, ratePerSecond: CPU_RATE };
  const { cpuMs, acknowledged } = await load({
    ...options,
    warmUpMs: 1_000,
    durationMs: 3_000,
    watchPid: process.pid,
  });
  return ((cpuMs ?? Number.NaN) * 1_000) / acknowledged;
}

async function cpuBySensors(): Promise<Figure[]> {
  return withGateway(BENCH, async (gateway) => {
    const [few, many]: [number[], number[]] = [[], []];
    for (let round = 0; round < 3; round++) {
      few.push(await cpuPerMessage(gateway, 10));
      many.push(await cpuPerMessage(gateway, 1_000));
    }
    return [comparison(`CPU per message, 10 → 1,000 sensors, both ${k(CPU_RATE)}/s`, few, many, 25, "µs")];
  });
}

async function cpuByRules(): Promise<Figure[]> {
  const others = Array.from({ length: 499 }, (_, index) => ({
    ...MAPPING,
    name: `rule-${index}`,
    from: `plant${index}/+site/+device/temperature`,
  }));
  return withGateway(BENCH, (one) =>
    withGateway({ ...BENCH, mappings: [...others, MAPPING] }, async (all) => {
      const [few, many]: [number[], number[]] = [[], []];
      for (let round = 0; round < 3; round++) {
        few.push(await cpuPerMessage(one, 100));
        many.push(await cpuPerMessage(all, 100));
      }
      return [
        comparison("CPU per message, 1 → 500 mapping rules (the last one matches)", few, many, 10, "µs"),
      ];
    }),
  );
}

async function idleMemory(): Promise<Figure[]> {
  return withGateway(STANDARD, async ({ process }) => {
    const samples: number[] = [];
    for (let second = 0; second < 10; second++) {
      await sleep(1_000);
      samples.push(residentBytes(process.pid));
    }
    const bytes = Math.max(...samples.slice(-5));
    return [
      {
        what: "idle memory of `sluice up`",
        figure: mb(bytes),
        target: "≤ 90 MB",
        met: bytes <= 90e6,
        detail:
          "resident, the highest of seconds 6 to 10. The chains of mosquitto, a bridge and Kafka: 420–550 MB",
        values: { bytes },
      },
    ];
  });
}

async function demonstration(): Promise<Figure[]> {
  const size = ["--sensors", "1000", "--subscribers", "1000"];
  const args = [program, "demo", ...size, "--duration", "20s", "--json"];
  const { stdout, elapsedMs } = await run(process.execPath, args, { timeoutMs: 240_000, expect: [0, 1] });
  const { gateway, mesh } = JSON.parse(stdout);
  const whole = gateway.connections === 2_000 && gateway.delivered === gateway.readings * 1_000;
  return [
    {
      what: "1,000 sensors × 1,000 subscribers through the gateway",
      figure: `${gateway.connections} connections, ${gateway.lost} lost, ${gateway.outOfOrder} out of order`,
      target: "2,000 connections, 0 lost, 0 out of order",
      met: whole && gateway.lost === 0 && gateway.outOfOrder === 0,
      detail: `${gateway.delivered} deliveries of ${gateway.readings} readings; connected in ${ms(gateway.connectMs)}, p50 ${ms(gateway.latencyMs.p50)}, p99 ${ms(gateway.latencyMs.p99)}; readers ${JSON.stringify(gateway.kinds)}; the mesh opened ${mesh.connections}; ${(elapsedMs / 1_000).toFixed(0)} s in all`,
      values: {
        connections: gateway.connections,
        delivered: gateway.delivered,
        lost: gateway.lost,
        outOfOrder: gateway.outOfOrder,
        connectMs: gateway.connectMs,
      },
    },
  ];
}

const JAVA = ["java", "kafka's jars"] as const;

export const ROWS: readonly Row[] = [
  { name: "mqtt throughput mosquitto", needs: ["mosquitto"], measure: throughput },
  { name: "end to end kcat", needs: ["kcat"], measure: endToEnd },
  { name: "latency kafkajs", measure: latency },
  { name: "cpu sensors", measure: cpuBySensors },
  { name: "cpu rules", measure: cpuByRules },
  { name: "mapping rules", measure: mappingRules },
  { name: "mapping node-red", needs: ["node-red"], measure: mappingAgainstNodeRed },
  { name: "commit partitions", measure: commits },
  { name: "memory idle", measure: idleMemory },
  { name: "ready start", measure: readiness },
  { name: "killed large", measure: killedWhileLarge },
  { name: "demo thousand", measure: demonstration },
  { name: "bytes written", measure: bytesWritten },
  { name: "wear linger", measure: wear },
  { name: "reload rules", measure: reloading },
  { name: "uplink drain", needs: JAVA, measure: drain },
  { name: "uplink ingest", needs: JAVA, measure: ingestDuringDrain },
  { name: "uplink remote", needs: JAVA, measure: remoteLatency },
  { name: "uplink rest", needs: JAVA, measure: idleUplink },
  { name: "uplink outage", needs: [...JAVA, "kcat"], measure: outage },
  { name: "unharmed others", measure: unharmed },
  { name: "kafka performance", needs: JAVA, measure: kafkaPerformance },
  { name: "kafka fetching", needs: JAVA, measure: fetchingAll },
  { name: "kafka fan-out", measure: fanOut },
  { name: "kafka idle", measure: idleConsumers },
  { name: "kafka compaction", measure: compacting },
  { name: "kafka deletion", measure: deleting },
];

export const missingFor = ({ needs = [] }: Row): string[] =>
  needs.filter((name) => !has(name)).map((name) => `${name} (${TOOLS[name].get})`);
