/** Apache Kafka 4 itself, one node in KRaft mode, as its own start script would run it: the measure, and the rival. */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Kafka, logLevel } from "kafkajs";
import { freePort } from "./gateway.ts";
import { java } from "./kafka-tools.ts";
import { Running } from "./process.ts";
import { tool } from "./tools.ts";

export interface KafkaOptions {
  readonly heap?: string;
  /** Further lines of server.properties. */
  readonly properties?: Readonly<Record<string, string | number>>;
}

export class ApacheKafka {
  readonly brokers: string;
  readonly dataDir: string;
  readonly process: Running;
  private readonly folder: string;

  private constructor(folder: string, port: number, process: Running) {
    this.folder = folder;
    this.dataDir = join(folder, "data");
    this.brokers = `127.0.0.1:${port}`;
    this.process = process;
  }

  /** Resolves when it serves its first topics. */
  static async start({ heap = "512m", properties = {} }: KafkaOptions = {}): Promise<ApacheKafka> {
    const folder = await mkdtemp(join(tmpdir(), "apache-kafka-"));
    const [port, controller] = [await freePort(), await freePort()];
    const settings = {
      "process.roles": "broker,controller",
      "node.id": 0,
      "controller.quorum.voters": `0@127.0.0.1:${controller}`,
      listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller}`,
      "advertised.listeners": `PLAINTEXT://127.0.0.1:${port}`,
      "controller.listener.names": "CONTROLLER",
      "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
      "log.dirs": join(folder, "data"),
      "offsets.topic.replication.factor": 1,
      "offsets.topic.num.partitions": 1,
      "transaction.state.log.replication.factor": 1,
      "transaction.state.log.min.isr": 1,
      "group.initial.rebalance.delay.ms": 0,
      ...properties,
    };
    const file = join(folder, "server.properties");
    const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
    await writeFile(file, lines.join("\n"));
    const uuid = randomBytes(16).toString("base64url").replace(/^-/, "A");
    await java("kafka.tools.StorageTool", ["format", "-t", uuid, "-c", file]);
    const running = new Running(tool("java"), [
      // Those of kafka-server-start.sh.
      ...[`-Xmx${heap}`, `-Xms${heap}`, "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"],
      ...["-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"],
      ...["-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", join(tool("kafka's jars"), "*")],
      ...["kafka.Kafka", file],
    ]);
    const kafka = new ApacheKafka(folder, port, running);
    try {
      const admin = new Kafka({
        brokers: [kafka.brokers],
        logLevel: logLevel.NOTHING,
        retry: { initialRetryTime: 200, retries: 60, multiplier: 1.1 },
      }).admin();
      await admin.connect();
      await admin.disconnect();
      return kafka;
    } catch (error) {
      await kafka.close();
      throw error;
    }
  }

  async createTopics(partitions: Readonly<Record<string, number>>): Promise<void> {
    const admin = new Kafka({ brokers: [this.brokers], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    await admin.createTopics({
      waitForLeaders: true,
      topics: Object.entries(partitions).map(([topic, numPartitions]) => ({ topic, numPartitions })),
    });
    await admin.disconnect();
  }

  async close(): Promise<void> {
    await this.process.end("SIGKILL");
    await rm(this.folder, { recursive: true, force: true });
  }
}
