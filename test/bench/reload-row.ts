/** The row about taking over another configuration under load: how long nobody is acknowledged, and whether all of it holds. */
import { readFile, writeFile } from "node:fs/promises";
import { parse, stringify } from "yaml";
import { ControlClient } from "../../src/control/client.ts";
import type { Gateway } from "../interop/support/gateway.ts";
import { kafkaClient } from "../interop/support/kafka.ts";
import { type Figure, ms } from "./figure.ts";
import { clockMs, mqttTopicOf } from "./load.ts";
import { BENCH, MAPPING, resultOf, script, sleep, withGateway } from "./measure.ts";
import type { PausesResult } from "./pauses.ts";

const RULES = 1_000;
const TESTS = 200;
const RATE = 20_000;
const SENSORS = 20;
const RELOADS = 5;
/** What a reload leaves to be done, such as filling the mapper's cache, belongs to it. */
const AFTER_MS = 500;
/** For comparison: nothing is reloaded. */
const QUIET_MS = 5_000;

const rulesOf = (round: number) => [
  ...Array.from({ length: RULES - 1 }, (_, index) => ({
    name: `rule-${index}`,
    from: `plant${index}/+site/+device/#rest`,
    when: "payload.v > 10 && site != 'nowhere'",
    to: "telemetry",
    key: "$" + "{site}-$" + "{device}",
    headers: { site: "$" + "{site}", round: `${round}` },
  })),
  { ...MAPPING, headers: { ...MAPPING.headers, round: `${round}` } },
];

const testsOf = (round: number) =>
  Array.from({ length: TESTS }, (_, index) => ({
    publish: { topic: `plant${index * 4}/north/d1/x`, payload: { v: 21.5 } },
    expect: { stream: "telemetry", key: "north-d1", headers: { round: `${round}` } },
  }));

/** The configuration of each round as text: writing it takes a processor, which is not to be missed while it runs. */
async function textsOf({ configFile }: Gateway): Promise<string[]> {
  const config = parse(await readFile(configFile, "utf8"));
  return Array.from({ length: RELOADS }, (_, index) => {
    const changed = { ...config, mappings: rulesOf(index + 1), tests: testsOf(index + 1) };
    return stringify(changed, { aliasDuplicateObjects: false });
  });
}

async function reload(gateway: Gateway, text: string): Promise<{ from: number; to: number }> {
  const from = clockMs();
  await writeFile(gateway.configFile, text);
  // Or the gateway has seen it by itself already.
  await new ControlClient(gateway.dataDir).ask("POST /reload");
  const to = clockMs();
  await sleep(AFTER_MS);
  return { from, to };
}

/** What is on the stream: lost, out of order, and how many rounds of the configuration have written. */
async function audit(gateway: Gateway, sent: readonly number[]) {
  const next = new Map(sent.map((_, index) => [`d${index}`, 0]));
  const rounds = new Set<string>();
  let read = 0;
  let outOfOrder = 0;
  const total = sent.reduce((sum, count) => sum + count, 0);
  const consumer = kafkaClient(gateway.brokers).consumer({ groupId: "audit" });
  await consumer.connect();
  await consumer.subscribe({ topic: "telemetry", fromBeginning: true });
  await consumer.run({
    eachBatch: async ({ batch }) => {
      for (const { key, value, headers } of batch.messages) {
        const device = String(key);
        const number = Number(value);
        if (number !== next.get(device)) outOfOrder++;
        next.set(device, number + 1);
        rounds.add(String(headers?.round));
        read++;
      }
    },
  });
  for (let waited = 0; read < total && waited < 60_000; waited += 50) await sleep(50);
  await consumer.disconnect();
  return { total, lost: total - read, outOfOrder, rounds: rounds.size };
}

export async function reloading(): Promise<Figure[]> {
  if (!mqttTopicOf(0).startsWith("sensors/")) throw new Error("the bench's MQTT topics have changed");
  return withGateway({ ...BENCH, mappings: rulesOf(0) }, async (gateway) => {
    const texts = await textsOf(gateway);
    const running = script("pauses.ts", {
      port: gateway.mqttPort,
      connections: SENSORS,
      ratePerSecond: RATE,
    });
    await running.until(({ stdout }) => stdout.includes("begin"), "the load's begin", 30_000);
    await sleep(2_000);
    const quiet = { from: clockMs(), to: clockMs() + QUIET_MS };
    await sleep(QUIET_MS + AFTER_MS);
    const reloads: { from: number; to: number }[] = [];
    for (const text of texts) reloads.push(await reload(gateway, text));
    await running.end("SIGTERM", 60_000);
    const { sent, gaps } = await resultOf<PausesResult>(running);
    const longest = ({ from, to }: { from: number; to: number }): number =>
      Math.max(
        0,
        ...gaps.filter(({ endedAt }) => endedAt >= from && endedAt <= to + AFTER_MS).map((gap) => gap.ms),
      );
    const pauses = reloads.map(longest);
    const { total, lost, outOfOrder, rounds } = await audit(gateway, sent);
    const pause = Math.max(...pauses);
    const took = reloads.map(({ from, to }) => ms(to - from)).join(", ");
    return [
      {
        what: `reload of ${RULES} rules with ${TESTS} tests under ${RATE / 1_000}k messages/s`,
        figure: `longest pause ${ms(pause)}, ${lost} lost, ${outOfOrder} out of order`,
        target: "≤ 50 ms, 0 lost, 0 out of order",
        met: pause <= 50 && lost === 0 && outOfOrder === 0 && rounds === RELOADS + 1,
        detail: `pauses ${pauses.map(ms).join(", ")}; without a reload ${ms(longest(quiet))}; saved to taken over ${took}; ${total} messages`,
        values: { pause, lost, outOfOrder, total },
      },
    ];
  });
}
