/**
 * The demonstration: N sensors and M subscribers, first all connected to each other, then through a gateway, or
 * through a gateway and a Kafka cluster; real sockets both times, counted, and every message accounted for.
 * Invariant: whatever happens, no process and no folder is left behind.
 */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Address } from "../config/schema.ts";
import { formatAddress } from "../config/units.ts";
import { messageOf, SluiceError } from "../errors.ts";
import { READINGS_STREAM } from "./audit.ts";
import { ClusterEnd } from "./cluster-end.ts";
import { Crew } from "./crew.ts";
import type { GatewayHost, GatewayPorts } from "./gateway-host.ts";
import { type Plan, planGateway, planMesh, thisMachine } from "./limits.ts";
import { Phase, type Progress } from "./phase.ts";
import { type DemoReport, type GatewayReport, growth, type PhaseReport, passed } from "./report.ts";
import * as show from "./screen.ts";
import type { Screen } from "./terminal.ts";

export interface DemoOptions {
  readonly sensors: number;
  readonly subscribers: number;
  /** How long readings flow, both phases together; undefined: ten seconds, then until interrupted. */
  readonly durationMs: number | undefined;
  readonly meshLimit: number;
  /** Subscribers that are kafkajs consumers when all can be; beyond it all but a few are light readers. */
  readonly kafkajsLimit: number;
  /** The cluster from which the subscribers read; undefined: from the gateway. */
  readonly brokers?: readonly Address[] | undefined;
}

const DEFAULT_DURATION_MS = 10_000;
/** The part of a phase's time that is not timed. */
const WARM_UP = 0.4;
/** Deliveries a second in all, and readings a second of each sensor: a sight, on a Raspberry Pi too. */
const DELIVERIES_PER_SECOND = 2_000;
const MAX_RATE = 5;
/** kafkajs consumers among the light readers, which must agree with them. */
const KAFKAJS_WITNESSES = 3;

export class Demo {
  private readonly options: DemoOptions;
  private readonly screen: Screen;
  private readonly abort: AbortSignal;
  private readonly forMs: number;
  private readonly intervalMs: number;
  private readonly machine = thisMachine();
  private readonly cluster: ClusterEnd | undefined;
  private staying: ((progress: Progress) => string[]) | undefined;

  constructor(options: DemoOptions, screen: Screen, abort: AbortSignal) {
    this.options = options;
    this.screen = screen;
    this.abort = abort;
    this.cluster = options.brokers && new ClusterEnd(options.brokers);
    this.forMs = (options.durationMs ?? DEFAULT_DURATION_MS) / 2;
    const rate = Math.min(MAX_RATE, DELIVERIES_PER_SECOND / (options.sensors * options.subscribers));
    // Whole rounds, at least one in each phase.
    this.intervalMs = this.forMs / Math.max(1, Math.round((this.forMs * rate) / 1000));
  }

  /** Runs both phases; without a duration stays up until aborted. Throws INTERRUPTED when aborted before that. */
  async run(): Promise<DemoReport> {
    const { sensors, subscribers } = this.options;
    this.screen.print(show.title(sensors, subscribers));
    // Before anything else: whoever mistyped it should not have to wait.
    if (this.cluster !== undefined) await this.unlessAborted(this.cluster.reach());
    const mesh = await this.mesh();
    const folder = join(tmpdir(), `sluice-demo-${randomUUID()}`);
    const plan = planGateway(sensors, subscribers, this.machine, this.kafkajs);
    const maxConnections = plan.sensors + 3 * plan.subscribers + 100;
    const gateway = new Crew<GatewayHost>("gateway", 1, {
      folder,
      maxConnections,
      cluster: this.cluster?.place,
    });
    try {
      const [ports] = await this.unlessAborted(gateway.all("start"));
      return await this.gateway(mesh, plan, gateway, ports as GatewayPorts);
    } finally {
      await gateway.all("close").catch(() => {}); // it is gone, then
      await gateway.close();
      await rm(folder, { recursive: true, force: true });
      await this.cluster?.remove().catch((error) => {
        const { topic } = (this.cluster as ClusterEnd).place;
        process.stderr.write(`the topic ${topic} stays in the cluster: ${messageOf(error)}\n`);
      });
    }
  }

  private get kafkajs(): number {
    const { subscribers, kafkajsLimit } = this.options;
    return subscribers <= kafkajsLimit ? subscribers : Math.min(kafkajsLimit, KAFKAJS_WITNESSES);
  }

  private async mesh(): Promise<PhaseReport> {
    const { sensors, subscribers, meshLimit } = this.options;
    const plan = planMesh(sensors, subscribers, this.machine, meshLimit);
    const phase = new Phase({
      plan,
      role: "mesh-subscribers",
      subscriberOptions: {},
      gatewayPort: undefined,
      intervalMs: this.intervalMs,
      onProgress: (progress) => this.paint(false, plan, progress),
    });
    try {
      const report = await this.measure(phase);
      this.screen.print(show.meshLines(report, this.options));
      return report;
    } finally {
      await phase.close();
    }
  }

  private async gateway(
    mesh: PhaseReport,
    plan: Plan,
    gateway: Crew<GatewayHost>,
    ports: GatewayPorts,
  ): Promise<DemoReport> {
    const phase = new Phase({
      plan,
      role: "gateway-readers",
      subscriberOptions: { ...this.readFrom(ports), kafkajs: this.kafkajs },
      gatewayPort: ports.mqttPort,
      intervalMs: this.intervalMs,
      onProgress: (progress) => this.paint(true, plan, progress),
    });
    const complete = async (measured: PhaseReport): Promise<DemoReport> => {
      const [seen] = await gateway.all("snapshot");
      const { sockets: seenByGateway, memoryBytes: gatewayMemoryBytes } = seen as NonNullable<typeof seen>;
      const place = this.cluster?.place;
      const cluster = place && { brokers: place.brokers.map(formatAddress), topic: place.topic };
      return this.report(mesh, { ...measured, ...ports, seenByGateway, gatewayMemoryBytes, cluster });
    };
    try {
      const report = await complete(await this.measure(phase));
      this.screen.print([
        ...show.gatewayLines(report.gateway, this.options),
        ...show.comparison(report.mesh, report.gateway),
        ...show.growthTable(report.growth),
      ]);
      return this.options.durationMs === undefined
        ? await complete(await this.stay(phase, report.gateway))
        : report;
    } finally {
      await phase.close();
    }
  }

  private readFrom({ kafkaPort }: GatewayPorts): { brokers: readonly Address[]; stream: string } {
    if (this.cluster === undefined) {
      return { brokers: [{ host: "127.0.0.1", port: kafkaPort }], stream: READINGS_STREAM };
    }
    const { brokers, topic } = this.cluster.place;
    return { brokers, stream: topic };
  }

  private async measure(phase: Phase): Promise<PhaseReport> {
    await this.unlessAborted(phase.open());
    await this.unlessAborted(phase.send(this.forMs, this.forMs * WARM_UP));
    return this.unlessAborted(phase.settle());
  }

  /** The sensors go on until the abort; then everything still on its way arrives, and the books are closed. */
  private async stay(phase: Phase, report: GatewayReport): Promise<PhaseReport> {
    this.screen.print(show.invitation(report));
    this.staying = show.stayView();
    const sending = phase.send(Number.POSITIVE_INFINITY);
    await Promise.race([aborted(this.abort), sending]);
    await phase.stop();
    await sending;
    return phase.settle();
  }

  private report(mesh: PhaseReport, gateway: GatewayReport): DemoReport {
    const { sensors, subscribers } = this.options;
    const { descriptorLimit, cpus } = this.machine;
    return {
      version: 1,
      sensors,
      subscribers,
      readingsPerSecond: Math.round((sensors * 1000 * 1000) / this.intervalMs) / 1000,
      machine: {
        platform: `${process.platform} ${process.arch}`,
        node: process.version,
        cpus,
        descriptorLimit: Number.isFinite(descriptorLimit) ? descriptorLimit : null,
      },
      mesh,
      gateway,
      growth: growth(mesh, gateway),
      passed:
        passed(mesh, mesh.sensors * mesh.subscribers) &&
        passed(gateway, gateway.sensors + gateway.subscribers),
    };
  }

  private paint(hub: boolean, { sensors, subscribers }: Plan, progress: Progress): void {
    const wanted = hub ? sensors + subscribers : sensors * subscribers;
    const far: show.Far = !hub ? "mesh" : this.cluster === undefined ? "gateway" : "cluster";
    const view = { far, sensors, subscribers, wanted, forMs: this.forMs };
    this.screen.paint(this.staying?.(progress) ?? show.phaseView(view, progress));
  }

  /** The work, or an error as soon as the person wants the end; what the work then still does goes unheard. */
  private unlessAborted<T>(work: Promise<T>): Promise<T> {
    const interrupted = aborted(this.abort).then((): never => {
      const words = "interrupted; everything is stopped and removed";
      throw new SluiceError("INTERRUPTED", words, { exitCode: 130 });
    });
    return Promise.race([work, interrupted]);
  }
}

/** Resolves when the signal is aborted. */
async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, "abort");
}
