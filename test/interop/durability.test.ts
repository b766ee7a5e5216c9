/** The one promise: what was acknowledged is there, whatever happens to the process. Read back over Kafka. */
import { afterEach, describe, expect, test } from "vitest";
import { Gateway } from "./support/gateway.ts";
import { kafkaClient, readEach } from "./support/kafka.ts";
import { killLoop, Tally } from "./support/kill-loop.ts";
import { NumberingSensor } from "./support/mqtt.ts";
import { eventually } from "./support/process.ts";
import { suite } from "./support/suite.ts";

suite("what was acknowledged", ["mosquitto_sub", "stdbuf"], () => {
  test("survives fifty kill -9 under load: 0 lost, 0 QoS 2 duplicates, 0 out of order, 0 changed", async () => {
    const { acknowledged, kills, ...broken } = await killLoop({ kills: 50 });
    for (const count of acknowledged) expect(count).toBeGreaterThan(100);
    expect(broken).toEqual({ lost: [], duplicates: [], disordered: [], changed: [] });
  }, 480_000);
});

describe("what was acknowledged", () => {
  let gateway: Gateway | undefined;
  let sensors: NumberingSensor[] = [];
  const start = async () => {
    gateway = await Gateway.start({
      streams: { telemetry: { partitions: 4 }, produced: { partitions: 1 } },
      mappings: [{ from: "sensors/+site/+device/temperature", to: "telemetry", key: "$" + "{device}" }],
    });
    return gateway;
  };
  const load = ({ mqttUrl }: Gateway, count: number, window: number) => {
    sensors = Array.from(
      { length: count },
      (_, index) => new NumberingSensor(mqttUrl, `sensor-${index}`, window),
    );
    return sensors;
  };
  const acknowledged = () => sensors.reduce((sum, sensor) => sum + sensor.acknowledged.size, 0);

  afterEach(async () => {
    await Promise.allSettled(sensors.map((sensor) => sensor.close()));
    await gateway?.dispose();
    gateway = undefined;
    sensors = [];
  });

  test("is all there after SIGTERM under load, which takes less than five seconds", async () => {
    const running = await start();
    load(running, 8, 50);
    await eventually(() => acknowledged() > 2_000, "load");
    const { code, elapsedMs } = await running.stop();
    expect(code).toBe(0);
    expect(elapsedMs).toBeLessThan(5_000);
    for (const sensor of sensors) sensor.finish();
    await running.again();
    await eventually(() => sensors.every(({ settled }) => settled), "every reading acknowledged");
    const tally = new Tally("telemetry");
    await readEach(running.brokers, "telemetry", ({ value }) => tally.take(value ?? ""));
    expect(sensors.flatMap((sensor) => tally.lostOf(sensor))).toEqual([]);
    expect(tally.disordered).toEqual([]);
  });

  test("includes committed offsets, through kill -9", async () => {
    const running = await start();
    const placed = async () => {
      const admin = kafkaClient(running.brokers).admin();
      await admin.connect();
      const [stream] = await admin.fetchOffsets({ groupId: "durable", topics: ["telemetry"] });
      await admin.disconnect();
      const sorted = stream?.partitions.toSorted((a, b) => a.partition - b.partition) ?? [];
      return sorted.map(({ offset, metadata }) => `${offset} ${metadata ?? ""}`.trim());
    };
    load(running, 8, 20);
    await eventually(() => acknowledged() > 400, "some records");
    for (const sensor of sensors) sensor.finish();
    const admin = kafkaClient(running.brokers).admin();
    await admin.connect();
    const partitions = [2, 3, 4, 5].map((offset, partition) => ({ partition, offset: String(offset) }));
    await admin.setOffsets({ groupId: "durable", topic: "telemetry", partitions });
    await admin.disconnect();
    for (let round = 0; round < 2; round++) {
      await running.kill();
      await running.again();
      expect(await placed()).toEqual(["2", "3", "4", "5"]);
    }
  });

  test("includes streams that a client made, and deletions", async () => {
    const running = await start();
    const admin = kafkaClient(running.brokers).admin();
    await admin.connect();
    await admin.createTopics({ topics: ["kept", "dropped"].map((topic) => ({ topic, numPartitions: 3 })) });
    await admin.deleteTopics({ topics: ["dropped"] });
    await admin.disconnect();
    await running.kill();
    await running.again();
    const later = kafkaClient(running.brokers).admin();
    await later.connect();
    const names = await later.listTopics();
    const { topics } = await later.fetchTopicMetadata({ topics: ["kept"] });
    await later.disconnect();
    expect(names).toContain("kept");
    expect(names).not.toContain("dropped");
    expect(topics[0]?.partitions).toHaveLength(3);
  });
});
