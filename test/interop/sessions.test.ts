/**
 * QoS 2 from end to end through kill -9: mqtt.js publishers and subscribers that resend as the specification
 * says, and an auditor that counts.
 */
import mqtt, { type MqttClient } from "mqtt";
import { afterEach, describe, expect, test } from "vitest";
import { Gateway } from "./support/gateway.ts";
import { readAll } from "./support/kafka.ts";
import { connectMqtt } from "./support/mqtt.ts";
import { eventually } from "./support/process.ts";

const KILLS = 8;
const WINDOW = 20;

/** Publishes numbered messages with QoS 2, `WINDOW` at a time, until told to finish. */
class Publisher {
  readonly name: string;
  sent = 0;
  completed = 0;
  readonly client: MqttClient;
  private running = true;

  constructor(url: string, name: string) {
    this.name = name;
    this.client = mqtt.connect(url, {
      clientId: name,
      clean: false,
      reconnectPeriod: 20,
      connectTimeout: 2_000,
    });
    this.client.on("error", () => {}); // refused while the gateway is down
    this.client.once("connect", () => this.fill());
  }

  private fill(): void {
    while (this.running && this.sent - this.completed < WINDOW) this.publish(`${this.name}#${this.sent++}`);
  }

  private publish(payload: string): void {
    this.client.publish(`sensors/hall/${this.name}/temperature`, payload, { qos: 2 }, (error) => {
      if (error) {
        // What mqtt.js is given while it sends its store again, it forgets if that connection ends as well:
        // it has not been sent, and is the caller's to give again.
        if (!this.client.disconnecting) setImmediate(() => this.publish(payload));
        return;
      }
      this.completed++;
      setImmediate(() => this.fill());
    });
  }

  finish(): void {
    this.running = false;
  }

  get expected(): string[] {
    return Array.from({ length: this.sent }, (_, n) => `${this.name}#${n}`);
  }
}

describe("QoS 2 through kill -9", () => {
  const clients: MqttClient[] = [];
  let gateway: Gateway | undefined;

  afterEach(async () => {
    await Promise.allSettled(clients.splice(0).map((client) => client.endAsync(true)));
    await gateway?.dispose();
    gateway = undefined;
  });

  function subscribe(url: string, clientId: string, qos: 1 | 2): string[] {
    const got: string[] = [];
    const client = mqtt.connect(url, { clientId, clean: false, reconnectPeriod: 20, connectTimeout: 2_000 });
    client.on("error", () => {});
    client.on("message", (_topic, payload) => got.push(payload.toString()));
    client.subscribe("sensors/#", { qos });
    clients.push(client);
    return got;
  }

  /** For each publisher: its messages among these, in the order in which they came. */
  const byPublisher = (publishers: readonly Publisher[], values: readonly string[]) =>
    publishers.map(({ name }) => values.filter((value) => value.startsWith(`${name}#`)));

  test("every message is in its stream, and reaches every subscriber, exactly once and in order", async () => {
    gateway = await Gateway.start({
      streams: { telemetry: { partitions: 2 } },
      mappings: [{ from: "sensors/+site/+device/temperature", to: "telemetry", key: "$" + "{device}" }],
      mqtt: { maxQueued: 100_000 },
    });
    const { mqttUrl, brokers } = gateway;
    const away = await connectMqtt(mqttUrl, { clientId: "away", clean: false });
    await away.subscribeAsync("sensors/#", { qos: 2 });
    await away.endAsync();
    const live = [subscribe(mqttUrl, "live-1", 2), subscribe(mqttUrl, "live-2", 2)];
    const atLeastOnce = subscribe(mqttUrl, "at-least-once", 1);
    await eventually(() => clients.every(({ connected }) => connected), "subscribers");
    const publishers = ["a", "b", "c"].map((name) => new Publisher(mqttUrl, name));
    clients.push(...publishers.map(({ client }) => client));

    const completed = () => publishers.reduce((sum, publisher) => sum + publisher.completed, 0);
    for (let kill = 0; kill < KILLS; kill++) {
      const target = completed() + 100 + Math.floor(Math.random() * 400);
      await eventually(() => completed() >= target, `${target} completed before kill ${kill}`, 30_000);
      await gateway.kill();
      await gateway.again();
    }
    for (const publisher of publishers) publisher.finish();
    await eventually(
      () => publishers.every(({ sent, completed: done }) => sent === done),
      "all completed",
      30_000,
    );

    const expected = publishers.map((publisher) => publisher.expected);
    const total = expected.flat().length;
    await eventually(() => live.every((got) => got.length >= total), "all delivered", 30_000);
    const returned = subscribe(mqttUrl, "away", 2);
    await eventually(() => returned.length >= total, "the queue of the one that was away", 30_000);
    await eventually(() => new Set(atLeastOnce).size >= total, "all delivered at least once", 30_000);

    for (const got of [...live, returned]) expect(byPublisher(publishers, got)).toEqual(expected);
    expect(byPublisher(publishers, [...new Set(atLeastOnce)])).toEqual(expected);
    const records = (await readAll(brokers, "telemetry")).map(({ value }) => value ?? "");
    expect(byPublisher(publishers, records)).toEqual(expected);
    // Nothing comes late, either.
    await gateway.kill();
    await gateway.again();
    await eventually(() => clients.every(({ connected }) => connected), "everybody back");
    const last = await connectMqtt(mqttUrl, { clientId: "last" });
    clients.push(last);
    await last.publishAsync("sensors/end", "end", { qos: 2 });
    await eventually(() => [...live, returned].every((got) => got.at(-1) === "end"), "the end");
    for (const got of [...live, returned]) expect(got).toHaveLength(total + 1);
  }, 240_000);
});
