/**
 * `npm run bench [-- word…] [-- --json]`: the figures Sluice is held to, measured on this machine in this run.
 * Words select rows (`mqtt`, `latency`, `cpu`, …); none selects all. Linux only: CPU and I/O come from /proc.
 * Of `performance`, SLUICE_BENCH_CASES=1000x1 measures one case, SLUICE_BENCH_ROUNDS and SLUICE_BENCH_RUN (bytes) less,
 * and SLUICE_BENCH_BATCH=65536 a producer with larger batches than its own 16 KiB;
 * of `unharmed`, SLUICE_BENCH_CASES="QoS 1,large log" measures those whose names have one of these in them.
 * Exits with 1 when a figure misses its target or a row could not be measured for want of its rival.
 */
import { cpus, platform } from "node:os";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import pc from "picocolors";
import type { Figure } from "./figure.ts";
import { missingFor, ROWS, type Row } from "./rows.ts";

interface Result {
  readonly row: string;
  readonly figures: readonly Figure[];
  /** Why there are none. */
  readonly problem?: string;
  readonly seconds: number;
}

async function measured(row: Row): Promise<Result> {
  const startedAt = performance.now();
  const seconds = () => (performance.now() - startedAt) / 1_000;
  const missing = missingFor(row);
  if (missing.length > 0) {
    return { row: row.name, figures: [], problem: `not measured: missing ${missing.join(", ")}`, seconds: 0 };
  }
  try {
    return { row: row.name, figures: await row.measure(), seconds: seconds() };
  } catch (error) {
    const problem = `failed: ${error instanceof Error ? error.message : String(error)}`;
    return { row: row.name, figures: [], problem, seconds: seconds() };
  }
}

const verdict = ({ met }: Figure): string =>
  met === undefined ? pc.dim("printed") : met ? pc.green("met") : pc.red("missed");

function print({ row, figures, problem, seconds }: Result): void {
  const table = new Table({
    head: ["figure", "measured", "target", "verdict"],
    style: { head: [], border: [] },
  });
  for (const figure of figures) table.push([figure.what, figure.figure, figure.target, verdict(figure)]);
  console.log(`\n${pc.bold(row)} ${pc.dim(`(${seconds.toFixed(0)} s)`)}`);
  if (problem !== undefined) console.log(pc.red(problem));
  else console.log(table.toString());
  for (const { detail } of figures) console.log(pc.dim(`  ${detail}`));
}

const { values, positionals } = parseArgs({ options: { json: { type: "boolean" } }, allowPositionals: true });
const selected = ROWS.filter(
  ({ name }) => positionals.length === 0 || positionals.some((word) => name.split(" ").includes(word)),
);
if (platform() !== "linux" || selected.length === 0) {
  console.error(
    platform() === "linux"
      ? `no row is called ${positionals.join(" ")}; there are: ${ROWS.map(({ name }) => name).join(", ")}`
      : "the bench reads /proc and runs on Linux only",
  );
  process.exit(64);
}
const machine = { cpus: cpus().length, model: cpus()[0]?.model ?? "unknown", node: process.version };
if (!values.json) console.log(`${machine.cpus} × ${machine.model}, Node ${machine.node}`);
const results: Result[] = [];
for (const row of selected) {
  const result = await measured(row);
  results.push(result);
  if (!values.json) print(result);
}
if (values.json) console.log(JSON.stringify({ machine, results }, null, 2));
const missed = results.some(
  ({ problem, figures }) => problem !== undefined || figures.some(({ met }) => met === false),
);
process.exit(missed ? 1 : 0);
