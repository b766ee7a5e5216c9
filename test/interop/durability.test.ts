/** The one promise: what was acknowledged is there, whatever happens to the process. Read back over Kafka. */
import { afterEach, describe, expect, test } from "vitest";
import { Gateway } from "./support/gateway.ts";
import { byPartition, kafkaClient, type ReadRecord, readAll } from "./support/kafka.ts";
import { NumberingSensor } from "./support/mqtt.ts";
import { eventually } from "./support/process.ts";

/** For each sensor: readings acknowledged but not recorded, and first occurrences out of order. */
function audit(sensors: readonly NumberingSensor[], records: readonly ReadRecord[]) {
  const first = new Map(sensors.map(({ name }) => [name, [] as number[]]));
  const seen = new Map(sensors.map(({ name }) => [name, new Set<number>()]));
  let duplicates = 0;
  for (const list of byPartition(records).values()) {
    for (const { key, value } of list) {
      const { sensor, number } = JSON.parse(value ?? "{}");
      expect(key).toBe(sensor);
      if (seen.get(sensor)?.has(number)) duplicates++;
      else first.get(sensor)?.push(number);
      seen.get(sensor)?.add(number);
    }
  }
  const lost = sensors.flatMap(({ name, acknowledged }) =>
    [...acknowledged].filter((number) => !seen.get(name)?.has(number)).map((number) => `${name}#${number}`),
  );
  const disordered = [...first].flatMap(([name, numbers]) =>
    numbers.flatMap((number, index) =>
      index > 0 && number < (numbers[index - 1] as number)
        ? [`${name}#${number} after #${numbers[index - 1]}`]
        : [],
    ),
  );
  return { lost, disordered, duplicates, recorded: records.length };
}

/** A kafkajs producer that sends one numbered record after the other, and remembers the acknowledged ones. */
async function produceUntil(stopped: () => boolean, brokers: string, acknowledged: string[]): Promise<void> {
  const kafka = kafkaClient(brokers, { retry: { initialRetryTime: 50, maxRetryTime: 200, retries: 1_000 } });
  const producer = kafka.producer({ allowAutoTopicCreation: false });
  await producer.connect();
  for (let number = 0; !stopped(); number++) {
    const value = `p${number}`;
    try {
      await producer.send({ topic: "produced", acks: -1, timeout: 5_000, messages: [{ value }] });
      acknowledged.push(value);
    } catch {
      // Not acknowledged, so nothing was promised.
    }
  }
  await producer.disconnect();
}

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

  test("survives twenty kill -9 under load, over MQTT and over Kafka, each sensor in order", async () => {
    const running = await start();
    load(running, 8, 20);
    const produced: string[] = [];
    let stopped = false;
    const producing = produceUntil(() => stopped, running.brokers, produced);
    try {
      for (let round = 0; round < 20; round++) {
        // Far enough to have connected again, and not always equally far.
        const target = acknowledged() + 400 + Math.floor(Math.random() * 1_500);
        await eventually(() => acknowledged() >= target, `${target} acknowledgements in round ${round}`);
        await running.kill();
        await running.again();
      }
      const last = produced.length;
      await eventually(() => produced.length > last, "the producer's last acknowledgement");
    } finally {
      stopped = true;
      for (const sensor of sensors) sensor.finish();
    }
    await producing;
    await eventually(() => sensors.every(({ settled }) => settled), "every reading acknowledged");
    const { lost, disordered, recorded } = audit(sensors, await readAll(running.brokers, "telemetry"));
    expect(recorded).toBeGreaterThanOrEqual(acknowledged());
    expect({ lost, disordered }).toEqual({ lost: [], disordered: [] });
    const values = new Set((await readAll(running.brokers, "produced")).map(({ value }) => value));
    expect(produced.filter((value) => !values.has(value))).toEqual([]);
  }, 240_000);

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
    const { lost, disordered } = audit(sensors, await readAll(running.brokers, "telemetry"));
    expect({ lost, disordered }).toEqual({ lost: [], disordered: [] });
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
