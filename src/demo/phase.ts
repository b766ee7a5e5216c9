/**
 * One phase: open the connections step by step, let the readings flow, wait until all have come, close the
 * books. Mesh and gateway differ only in where the sensors connect and how the subscribers are attached.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Histogram } from "../histogram.ts";
import { clockUs } from "./audit.ts";
import { Crew } from "./crew.ts";
import type { Limit, Plan } from "./limits.ts";
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
  /** Memory of further processes that belong to the phase. */
  readonly extraBytes: () => number;
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
  readonly memoryBytes: number;
  /** Since the stage began. */
  readonly elapsedMs: number;
}

const POLL_MS = 120;
/** How long nothing may come before what is missing is called lost. */
const QUIET_MS = 8_000;

export class Phase {
  private readonly options: PhaseOptions;
  private readonly sensors: Crew<Sensors>;
  private readonly subscribers: Crew<Subscribers>;
  private readonly steps: Step[] = [];
  private stage: Progress["stage"] = "connecting";
  private stageSince = performance.now();
  private connectMs = 0;
  private sendingMs = 0;
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
    const sum = <T>(parts: readonly T[], of: (part: T) => number): number =>
      parts.reduce((all, part) => all + of(part), 0);
    const memoryBytes =
      sum(sensors, (part) => part.rssBytes) +
      sum(subscribers, (part) => part.rssBytes) +
      this.options.extraBytes();
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
    const watching = (async () => {
      while (!done) {
        this.options.onProgress(await this.progress());
        if (!done) await sleep(POLL_MS);
      }
    })();
    try {
      return await work;
    } finally {
      done = true;
      await watching.catch(() => {});
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

  /** Lets readings flow for `forMs` and until the round is whole; Infinity goes on until `stop`. */
  async send(forMs: number): Promise<void> {
    this.enter("sending");
    const startUs = clockUs() + 50_000;
    const schedule: Schedule = {
      startUs,
      untilUs: startUs + forMs * 1000,
      intervalMs: this.options.intervalMs,
    };
    const parts = await this.watch(this.sensors.all("publish", schedule));
    this.sendingMs += performance.now() - this.stageSince;
    this.published = Array.from({ length: this.options.plan.sensors }, () => 0);
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
    const readings = this.published.reduce((sum, count) => sum + count, 0);
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
    const limit: Limit | null = plan.limit ?? null;
    const { sensors, subscribers } = plan;
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
      sendingMs: Math.round(this.sendingMs),
      readings,
      acknowledged: last.acknowledged,
      expected,
      ...this.sums(results, readings),
      latencyMs: latencyOf(last.latency),
    };
  }

  private sums(results: readonly SubscriberResult[], readings: number) {
    const sums = { delivered: 0, lost: 0, duplicates: 0, outOfOrder: 0 };
    const kinds: Record<string, number> = {};
    for (const result of results) {
      kinds[result.kind] = (kinds[result.kind] ?? 0) + 1;
      for (const name of Object.keys(sums) as (keyof typeof sums)[]) sums[name] += result[name];
    }
    const agree =
      results.length === this.options.plan.subscribers &&
      results.every(({ delivered, checksum }) => delivered === readings && checksum === this.checksum);
    return { ...sums, kinds, agree };
  }

  async close(): Promise<void> {
    // The sensors first: a subscriber that ends under a connected sensor would look like a failure.
    await this.sensors.close();
    await this.subscribers.close();
  }
}
