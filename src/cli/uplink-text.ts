/** An uplink in a few lines: for `sluice status` and `sluice uplink status`. */
import pc from "picocolors";
import { grouped, plural, roughSize } from "../config/units.ts";
import type { UplinkReport } from "../uplink/report.ts";

/** About two digits, in the unit that a person would take: `18 min`, `41 h`, `12 d`. */
export function lastsText(ms: number): string {
  const units: readonly (readonly [string, number])[] = [
    ["d", 86_400_000],
    ["h", 3_600_000],
    ["min", 60_000],
    ["s", 1_000],
  ];
  // Two days are better told as 48 h.
  const [unit, factor] =
    units.find(([name, size]) => ms >= (name === "s" ? 0 : size * 2)) ?? (["s", 1_000] as const);
  const value = ms / factor;
  return `${value < 10 ? Number(value.toFixed(1)) : grouped(Math.round(value))} ${unit}`;
}

const COLOURS: Readonly<Record<string, (text: string) => string>> = {
  running: pc.green,
  connecting: pc.yellow,
  down: pc.red,
  fenced: pc.red,
  paused: pc.yellow,
};

export function uplinkLines(report: UplinkReport): string[] {
  const { name, state, since, brokers, clusterId, delivery, problem, sent } = report;
  const colour = COLOURS[state] ?? ((text: string) => text);
  const cluster = clusterId === undefined ? "" : `, cluster ${clusterId}`;
  return [
    `${pc.bold(name)} is ${colour(state)} for ${lastsText(Date.now() - since)}: ${brokers.join(", ")}${cluster}, ${delivery}`,
    ...(problem === undefined
      ? []
      : [
          `  ${pc.red(problem.message)}`,
          ...(problem.mend === undefined ? [] : [`    ${problem.mend}`]),
          `    ${plural(problem.count, "try").replace("trys", "tries")}, the first ${lastsText(Date.now() - problem.since)} ago`,
        ]),
    `  sent since the start: ${plural(sent.records, "record")}, ${roughSize(sent.bytes)}`,
    `  ${runwayText(report)}`,
  ];
}

export function runwayText({ waitingRecords, waitingBytes, runway }: UplinkReport): string {
  const { diskMs, drainMs } = runway;
  const waits =
    waitingRecords === 0
      ? "nothing waits"
      : `${plural(waitingRecords, "record")} wait, ${roughSize(waitingBytes)}`;
  const lasts = typeof diskMs === "number" ? `; at today's rate the disk lasts ${lastsText(diskMs)}` : "";
  // JSON has no infinity.
  const drain =
    waitingRecords === 0 || drainMs === undefined
      ? ""
      : drainMs === null || drainMs === Number.POSITIVE_INFINITY
        ? "; more comes in than goes out"
        : `; the drain takes ${lastsText(drainMs)}`;
  return `${waits}${lasts}${drain}`;
}
