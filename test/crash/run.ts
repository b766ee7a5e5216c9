/**
 * `npm run test:crash -- [--points 10000] [--seed 1] [--level L]`: power cuts for as long as one likes;
 * histories are those of the seed and the ones after it, of each level (log, compaction, gateway) by turns.
 * `--level L --seed S --point P` checks one point again. Exits with 1 on a failure.
 */
import { parseArgs } from "node:util";
import { describeFailure, simulate } from "./simulate.ts";
import { LEVELS, type Level } from "./workload.ts";

const { values } = parseArgs({
  options: {
    points: { type: "string" },
    seed: { type: "string" },
    point: { type: "string" },
    level: { type: "string" },
  },
});
/** Where no line can be written over. */
const POINTS_PER_LINE = 10_000;

const { level } = values;
const isLevel = (text: string): text is Level => (LEVELS as readonly string[]).includes(text);
if (level !== undefined && !isLevel(level)) throw new Error(`--level is one of ${LEVELS.join(", ")}`);
const seed = Number(values.seed ?? 1);
const points = Number(values.points ?? 10_000);
const only = values.point === undefined ? undefined : Number(values.point);
const startedAt = performance.now();
const rate = (done: number): string => `${Math.round((done / (performance.now() - startedAt)) * 1000)}/s`;

let nextLine = POINTS_PER_LINE;
const result = await simulate({
  seed,
  points,
  only,
  level,
  onHistory: ({ seed: at, points: done }) => {
    if (process.stdout.isTTY) process.stdout.write(`\r${done} power cuts, ${rate(done)}, seed ${at} `);
    else if (done >= nextLine) {
      console.log(`${done} power cuts, ${rate(done)}, up to seed ${at}`);
      nextLine = done + POINTS_PER_LINE;
    }
  },
});
if (process.stdout.isTTY) process.stdout.write("\n");
console.log(`${result.points} power cuts in ${result.histories} histories, ${rate(result.points)}`);
if (result.failure !== undefined) {
  console.log(describeFailure(result.failure));
  process.exitCode = 1;
}
