import { mkdtemp, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type EachMessagePayload, Kafka, logLevel } from "kafkajs";
import { connect, connectAsync } from "mqtt";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { parseConfig } from "../src/config/load.ts";
import type { Config } from "../src/config/schema.ts";
import { Gateway } from "../src/gateway.ts";
import { StreamStore } from "../src/log/stream-store.ts";
import { createLogger } from "../src/logger.ts";

let folder: string;
const gateways: Gateway[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "sluice-gateway-"));
});
afterEach(async () => {
  for (const gateway of gateways.splice(0)) await gateway.close();
  await rm(folder, { recursive: true, force: true });
});

function configured(overrides: Record<string, string> = {}): Config {
  const yaml = `version: 1
mqtt: { listeners: [{ type: tcp, bind: "127.0.0.1:0" }] }
streams: { telemetry: { partitions: 2 }, rest: {} }
mappings:
  - { from: sensors/+site/+device, to: telemetry, key: "\${device}", headers: { site: "\${site}" } }
kafka: { bind: "127.0.0.1:0" }
`;
  const env = { SLUICE_DATA_DIR: join(folder, "data"), ...overrides };
  return parseConfig(yaml, "g.yaml", { env }).config;
}

function gatewayOf(config: Config): Gateway {
  const gateway = new Gateway(config, createLogger("silent"));
  gateways.push(gateway);
  return gateway;
}

/** Publishes with QoS 1; resolves when all are acknowledged. */
async function publish(port: number, messages: readonly (readonly [string, string])[]): Promise<void> {
  const client = await connectAsync(`mqtt://127.0.0.1:${port}`);
  await Promise.all(
    messages.map(([mqttTopic, payload]) => client.publishAsync(mqttTopic, payload, { qos: 1 })),
  );
  await client.endAsync();
}

/** The first `count` records of a stream, as text. */
async function consume(port: number, stream: string, count: number): Promise<string[]> {
  const kafka = new Kafka({ brokers: [`127.0.0.1:${port}`], logLevel: logLevel.NOTHING });
  const consumer = kafka.consumer({ groupId: "test", maxWaitTimeInMs: 100 });
  await consumer.connect();
  await consumer.subscribe({ topic: stream, fromBeginning: true });
  const records: string[] = [];
  await new Promise<void>((resolve, reject) => {
    const eachMessage = async ({ message }: EachMessagePayload) => {
      records.push(`${message.key}=${message.value} at ${message.headers?.site}`);
      if (records.length === count) resolve();
    };
    consumer.run({ eachMessage }).catch(reject);
  });
  await consumer.disconnect();
  return records.sort();
}

test("what sensors publish over MQTT, subscribers read over Kafka, also after a restart", async () => {
  const first = gatewayOf(configured());
  const { mqtt } = await first.start();
  await publish(mqtt[0]?.port as number, [
    ["sensors/north/t1", "1"],
    ["sensors/south/t2", "2"],
    ["sensors/north/t3", "3"],
  ]);
  expect(first.stats.ingest).toMatchObject({ stored: 3, droppedUnmatched: 0 });
  await first.close();

  const { kafka } = await gatewayOf(configured()).start();
  expect(await consume(kafka.port, "telemetry", 3)).toEqual([
    "t1=1 at north",
    "t2=2 at south",
    "t3=3 at north",
  ]);
});

test("what no mapping matches is counted as dropped, or kept on the fallback stream", async () => {
  const dropping = gatewayOf(configured());
  const { mqtt } = await dropping.start();
  await publish(mqtt[0]?.port as number, [["elsewhere", "x"]]);
  expect(dropping.stats.ingest).toMatchObject({ stored: 0, droppedUnmatched: 1 });
  await dropping.close();

  const keeping = gatewayOf(configured({ SLUICE_FALLBACK: "rest" }));
  const addresses = await keeping.start();
  await publish(addresses.mqtt[0]?.port as number, [["elsewhere", "x"]]);
  expect(keeping.stats.ingest).toMatchObject({ stored: 1, droppedUnmatched: 0 });
});

test("streams follow the configuration: more partitions are added, fewer are refused", async () => {
  const first = gatewayOf(configured());
  await first.start();
  await first.close();
  const grown = gatewayOf(configured({ SLUICE_STREAMS__TELEMETRY__PARTITIONS: "5" }));
  const { kafka } = await grown.start();
  const admin = new Kafka({ brokers: [`127.0.0.1:${kafka.port}`], logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  expect(await admin.fetchTopicOffsets("telemetry")).toHaveLength(5);
  await admin.disconnect();
  await grown.close();
  await expect(gatewayOf(configured()).start()).rejects.toMatchObject({
    exitCode: 78,
    message: expect.stringContaining("streams.telemetry.partitions is 2, but the stream has 5"),
  });
});

test("a second gateway on the same data folder is refused, and the first one lives on", async () => {
  const first = gatewayOf(configured());
  const { mqtt } = await first.start();
  await expect(gatewayOf(configured()).start()).rejects.toThrow(
    /another gateway is running on the data folder/,
  );
  await publish(mqtt[0]?.port as number, [["sensors/north/t1", "1"]]);
  expect(first.stats.ingest.stored).toBe(1);
});

test("a port in use is named with its setting, and what had started is closed again", async () => {
  const taken: Server = createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  try {
    const bind = `127.0.0.1:${(taken.address() as AddressInfo).port}`;
    await expect(gatewayOf(configured({ SLUICE_KAFKA__BIND: bind })).start()).rejects.toMatchObject({
      code: "PORT_IN_USE",
      mend: expect.stringContaining("kafka.bind"),
    });
    await expect(
      gatewayOf(configured({ SLUICE_MQTT__LISTENERS__0__BIND: bind })).start(),
    ).rejects.toMatchObject({ exitCode: 69, mend: expect.stringContaining("mqtt.listeners") });
    // The data folder is free again.
    await gatewayOf(configured()).start();
  } finally {
    taken.close();
  }
});

test("closing while it starts leaves nothing running", async () => {
  const gateway = gatewayOf(configured());
  const starting = gateway.start();
  await Promise.all([gateway.close(), expect(starting).rejects.toMatchObject({ code: "STOPPED" })]);
  await gatewayOf(configured()).start();
});

test("what a Kafka client writes on a stream reaches a device that was offline, after a restart too", async () => {
  const downlinks = '[{ from: commands, to: "d/${key}", qos: 2, retain: true }]';
  const config = () =>
    configured({ SLUICE_STREAMS: "{ telemetry:, commands: }", SLUICE_DOWNLINKS: downlinks });
  const first = gatewayOf(config());
  const { mqtt, kafka } = await first.start();
  const device = { clientId: "lamp", clean: false };
  const before = await connectAsync(`mqtt://127.0.0.1:${mqtt[0]?.port}`, device);
  await before.subscribeAsync("d/lamp", { qos: 2 });
  await before.endAsync();
  const producer = new Kafka({ brokers: [`127.0.0.1:${kafka.port}`], logLevel: logLevel.NOTHING }).producer();
  await producer.connect();
  await producer.send({
    topic: "commands",
    messages: ["on", "off"].map((value) => ({ key: "lamp", value })),
  });
  await producer.disconnect();
  await expect.poll(() => first.stats.downlinks.sent).toBe(2);
  await first.close();

  const second = gatewayOf(config());
  const port = (await second.start()).mqtt[0]?.port;
  const got: string[] = [];
  const again = connect(`mqtt://127.0.0.1:${port}`, device);
  again.on("message", (mqttTopic, payload) => void got.push(`${mqttTopic} ${payload}`));
  await expect.poll(() => got).toEqual(["d/lamp on", "d/lamp off"]);
  await again.endAsync();
});

test("a start that takes long says every two seconds what it is at", async () => {
  const said: unknown[][] = [];
  const logger = createLogger("silent");
  logger.info = (...line: unknown[]) => said.push(line);
  const start = StreamStore.prototype.start;
  let goOn = (): void => {};
  const held = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  const slow = vi.spyOn(StreamStore.prototype, "start").mockImplementation(async function (
    this: StreamStore,
  ) {
    this.progress = "reading the journal";
    await held;
    await start.call(this);
  });
  vi.useFakeTimers({ toFake: ["setInterval"] });
  onTestFinished(() => {
    slow.mockRestore();
    vi.useRealTimers();
  });
  const gateway = new Gateway(configured(), logger);
  gateways.push(gateway);
  const starting = gateway.start();
  while (slow.mock.calls.length === 0) await new Promise((resolve) => setImmediate(resolve));
  expect(said).toEqual([]);
  vi.advanceTimersByTime(4_000);
  const lines = said.map(([, line]) => line);
  expect(lines).toEqual(["still starting: reading the journal", "still starting: reading the journal"]);
  vi.useRealTimers();
  goOn();
  await starting;
  expect(said.filter(([, line]) => String(line).startsWith("still"))).toHaveLength(2);
});
