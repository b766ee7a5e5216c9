/**
 * What mapping costs on one core, by the CPU that it takes, built as it ships: MQTT topic → record over a number of rules
 * (`{"rules": 100}`); or, without one, with a condition and a value that look into a payload of 200 bytes. `npm run build
 * && node --import tsx test/bench/mapping.ts '{"rules":1}'`; the last line is JSON.
 */
import type { RuleDefinition } from "../../src/mapping/rule.ts";
import { cpuRate, payload } from "./mapping-messages.ts";

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
  readonly parse: number;
  readonly payloadBytes: number;
}

function mapping(rules: number, more: Partial<RuleDefinition>, outcome = "mapped"): Promise<number> {
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
  return cpuRate(count, (batch) => {
    for (const packet of batch) {
      if (mapper.map(packet).outcome !== outcome) throw new Error("mapped otherwise");
    }
  });
}

const WHEN = { when: "payload.temperature > 20" };
const { rules } = JSON.parse(process.argv[2] ?? "{}") as MappingOptions;
const rates: PlainRate | MappingRates =
  rules !== undefined
    ? { plain: await mapping(rules, {}) }
    : {
        when: await mapping(1, WHEN),
        whenFalse: await mapping(1, { when: "payload.temperature > 30" }, "unmatched"),
        value: await mapping(1, {
          ...WHEN,
          value: '{"t": payload.temperature, "h": payload.humidity, "device": device}',
        }),
        parse: await cpuRate(30_000, (batch) => {
          for (const packet of batch) JSON.parse(packet.payload.toString());
        }),
        payloadBytes: payload.length,
      };
console.log(JSON.stringify(rates));
