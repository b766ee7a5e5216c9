/**
 * `npm run fuzz:kafka -- [--frames 1000000] [--seed 1] [--from 0]`: mutated frames against the built program. A
 * frame is known by the seed and its number; `--from N --frames 1` sends one again. Exits with 1 on a complaint.
 */
import { parseArgs } from "node:util";
import type { AttackReport } from "./attack.ts";
import { besiege } from "./besieged.ts";

const { values } = parseArgs({
  options: { frames: { type: "string" }, seed: { type: "string" }, from: { type: "string" } },
});
const seed = Number(values.seed ?? 1);
const from = Number(values.from ?? 0);
const to = from + Number(values.frames ?? 1_000_000);
const startedAt = performance.now();

function say({ sent, answered, refused, silent, residentMiB, slowestHonestMs }: AttackReport): void {
  const rate = Math.round((sent / (performance.now() - startedAt)) * 1000);
  const outcomes = `${answered} answered, ${refused} refused, ${silent} waiting`;
  console.log(
    `${sent} frames (${outcomes}), ${rate}/s, ${residentMiB.at(-1)} MiB, honest ≤ ${slowestHonestMs} ms`,
  );
}

console.log(`seed ${seed}, frames ${from} to ${to - 1}`);
const { report, complaints } = await besiege({ seed, from, to, onProgress: say });
say(report);
console.log(`resident memory on the way: ${report.residentMiB.join(", ")} MiB`);
for (const complaint of complaints) console.log(complaint);
console.log(
  complaints.length === 0 ? "nothing to complain of" : `seed ${seed}: ${complaints.length} complaints`,
);
process.exit(complaints.length === 0 ? 0 : 1);
