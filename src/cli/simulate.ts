/**
 * `sluice simulate`: runs a fleet against a broker. On a terminal one line that lives, elsewhere a line now and
 * then, at the end a total; with --json one JSON object per line, the last one with `"final": true`.
 */
import { type Command, InvalidArgumentError } from "commander";
import pc from "picocolors";
import { parseDuration } from "../config/units.ts";
import { Fleet, type FleetStats, withoutPassword } from "../devices/fleet.ts";
import { loadFleet } from "../devices/load.ts";
import { onInterrupt } from "./interrupt.ts";

interface SimulateOptions {
  readonly to: string;
  readonly count?: number;
  readonly rate?: number;
  readonly seed?: number;
  readonly duration?: number;
  readonly json?: boolean;
}

const LIVE_EVERY_MS = 500;
const LINE_EVERY_MS = 5_000;

export function register(program: Command): void {
  program
    .command("simulate")
    .description("publish as a fleet of sensors would, a real MQTT connection each")
    .argument("<file>", "a fleet or a device profile in YAML, such as devices/greenhouse.yaml")
    .option("--to <url>", "the broker", brokerUrl, "mqtt://127.0.0.1:1883")
    .option("--count <devices>", "so many devices in all, in the fleet's proportions", wholeNumber(1))
    .option("--rate <messages/s>", "of all devices together: their clocks run faster or slower", positive)
    .option("--seed <n>", "chance to start from; the same seed gives the same values", wholeNumber(0))
    .option("--duration <time>", "ends by itself, such as 30s; otherwise Ctrl-C does", duration)
    .option("--json", "one JSON object per line")
    .action(simulate);
}

async function simulate(file: string, options: SimulateOptions): Promise<void> {
  const { to: url, count, rate, seed } = options;
  const definition = await loadFleet(file);
  const fleet = new Fleet(definition, { url, count, rate, seed });
  const interrupt = onInterrupt();
  interrupt.signal.addEventListener("abort", () => void fleet.stop(), { once: true });
  const startedMs = performance.now();
  await fleet.start();
  const { devices, targetRate } = fleet.stats;
  const screen = new Screen(options.json === true, startedMs);
  screen.say(
    `${definition.name}: ${devices} ${devices === 1 ? "device" : "devices"}, ` +
      `${shortNumber(targetRate)} messages/s, to ${withoutPassword(url)}; Ctrl-C stops`,
  );
  const timer = setInterval(() => screen.show(fleet.stats), screen.everyMs);
  try {
    await ended(interrupt.signal, options.duration);
  } finally {
    clearInterval(timer);
    await fleet.stop();
    interrupt.dispose();
  }
  screen.total(fleet.stats);
}

function ended(signal: AbortSignal, durationMs: number | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = durationMs === undefined ? undefined : setTimeout(resolve, durationMs);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** What a moment looks like as data: counts since the start, rates since the last look. */
export function snapshot(stats: FleetStats, seconds: number, publishedPerSecond: number) {
  const { ackMs, lastError, ...counts } = stats;
  const ms = (p: number): number | null =>
    ackMs.count === 0 ? null : Number(ackMs.percentile(p).toFixed(3));
  return {
    seconds: Number(seconds.toFixed(1)),
    ...counts,
    targetRate: Number(counts.targetRate.toFixed(3)),
    publishedPerSecond: Number(publishedPerSecond.toFixed(1)),
    pubackMs: { p50: ms(50), p99: ms(99) },
    lastError: lastError?.message ?? null,
  };
}
type Snapshot = ReturnType<typeof snapshot>;

class Screen {
  readonly everyMs: number;
  private readonly json: boolean;
  private readonly startedMs: number;
  private readonly live: boolean;
  private last = { atMs: 0, published: 0 };

  constructor(json: boolean, startedMs: number) {
    this.json = json;
    this.startedMs = startedMs;
    this.last.atMs = startedMs;
    this.live = !json && process.stdout.isTTY === true;
    this.everyMs = this.live ? LIVE_EVERY_MS : json ? 1_000 : LINE_EVERY_MS;
  }

  say(words: string): void {
    if (!this.json) process.stdout.write(`${words}\n`);
  }

  show(stats: FleetStats): void {
    const now = performance.now();
    const perSecond = (1_000 * (stats.published - this.last.published)) / (now - this.last.atMs);
    this.last = { atMs: now, published: stats.published };
    const moment = snapshot(stats, (now - this.startedMs) / 1_000, perSecond);
    if (this.json) process.stdout.write(`${JSON.stringify({ ...moment, final: false })}\n`);
    else process.stdout.write(this.live ? `\r${toWidth(lineOf(moment))}\u001b[K` : `${lineOf(moment)}\n`);
  }

  total(stats: FleetStats): void {
    const seconds = (performance.now() - this.startedMs) / 1_000;
    const moment = snapshot(stats, seconds, stats.published / seconds);
    if (this.json) {
      process.stdout.write(`${JSON.stringify({ ...moment, final: true })}\n`);
      return;
    }
    if (this.live) process.stdout.write("\r\u001b[K");
    const { published, acknowledged, unacknowledged, skipped, reconnects, pubackMs } = moment;
    const missing = unacknowledged === 0 ? "none" : pc.red(count(unacknowledged));
    this.say(
      `${pc.bold(count(published))} published by ${count(moment.devices)} devices in ${seconds.toFixed(1)} s ` +
        `(${shortNumber(moment.publishedPerSecond)}/s)\n` +
        `  QoS 1 and 2: ${count(acknowledged)} acknowledged, ${missing} missing, ` +
        `PUBACK p50 ${msOf(pubackMs.p50)}, p99 ${msOf(pubackMs.p99)}\n` +
        `  reconnects: ${count(reconnects)}; readings skipped for want of a connection or of room: ${count(skipped)}`,
    );
  }
}

function lineOf({ connected, devices, reconnects, pubackMs, lastError, ...moment }: Snapshot): string {
  const parts = [
    `connected ${count(connected)}/${count(devices)}`,
    `published ${shortNumber(moment.publishedPerSecond)}/s`,
    `acknowledged ${count(moment.acknowledged)}`,
    `PUBACK p50 ${msOf(pubackMs.p50)} p99 ${msOf(pubackMs.p99)}`,
    `reconnects ${count(reconnects)}`,
  ];
  if (moment.skipped > 0) parts.push(`skipped ${count(moment.skipped)}`);
  if (lastError !== null && connected < devices) parts.push(lastError);
  return parts.join("  ");
}

function toWidth(line: string): string {
  return line.slice(0, Math.max(20, (process.stdout.columns ?? 120) - 1));
}

function count(value: number): string {
  return value.toLocaleString("en");
}

function shortNumber(value: number): string {
  return value >= 100 ? count(Math.round(value)) : String(Number(value.toFixed(value >= 10 ? 1 : 2)));
}

function msOf(value: number | null): string {
  return value === null ? "–" : `${value >= 100 ? Math.round(value) : value.toFixed(value >= 10 ? 1 : 2)} ms`;
}

function brokerUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || url.hostname === "" || !/^(mqtts?|wss?):$/.test(url.protocol)) {
    throw new InvalidArgumentError("It is a URL such as mqtt://127.0.0.1:1883.");
  }
  return text;
}

function wholeNumber(min: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || !Number.isSafeInteger(value)) {
      throw new InvalidArgumentError(`It is a whole number from ${min} on.`);
    }
    return value;
  };
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0 && Number.isFinite(value))) throw new InvalidArgumentError("It is a number above 0.");
  return value;
}

function duration(text: string): number {
  const parsed = parseDuration(text);
  if (!("value" in parsed)) throw new InvalidArgumentError(`It ${parsed.problem}.`);
  if (parsed.value < 1) throw new InvalidArgumentError("It must be longer than 0.");
  return Math.min(parsed.value, 0x7fff_ffff);
}
