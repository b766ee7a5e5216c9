/** `sluice status`: what the gateway that runs on a data folder is doing. */
import type { Command } from "commander";
import pc from "picocolors";
import { formatAddress, grouped, plural, roughDuration, roughSize } from "../config/units.ts";
import type { GatewayStatus } from "../gateway.ts";
import { plain } from "../plain.ts";
import { type GatewayOptions, gatewayOf, gatewayOptions } from "./gateway.ts";
import { uplinkLines } from "./uplink-text.ts";
import { wearBetween, wearText } from "./wear.ts";

interface Options extends GatewayOptions {
  readonly json?: boolean;
}

/** A title and what is said under it; several lines are one below the other. */
type Line = readonly [title: string, text: string];

export function register(program: Command): void {
  gatewayOptions(
    program
      .command("status")
      .description("What the gateway that runs is doing. Exit code 69 when none runs on the data folder."),
  )
    .option("--json", "one JSON document")
    .action(run);
}

async function run(options: Options): Promise<void> {
  const status = await (await gatewayOf(options)).ask<GatewayStatus>("GET /status");
  console.log(options.json ? JSON.stringify(status, null, 2) : statusText(status));
}

const STATES = { starting: pc.yellow, running: pc.green, stopping: pc.yellow };

function statusText(status: GatewayStatus): string {
  const { name, pid, state, upMs, memoryBytes, dataDir } = status;
  const lines: Line[] = [
    ["Process", `${pid}, up ${roughDuration(upMs)}, ${roughSize(memoryBytes)} of memory`],
    ["Data folder", dataDir],
    ...configLines(status),
    ...clientLines(status),
    ...messageLines(status),
    ...unmatchedLines(status),
  ];
  return [
    `${pc.bold(name)} is ${STATES[state](state)}`,
    ...lines.map(([title, text]) => `  ${title.padEnd(14)}${text}`),
    ...(status.uplinks ?? []).flatMap((uplink) =>
      uplinkLines(uplink).map((line, index) => `  ${(index === 0 ? "Uplink" : "").padEnd(14)}${line}`),
    ),
  ].join("\n");
}

function configLines({ config }: GatewayStatus): Line[] {
  if (config === undefined) return [];
  const { file, version, loadedAt, refused } = config;
  const time = (at: number): string => new Date(at).toLocaleString("sv");
  const lines: Line[] = [["Configuration", `${file}, version ${version}, since ${time(loadedAt)}`]];
  if (refused !== undefined) {
    lines.push(["", pc.red(`what it says since ${time(refused.at)} was not taken over:`)]);
    for (const line of refused.message.split("\n")) lines.push(["", `  ${line}`]);
  }
  return lines;
}

function clientLines({ addresses, stats }: GatewayStatus): Line[] {
  if (addresses === undefined || stats === undefined) return [];
  const { mqtt, kafka } = stats;
  const places = addresses.mqtt.map(formatAddress).join(", ");
  return [
    ["MQTT", `${places}: ${plural(mqtt.connections, "connection")}`],
    ["Kafka", `${formatAddress(addresses.kafka)}: ${plural(kafka?.connections ?? 0, "connection")}`],
  ];
}

function unmatchedLines({ unmatched }: GatewayStatus): Line[] {
  const width = Math.max(...unmatched.map(({ count }) => grouped(count).length));
  return unmatched.map(({ pattern, count, example }, index): Line => {
    const of = pattern === example ? "" : pc.dim(`  such as ${plain(example)}`);
    return [index === 0 ? "Unmatched" : "", `${grouped(count).padStart(width)}  ${plain(pattern)}${of}`];
  });
}

function downlinkLines({ downlinks }: NonNullable<GatewayStatus["stats"]>): Line[] {
  const { sent, expired, failed } = downlinks;
  if (sent + expired + failed === 0) return [];
  const parts = [`${grouped(sent)} sent to MQTT`];
  if (expired > 0) parts.push(`${grouped(expired)} expired`);
  if (failed > 0) parts.push(pc.yellow(`${grouped(failed)} could not be sent`));
  return [["Downlinks", parts.join(", ")]];
}

function logText({
  readOnly,
  diskFull,
  droppedRecords,
  commits,
}: NonNullable<GatewayStatus["stats"]>["log"]): string {
  if (readOnly) return pc.red("takes nothing until the disk does: it refuses writes");
  const dropped = droppedRecords > 0 ? `, ${plural(droppedRecords, "record")} dropped for want of room` : "";
  return (
    (diskFull ? pc.red("takes nothing: the disk is full") : plural(commits, "commit")) + pc.yellow(dropped)
  );
}

function messageLines({ stats, upMs }: GatewayStatus): Line[] {
  if (stats === undefined) return [];
  const { ingest, log } = stats;
  const lost = [
    [ingest.mappingProblems, "stored in part"],
    [ingest.droppedUnmatched, "dropped: no mapping matched"],
    [ingest.droppedFailed, "dropped: the mapping failed"],
    [ingest.droppedForbidden, "dropped: sent to $SYS"],
    [ingest.refused, "refused by the log"],
  ] as const;
  const exceptions = lost.filter(([count]) => count > 0).map(([count, what]) => `${grouped(count)} ${what}`);
  return [
    ...downlinkLines(stats),
    ["Messages", [`${grouped(ingest.stored)} stored since the start`, ...exceptions].join(", ")],
    ["Log", logText(log)],
    ["Disk", wearText(wearBetween(undefined, log, upMs))],
  ];
}
