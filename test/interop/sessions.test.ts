/**
 * QoS 2 from end to end through kill -9: mqtt.js publishers and subscribers that resend as the specification
 * says, and an auditor that counts.
 */
import mqtt, { type MqttClient } from "mqtt";
import { afterEach, describe, expect, test } from "vitest";
import { Gateway } from "./support/gateway.ts";
import { readAll } from "./support/kafka.ts";
import { connectMqtt, NumberingSensor, readingOf } from "./support/mqtt.ts";
import { eventually } from "./support/process.ts";

const KILLS = 8;
const WINDOW = 20;

describe("QoS 2 through kill -9", () => {
  const clients: MqttClient[] = [];
  let publishers: NumberingSensor[] = [];
  let gateway: Gateway | undefined;

  afterEach(async () => {
    await Promise.allSettled(publishers.map((publisher) => publisher.close()));
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
  const byPublisher = (values: readonly string[]) =>
    publishers.map(({ name }) => values.filter((value) => value.startsWith(`{"sensor":"${name}"`)));

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
    publishers = ["a", "b", "c"].map((name) => new NumberingSensor(mqttUrl, name, WINDOW, { qos: 2 }));

    const completed = () => publishers.reduce((sum, { acknowledged }) => sum + acknowledged.size, 0);
    for (let kill = 0; kill < KILLS; kill++) {
      const target = completed() + 100 + Math.floor(Math.random() * 400);
      await eventually(() => completed() >= target, `${target} completed before kill ${kill}`, 30_000);
      await gateway.kill();
      await gateway.again();
    }
    for (const publisher of publishers) publisher.finish();
    await eventually(() => publishers.every(({ settled }) => settled), "all completed", 30_000);

    const expected = publishers.map(({ name, sent }) =>
      Array.from({ length: sent }, (_, number) => readingOf(name, number)),
    );
    const total = expected.flat().length;
    await eventually(() => live.every((got) => got.length >= total), "all delivered", 30_000);
    const returned = subscribe(mqttUrl, "away", 2);
    await eventually(() => returned.length >= total, "the queue of the one that was away", 30_000);
    await eventually(() => new Set(atLeastOnce).size >= total, "all delivered at least once", 30_000);

    for (const got of [...live, returned]) expect(byPublisher(got)).toEqual(expected);
    expect(byPublisher([...new Set(atLeastOnce)])).toEqual(expected);
    const records = (await readAll(brokers, "telemetry")).map(({ value }) => value ?? "");
    expect(byPublisher(records)).toEqual(expected);
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
