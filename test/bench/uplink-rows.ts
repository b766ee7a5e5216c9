/** The uplink beside Apache Kafka's own producer, on the same machine, into the same broker. */
import { readFileSync } from "node:fs";
import { ApacheKafka } from "../interop/support/apache-kafka.ts";
import { Gateway, type GatewayOptions } from "../interop/support/gateway.ts";
import { MAINS } from "../interop/support/kafka-tools.ts";
import { connectMqtt } from "../interop/support/mqtt.ts";
import { eventually, run } from "../interop/support/process.ts";
import { javaArgs, tool } from "../interop/support/tools.ts";
import { week } from "../interop/support/uplink-week.ts";
import { type Figure, k, mb, ms } from "./figure.ts";
import type { LatencyResult } from "./latency.ts";
import { BENCH, load, MAPPING, median, residentBytes, resultOf, script, sleep } from "./measure.ts";

const PARTITIONS = 6;
const RECORD_BYTES = 200;
/** A gigabyte of values. */
const BACKLOG = Number(process.env.SLUICE_BENCH_BACKLOG ?? 5_000_000);
const TOPIC = "edge.interop.telemetry";

const uplinkTo = (brokers: string) => ({ name: "cloud", brokers: [brokers], streams: ["telemetry"] });

async function withKafka<T>(body: (kafka: ApacheKafka) => Promise<T>, isElsewhere = false): Promise<T> {
  const kafka = await ApacheKafka.start({ heap: "1g", isElsewhere });
  try {
    return await body(kafka);
  } finally {
    await kafka.close();
  }
}

/** Records a second that Kafka's ProducerPerformance came to, acks=all. */
async function producerPerformance(brokers: string, topic: string, records: number): Promise<number> {
  const args = [
    "--topic",
    topic,
    "--num-records",
    records,
    "--record-size",
    RECORD_BYTES,
    "--throughput",
    -1,
  ];
  const properties = ["--producer-props", `bootstrap.servers=${brokers}`, "acks=all"];
  const command = [...javaArgs(MAINS["producer performance"], [...args.map(String), ...properties])];
  // A producer at its best: the compiler's second tier, and room.
  const flags = command
    .filter((flag) => flag !== "-XX:TieredStopAtLevel=1")
    .map((flag) => (flag === "-Xmx256m" ? "-Xmx512m" : flag));
  const { stdout } = await run(tool("java"), flags, { timeoutMs: 300_000 });
  const rate = [...stdout.matchAll(/sent, ([\d.]+) records\/sec/g)].at(-1)?.[1];
  return Number(rate);
}

/** All records that a topic has taken, transactions' markers among them. */
async function endOf(kafka: ApacheKafka, topic: string): Promise<number> {
  const admin = kafka.client().admin();
  await admin.connect();
  try {
    const offsets = await admin.fetchTopicOffsets(topic);
    return offsets.reduce((sum, { high }) => sum + Number(high), 0);
  } catch {
    return 0; // not there yet
  } finally {
    await admin.disconnect();
  }
}

const streams = { telemetry: { partitions: PARTITIONS } };

/** How long a QoS 1 publish of one sensor takes until it is acknowledged, 200 a second: the 99th percentile. */
async function ingestP99(url: string, messages: number): Promise<number> {
  const client = await connectMqtt(url);
  const times: number[] = [];
  for (let number = 0; number < messages; number++) {
    const startedAt = performance.now();
    await client.publishAsync("sensors/hall/d1/temperature", "21.5", { qos: 1 });
    times.push(performance.now() - startedAt);
    await sleep(5);
  }
  await client.endAsync();
  return times.sort((a, b) => a - b)[Math.floor(times.length * 0.99)] ?? Number.NaN;
}

/** A gateway with so many records in `telemetry`, stopped; `body` starts it again with an uplink. */
async function withBacklog<T>(
  records: number,
  before: (gateway: Gateway) => Promise<void>,
  body: (dataDir: string) => Promise<T>,
): Promise<T> {
  const gateway = await Gateway.start({ streams, mappings: [MAPPING] });
  try {
    await producerPerformance(gateway.brokers, "telemetry", records);
    await before(gateway);
    await gateway.stop();
    return await body(gateway.dataDir);
  } finally {
    await gateway.dispose();
  }
}

const draining = (kafka: ApacheKafka, dataDir: string): Promise<Gateway> =>
  Gateway.start({ streams, mappings: [MAPPING], uplinks: [uplinkTo(kafka.brokers)], dataDir });

export async function drain(): Promise<Figure[]> {
  return withKafka(async (kafka) => {
    await kafka.createTopics({ rival: PARTITIONS, [TOPIC]: PARTITIONS });
    const rival = async (): Promise<void> => {
      await producerPerformance(kafka.brokers, "rival", 200_000);
      theirs = await producerPerformance(kafka.brokers, "rival", BACKLOG);
    };
    let theirs = Number.NaN;
    return withBacklog(BACKLOG, rival, async (dataDir) => {
      const gateway = await draining(kafka, dataDir);
      try {
        const startedAt = performance.now();
        await eventually(async () => (await endOf(kafka, TOPIC)) >= BACKLOG, "the drain", 300_000);
        const ours = (BACKLOG / (performance.now() - startedAt)) * 1000;
        return [
          {
            what: `drain of ${BACKLOG / 5_000_000} GB (200-byte records, 6 partitions), exactly once, against Kafka's ProducerPerformance`,
            figure: `${(ours / theirs).toFixed(2)}×`,
            target: "≥ 0.5×",
            met: ours / theirs >= 0.5,
            detail: `${k(ours)} records/s against ${k(theirs)} with acks=all, into the same Kafka on this machine`,
            values: { ours, theirs },
          },
        ];
      } finally {
        await gateway.dispose();
      }
    });
  });
}

const PUBLISHES = 800;

/** Of three rounds, so that one hiccup of the machine is one round's. */
async function medianP99(url: string): Promise<number> {
  const rounds: number[] = [];
  for (let round = 0; round < 3; round++) rounds.push(await ingestP99(url, PUBLISHES));
  return median(rounds);
}

export async function ingestDuringDrain(): Promise<Figure[]> {
  return withKafka(async (kafka) => {
    await kafka.createTopics({ [TOPIC]: PARTITIONS });
    let atRest = Number.NaN;
    const idle = async (gateway: Gateway): Promise<void> => {
      await ingestP99(gateway.mqttUrl, 200);
      atRest = await medianP99(gateway.mqttUrl);
    };
    return withBacklog(BACKLOG, idle, async (dataDir) => {
      const gateway = await draining(kafka, dataDir);
      try {
        await eventually(async () => (await endOf(kafka, TOPIC)) > 0, "the drain's begin", 60_000);
        const startedAt = performance.now();
        const from = await endOf(kafka, TOPIC);
        const busy = await medianP99(gateway.mqttUrl);
        const to = await endOf(kafka, TOPIC);
        const rate = ((to - from) / (performance.now() - startedAt)) * 1000;
        return [
          {
            what: "QoS 1 acknowledgement while a backlog drains, p99, against none draining",
            figure: `${(busy / atRest).toFixed(1)}×`,
            target: "≤ 2×",
            met: busy / atRest <= 2 && to < BACKLOG,
            detail: `${ms(busy)} against ${ms(atRest)}, medians of three rounds of ${PUBLISHES} publishes, ${k(rate)} records/s drained meanwhile; Kafka as if elsewhere: its files in memory, on one processor`,
            values: { busy, atRest, rate },
          },
        ];
      } finally {
        await gateway.dispose();
      }
    });
  }, true);
}

export async function remoteLatency(): Promise<Figure[]> {
  return withKafka(async (kafka) => {
    await kafka.createTopics({ [TOPIC]: 4 });
    const options: GatewayOptions = { ...BENCH, uplinks: [uplinkTo(kafka.brokers)] };
    const gateway = await Gateway.start(options);
    try {
      const [warmUpMs, roundMs] = [6_000, 4_000];
      const subscriber = script("latency.ts", { brokers: kafka.brokers, stream: TOPIC, warmUpMs, roundMs });
      await subscriber.until(({ stdout }) => stdout.includes("joined"), "the subscriber to join");
      const sensors = { port: gateway.mqttPort, connections: 100, window: 1, payloadBytes: 64, stamp: true };
      const sent = await load({ ...sensors, ratePerSecond: 1_000, warmUpMs, durationMs: 3 * roundMs });
      await sleep(2_000);
      await subscriber.end("SIGTERM");
      const { received, rounds } = await resultOf<LatencyResult>(subscriber);
      const three = rounds.slice(0, 3);
      const [p50, p99] = [median(three.map((round) => round.p50)), median(three.map((round) => round.p99))];
      const missing = sent.acknowledgedInAll - received;
      return [
        {
          what: "sensor → read_committed consumer of the cluster, 1,000 messages/s",
          figure: `p50 ${ms(p50)}, p99 ${ms(p99)}`,
          target: "p50 ≤ 50 ms, p99 ≤ 250 ms",
          met: p50 <= 50 && p99 <= 250 && missing === 0,
          detail: `interval 20 ms; medians of three rounds of ${roundMs / 1_000} s; kafkajs consumer; missing ${missing}`,
          values: { p50, p99, missing },
        },
      ];
    } finally {
      await gateway.dispose();
    }
  });
}

/** User and system, in milliseconds. */
function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

async function atRest(options: GatewayOptions): Promise<{ share: number; bytes: number }> {
  const gateway = await Gateway.start(options);
  try {
    await load({
      port: gateway.mqttPort,
      connections: 1,
      window: 1,
      payloadBytes: 64,
      ratePerSecond: 50,
      warmUpMs: 0,
      durationMs: 2_000,
    });
    await sleep(5_000);
    const before = cpuMs(gateway.process.pid);
    const forMs = 10_000;
    await sleep(forMs);
    return {
      share: (cpuMs(gateway.process.pid) - before) / forMs,
      bytes: residentBytes(gateway.process.pid),
    };
  } finally {
    await gateway.dispose();
  }
}

export async function idleUplink(): Promise<Figure[]> {
  return withKafka(async (kafka) => {
    await kafka.createTopics({ [TOPIC]: 4 });
    const without = await atRest(BENCH);
    const withIt = await atRest({ ...BENCH, uplinks: [uplinkTo(kafka.brokers)] });
    const [share, bytes] = [withIt.share - without.share, withIt.bytes - without.bytes];
    return [
      {
        what: "an idle uplink, over a gateway without one",
        figure: `${(share * 100).toFixed(1)}% of a core, ${mb(bytes)}`,
        target: "≤ 1% of a core, ≤ 15 MB",
        met: share <= 0.01 && bytes <= 15e6,
        detail: `${(withIt.share * 100).toFixed(1)}% and ${mb(withIt.bytes)} with, ${(without.share * 100).toFixed(1)}% and ${mb(without.bytes)} without`,
        values: { share, bytes },
      },
    ];
  });
}

/**
 * A week of 20 million records, 33 a second, takes more than a bench has time for. SLUICE_BENCH_WEEK=20000000 takes ten
 * minutes; some three quarters of them come in, for the second half ends with its drain.
 */
const WEEK = Number(process.env.SLUICE_BENCH_WEEK ?? 6_000_000);
const WEEK_PER_SECOND = 60_000;

export async function outage(): Promise<Figure[]> {
  const result = await week({ records: WEEK, perSecond: WEEK_PER_SECOND, say: console.error });
  const { records, inKafka, lost, repeated, gapRecords, disk, drain: drained, seconds } = result;
  const off = (ratio: number) => `${((ratio - 1) * 100).toFixed(1)}%`;
  const isNear = (ratio: number) => Math.abs(ratio - 1) <= 0.1;
  return [
    {
      what: `two outages of ${k(records)} records together, one until the disk is full`,
      figure: `lost ${lost}, twice ${repeated}, gaps ${gapRecords}`,
      target: "all delivered once",
      met: inKafka === records && records > WEEK / 2 && lost + repeated + gapRecords === 0,
      detail: `${k(WEEK_PER_SECOND)} records/s, the gateway killed in each; ${seconds} s`,
      values: { records, inKafka, lost, repeated, gapRecords },
    },
    {
      what: "the runway meter's word against what came: the disk's end, the drain",
      figure: `${off(disk)}, ${off(drained)}`,
      target: "within 10%",
      met: isNear(disk) && isNear(drained),
      detail: "foretold with half of the disk full, and with a quarter drained",
      values: { disk, drain: drained },
    },
  ];
}
