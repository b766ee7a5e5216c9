/**
 * One phase: open the connections step by step, let the readings flow, wait until all have come, close the
 * books. Mesh and gateway differ only in where the sensors connect and how the subscribers are attached.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Histogram } from "../histogram.ts";
import { clockUs } from "./audit.ts";
import { Crew } from "./crew.ts";
import type { Plan } from "./limits.ts";
import { latencyOf, type PhaseReport, type Step, stepsTo } from "./report.ts";
import type { Schedule, Sensors } from "./sensors.ts";
import type { SubscriberResult, Subscribers } from "./subscribers.ts";

export interface PhaseOptions {
  readonly plan: Plan;
  readonly role: "mesh-subscribers" | "gateway-readers";
  /** For the subscribers' processes, beside the number of sensors. */
  readonly subscriberOptions: object;
  /** Where sensors connect; undefined: to every subscriber itself. */
  readonly gatewayPort: number | undefined;
  readonly intervalMs: number;
  readonly onProgress: (progress: Progress) => void;
}

export interface Progress {
  readonly stage: "connecting" | "sending" | "closing";
  readonly sensorConnections: number;
  readonly subscriberConnections: number;
  readonly published: number;
  readonly acknowledged: number;
  readonly delivered: number;
  readonly missing: number;
  readonly outOfOrder: number;
  readonly latency: Histogram;
  /** Resident, of the sensors' and the subscribers' processes. */
  readonly memoryBytes: number;
  /** Since the stage began. */
  readonly elapsedMs: number;
}

const POLL_MS = 120;
/** How long nothing may come before what is missing is called lost. */
const QUIET_MS = 8_000;
/** From here to the first reading, so that every process has its schedule by then. */
const LEAD_US = 50_000;

const sum = <T>(parts: readonly T[], of: (part: T) => number): number =>
  parts.reduce((all, part) => all + of(part), 0);

export class Phase {
  private readonly options: PhaseOptions;
  private readonly sensors: Crew<Sensors>;
  private readonly subscribers: Crew<Subscribers>;
  private readonly steps: Step[] = [];
  private stage: Progress["stage"] = "connecting";
  private stageSince = performance.now();
  private connectMs = 0;
  private memoryBytes = 0;
  private published: number[] = [];
  private checksum = 0;

  constructor(options: PhaseOptions) {
    const { plan, role, subscriberOptions } = options;
    this.options = options;
    this.sensors = new Crew<Sensors>("sensors", plan.sensorProcesses, {});
    this.subscribers = new Crew<Subscribers>(role, plan.subscriberProcesses, {
      ...subscriberOptions,
      sensors: plan.sensors,
    });
  }

  private enter(stage: Progress["stage"]): void {
    this.stage = stage;
    this.stageSince = performance.now();
  }

  async progress(): Promise<Progress> {
    const [sensors, subscribers] = await Promise.all([
      this.sensors.all("snapshot"),
      this.subscribers.all("snapshot"),
    ]);
    const latency = new Histogram();
    // What comes over IPC has the fields of a histogram, but not its methods.
    for (const { latency: part } of subscribers) latency.merge(part);
    const memoryBytes = sum(sensors, (part) => part.rssBytes) + sum(subscribers, (part) => part.rssBytes);
    this.memoryBytes = Math.max(this.memoryBytes, memoryBytes);
    return {
      stage: this.stage,
      sensorConnections: sum(sensors, (part) => part.connections),
      subscriberConnections: sum(subscribers, (part) => part.connections),
      published: sum(sensors, (part) => part.published),
      acknowledged: sum(sensors, (part) => part.acknowledged),
      delivered: sum(subscribers, (part) => part.delivered),
      missing: sum(subscribers, (part) => part.missing),
      outOfOrder: sum(subscribers, (part) => part.outOfOrder),
      latency,
      memoryBytes,
      elapsedMs: performance.now() - this.stageSince,
    };
  }

  /** Reports progress while `work` goes on; resolves with the work's result after one last report. */
  private async watch<T>(work: Promise<T>): Promise<T> {
    let done = false;
    const watch = async (): Promise<void> => {
      while (!done) {
        this.options.onProgress(await this.progress());
        if (!done) await sleep(POLL_MS);
      }
    };
    // A worker that is gone is the work's to tell.
    const watching = watch().catch(() => {});
    try {
      return await work;
    } finally {
      done = true;
      await watching;
    }
  }

  /** Opens every connection, the smaller steps first, and counts at both ends. */
  async open(): Promise<void> {
    const { plan, gatewayPort } = this.options;
    await this.progress(); // the processes are up: their start is no part of the time to connect
    this.enter("connecting");
    for (const [sensors, subscribers] of stepsTo(plan.sensors, plan.subscribers)) {
      const begun = performance.now();
      await this.watch(
        (async () => {
          const ports = (await this.subscribers.all("open", subscribers)).flat().sort(([a], [b]) => a - b);
          const targets = gatewayPort === undefined ? ports.map(([, port]) => port) : [gatewayPort];
          await this.sensors.all("open", sensors, targets);
        })(),
      );
      this.connectMs += performance.now() - begun;
      const { sensorConnections, subscriberConnections } = await this.progress();
      this.steps.push({
        sensors,
        subscribers,
        sensorConnections,
        subscriberConnections,
        connectMs: Math.round(this.connectMs),
      });
    }
  }

  /**
   * Lets readings flow for `forMs` and until the round is whole; Infinity goes on until `stop`. Those of the
   * first `warmUpMs` count in everything but the latency: meanwhile V8 compiles what every message runs through.
   */
  async send(forMs: number, warmUpMs = 0): Promise<void> {
    this.enter("sending");
    const startUs = clockUs() + LEAD_US;
    const { intervalMs } = this.options;
    const schedule: Schedule = { startUs, untilUs: startUs + forMs * 1000, intervalMs };
    await this.subscribers.all("timeFrom", startUs + warmUpMs * 1000);
    const parts = await this.watch(this.sensors.all("publish", schedule));
    this.published = new Array<number>(this.options.plan.sensors).fill(0);
    for (const [sensor, count] of parts.flatMap((part) => part.published)) this.published[sensor] = count;
    this.checksum = parts.reduce((sum, part) => (sum + part.checksum) >>> 0, 0);
  }

  async stop(): Promise<void> {
    await this.sensors.all("stop");
  }

  /** Waits for what is still on its way, then closes the books. */
  async settle(): Promise<PhaseReport> {
    this.enter("closing");
    const { plan, gatewayPort } = this.options;
    const readings = sum(this.published, (count) => count);
    const expected = readings * plan.subscribers;
    let last = await this.progress();
    for (let since = performance.now(); last.delivered < expected && performance.now() - since < QUIET_MS; ) {
      await sleep(POLL_MS);
      const now = await this.progress();
      if (now.delivered !== last.delivered) since = performance.now();
      last = now;
      this.options.onProgress(now);
    }
    const results = (await this.subscribers.all("settle", this.published)).flat();
    const { sensors, subscribers, limit = null } = plan;
    const step = this.steps.at(-1);
    return {
      sensors,
      subscribers,
      limit,
      steps: this.steps,
      connections:
        (step?.sensorConnections ?? 0) + (gatewayPort === undefined ? 0 : (step?.subscriberConnections ?? 0)),
      connectMs: Math.round(this.connectMs),
      memoryBytes: this.memoryBytes,
      processes: this.sensors.size + this.subscribers.size,
      readings,
      acknowledged: last.acknowledged,
      expected,
      ...this.sums(results, readings),
      latencyMs: latencyOf(last.latency),
    };
  }

  private sums(results: readonly SubscriberResult[], readings: number) {
    const kinds: Record<string, number> = {};
    for (const { kind } of results) kinds[kind] = (kinds[kind] ?? 0) + 1;
    return {
      delivered: sum(results, ({ delivered }) => delivered),
      lost: sum(results, ({ lost }) => lost),
      duplicates: sum(results, ({ duplicates }) => duplicates),
      outOfOrder: sum(results, ({ outOfOrder }) => outOfOrder),
      kinds,
      agree:
        results.length === this.options.plan.subscribers &&
        results.every(({ delivered, checksum }) => delivered === readings && checksum === this.checksum),
    };
  }

  async close(): Promise<void> {
    // The sensors first: a subscriber that ends under a connected sensor would look like a failure.
    await this.sensors.close();
    await this.subscribers.close();
  }
}
