/** Apache Kafka itself, one node in KRaft mode: started, killed, started again on the same data. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Kafka, logLevel } from "kafkajs";
import { accepts, freePort } from "./gateway.ts";
import { eventually, Running, run } from "./process.ts";
import { javaArgs, tool } from "./tools.ts";

export interface Listener {
  readonly name: string;
  readonly port: number;
  /** What clients are told, where it is not `port`: a proxy's, or a wrong one. */
  readonly advertised?: number;
  readonly protocol: "PLAINTEXT" | "SSL" | "SASL_PLAINTEXT" | "SASL_SSL";
}

export interface ApacheKafkaOptions {
  /** Besides the plain one that the auditors use. */
  readonly listeners?: readonly Listener[];
  readonly properties?: Readonly<Record<string, string | number>>;
  /** Arguments of `StorageTool format`, such as SCRAM users. */
  readonly formatArgs?: readonly string[];
  readonly heap?: string;
}

export class ApacheKafka {
  readonly folder: string;
  readonly brokers: string;
  private readonly port: number;
  private readonly heap: string;
  process: Running;

  private constructor(folder: string, port: number, heap: string) {
    this.folder = folder;
    this.port = port;
    this.brokers = `127.0.0.1:${port}`;
    this.heap = heap;
    this.process = this.spawn();
  }

  static async start(options: ApacheKafkaOptions = {}): Promise<ApacheKafka> {
    const folder = await mkdtemp(join(tmpdir(), "apache-kafka-"));
    const [port, controller] = [await freePort(), await freePort()];
    const listeners: readonly Listener[] = [
      { name: "PLAINTEXT", port, protocol: "PLAINTEXT" },
      ...(options.listeners ?? []),
    ];
    const settings = {
      "process.roles": "broker,controller",
      "node.id": 1,
      "controller.quorum.voters": `1@127.0.0.1:${controller}`,
      listeners: [
        ...listeners.map((one) => `${one.name}://127.0.0.1:${one.port}`),
        `CONTROLLER://127.0.0.1:${controller}`,
      ].join(),
      "advertised.listeners": listeners
        .map((one) => `${one.name}://127.0.0.1:${one.advertised ?? one.port}`)
        .join(),
      "controller.listener.names": "CONTROLLER",
      "inter.broker.listener.name": "PLAINTEXT",
      "listener.security.protocol.map": [
        "CONTROLLER:PLAINTEXT",
        ...listeners.map(({ name, protocol }) => `${name}:${protocol}`),
      ].join(),
      "log.dirs": join(folder, "data"),
      "offsets.topic.replication.factor": 1,
      "offsets.topic.num.partitions": 1,
      "transaction.state.log.replication.factor": 1,
      "transaction.state.log.min.isr": 1,
      "transaction.state.log.num.partitions": 3,
      "group.initial.rebalance.delay.ms": 0,
      ...options.properties,
    };
    const properties = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
    const file = join(folder, "server.properties");
    await writeFile(file, properties.join("\n"));
    const storage = (args: readonly string[]) => run(tool("java"), javaArgs("kafka.tools.StorageTool", args));
    const uuid = (await storage(["random-uuid"])).stdout.trim();
    await storage(["format", "-t", uuid, "-c", file, ...(options.formatArgs ?? [])]);
    const kafka = new ApacheKafka(folder, port, options.heap ?? "512m");
    await kafka.ready();
    return kafka;
  }

  private spawn(): Running {
    const classPath = join(tool("kafka's jars"), "*");
    const args = [`-Xmx${this.heap}`, "-XX:+UseSerialGC", "-cp", classPath, "kafka.Kafka"];
    return new Running(tool("java"), [...args, join(this.folder, "server.properties")]);
  }

  /** Clients are answered. */
  async ready(): Promise<void> {
    await eventually(() => accepts(this.port), "Kafka's port", 60_000);
  }

  client(): Kafka {
    return new Kafka({
      brokers: [this.brokers],
      logLevel: logLevel.NOTHING,
      retry: { initialRetryTime: 200, retries: 30, multiplier: 1.2 },
    });
  }

  async createTopics(topics: Readonly<Record<string, number>>): Promise<void> {
    const admin = this.client().admin();
    await admin.connect();
    await admin.createTopics({
      waitForLeaders: true,
      topics: Object.entries(topics).map(([topic, numPartitions]) => ({ topic, numPartitions })),
    });
    await admin.disconnect();
  }

  async kill(): Promise<void> {
    await this.process.end("SIGKILL");
  }

  async again(): Promise<void> {
    this.process = this.spawn();
    await this.ready();
  }

  async dispose(): Promise<void> {
    await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }
}
