/** `sluice uplink`: how far the streams are in a Kafka cluster, and what a person may do about it. */
import type { Command } from "commander";
import pc from "picocolors";
import { grouped, plural, roughSize } from "../config/units.ts";
import type { ControlClient } from "../control/client.ts";
import { SluiceError } from "../errors.ts";
import { parseFrom } from "../subscriber/from.ts";
import type { Moved, ResetTo } from "../uplink/commands.ts";
import type { Finding } from "../uplink/inspect.ts";
import type { UplinkReport } from "../uplink/report.ts";
import type { VerifiedPartition } from "../uplink/verify.ts";
import { duration, wholeNumber } from "./arguments.ts";
import { type GatewayOptions, gatewayOf, gatewayOptions } from "./gateway.ts";
import { Progress } from "./progress.ts";
import { table } from "./table.ts";
import { uplinkLines } from "./uplink-text.ts";

interface Options extends GatewayOptions {
  readonly json?: boolean;
  readonly dryRun?: boolean;
  readonly stream?: string;
  readonly partition?: number;
  readonly to?: string;
  readonly last?: number;
  readonly deadLetter?: boolean;
}

type Act = (gateway: ControlClient, name: string | undefined, options: Options) => Promise<void>;

/** What was compared is not the same. */
const DIFFERENT_EXIT_CODE = 65;
const USAGE_EXIT_CODE = 64;

export function register(program: Command): void {
  const uplink = program
    .command("uplink")
    .description("How far the streams are in a Kafka cluster, and what can be done about it by hand.");
  const verb = (name: string, summary: string, act: Act): Command =>
    gatewayOptions(uplink.command(name).description(summary))
      .argument("[uplink]", "its name; may be left out where there is only one")
      .option("--json", "JSON")
      .action(async (given: string | undefined, options: Options) =>
        act(await gatewayOf(options), given, options),
      );
  const ofPartitions = (command: Command): Command =>
    command
      .option("--stream <name>", "this stream only")
      .option("--partition <n>", "this partition only", wholeNumber(0));

  verb("status", "What waits, how long the disk lasts, what is wrong.", status).option(
    "--dry-run",
    "connect, check rights, topics and sizes, and say what would happen",
  );
  verb("pause", "Sends nothing until resume; also after a restart.", rest("pause"));
  verb("resume", "Ends a pause, or goes on after another gateway took over.", rest("resume"));
  ofPartitions(verb("reset", "Sets where it goes on.", reset))
    .requiredOption("--to <place>", "beginning, end, an offset, a time (2h, 2026-06-01T08:00), local, remote")
    .option("--dry-run", "say what would change, and change nothing");
  ofPartitions(verb("skip", "Leaves out the record that holds up a partition.", skip)).option(
    "--dead-letter",
    "keep it on the uplink's deadLetters stream",
  );
  ofPartitions(
    verb("verify", "Reads the cluster back and compares every record with the log.", verify),
  ).option("--last <time>", "only what is not older, e.g. 1d", duration(1_000));
}

async function status(gateway: ControlClient, name: string | undefined, options: Options): Promise<void> {
  if (options.dryRun) return dryRun(gateway, name, options);
  const all = await gateway.ask<UplinkReport[]>("GET /uplinks");
  const chosen = name === undefined ? all : all.filter((one) => one.name === name);
  if (name !== undefined && chosen.length === 0) {
    throw new SluiceError("NO_UPLINK", `there is no uplink "${name}"`, {
      mend: `Uplinks: ${all.map((one) => one.name).join(", ") || "none"}.`,
      exitCode: USAGE_EXIT_CODE,
    });
  }
  if (options.json) return console.log(JSON.stringify(chosen, null, 2));
  if (chosen.length === 0) console.log("This gateway has no uplink: see uplinks: in docs/uplink.md.");
  for (const report of chosen) console.log(statusText(report));
}

function statusText(report: UplinkReport): string {
  const rows = report.streams.map(({ stream, to, waitingRecords, waitingBytes, partitions }) => [
    stream,
    to,
    partitions.length,
    waitingRecords,
    roughSize(waitingBytes),
    partitions.filter(({ state }) => state !== "ready").length,
  ]);
  const troubled = report.streams.flatMap(({ stream, partitions }) =>
    partitions.flatMap(({ partition, problem, state }) =>
      problem === undefined
        ? []
        : [
            `  ${pc.yellow(`${stream}/${partition} ${state}`)}: ${problem.message}${problem.count > 1 ? ` (${grouped(problem.count)} times)` : ""}`,
            ...(problem.mend === undefined ? [] : [`    ${problem.mend}`]),
          ],
    ),
  );
  const gaps = report.gaps.map(
    ({ stream, partition, from, to, why }) => `  ${stream}/${partition} ${from}–${to - 1}: ${why}`,
  );
  return [
    ...uplinkLines(report),
    table(["STREAM", "TO", "PARTITIONS", "WAITING", "BYTES", "HELD UP"], rows),
    pc.dim(`${plural(rows.length, "stream")}, ${plural(report.waitingRecords, "record")} waiting`),
    ...report.unmatched.map((pattern) => pc.yellow(`  no stream fits "${pattern}"`)),
    ...troubled,
    ...(gaps.length === 0
      ? []
      : [`${plural(report.gapRecords, "record")} will not be in the cluster:`, ...gaps]),
  ].join("\n");
}

function rest(what: "pause" | "resume"): Act {
  return async (gateway, name, { json }) => {
    const report = await gateway.ask<UplinkReport>(`POST /uplinks/${what}`, { name });
    if (json) console.log(JSON.stringify(report, null, 2));
    else console.log(what === "pause" ? `${report.name} rests until resume` : `${report.name} goes on`);
  };
}

async function reset(gateway: ControlClient, name: string | undefined, options: Options): Promise<void> {
  const { stream, partition, dryRun: isDry, json } = options;
  const to = resetTo(options.to ?? "", Date.now());
  const moved = await gateway.ask<Moved[]>("POST /uplinks/reset", {
    name,
    stream,
    partition,
    to,
    dryRun: isDry,
  });
  if (json) return console.log(JSON.stringify(moved, null, 2));
  const rows = moved.map((one) => [`${one.stream}/${one.partition}`, one.from < 0 ? "–" : one.from, one.to]);
  console.log(table(["PARTITION", "WAS AT", isDry ? "WOULD GO ON AT" : "GOES ON AT"], rows));
  console.log(pc.dim(plural(moved.length, "partition")));
}

/** The words of `--to`. Throws SluiceError FROM for others. */
export function resetTo(text: string, nowMs: number): ResetTo {
  if (text === "local" || text === "remote") return { kind: text };
  try {
    const from = parseFrom(text, nowMs);
    if (from.kind === "latest") return { kind: "end" };
    return from;
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    throw new SluiceError("TO", `--to cannot be ${JSON.stringify(text)}`, {
      mend: "say beginning, end, local, remote, an offset (1042), a time ago (2h) or a time (2026-06-01T08:00)",
      exitCode: USAGE_EXIT_CODE,
    });
  }
}

async function skip(gateway: ControlClient, name: string | undefined, options: Options): Promise<void> {
  const { stream, partition, deadLetter, json } = options;
  const body = { name, stream, partition, deadLetter };
  const skipped = await gateway.ask<Moved[]>("POST /uplinks/skip", body);
  if (json) return console.log(JSON.stringify(skipped, null, 2));
  for (const one of skipped) {
    const records = one.to - one.from === 1 ? `offset ${one.from}` : `offsets ${one.from} to ${one.to - 1}`;
    console.log(
      `${one.stream}/${one.partition}: ${records} left out${deadLetter ? ", kept as a dead letter" : ""}`,
    );
  }
}

async function dryRun(gateway: ControlClient, name: string | undefined, { json }: Options): Promise<void> {
  let bad = 0;
  for await (const finding of gateway.lines<Finding>("POST /uplinks/dry-run", { name })) {
    if (!finding.isGood) bad++;
    if (json) console.log(JSON.stringify(finding));
    else {
      console.log(`${finding.isGood ? pc.green("✔") : pc.red("✖")} ${finding.what}: ${finding.words}`);
      if (finding.mend !== undefined) console.log(`    ${finding.mend}`);
    }
  }
  if (bad === 0) return;
  process.exitCode = DIFFERENT_EXIT_CODE;
  if (!json) console.log(plural(bad, "problem"));
}

async function verify(gateway: ControlClient, name: string | undefined, options: Options): Promise<void> {
  const { stream, partition, last: lastMs, json } = options;
  const all: VerifiedPartition[] = [];
  const progress = new Progress();
  const body = { name, stream, partition, lastMs };
  try {
    for await (const one of gateway.lines<VerifiedPartition>("POST /uplinks/verify", body)) {
      all.push(one);
      if (json) console.log(JSON.stringify(one));
      else progress.show(`${plural(all.length, "partition")} compared`);
    }
  } finally {
    progress.end();
  }
  const wrong = all.filter((one) => one.missing + one.different + one.duplicates + one.outOfOrder > 0);
  if (wrong.length > 0) process.exitCode = DIFFERENT_EXIT_CODE;
  if (json) return;
  const rows = all.map((one) => [
    `${one.stream}/${one.partition}`,
    `${one.from}–${one.to}`,
    one.records,
    one.missing,
    one.different,
    one.duplicates,
    one.outOfOrder,
    one.checksum,
  ]);
  const headings = [
    "PARTITION",
    "OFFSETS",
    "RECORDS",
    "MISSING",
    "DIFFERENT",
    "TWICE",
    "DISORDERED",
    "CRC-32C",
  ];
  console.log(table(headings, rows));
  const records = all.reduce((sum, one) => sum + one.records, 0);
  if (wrong.length === 0)
    console.log(pc.green(`✔ ${plural(records, "record")}, each in the cluster once, as it is here`));
  for (const { stream: name, partition: index, examples } of wrong) {
    console.log(pc.red(`✖ ${name}/${index}: look at offsets ${examples.join(", ")}`));
  }
}
