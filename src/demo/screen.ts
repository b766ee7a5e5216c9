/**
 * What the demonstration shows: a live region that is repainted on a terminal, and plain lines elsewhere.
 * Nothing is wider than 80 columns; colours are picocolors', which honours NO_COLOR and knows a terminal.
 */
import type { WriteStream } from "node:tty";
import pc from "picocolors";
import { READINGS_STREAM } from "./audit.ts";
import type { Progress } from "./phase.ts";
import { draw, PICTURE_COLUMNS } from "./picture.ts";
import type { DemoReport, GatewayReport, GrowthRow, LatencyMs, PhaseReport } from "./report.ts";

export class Screen {
  private readonly stream: NodeJS.WriteStream | undefined;
  private readonly live: boolean;
  private painted = 0;

  /** Without a stream nothing is shown at all. */
  constructor(stream: NodeJS.WriteStream | undefined) {
    this.stream = stream;
    this.live = stream?.isTTY === true;
  }

  /** Replaces the live region; nothing where there is no terminal. */
  paint(lines: readonly string[]): void {
    if (!this.live || this.stream === undefined) return;
    const rows = (this.stream as WriteStream).rows ?? 24;
    const shown = lines.slice(0, Math.max(1, rows - 1));
    // Without wrapping (DECAWM off) a line is a row, whatever the terminal's width.
    const body = shown.map((line) => `\x1b[2K${line}\n`).join("");
    this.stream.write(`${this.up()}\x1b[?25l\x1b[?7l${body}\x1b[0J\x1b[?7h`);
    this.painted = shown.length;
  }

  /** Prints lines for good, in place of the live region. */
  print(lines: readonly string[]): void {
    if (this.stream === undefined) return;
    const head = this.live ? `${this.up()}\x1b[0J\x1b[?25h` : "";
    this.painted = 0;
    this.stream.write(`${head}${lines.map((line) => `${line}\n`).join("")}`);
  }

  /** Leaves the terminal as it was. */
  end(): void {
    if (this.live) this.stream?.write("\x1b[?25h");
  }

  private up(): string {
    return this.painted === 0 ? "" : `\x1b[${this.painted}A\r`;
  }
}

export const whole = (value: number): string => Math.round(value).toLocaleString("en-US");
export const plural = (count: number, word: string): string =>
  `${whole(count)} ${word}${count === 1 ? "" : "s"}`;
const seconds = (ms: number): string => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
const mebibytes = (bytes: number): string => (bytes === 0 ? "–" : `${whole(bytes / 2 ** 20)} MiB`);
const milliseconds = (ms: number): string => `${ms < 10 ? ms.toFixed(2) : ms.toFixed(ms < 100 ? 1 : 0)} ms`;
export const latencyWords = ({ p50, p99 }: Pick<LatencyMs, "p50" | "p99">): string =>
  `p50 ${milliseconds(p50)}  p99 ${milliseconds(p99)}`;

function bar(share: number, width = 28): string {
  const full = Math.round(Math.min(1, share) * width);
  return pc.cyan("━".repeat(full)) + pc.dim("─".repeat(width - full));
}

const verdict = (count: number): string => (count === 0 ? pc.green("0") : pc.red(whole(count)));

export function title(sensors: number, subscribers: number): string[] {
  return [
    "",
    `  ${pc.bold(pc.cyan("SLUICE"))}  ${plural(sensors, "sensor")}, ${plural(subscribers, "subscriber")}: everyone is to hear everything`,
    "",
  ];
}

export interface PhaseView {
  readonly hub: boolean;
  readonly sensors: number;
  readonly subscribers: number;
  /** Connections that there shall be. */
  readonly wanted: number;
  readonly forMs: number;
}

const HEADINGS = {
  mesh: "1  The mesh: every sensor connected to every subscriber",
  gateway: "2  The gateway: every sensor and every subscriber connected to Sluice",
};
export const heading = (hub: boolean): string => `  ${pc.bold(hub ? HEADINGS.gateway : HEADINGS.mesh)}`;

/** The live region while a phase is under way. */
export function phaseView(view: PhaseView, progress: Progress): string[] {
  const open = view.hub
    ? progress.sensorConnections + progress.subscriberConnections
    : progress.sensorConnections;
  const share = view.wanted === 0 ? 1 : open / view.wanted;
  const colour = view.hub ? pc.green : pc.yellow;
  const picture = draw({ sensors: view.sensors, subscribers: view.subscribers, share, hub: view.hub });
  const p50 = progress.latency.percentile(50);
  const latency = Number.isNaN(p50) ? "" : latencyWords({ p50, p99: progress.latency.percentile(99) });
  const stage =
    progress.stage === "connecting"
      ? `  connecting  ${bar(share)}  ${seconds(progress.elapsedMs)}`
      : `  messages    ${bar(progress.stage === "closing" ? 1 : progress.elapsedMs / view.forMs)}  ${latency}`;
  return [
    heading(view.hub),
    "",
    ...picture.map((row) => `      ${colour(row)}`),
    "",
    `  connections ${pc.bold(whole(open).padStart(11))} of ${whole(view.wanted)}`,
    `  delivered   ${whole(progress.delivered).padStart(11)}   missing ${whole(progress.missing)}   memory ${mebibytes(progress.memoryBytes)}`,
    stage,
  ];
}

/** What stays of the mesh when it is over. */
export function meshLines(mesh: PhaseReport, asked: Asked): string[] {
  const ends = mesh.steps.at(-1);
  return [
    heading(false),
    `     ${whole(mesh.connections)} connections opened in ${seconds(mesh.connectMs)} over ${mesh.processes} processes`,
    pc.dim(
      `     counted at both ends: ${whole(ends?.sensorConnections ?? 0)} by the sensors, ${whole(ends?.subscriberConnections ?? 0)} by the subscribers`,
    ),
    ...limitLines(mesh, asked),
    "",
  ];
}

/** What stays of the gateway's phase. */
export function gatewayLines(gateway: GatewayReport, asked: Asked): string[] {
  const { sensors, subscribers, kinds, seenByGateway: seen, mqttPort, kafkaPort } = gateway;
  const both = `${plural(sensors, "sensor")} and ${plural(subscribers, "subscriber")}`;
  const ofWhich = Object.entries(kinds).map(([kind, count]) => `${whole(count)} × ${kind}`);
  const held = (count: number | undefined): string =>
    count === undefined ? "" : `, ${whole(count)} sockets`;
  const details = [
    `subscribers: ${ofWhich.join(", ")}`,
    `MQTT port ${mqttPort}${held(seen?.mqtt)}; Kafka port ${kafkaPort}${held(seen?.kafka)}`,
  ];
  return [
    heading(true),
    `     ${both} connected in ${seconds(gateway.connectMs)}`,
    ...details.map((line) => pc.dim(`     ${line}`)),
    ...limitLines(gateway, asked),
    "",
  ];
}

interface Asked {
  readonly sensors: number;
  readonly subscribers: number;
}

function limitLines({ sensors, subscribers, limit }: PhaseReport, asked: Asked): string[] {
  if (limit === null) return [];
  const part = `${whole(sensors)} × ${whole(subscribers)} of ${whole(asked.sensors)} × ${whole(asked.subscribers)} opened`;
  return [`${part}:`, limit.message, limit.mend].map((line) => pc.yellow(`     ${line}`));
}

const LABEL = 28;
const COLUMN = 23;
const RULE = `  ${pc.dim("─".repeat(LABEL + 2 * COLUMN))}`;

/** Both ways side by side, with both pictures. */
export function comparison(mesh: PhaseReport, gateway: GatewayReport): string[] {
  const row = (label: string, left: string, right: string, paint = (text: string): string => text): string =>
    `  ${label.padEnd(LABEL)}${paint(left.padStart(COLUMN))}${paint(right.padStart(COLUMN))}`;
  const same = (label: string, of: (phase: PhaseReport) => string): string =>
    row(label, of(mesh), of(gateway));
  const count = (label: string, of: (phase: PhaseReport) => number): string =>
    `  ${label.padEnd(LABEL)}${" ".repeat(COLUMN - whole(of(mesh)).length)}${verdict(of(mesh))}${" ".repeat(COLUMN - whole(of(gateway)).length)}${verdict(of(gateway))}`;
  const seen = gateway.seenByGateway;
  const meshPicture = draw({ ...mesh, share: 1, hub: false });
  const gatewayPicture = draw({ ...gateway, share: 1, hub: true });
  const pictures = Array.from({ length: Math.max(meshPicture.length, gatewayPicture.length) }, (_, index) => {
    const blank = " ".repeat(PICTURE_COLUMNS);
    return `     ${pc.yellow(meshPicture[index] ?? blank)}      ${pc.green(gatewayPicture[index] ?? blank)}`;
  });
  return [
    ...pictures,
    "",
    row("", "mesh", "gateway", pc.bold),
    RULE,
    row(
      "sensors × subscribers",
      `${whole(mesh.sensors)} × ${whole(mesh.subscribers)}`,
      `${whole(gateway.sensors)} × ${whole(gateway.subscribers)}`,
    ),
    row("connections", whole(mesh.connections), whole(gateway.connections), (text) => pc.bold(pc.cyan(text))),
    row("  sockets the gateway holds", "–", seen === null ? "–" : whole(seen.mqtt + seen.kafka)),
    same("time to connect", (phase) => seconds(phase.connectMs)),
    same("memory of all processes", (phase) => mebibytes(phase.memoryBytes)),
    row("  of which the gateway", "–", mebibytes(gateway.gatewayMemoryBytes)),
    same("readings published", (phase) => whole(phase.readings)),
    same("messages delivered", (phase) => whole(phase.delivered)),
    count("lost", (phase) => phase.lost),
    count("out of order", (phase) => phase.outOfOrder),
    count("duplicates", (phase) => phase.duplicates),
    same("latency p50", (phase) => milliseconds(phase.latencyMs.p50)),
    same("latency p99", (phase) => milliseconds(phase.latencyMs.p99)),
    RULE,
    pc.dim("  latency from sensor to subscriber; the gateway syncs every message to disk"),
    "",
  ];
}

/** How both counts grow, and which rows are more than arithmetic. */
export function growthTable(growth: readonly GrowthRow[]): string[] {
  const cells = (a: string, b: string, c: string, d: string): string =>
    `  ${a.padEnd(22)}${b.padStart(13)}${c.padStart(13)}${d.padStart(9)}   `;
  const rows = growth.map(({ sensors, subscribers, mesh, gateway, meshOpened, gatewayOpened }) => {
    const ratio = mesh / gateway;
    const times = `${ratio < 10 ? ratio.toFixed(1) : whole(ratio)}×`;
    const line = cells(`${whole(sensors)} × ${whole(subscribers)}`, whole(mesh), whole(gateway), times);
    if (meshOpened && gatewayOpened) return pc.bold(line) + pc.green("● both opened");
    if (meshOpened || gatewayOpened) {
      return pc.bold(line) + pc.green(`◐ ${meshOpened ? "mesh" : "gateway"} opened`);
    }
    return line + pc.dim("○ arithmetic");
  });
  const head = `${cells("sensors × subscribers", "mesh N×M", "gateway N+M", "ratio")}here and now`;
  return [pc.bold(head), RULE, ...rows, ""];
}

/** What to type in another terminal while the gateway stays up. */
export function invitation({ mqttPort, kafkaPort }: GatewayReport): string[] {
  return [
    `  ${pc.bold("The gateway stays up and the sensors go on.")} In another terminal:`,
    "",
    `    ${pc.cyan(`mosquitto_sub -h 127.0.0.1 -p ${mqttPort} -t 'sensors/#' -v`)}`,
    `    ${pc.cyan(`kcat -b 127.0.0.1:${kafkaPort} -C -t ${READINGS_STREAM} -o end`)}`,
    `    ${pc.cyan(`npx sluice subscribe ${READINGS_STREAM} --brokers 127.0.0.1:${kafkaPort}`)}`,
    "",
    pc.dim("  Ctrl-C ends everything in order."),
    "",
  ];
}

/** The live line of the time after; rates are of the last second. */
export function stayView(): (progress: Progress) => string[] {
  const spinner = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏";
  let before: { at: number; published: number; delivered: number } | undefined;
  let rates = { published: 0, delivered: 0 };
  let frame = 0;
  return ({ published, delivered, missing, latency }) => {
    const at = performance.now();
    before ??= { at, published, delivered };
    if (at - before.at >= 1000) {
      const perSecond = 1000 / (at - before.at);
      rates = {
        published: (published - before.published) * perSecond,
        delivered: (delivered - before.delivered) * perSecond,
      };
      before = { at, published, delivered };
    }
    const words = latencyWords({ p50: latency.percentile(50), p99: latency.percentile(99) });
    return [
      `  ${pc.cyan(spinner[frame++ % spinner.length] ?? "")} ${whole(rates.published)}/s in  ${whole(rates.delivered)}/s out  ` +
        `${pc.bold(whole(delivered))} delivered  missing ${verdict(missing)}  ${words}`,
    ];
  };
}

/** The last word: everything arrived, or what did not. */
export function conclusion({ mesh, gateway, passed }: DemoReport): string[] {
  if (passed) {
    const { connections, seenByGateway: seen, sensors, subscribers } = gateway;
    const sockets = seen === null ? connections : seen.mqtt + seen.kafka;
    return [
      `  ${pc.green("✔")} ${pc.bold(`${whole(connections)} connections instead of ${whole(sensors * subscribers)}`)}`,
      `    ${whole(mesh.delivered + gateway.delivered)} messages, none lost, all in order`,
      ...(sockets > connections
        ? [pc.dim(`    ${whole(sockets)} sockets, as a kafkajs consumer takes two`)]
        : []),
      "",
    ];
  }
  const wrong = (way: string, { lost, outOfOrder, duplicates, connections }: PhaseReport): string =>
    `    ${way}: ${whole(connections)} connections; ${whole(lost)} lost, ${whole(outOfOrder)} out of order, ${whole(duplicates)} twice`;
  return [`  ${pc.red("✘")} not everything is right`, wrong("mesh", mesh), wrong("gateway", gateway), ""];
}
