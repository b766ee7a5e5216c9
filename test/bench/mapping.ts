/**
 * What mapping costs on one core, by the CPU that it takes, built as it ships: MQTT topic → record over a number of rules
 * (`{"rules": 100}`); or, without one, with a condition and a value that look into a payload of 200 bytes, and the same in
 * JSONata, in which Node-RED's switch and change nodes are written. `npm run build && node --import tsx
 * test/bench/mapping.ts '{"rules":1}'`; the last line is JSON.
 */
import jsonata from "jsonata";
import type { RuleDefinition } from "../../src/mapping/rule.ts";
import type { PublishPacket } from "../../src/record.ts";
import { median } from "./measure.ts";

const { Mapper } = (await import(
  new URL("../../dist/mapping/mapper.js", import.meta.url).href
)) as typeof import("../../src/mapping/mapper.ts");

export interface MappingOptions {
  readonly rules?: number;
}

/** Messages a second of CPU. */
export interface PlainRate {
  readonly plain: number;
}

export interface MappingRates {
  readonly when: number;
  readonly whenFalse: number;
  readonly value: number;
  readonly jsonata: number;
  readonly parse: number;
  readonly payloadBytes: number;
}

const SENSORS = 1_000;
const WARM_UP = 4;
const ROUNDS = 9;
const reading = {
  battery: 87,
  humidity: 45.32,
  linkquality: 120,
  temperature: 21.53,
  voltage: 2985,
  pressure: 1013.2,
  update: { state: "idle", installed_version: 16777241 },
  last_seen: "2026-01-01T00:00:00Z",
  contact: true,
};
const payload = Buffer.from(JSON.stringify(reading));

function packets(count: number): PublishPacket[] {
  return Array.from({ length: count }, (_, index) => ({
    // A fresh string per message, as it comes out of the parser: its hash is not known yet.
    mqttTopic: Buffer.from(`sensors/north/t${index % SENSORS}/temperature`).toString(),
    payload,
    qos: 1 as const,
    retain: false,
    clientId: `t${index % SENSORS}`,
    username: undefined,
    receivedAt: 1_767_225_600_000,
  }));
}

/** Of this process, in seconds: what others take of the machine does not count. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** Messages a second of CPU: the median of some rounds, each on messages that are new, after some that do not count. */
function rate(count: number, each: (packet: PublishPacket) => void): number {
  const rates: number[] = [];
  for (let round = 0; round < WARM_UP + ROUNDS; round++) {
    const batch = packets(count);
    // What making them has left behind is not collected at the mapping's cost.
    globalThis.gc?.();
    const started = cpuSeconds();
    for (const packet of batch) each(packet);
    rates.push(count / (cpuSeconds() - started));
  }
  return median(rates.slice(WARM_UP));
}

function mapping(rules: number, more: Partial<RuleDefinition>, outcome = "mapped"): number {
  const others = Array.from({ length: rules - 1 }, (_, index) => ({
    name: `other-${index}`,
    from: `plant${index}/+line/#rest`,
    to: "other",
  }));
  const rule: RuleDefinition = {
    name: "temperatures",
    from: "sensors/+site/+device/temperature",
    to: "telemetry",
    key: "${device}",
    headers: { site: "${site}" },
    ...more,
  };
  const mapper = new Mapper([...others, rule], () => 4);
  const count = Object.keys(more).length === 0 ? 100_000 : 30_000;
  return rate(count, (packet) => {
    if (mapper.map(packet).outcome !== outcome) throw new Error("mapped otherwise");
  });
}

async function byJsonata(): Promise<number> {
  const when = jsonata("payload.temperature > 20");
  const value = jsonata('{"t": payload.temperature, "h": payload.humidity, "device": $split(topic, "/")[2]}');
  const count = 3_000;
  const rates: number[] = [];
  for (let round = 0; round < WARM_UP + ROUNDS; round++) {
    const batch = packets(count);
    const started = cpuSeconds();
    for (const { mqttTopic, payload } of batch) {
      const message = { topic: mqttTopic, payload: JSON.parse(payload.toString()) };
      if (await when.evaluate(message)) JSON.stringify(await value.evaluate(message));
    }
    rates.push(count / (cpuSeconds() - started));
  }
  return median(rates.slice(WARM_UP));
}

const { rules } = JSON.parse(process.argv[2] ?? "{}") as MappingOptions;
const rates: PlainRate | MappingRates =
  rules !== undefined
    ? { plain: mapping(rules, {}) }
    : {
        when: mapping(1, { when: "payload.temperature > 20" }),
        whenFalse: mapping(1, { when: "payload.temperature > 30" }, "unmatched"),
        value: mapping(1, {
          when: "payload.temperature > 20",
          value: '{"t": payload.temperature, "h": payload.humidity, "device": device}',
        }),
        jsonata: await byJsonata(),
        parse: rate(30_000, ({ payload }) => JSON.parse(payload.toString())),
        payloadBytes: payload.length,
      };
console.log(JSON.stringify(rates));
