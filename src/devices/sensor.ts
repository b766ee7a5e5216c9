/**
 * One device without its connection: what it measures and says, reading after reading. From the same profile,
 * seed and name come the same readings, whatever the network does and however fast they are asked for; only
 * `${ts}` and `${time}` show the real clock.
 */
import { Template } from "../mapping/template.ts";
import { compilePayload, type PayloadWriter } from "./payload.ts";
import { exponential, noise, type Random, randomOf } from "./random.ts";
import { DEVICE_NAMES, type Profile, READING_NAMES } from "./schema.ts";
import { type Model, modelOf, type Value } from "./values.ts";

export interface Message {
  readonly mqttTopic: string;
  readonly payload: Buffer;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
}

export interface Identity {
  /** Unique in its fleet; the MQTT client id too. */
  readonly device: string;
  readonly site: string;
  /** Which one of its kind, from 1. */
  readonly n: number;
}

export class Sensor {
  readonly identity: Identity;
  readonly profile: Profile;
  /** What the broker shall say when the connection is lost. */
  readonly will: Message | undefined;
  /** Retained, at connecting and before disconnecting. */
  readonly online: Message | undefined;
  readonly offline: Message | undefined;
  /** What templates see: who it is, and the newest reading. */
  private readonly scope: Map<string, unknown>;
  private readonly models: readonly (readonly [string, Model])[];
  private readonly mqttTopic: Template;
  private readonly payload: PayloadWriter;
  private readonly schedule: Random;
  private readonly network: Random;
  private clockMs: number;
  private elapsedMs = 0;
  private seq = 0;
  private leftInBurst: number;

  /** `clockMs`: the device's clock at the start, milliseconds since midnight. */
  constructor(profile: Profile, identity: Identity, seed: number, clockMs: number) {
    this.profile = profile;
    this.identity = identity;
    this.scope = new Map<string, unknown>([...Object.entries(identity), ["profile", profile.profile]]);
    this.models = Object.entries(profile.values).map(([name, spec]) => [
      name,
      modelOf(spec, randomOf(seed, identity.device, "value", name)),
    ]);
    const names = [...Object.keys(profile.values), ...READING_NAMES];
    this.mqttTopic = Template.parse(profile.mqttTopic, names);
    this.payload = compilePayload(profile.payload, names);
    this.schedule = randomOf(seed, identity.device, "schedule");
    this.network = randomOf(seed, identity.device, "network");
    this.clockMs = clockMs;
    this.leftInBurst = (profile.burst?.readings ?? 1) - 1;
    const { state, will } = profile;
    this.online = state && this.fixed({ ...state, payload: state.online, retain: true });
    this.offline = state && this.fixed({ ...state, payload: state.offline, retain: true });
    this.will = will === undefined ? this.offline : this.fixed(will);
  }

  /** The next reading; `nowMs` is the real time, for `${ts}` and `${time}`. */
  read(nowMs: number): Message {
    const values: Record<string, Value> = {};
    const reading = { clockMs: this.clockMs, elapsedMs: this.elapsedMs, values };
    const { scope } = this;
    for (const [name, model] of this.models) {
      const value = model(reading);
      values[name] = value;
      scope.set(name, value);
    }
    scope.set("seq", ++this.seq);
    scope.set("ts", Math.round(nowMs));
    scope.set("time", new Date(nowMs).toISOString());
    const { qos, retain } = this.profile;
    return { mqttTopic: this.mqttTopic.renderText(scope), payload: this.payload(scope), qos, retain };
  }

  /** Moves the device's clock to its next reading; how far, in milliseconds. */
  advance(): number {
    this.elapsedMs = this.gapMs();
    this.clockMs += this.elapsedMs;
    return this.elapsedMs;
  }

  /** How long after connecting the first reading comes: a fleet does not speak in chorus. */
  phaseMs(): number {
    return this.schedule() * this.profile.every;
  }

  /** How long the connection holds, and how long it then stays away; undefined for one that just holds. */
  nextDropout(): { upMs: number; downMs: number } | undefined {
    const { dropouts } = this.profile;
    if (dropouts === undefined) return undefined;
    return { upMs: exponential(this.network, dropouts.up), downMs: exponential(this.network, dropouts.down) };
  }

  /** Readings a second, on average, by the device's clock. */
  get ratePerSecond(): number {
    const { every, burst } = this.profile;
    if (burst === undefined) return 1_000 / every;
    return (1_000 * burst.readings) / (every + (burst.readings - 1) * burst.apart);
  }

  private gapMs(): number {
    const { every, jitter, spacing, burst } = this.profile;
    if (burst !== undefined) {
      if (this.leftInBurst > 0) {
        this.leftInBurst--;
        return burst.apart;
      }
      this.leftInBurst = burst.readings - 1;
    }
    return spacing === "poisson"
      ? exponential(this.schedule, every)
      : every * (1 + jitter * noise(this.schedule));
  }

  private fixed(given: { mqttTopic: string; payload: string; qos: 0 | 1 | 2; retain: boolean }): Message {
    return {
      mqttTopic: Template.parse(given.mqttTopic, DEVICE_NAMES).renderText(this.scope),
      payload: Buffer.from(Template.parse(given.payload, DEVICE_NAMES).renderText(this.scope)),
      qos: given.qos,
      retain: given.retain,
    };
  }
}
