/**
 * One sensor's connection: a real MQTT client that publishes, loses its network, comes back.
 *
 * QoS 1 and 2 messages stay in the client's memory until they are acknowledged and are sent again after a
 * reconnect (MQTT 3.1.1, 4.4); so none is lost while the process lives. At most `profile.keep` are under way.
 */
import mqtt, { type IClientOptions, type MqttClient } from "mqtt";
import { within } from "../clock.ts";
import { Histogram } from "../histogram.ts";
import type { Random } from "./random.ts";
import type { Schedule } from "./schedule.ts";
import type { Message, Sensor } from "./sensor.ts";

/** What a fleet counts, all devices together. Only links write it. */
export class Counters {
  connected = 0;
  /** Readings handed to a connection (state messages are not counted). */
  published = 0;
  /** Of those with QoS 1 or 2. */
  acknowledged = 0;
  /** Readings not sent: no connection and QoS 0, or `keep` of them unacknowledged already. */
  skipped = 0;
  /** QoS 1 and 2 readings that are not acknowledged (yet). */
  unacknowledged = 0;
  reconnects = 0;
  /** From PUBLISH to its acknowledgement within one connection, milliseconds. */
  readonly ackMs = new Histogram();
  lastError: Error | undefined;
}

const CONNECT_TIMEOUT_MS = 10_000;
const RECONNECT_MIN_MS = 1_000;
const END_TIMEOUT_MS = 2_000;

export class Link {
  readonly sensor: Sensor;
  private readonly counters: Counters;
  private readonly schedule: Schedule;
  private readonly reconnectMs: number;
  private client: MqttClient | undefined;
  /** How often it was connected; tells an acknowledgement of this connection from one of an earlier. */
  private connections = 0;
  private isConnected = false;
  private underWay = 0;
  private onIdle: (() => void) | undefined;

  constructor(sensor: Sensor, counters: Counters, schedule: Schedule, spread: Random) {
    this.sensor = sensor;
    this.counters = counters;
    this.schedule = schedule;
    // Devices that lost one broker together must not all come back in the same instant.
    this.reconnectMs = RECONNECT_MIN_MS * (1 + spread());
  }

  /**
   * Calls `onFirst` at the first connection, whenever that is. Resolves with it too, but rejects with the first
   * failure; it tries on by itself either way.
   */
  connect(url: string, onFirst: () => void): Promise<void> {
    const { identity, profile, will } = this.sensor;
    const options: IClientOptions = {
      clientId: identity.device,
      clean: profile.session === "clean",
      reconnectPeriod: this.reconnectMs,
      connectTimeout: CONNECT_TIMEOUT_MS,
      queueQoSZero: false,
      resubscribe: false,
    };
    // mqtt.js calls the will's MQTT topic by its wire name.
    if (will !== undefined) options.will = { topic: will.mqttTopic, ...will };
    const client = mqtt.connect(url, options);
    this.client = client;
    client.once("connect", onFirst);
    client.on("connect", () => this.connectedTo(client));
    client.on("close", () => this.lost());
    return new Promise((resolve, reject) => {
      client.once("connect", () => resolve());
      client.once("end", () => reject(new Error("stopped")));
      client.on("error", (error) => {
        this.counters.lastError = error;
        reject(error);
      });
    });
  }

  /** Sends one reading, or skips it where there is no room or, for QoS 0, no connection. */
  publish(message: Message): void {
    const { counters, client } = this;
    const sendable = client !== undefined && (message.qos > 0 || client.connected);
    if (!sendable || this.underWay >= this.sensor.profile.keep) {
      counters.skipped++;
      return;
    }
    counters.published++;
    this.underWay++;
    const { qos } = message;
    if (qos > 0) counters.unacknowledged++;
    const connection = this.connections;
    const sentMs = performance.now();
    client.publish(message.mqttTopic, message.payload, { qos, retain: message.retain }, (error) => {
      this.underWay--;
      if (qos > 0 && !error) {
        counters.acknowledged++;
        counters.unacknowledged--;
        if (connection === this.connections) counters.ackMs.record(performance.now() - sentMs);
      }
      if (this.underWay === 0) this.onIdle?.();
    });
  }

  /** Waits for what is under way until the deadline (`performance.now()`), says goodbye, disconnects. */
  async end(deadlineMs: number): Promise<void> {
    const { client } = this;
    if (client === undefined) return;
    if (this.underWay > 0) {
      const idle = new Promise<void>((resolve) => {
        this.onIdle = resolve;
      });
      // One that is in a dropout comes back at once, to hand over what it still holds.
      if (!client.connected) {
        const { incomingStore, outgoingStore } = client;
        client.reconnect({ incomingStore, outgoingStore });
      }
      await within(idle, deadlineMs - performance.now());
    }
    if (client.connected) {
      const { offline } = this.sensor;
      // An orderly DISCONNECT discards the will (MQTT 3.1.1, 3.14.4): what it says must be said.
      if (offline !== undefined) client.publish(offline.mqttTopic, offline.payload, offline);
      await within(client.endAsync(), END_TIMEOUT_MS);
    }
    client.end(true);
    // `end` does nothing while an orderly end is still waiting for a broker that is silent.
    client.stream.destroy();
  }

  private connectedTo(client: MqttClient): void {
    client.options.reconnectPeriod = this.reconnectMs;
    this.isConnected = true;
    this.counters.connected++;
    if (this.connections++ > 0) this.counters.reconnects++;
    const { online } = this.sensor;
    if (online !== undefined) client.publish(online.mqttTopic, online.payload, online);
    const dropout = this.sensor.nextDropout();
    if (dropout === undefined) return;
    const connection = this.connections;
    this.schedule.at(performance.now() + dropout.upMs, () => {
      if (this.isConnected && connection === this.connections) this.drop(client, dropout.downMs);
    });
  }

  /** As when the power goes: the socket is gone without a DISCONNECT, and the broker says the will. */
  private drop(client: MqttClient, downMs: number): void {
    client.options.reconnectPeriod = Math.max(1, Math.min(downMs, 0x7fff_ffff));
    client.stream.destroy();
  }

  private lost(): void {
    if (!this.isConnected) return;
    this.isConnected = false;
    this.counters.connected--;
  }
}
