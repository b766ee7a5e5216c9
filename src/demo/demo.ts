/**
 * The demonstration: N sensors and M subscribers, first all connected to each other, then through a gateway;
 * real sockets both times, counted, and every message accounted for. Invariant: whatever happens, no process
 * and no folder is left behind.
 */
import { SluiceError } from "../errors.ts";
import { GatewayProcess } from "./gateway-process.ts";
import { type Plan, planGateway, planMesh, thisMachine } from "./limits.ts";
import { Phase, type Progress } from "./phase.ts";
import { type DemoReport, type GatewayReport, growth, type PhaseReport, passed } from "./report.ts";
import * as show from "./screen.ts";

export interface DemoOptions {
  readonly sensors: number;
  readonly subscribers: number;
  /** How long readings flow, both phases together; undefined: ten seconds, then until interrupted. */
  readonly durationMs: number | undefined;
  /** Readings per second of each sensor; undefined: as many as make a sight. */
  readonly rate: number | undefined;
  readonly meshLimit: number;
  /** Subscribers that are kafkajs consumers when all can be; beyond it all but a few are light readers. */
  readonly kafkajsLimit: number;
}

const DEFAULT_DURATION_MS = 10_000;
/** The rate that is chosen when none is given: so many deliveries a second in all, within so many readings. */
const DELIVERIES_PER_SECOND = 10_000;
const MAX_RATE = 10;
/** kafkajs consumers among the light readers, which must agree with them. */
const KAFKAJS_WITNESSES = 3;

/** Ended by the person before there was a result (128 + SIGINT). */
export class Interrupted extends SluiceError {
  constructor() {
    super("INTERRUPTED", "interrupted; everything is stopped and removed", { exitCode: 130 });
  }
}

export class Demo {
  private readonly options: DemoOptions;
  private readonly screen: show.Screen;
  private readonly abort: AbortSignal;
  private readonly forMs: number;
  private readonly intervalMs: number;
  private readonly machine = thisMachine();
  private staying: ((progress: Progress) => string[]) | undefined;

  constructor(options: DemoOptions, screen: show.Screen, abort: AbortSignal) {
    this.options = options;
    this.screen = screen;
    this.abort = abort;
    this.forMs = (options.durationMs ?? DEFAULT_DURATION_MS) / 2;
    const { sensors, subscribers, rate } = options;
    const chosen = 1000 / (rate ?? Math.min(MAX_RATE, DELIVERIES_PER_SECOND / (sensors * subscribers)));
    // Whole rounds, at least one in each phase.
    this.intervalMs = rate === undefined ? this.forMs / Math.max(1, Math.round(this.forMs / chosen)) : chosen;
  }

  /** Runs both phases; without a duration stays up until aborted. Throws `Interrupted` when aborted before that. */
  async run(): Promise<DemoReport> {
    this.screen.print(show.title(this.options.sensors, this.options.subscribers));
    const mesh = await this.mesh();
    return this.gateway(mesh);
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
      extraBytes: () => 0,
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

  private async gateway(mesh: PhaseReport): Promise<DemoReport> {
    const { sensors, subscribers, kafkajsLimit, durationMs } = this.options;
    const kafkajs = subscribers <= kafkajsLimit ? subscribers : Math.min(kafkajsLimit, KAFKAJS_WITNESSES);
    const plan = planGateway(sensors, subscribers, this.machine, kafkajs);
    const gateway = await GatewayProcess.start(plan.sensors + 3 * plan.subscribers + 100);
    let gatewayMemoryBytes = 0;
    const phase = new Phase({
      plan,
      role: "gateway-readers",
      subscriberOptions: { kafkaPort: gateway.kafkaPort, kafkajs },
      gatewayPort: gateway.mqttPort,
      intervalMs: this.intervalMs,
      extraBytes: () => {
        const bytes = gateway.memoryBytes();
        gatewayMemoryBytes = Math.max(gatewayMemoryBytes, bytes);
        return bytes;
      },
      onProgress: (progress) => this.paint(true, plan, progress),
    });
    try {
      const measured = await this.measure(phase);
      const { mqttPort, kafkaPort } = gateway;
      const seenByGateway = gateway.connections();
      const complete = (report: PhaseReport): GatewayReport => ({
        ...report,
        mqttPort,
        kafkaPort,
        seenByGateway,
        gatewayMemoryBytes,
      });
      const report = this.report(mesh, complete(measured));
      this.screen.print([
        ...show.gatewayLines(report.gateway, this.options),
        ...show.comparison(report.mesh, report.gateway),
        ...show.growthTable(report.growth),
      ]);
      if (durationMs !== undefined) return report;
      return this.report(mesh, complete(await this.stay(phase, report.gateway)));
    } finally {
      await phase.close();
      await gateway.close();
    }
  }

  private async measure(phase: Phase): Promise<PhaseReport> {
    await this.unlessAborted(phase.open());
    await this.unlessAborted(phase.send(this.forMs));
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
    const { descriptorLimit } = this.machine;
    return {
      version: 1,
      sensors,
      subscribers,
      readingsPerSecond: Math.round((sensors * 1000 * 1000) / this.intervalMs) / 1000,
      machine: {
        platform: `${process.platform} ${process.arch}`,
        node: process.version,
        cpus: this.machine.cpus,
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
    const view = { hub, sensors, subscribers, wanted, forMs: this.forMs };
    this.screen.paint(this.staying?.(progress) ?? show.phaseView(view, progress));
  }

  /** The work, or `Interrupted` as soon as the person wants the end; what the work then still does goes unheard. */
  private async unlessAborted<T>(work: Promise<T>): Promise<T> {
    work.catch(() => {});
    return Promise.race([
      work,
      aborted(this.abort).then((): never => {
        throw new Interrupted();
      }),
    ]);
  }
}

/** Resolves when the signal is aborted. */
function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
