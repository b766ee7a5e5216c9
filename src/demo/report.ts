/** What the demonstration found out: the shape of `--json`, and the table of how both counts grow. */
import type { Histogram } from "../histogram.ts";
import type { GatewayPorts, GatewaySnapshot } from "./gateway-host.ts";
import type { Limit } from "./limits.ts";

/** Null in JSON, NaN here, where nothing was timed. */
export interface LatencyMs {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** A size at which connections were really open, all at once. */
export interface Step {
  readonly sensors: number;
  readonly subscribers: number;
  /** As counted at the sensors' end. */
  readonly sensorConnections: number;
  /** As counted at the subscribers' end. */
  readonly subscriberConnections: number;
  /** Of this and the smaller steps before it together. */
  readonly connectMs: number;
}

export interface PhaseReport {
  readonly sensors: number;
  readonly subscribers: number;
  /** Why it is fewer than asked for; null when it is not. */
  readonly limit: Limit | null;
  readonly steps: readonly Step[];
  /** Real, open at once, counted at both ends; in the mesh each connection has both ends at clients. */
  readonly connections: number;
  readonly connectMs: number;
  /** Resident, of the sensors' and subscribers' processes, at its highest. */
  readonly memoryBytes: number;
  readonly processes: number;
  /** Readings that sensors made; each is to reach every subscriber. */
  readonly readings: number;
  readonly acknowledged: number;
  readonly expected: number;
  readonly delivered: number;
  readonly lost: number;
  readonly duplicates: number;
  readonly outOfOrder: number;
  /** Of what was sent after the warm-up. */
  readonly latencyMs: LatencyMs;
  /** Every subscriber has the same count and checksum as the sensors. */
  readonly agree: boolean;
  /** How many subscribers of which kind. */
  readonly kinds: Readonly<Record<string, number>>;
}

export interface GatewayReport extends PhaseReport, GatewayPorts {
  /** Sockets as the gateway counts them, by listener. */
  readonly seenByGateway: GatewaySnapshot["sockets"];
  /** Resident, of the gateway's process. */
  readonly gatewayMemoryBytes: number;
  /** From which the subscribers read; undefined: from the gateway. */
  readonly cluster?: { readonly brokers: readonly string[]; readonly topic: string } | undefined;
}

export interface GrowthRow {
  readonly sensors: number;
  readonly subscribers: number;
  readonly mesh: number;
  readonly gateway: number;
  /** Opened for real on this machine in this run; otherwise it is arithmetic. */
  readonly meshOpened: boolean;
  readonly gatewayOpened: boolean;
}

export interface DemoReport {
  readonly version: 1;
  readonly sensors: number;
  readonly subscribers: number;
  readonly readingsPerSecond: number;
  readonly machine: {
    readonly platform: string;
    readonly node: string;
    readonly cpus: number;
    readonly descriptorLimit: number | null;
  };
  readonly mesh: PhaseReport;
  readonly gateway: GatewayReport;
  readonly growth: readonly GrowthRow[];
  readonly passed: boolean;
}

const LADDER = [1, 10, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/** The sizes that are opened one after another on the way to `sensors` × `subscribers`. */
export function stepsTo(sensors: number, subscribers: number): [number, number][] {
  const below = LADDER.filter(
    (size) => size < Math.max(sensors, subscribers) && size <= Math.min(sensors, subscribers),
  );
  return [...below.map((size): [number, number] => [size, size]), [sensors, subscribers]];
}

/** Whether there was a step of this size with so many connections at each end. */
const opened = (steps: readonly Step[], n: number, m: number, atSensors: number, atSubscribers: number) =>
  steps.some(
    (step) =>
      step.sensors === n &&
      step.subscribers === m &&
      step.sensorConnections === atSensors &&
      step.subscriberConnections === atSubscribers,
  );

/** From 10 × 10 up to 10,000 × 10,000, and every size that was opened at the end of a phase. */
export function growth(mesh: Pick<PhaseReport, "steps">, gateway: Pick<PhaseReport, "steps">): GrowthRow[] {
  const sizes = new Map<string, [number, number]>();
  const last = [mesh.steps.at(-1), gateway.steps.at(-1)].filter((step) => step !== undefined);
  for (const size of [10, 50, 100, 200, 1_000, 5_000, 10_000]) sizes.set(`${size}x${size}`, [size, size]);
  for (const { sensors, subscribers } of last) sizes.set(`${sensors}x${subscribers}`, [sensors, subscribers]);
  return [...sizes.values()]
    .sort(([n, m], [n2, m2]) => n * m - n2 * m2 || n - n2)
    .map(([sensors, subscribers]) => ({
      sensors,
      subscribers,
      mesh: sensors * subscribers,
      gateway: sensors + subscribers,
      meshOpened: opened(mesh.steps, sensors, subscribers, sensors * subscribers, sensors * subscribers),
      gatewayOpened: opened(gateway.steps, sensors, subscribers, sensors, subscribers),
    }));
}

export function latencyOf(histogram: Histogram): LatencyMs {
  const ms = (percent: number): number => Math.round(histogram.percentile(percent) * 1000) / 1000;
  return { p50: ms(50), p99: ms(99), max: ms(100) };
}

/** Nothing lost, doubled or out of order, and every connection that was planned was open. */
export function passed(phase: PhaseReport, connections: number): boolean {
  const { lost, outOfOrder, duplicates, agree, expected, delivered } = phase;
  return (
    lost + outOfOrder + duplicates === 0 &&
    agree &&
    delivered === expected &&
    phase.connections >= connections
  );
}
