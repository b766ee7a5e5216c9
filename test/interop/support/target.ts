/**
 * Whom the Kafka judges judge: our gateway, or, with `INTEROP_TARGET=apache-kafka`, Apache Kafka itself. A
 * judge that Kafka does not pass is wrong; that is how they were made.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Kafka, logLevel } from "kafkajs";
import { freePort, Gateway } from "./gateway.ts";
import { Running, run } from "./process.ts";
import { javaArgs, tool } from "./tools.ts";

export interface Target {
  readonly brokers: string;
  close(): Promise<void>;
}

/** Streams by name, with their number of partitions. */
export type Streams = Readonly<Record<string, number>>;

export const judgingKafka = process.env.INTEROP_TARGET === "apache-kafka";

export async function startTarget(streams: Streams): Promise<Target> {
  if (judgingKafka) return startApacheKafka(streams);
  const gateway = await Gateway.start({
    streams: Object.fromEntries(Object.entries(streams).map(([name, partitions]) => [name, { partitions }])),
    mappings: [],
  });
  return { brokers: gateway.brokers, close: () => gateway.dispose() };
}

async function startApacheKafka(streams: Streams): Promise<Target> {
  const folder = await mkdtemp(join(tmpdir(), "apache-kafka-"));
  const [port, controller] = [await freePort(), await freePort()];
  const properties = join(folder, "server.properties");
  await writeFile(
    properties,
    [
      "process.roles=broker,controller",
      "node.id=1",
      `controller.quorum.voters=1@127.0.0.1:${controller}`,
      `listeners=PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller}`,
      `advertised.listeners=PLAINTEXT://127.0.0.1:${port}`,
      "controller.listener.names=CONTROLLER",
      "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
      `log.dirs=${join(folder, "data")}`,
      "offsets.topic.replication.factor=1",
      "offsets.topic.num.partitions=1",
      "transaction.state.log.replication.factor=1",
      "transaction.state.log.min.isr=1",
      "group.initial.rebalance.delay.ms=0",
    ].join("\n"),
  );
  const uuid = (await run(tool("java"), javaArgs("kafka.tools.StorageTool", ["random-uuid"]))).stdout.trim();
  await run(tool("java"), javaArgs("kafka.tools.StorageTool", ["format", "-t", uuid, "-c", properties]));
  const classPath = join(tool("kafka's jars"), "*");
  const kafka = new Running(tool("java"), ["-Xmx512m", "-cp", classPath, "kafka.Kafka", properties]);
  const admin = new Kafka({
    brokers: [`127.0.0.1:${port}`],
    logLevel: logLevel.NOTHING,
    retry: { initialRetryTime: 200, retries: 30, multiplier: 1.2 },
  }).admin();
  await admin.connect();
  await admin.createTopics({
    waitForLeaders: true,
    topics: Object.entries(streams).map(([topic, numPartitions]) => ({ topic, numPartitions })),
  });
  await admin.disconnect();
  return {
    brokers: `127.0.0.1:${port}`,
    close: async () => {
      await kafka.end("SIGKILL");
      await rm(folder, { recursive: true, force: true });
    },
  };
}
