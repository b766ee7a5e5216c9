/**
 * `npm run test:kill -- [--kills 1000] [--minutes 60]`: kill -9 under load for as long as one likes, whichever comes
 * first. Needs mosquitto-clients.
 * Exits with 1 when anything was lost, doubled, disordered or changed.
 */
import { parseArgs } from "node:util";
import { killLoop } from "./support/kill-loop.ts";

const { values } = parseArgs({ options: { kills: { type: "string" }, minutes: { type: "string" } } });
const startedAt = performance.now();
const report = await killLoop({
  kills: Number(values.kills ?? 1_000),
  ...(values.minutes === undefined ? {} : { enough: AbortSignal.timeout(Number(values.minutes) * 60_000) }),
  onKill: (kills, acknowledged) => {
    if (process.stdout.isTTY) process.stdout.write(`\r${kills} kills, ${acknowledged} acknowledged `);
    else if (kills % 50 === 0) console.log(`${kills} kills, ${acknowledged} acknowledged`);
  },
});
if (process.stdout.isTTY) process.stdout.write("\n");
const { kills, acknowledged, ...broken } = report;
const [one, two, produced] = acknowledged;
const seconds = Math.round((performance.now() - startedAt) / 1000);
console.log(
  `${kills} kills in ${seconds} s; acknowledged: ${one} at QoS 1, ${two} at QoS 2, ${produced} produced`,
);
for (const [what, list] of Object.entries(broken)) {
  console.log(`${what}: ${list.length}${list.length > 0 ? ` (${list.slice(0, 10).join("; ")} …)` : ""}`);
  if (list.length > 0) process.exitCode = 1;
}
