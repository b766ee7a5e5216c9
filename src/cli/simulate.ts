/**
 * `sluice simulate`: runs a fleet against a broker. On a terminal one line that lives, elsewhere a line now and
 * then, at the end a total; with --json one JSON object per line, the last one with `"final": true`.
 */
import type { Command } from "commander";
import pc from "picocolors";
import { grouped, type Parsed, plural, roughDuration } from "../config/units.ts";
import { Screen } from "../demo/terminal.ts";
import { Fleet, type FleetStats, withoutPassword } from "../devices/fleet.ts";
import { loadFleet } from "../devices/load.ts";
import { duration, parsedBy, wholeNumber } from "./arguments.ts";
import { aborted, stopSignal } from "./stop.ts";

interface SimulateOptions {
  readonly to: string;
  readonly count?: number;
  readonly rate?: number;
  readonly seed?: number;
  readonly duration?: number;
  readonly json?: boolean;
}

const LIVE_EVERY_MS = 500;
const JSON_EVERY_MS = 1_000;
const LINE_EVERY_MS = 5_000;
/** A fleet hands over what it still holds, and says goodbye device by device. */
const STOP_GRACE_MS = 8_000;

export function register(program: Command): void {
  program
    .command("simulate")
    .description("publish as a fleet of sensors would, a real MQTT connection each")
    .argument("<file>", "a fleet or a device profile in YAML, such as devices/greenhouse.yaml")
    .option("--to <url>", "the broker", parsedBy(brokerUrl), "mqtt://127.0.0.1:1883")
    .option("--count <devices>", "so many devices in all, in the fleet's proportions", wholeNumber(1))
    .option(
      "--rate <messages/s>",
      "of all devices together: their clocks run faster or slower",
      parsedBy(rate),
    )
    .option("--seed <n>", "chance to start from; the same seed gives the same values", wholeNumber(0))
    .option("--duration <time>", "ends by itself, such as 30s; otherwise Ctrl-C does", duration(1))
    .option("--json", "one JSON object per line")
    .action(simulate);
}

async function simulate(file: string, options: SimulateOptions): Promise<void> {
  const { to: url, json = false, duration: durationMs } = options;
  const definition = await loadFleet(file);
  const fleet = new Fleet(definition, { ...options, url });
  const signal = stopSignal(STOP_GRACE_MS);
  signal.addEventListener("abort", () => void fleet.stop());
  const startedMs = performance.now();
  await fleet.start();
  const screen = new Screen(process.stdout);
  const { devices, targetRate } = fleet.stats;
  const heading = `${definition.name}: ${plural(devices, "device")}, ${rateWords(targetRate)} messages/s, to ${withoutPassword(url)}; Ctrl-C stops`;
  if (!json) screen.print([heading]);
  let last = { atMs: startedMs, published: 0 };
  const look = (): void => {
    const nowMs = performance.now();
    const { stats } = fleet;
    const moment = snapshot(stats, nowMs - startedMs, stats.published - last.published, nowMs - last.atMs);
    last = { atMs: nowMs, published: stats.published };
    if (json) screen.print([JSON.stringify({ ...moment, final: false })]);
    else if (screen.isLive) screen.paint(linesOf(moment));
    else screen.print([linesOf(moment).join("  ")]);
  };
  const timer = setInterval(look, json ? JSON_EVERY_MS : screen.isLive ? LIVE_EVERY_MS : LINE_EVERY_MS);
  await aborted(signal, durationMs);
  clearInterval(timer);
  const ranMs = performance.now() - startedMs;
  await fleet.stop();
  const total = snapshot(fleet.stats, ranMs, fleet.stats.published, ranMs);
  screen.print(json ? [JSON.stringify({ ...total, final: true })] : totalOf(total));
}

/** What a moment looks like as data: counts since the start, the rate of the time `withinMs`. */
export function snapshot(stats: FleetStats, ranMs: number, published: number, withinMs: number) {
  const { ackMs, lastError, ...counts } = stats;
  const ms = (p: number): number | null =>
    ackMs.count === 0 ? null : Number(ackMs.percentile(p).toFixed(3));
  return {
    seconds: Number((ranMs / 1_000).toFixed(1)),
    ...counts,
    targetRate: Number(counts.targetRate.toFixed(3)),
    publishedPerSecond: Number(((1_000 * published) / withinMs).toFixed(1)),
    pubackMs: { p50: ms(50), p99: ms(99) },
    lastError: lastError?.message ?? null,
  };
}
type Snapshot = ReturnType<typeof snapshot>;

/** Two, so that a terminal of 80 columns has room for them. */
function linesOf({ connected, devices, reconnects, skipped, lastError, ...moment }: Snapshot): string[] {
  const counts = [
    `connected ${grouped(connected)}/${grouped(devices)}`,
    `published ${rateWords(moment.publishedPerSecond)}/s`,
    `acknowledged ${grouped(moment.acknowledged)}`,
    `reconnects ${grouped(reconnects)}`,
  ];
  if (skipped > 0) counts.push(`skipped ${grouped(skipped)}`);
  const error = lastError !== null && connected < devices ? `  ${lastError}` : "";
  return [counts.join("  "), `${pubackWords(moment)}${error}`];
}

function totalOf(total: Snapshot): string[] {
  const { published, acknowledged, unacknowledged, skipped, reconnects, devices, seconds } = total;
  const missing = unacknowledged === 0 ? "none" : pc.red(grouped(unacknowledged));
  return [
    `${pc.bold(grouped(published))} published by ${plural(devices, "device")} in ${seconds} s (${rateWords(total.publishedPerSecond)}/s)`,
    `  QoS 1 and 2: ${grouped(acknowledged)} acknowledged, ${missing} missing, ${pubackWords(total)}`,
    `  reconnects: ${grouped(reconnects)}; readings skipped for want of a connection or of room: ${grouped(skipped)}`,
  ];
}

function pubackWords({ pubackMs: { p50, p99 } }: Pick<Snapshot, "pubackMs">): string {
  return `PUBACK p50 ${roughDuration(p50 ?? Number.NaN)} p99 ${roughDuration(p99 ?? Number.NaN)}`;
}

function rateWords(rate: number): string {
  return rate.toLocaleString("en-US", { maximumFractionDigits: rate < 10 ? 2 : rate < 100 ? 1 : 0 });
}

function brokerUrl(text: string): Parsed<string> {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isBroker = url !== undefined && url.hostname !== "" && /^(mqtts?|wss?):$/.test(url.protocol);
  return isBroker ? { value: text } : { problem: "must be a URL such as mqtt://127.0.0.1:1883" };
}

function rate(text: string): Parsed<number> {
  const value = Number(text);
  return value > 0 && Number.isFinite(value) ? { value } : { problem: "must be a number above 0" };
}
