/**
 * What mapping costs: MQTT topic → record with key and one header, on one core, over a growing number of rules.
 * `node --import tsx test/bench/mapping.ts`
 */
import { Mapper } from "../../src/mapping/mapper.ts";
import type { PublishPacket } from "../../src/record.ts";

const MESSAGES = 200_000;
const SENSORS = 1_000;
const payload = Buffer.from('{"v":21.5,"ts":1767225600000}');

function packets(): PublishPacket[] {
  return Array.from({ length: 20_000 }, (_, index) => ({
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

function perSecond(rules: number, timestamp: string | undefined): number {
  const others = Array.from({ length: rules - 1 }, (_, index) => ({
    name: `other-${index}`,
    from: `plant${index}/+line/#rest`,
    to: "other",
  }));
  const rule = {
    name: "temperatures",
    from: "sensors/+site/+device/temperature",
    to: "telemetry",
    key: "${device}",
    headers: { site: "${site}" },
    ...(timestamp === undefined ? {} : { timestamp }),
  };
  const mapper = new Mapper([...others, rule], () => 4);
  let best = 0;
  for (let round = 0; round < 4; round++) {
    let mapped = 0;
    let spent = 0;
    for (let done = 0; done < MESSAGES; done += 20_000) {
      const batch = packets();
      const started = performance.now();
      for (const packet of batch) if (mapper.map(packet).outcome === "mapped") mapped++;
      spent += performance.now() - started;
    }
    if (mapped !== MESSAGES) throw new Error(`${mapped} of ${MESSAGES} mapped`);
    best = Math.max(best, (MESSAGES / spent) * 1_000);
  }
  return best;
}

const rows = [1, 10, 100, 1_000].map((rules) => ({
  rules,
  "key and header, million/s": (perSecond(rules, undefined) / 1e6).toFixed(2),
  "and ${payload.ts}, million/s": (perSecond(rules, "${payload.ts}") / 1e6).toFixed(2),
}));
console.table(rows);
