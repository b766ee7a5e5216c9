/** The rows about mapping: what a rule costs, whatever the number of rules, and what it costs in Node-RED. */
import { nodeRedFolder } from "../interop/support/tools.ts";
import { type Figure, k } from "./figure.ts";
import type { MappingRates, PlainRate } from "./mapping.ts";
import { median, resultOf, script } from "./measure.ts";
import type { NodeRedOptions, NodeRedRates } from "./node-red.ts";

const RULES = [1, 10, 100, 1_000];
const RULE_ROUNDS = 5;

/** Messages a second of CPU by the number of rules, a process each, in rounds; every other one in reverse. */
async function ratesByRules(): Promise<{ rules: number; rates: number[] }[]> {
  const bySize = RULES.map((rules) => ({ rules, rates: [] as number[] }));
  for (let round = 0; round < RULE_ROUNDS; round++) {
    for (const { rules, rates } of round % 2 === 0 ? bySize : bySize.toReversed()) {
      rates.push((await resultOf<PlainRate>(script("mapping.ts", { rules }))).plain);
    }
  }
  return bySize;
}

export async function mappingRules(): Promise<Figure[]> {
  const rounds = await ratesByRules();
  const { when, whenFalse, parse, payloadBytes } = await valueRates();
  const bySize = rounds.map(({ rules, rates }) => ({ rules, rate: median(rates) }));
  const [one, ...others] = rounds.map(({ rates }) => rates) as [number[], ...number[][]];
  const slowest = Math.min(...bySize.map(({ rate }) => rate));
  // Within a round: what else the machine does in a minute is no difference between them.
  const changes = others.map((rates) =>
    median(rates.map((rate, round) => rate / (one[round] as number) - 1)),
  );
  const change = Math.max(...changes.map(Math.abs)) * 100;
  const list = bySize.map(({ rules, rate }) => `${rules}: ${(rate / 1e6).toFixed(2)} M/s`).join(", ");
  return [
    {
      what: "rules a second: topic → record with key and header, on one core",
      figure: `${(slowest / 1e6).toFixed(2)} M/s`,
      target: "≥ 1 M/s",
      met: slowest >= 1e6,
      detail: `by the number of rules: ${list}`,
      values: { slowest },
    },
    {
      what: "the same from 1 to 1,000 rules",
      figure: `±${change.toFixed(0)}%`,
      target: "within ±10%",
      met: change <= 10,
      detail: `medians of ${RULE_ROUNDS} rounds against one rule, a process each, which take turns: ${changes.map((one) => `${(one * 100).toFixed(1)}%`).join(", ")}`,
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
