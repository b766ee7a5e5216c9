/**
 * Many devices against one broker, a real connection each. Their readings are due by one schedule; `rate`
 * makes their clocks run faster or slower, so that the fleet as a whole sends so many messages a second: the
 * values stay what they are, only sooner.
 */
import { messageOf, SluiceError } from "../errors.ts";
import { Counters, Link } from "./link.ts";
import { type FleetDefinition, planFleet } from "./plan.ts";
import { randomOf } from "./random.ts";
import { Schedule } from "./schedule.ts";

export interface FleetOptions {
  /** `mqtt://[user:password@]host:port` */
  readonly url: string;
  /** Devices in all, shared out in the definition's proportions; the definition's number when left out. */
  readonly count?: number | undefined;
  /** Messages a second of all devices together; what their intervals come to when left out. */
  readonly rate?: number | undefined;
  /** The definition's when left out. */
  readonly seed?: number | undefined;
}

export interface FleetStats extends Readonly<Counters> {
  readonly devices: number;
  /** Messages a second that the devices try for, all together, while they are connected. */
  readonly targetRate: number;
}

/** Devices connect no faster than this, however short `startSpread` is. */
const MAX_CONNECTS_PER_SECOND = 2_000;
/** A reading that is due longer than this (the machine slept, or cannot keep up) moves the schedule back. */
const MAX_BEHIND_MS = 1_000;
const DRAIN_TIMEOUT_MS = 3_000;

export class Fleet {
  private readonly definition: FleetDefinition;
  private readonly options: FleetOptions;
  private readonly counters = new Counters();
  private readonly schedule = new Schedule();
  private links: readonly Link[] = [];
  private targetRate = 0;
  /** How much faster than real time the devices' clocks run. */
  private speed = 1;
  private stopping: Promise<void> | undefined;

  constructor(definition: FleetDefinition, options: FleetOptions) {
    this.definition = definition;
    this.options = options;
  }

  get stats(): FleetStats {
    return Object.assign({ devices: this.links.length, targetRate: this.targetRate }, this.counters);
  }

  /**
   * Resolves when the first device is connected; the others follow within `startSpread`. Rejects with
   * SluiceError UNREACHABLE or REFUSED when the broker does not take the first one.
   */
  async start(): Promise<void> {
    const { url, rate } = this.options;
    const seed = this.options.seed ?? this.definition.seed;
    this.links = planFleet(this.definition, this.options).map((sensor) => {
      const spread = randomOf(seed, sensor.identity.device, "reconnect");
      return new Link(sensor, this.counters, this.schedule, spread);
    });
    const natural = this.links.reduce((sum, link) => sum + link.sensor.ratePerSecond, 0);
    this.targetRate = rate ?? natural;
    this.speed = this.targetRate / natural;
    const [first, ...others] = this.links;
    if (first === undefined) return;
    try {
      await first.connect(url, () => this.beginReadings(first));
    } catch (error) {
      if (this.stopping !== undefined) return this.stopping;
      await this.stop();
      throw connectError(error, url);
    }
    const spreadMs = Math.max(
      this.definition.startSpreadMs,
      (1_000 * others.length) / MAX_CONNECTS_PER_SECOND,
    );
    const startMs = performance.now();
    others.forEach((link, index) => {
      this.schedule.at(startMs + (spreadMs * index) / others.length, () => {
        // A failure is counted, shown as `lastError`, and mqtt.js tries again.
        link.connect(url, () => this.beginReadings(link)).catch(() => undefined);
      });
    });
  }

  /** Stops the readings, waits a bounded time for acknowledgements, disconnects in order. Idempotent. */
  stop(): Promise<void> {
    this.stopping ??= this.end();
    return this.stopping;
  }

  private async end(): Promise<void> {
    this.schedule.close();
    const deadlineMs = performance.now() + DRAIN_TIMEOUT_MS;
    await Promise.all(this.links.map((link) => link.end(deadlineMs)));
  }

  private beginReadings(link: Link): void {
    const { sensor } = link;
    let dueMs = performance.now() + sensor.phaseMs() / this.speed;
    const read = (): void => {
      link.publish(sensor.read(Date.now()));
      dueMs = Math.max(dueMs + sensor.advance() / this.speed, performance.now() - MAX_BEHIND_MS);
      this.schedule.at(dueMs, read);
    };
    this.schedule.at(dueMs, read);
  }
}

/** The URL without its password. */
export function withoutPassword(url: string): string {
  return url.replace(/\/\/[^@/]*@/, "//");
}

function connectError(error: unknown, url: string): SluiceError {
  const code = (error as NodeJS.ErrnoException).code;
  const where = withoutPassword(url);
  const unreachable = (message: string, mend: string): SluiceError =>
    new SluiceError("UNREACHABLE", message, { mend, exitCode: 69, cause: error });
  if (code === "ECONNREFUSED") {
    return unreachable(
      `nothing listens at ${where}`,
      "start the gateway with `sluice up`, or name another broker: --to mqtt://host:port",
    );
  }
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") {
    return unreachable(`no host is known as ${new URL(url).hostname}`, "check the name given to --to");
  }
  // A CONNACK's return code (MQTT 3.1.1, 3.2.2.3) is a number.
  if (typeof code === "number") {
    return new SluiceError("REFUSED", `the broker at ${where} refused: ${messageOf(error)}`, {
      mend: "give a name and a password: --to mqtt://user:password@host:port",
      exitCode: 69,
      cause: error,
    });
  }
  return unreachable(`no MQTT answer from ${where}: ${messageOf(error)}`, "is it an MQTT listener?");
}
