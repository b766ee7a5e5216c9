/**
 * What the demonstration shows, as lines of 80 columns at most; colours are picocolors', which honours NO_COLOR
 * and knows a terminal.
 */
import pc from "picocolors";
import { grouped, plural, roughDuration, roughSize } from "../config/units.ts";
import { READINGS_STREAM } from "./audit.ts";
import type { Progress } from "./phase.ts";
import { draw, PICTURE_COLUMNS } from "./picture.ts";
import {
  type DemoReport,
  type GatewayReport,
  type GrowthRow,
  type LatencyMs,
  latencyOf,
  type PhaseReport,
} from "./report.ts";

const latencyWords = ({ p50, p99 }: LatencyMs): string =>
  `p50 ${roughDuration(p50)}  p99 ${roughDuration(p99)}`;

function bar(share: number, width = 28): string {
  const full = Math.round(Math.min(1, share) * width);
  return pc.cyan("━".repeat(full)) + pc.dim("─".repeat(width - full));
}

const verdict = (count: number): string => (count === 0 ? pc.green("0") : pc.red(grouped(count)));

export function title(sensors: number, subscribers: number): string[] {
  return [
    "",
    `  ${pc.bold(pc.cyan("SLUICE"))}  ${plural(sensors, "sensor")}, ${plural(subscribers, "subscriber")}: everyone is to hear everything`,
    "",
  ];
}

/** What stands between sensors and subscribers: nothing, the gateway, or the gateway and a Kafka cluster. */
export type Far = "mesh" | "gateway" | "cluster";
const farOf = ({ cluster }: GatewayReport): Far => (cluster === undefined ? "gateway" : "cluster");

export interface PhaseView {
  readonly far: Far;
  readonly sensors: number;
  readonly subscribers: number;
  /** Connections that there shall be. */
  readonly wanted: number;
  readonly forMs: number;
}

const HEADINGS: Readonly<Record<Far, string>> = {
  mesh: "1  The mesh: every sensor connected to every subscriber",
  gateway: "2  The gateway: every sensor and every subscriber connected to Sluice",
  cluster: "2  Every sensor connected to Sluice, every subscriber to Apache Kafka",
};
const heading = (far: Far): string => `  ${pc.bold(HEADINGS[far])}`;
const SIGNS: Readonly<Record<Far, string>> = {
  mesh: "",
  gateway: "▐ SLUICE ▌",
  cluster: "▐ SLUICE → KAFKA ▌",
};

/** The live region while a phase is under way. */
export function phaseView(view: PhaseView, progress: Progress): string[] {
  const { far, sensors, subscribers } = view;
  const open =
    far === "mesh" ? progress.sensorConnections : progress.sensorConnections + progress.subscriberConnections;
  const share = view.wanted === 0 ? 1 : open / view.wanted;
  const colour = far === "mesh" ? pc.yellow : pc.green;
  const picture = draw({ sensors, subscribers, share, hub: SIGNS[far] });
  const latency = progress.latency.count === 0 ? "" : latencyWords(latencyOf(progress.latency));
  const stage =
    progress.stage === "connecting"
      ? `  connecting  ${bar(share)}  ${roughDuration(progress.elapsedMs)}`
      : `  messages    ${bar(progress.stage === "closing" ? 1 : progress.elapsedMs / view.forMs)}  ${latency || "warming up"}`;
  return [
    heading(far),
    "",
    ...picture.map((row) => `      ${colour(row)}`),
    "",
    `  connections ${pc.bold(grouped(open).padStart(11))} of ${grouped(view.wanted)}`,
    `  delivered   ${grouped(progress.delivered).padStart(11)}   missing ${grouped(progress.missing)}   memory ${roughSize(progress.memoryBytes)}`,
    stage,
  ];
}

/** What stays of the mesh when it is over. */
export function meshLines(mesh: PhaseReport, asked: Asked): string[] {
  const ends = mesh.steps.at(-1);
  return [
    heading("mesh"),
    `     ${grouped(mesh.connections)} connections opened in ${roughDuration(mesh.connectMs)} by ${mesh.processes} processes`,
    pc.dim(
      `     counted at both ends: ${grouped(ends?.sensorConnections ?? 0)} at the sensors, ${grouped(ends?.subscriberConnections ?? 0)} at the subscribers`,
    ),
    ...limitLines(mesh, asked),
    "",
  ];
}

/** What stays of the gateway's phase. */
export function gatewayLines(gateway: GatewayReport, asked: Asked): string[] {
  const { sensors, subscribers, kinds, seenByGateway: seen, mqttPort, kafkaPort, cluster } = gateway;
  const both = `${plural(sensors, "sensor")} and ${plural(subscribers, "subscriber")}`;
  const ofWhich = Object.entries(kinds).map(([kind, count]) => `${grouped(count)} × ${kind}`);
  const details = [
    `subscribers: ${ofWhich.join(", ")}`,
    cluster === undefined
      ? `MQTT port ${mqttPort}, ${plural(seen.mqtt, "socket")}; Kafka port ${kafkaPort}, ${plural(seen.kafka, "socket")}`
      : `MQTT port ${mqttPort}, ${plural(seen.mqtt, "socket")}; by the uplink, exactly once, into ${cluster.topic}`,
  ];
  return [
    heading(farOf(gateway)),
    `     ${both} connected in ${roughDuration(gateway.connectMs)}`,
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
  const part = `${grouped(sensors)} × ${grouped(subscribers)} of ${grouped(asked.sensors)} × ${grouped(asked.subscribers)} opened`;
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
    `  ${label.padEnd(LABEL)}${" ".repeat(COLUMN - grouped(of(mesh)).length)}${verdict(of(mesh))}${" ".repeat(COLUMN - grouped(of(gateway)).length)}${verdict(of(gateway))}`;
  const seen = gateway.seenByGateway;
  const meshPicture = draw({ ...mesh, share: 1, hub: SIGNS.mesh });
  const gatewayPicture = draw({ ...gateway, share: 1, hub: SIGNS[farOf(gateway)] });
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
      `${grouped(mesh.sensors)} × ${grouped(mesh.subscribers)}`,
      `${grouped(gateway.sensors)} × ${grouped(gateway.subscribers)}`,
    ),
    row("connections", grouped(mesh.connections), grouped(gateway.connections), (text) =>
      pc.bold(pc.cyan(text)),
    ),
    row("  sockets the gateway holds", "–", grouped(seen.mqtt + seen.kafka)),
    same("time to connect", (phase) => roughDuration(phase.connectMs)),
    same("memory, all the clients'", (phase) => roughSize(phase.memoryBytes)),
    row("memory, the gateway's", "–", roughSize(gateway.gatewayMemoryBytes)),
    same("readings published", (phase) => grouped(phase.readings)),
    same("messages delivered", (phase) => grouped(phase.delivered)),
    count("lost", (phase) => phase.lost),
    count("out of order", (phase) => phase.outOfOrder),
    count("duplicates", (phase) => phase.duplicates),
    same("latency p50", (phase) => roughDuration(phase.latencyMs.p50)),
    same("latency p99", (phase) => roughDuration(phase.latencyMs.p99)),
    RULE,
    pc.dim("  latency from sensor to subscriber, warmed up; the gateway syncs to disk first"),
    ...(gateway.cluster === undefined
      ? []
      : [
          pc.dim(
            "  and then waits for the cluster's transaction, which subscribers see when it is committed",
          ),
        ]),
    "",
  ];
}

/** How both counts grow, and which rows are more than arithmetic. */
export function growthTable(growth: readonly GrowthRow[]): string[] {
  const cells = (a: string, b: string, c: string, d: string): string =>
    `  ${a.padEnd(22)}${b.padStart(13)}${c.padStart(13)}${d.padStart(9)}   `;
  const rows = growth.map(({ sensors, subscribers, mesh, gateway, meshOpened, gatewayOpened }) => {
    const ratio = mesh / gateway;
    const times = `${ratio < 10 ? ratio.toFixed(1) : grouped(Math.round(ratio))}×`;
    const line = cells(
      `${grouped(sensors)} × ${grouped(subscribers)}`,
      grouped(mesh),
      grouped(gateway),
      times,
    );
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
export function invitation({ mqttPort, kafkaPort, cluster }: GatewayReport): string[] {
  const broker = cluster?.brokers[0] ?? `127.0.0.1:${kafkaPort}`;
  const stream = cluster?.topic ?? READINGS_STREAM;
  return [
    `  ${pc.bold("The gateway stays up and the sensors go on.")} In another terminal:`,
    "",
    `    ${pc.cyan(`mosquitto_sub -h 127.0.0.1 -p ${mqttPort} -t 'sensors/#' -v`)}`,
    `    ${pc.cyan(`kcat -b ${broker} -C -t ${stream} -o end`)}`,
    `    ${pc.cyan(`npx sluice subscribe ${stream} --broker ${broker}`)}`,
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
    return [
      `  ${pc.cyan(spinner[frame++ % spinner.length] ?? "")} ${grouped(Math.round(rates.published))}/s in  ${grouped(Math.round(rates.delivered))}/s out  ` +
        `${pc.bold(grouped(delivered))} delivered  missing ${verdict(missing)}  ${latencyWords(latencyOf(latency))}`,
    ];
  };
}

/** The last word: everything arrived, or what did not. */
export function conclusion({ mesh, gateway, passed }: DemoReport): string[] {
  if (passed) {
    const { connections, seenByGateway: seen, sensors, subscribers } = gateway;
    const sockets = seen.mqtt + seen.kafka;
    return [
      `  ${pc.green("✔")} ${pc.bold(`${grouped(connections)} connections instead of ${grouped(sensors * subscribers)}`)}`,
      `    ${grouped(mesh.delivered + gateway.delivered)} messages, none lost, all in order`,
      ...(sockets > connections
        ? [pc.dim(`    ${grouped(sockets)} sockets, as a kafkajs consumer takes two`)]
        : []),
      "",
    ];
  }
  const wrong = (way: string, { lost, outOfOrder, duplicates, connections }: PhaseReport): string =>
    `    ${way}: ${grouped(connections)} connections; ${grouped(lost)} lost, ${grouped(outOfOrder)} out of order, ${grouped(duplicates)} twice`;
  return [`  ${pc.red("✘")} not everything is right`, wrong("mesh", mesh), wrong("gateway", gateway), ""];
}
