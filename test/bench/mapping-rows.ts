/** The rows about mapping: what a rule costs, whatever the number of rules, and what it costs in Node-RED. */
import { nodeRedFolder } from "../interop/support/tools.ts";
import { type Figure, k } from "./figure.ts";
import type { MappingRates, PlainRate } from "./mapping.ts";
import { median, resultOf, script } from "./measure.ts";
import type { NodeRedOptions, NodeRedRates } from "./node-red.ts";

const RULES = [1, 10, 100, 1_000];
const RULE_ROUNDS = 5;

/** Messages a second of CPU by the number of rules: the median of some processes, which take turns. */
async function ratesByRules(): Promise<{ rules: number; rate: number }[]> {
  const rates = new Map(RULES.map((rules) => [rules, [] as number[]]));
  for (let round = 0; round < RULE_ROUNDS; round++) {
    for (const [rules, own] of rates) {
      own.push((await resultOf<PlainRate>(script("mapping.ts", { rules }))).plain);
    }
  }
  return [...rates].map(([rules, own]) => ({ rules, rate: median(own) }));
}

export async function mappingRules(): Promise<Figure[]> {
  const bySize = await ratesByRules();
  const { when, whenFalse, parse, payloadBytes } = await valueRates();
  const [one = 0, ...others] = bySize.map(({ rate }) => rate);
  const slowest = Math.min(one, ...others);
  const change = Math.max(...others.map((rate) => Math.abs(rate / one - 1))) * 100;
  const list = bySize.map(({ rules, rate }) => `${rules}: ${(rate / 1e6).toFixed(2)} M/s`).join(", ");
  return [
    {
      what: "rules a second: topic → record with key and header, on one core",
      figure: `${(slowest / 1e6).toFixed(2)} M/s`,
      target: "≥ 1 M/s",
      met: slowest >= 1e6,
      detail: `by the number of rules: ${list}`,
      values: { slowest, one },
    },
    {
      what: "the same from 1 to 1,000 rules",
      figure: `±${change.toFixed(0)}%`,
      target: "within ±10%",
      met: change <= 10,
      detail: `the largest difference to one rule; medians of ${RULE_ROUNDS} processes each, which take turns`,
      values: { change },
    },
    {
      what: `with when on a JSON field of ${payloadBytes} bytes`,
      figure: `${k(when)}/s`,
      target: "≥ 300k/s",
      met: when >= 300_000,
      detail: `where it does not hold ${k(whenFalse)}/s; JSON.parse of that payload alone ${k(parse)}/s`,
      values: { when, whenFalse, parse },
    },
  ];
}

const valueRates = (): Promise<MappingRates> => resultOf<MappingRates>(script("mapping.ts", {}));

/** The same rule in Node-RED: by its nodes, and in JavaScript by a function node. */
export async function mappingAgainstNodeRed(): Promise<Figure[]> {
  const options: NodeRedOptions = { folder: nodeRedFolder };
  const rounds: (NodeRedRates & MappingRates)[] = [];
  for (let round = 0; round < 3; round++) {
    const rival = await resultOf<NodeRedRates>(script("node-red.ts", options));
    rounds.push({ ...rival, ...(await valueRates()) });
  }
  const [value, nodes, byScript] = (["value", "nodes", "script"] as const).map((which) =>
    median(rounds.map((round) => round[which])),
  ) as [number, number, number];
  return [
    {
      what: "when, key, header and value, against Node-RED's json, switch and change nodes",
      figure: `${(value / nodes).toFixed(1)}×`,
      target: "printed",
      detail: `${k(value)}/s against ${k(nodes)}/s of CPU for the same rule`,
      values: { value, nodes },
    },
    {
      what: "the same, against a function node in JavaScript",
      figure: `${(value / byScript).toFixed(1)}×`,
      target: "printed",
      detail: `${k(value)}/s against ${k(byScript)}/s of CPU`,
      values: { value, script: byScript },
    },
  ];
}
