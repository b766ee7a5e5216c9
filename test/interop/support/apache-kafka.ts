/**
 * Apache Kafka 4 itself, one node in KRaft mode, as its own start script would run it: started, killed, started
 * again on the same data. The measure, the rival, and the cluster behind an uplink.
 */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { Kafka, logLevel } from "kafkajs";
import { freePort } from "./gateway.ts";
import { java } from "./kafka-tools.ts";
import { Running } from "./process.ts";
import { tool } from "./tools.ts";

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
  /**
   * As far as one machine can show it: its files in memory instead of on the gateway's disk, and on one processor
   * only, where it yields to others. (Syncs take several times as long on a machine whose processors are all busy.)
   */
  readonly isElsewhere?: boolean;
}

export class ApacheKafka {
  readonly folder: string;
  readonly brokers: string;
  readonly dataDir: string;
  private readonly options: ApacheKafkaOptions;
  process: Running;

  private constructor(folder: string, port: number, options: ApacheKafkaOptions) {
    this.folder = folder;
    this.brokers = `127.0.0.1:${port}`;
    this.dataDir = join(folder, "data");
    this.options = options;
    this.process = this.spawn();
  }

  static async start(options: ApacheKafkaOptions = {}): Promise<ApacheKafka> {
    const folder = await mkdtemp(join(options.isElsewhere ? "/dev/shm" : tmpdir(), "apache-kafka-"));
    const [port, controller] = [await freePort(), await freePort()];
    const listeners: readonly Listener[] = [
      { name: "PLAINTEXT", port, protocol: "PLAINTEXT" },
      ...(options.listeners ?? []),
    ];
    const settings = {
      "process.roles": "broker,controller",
      "node.id": 0,
      "controller.quorum.voters": `0@127.0.0.1:${controller}`,
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
    const uuid = randomBytes(16).toString("base64url").replace(/^-/, "A");
    const format = ["format", "-t", uuid, "-c", file, ...(options.formatArgs ?? [])];
    await java("kafka.tools.StorageTool", format);
    const kafka = new ApacheKafka(folder, port, options);
    try {
      await kafka.ready();
      return kafka;
    } catch (error) {
      await kafka.close();
      throw error;
    }
  }

  private spawn(): Running {
    const { heap = "512m", isElsewhere = false } = this.options;
    const aside = ["taskset", "-c", String(cpus().length - 1), "nice", "-n", "15"];
    const [command, ...first] = [...(isElsewhere ? aside : []), tool("java")];
    return new Running(command as string, [
      ...first,
      // Those of kafka-server-start.sh.
      ...[`-Xmx${heap}`, `-Xms${heap}`, "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"],
      ...["-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"],
      ...["-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", join(tool("kafka's jars"), "*")],
      ...["kafka.Kafka", join(this.folder, "server.properties")],
    ]);
  }

  /** Clients are answered. */
  async ready(): Promise<void> {
    const admin = this.client().admin();
    await admin.connect();
    await admin.disconnect();
  }

  client(): Kafka {
    return new Kafka({
      brokers: [this.brokers],
      logLevel: logLevel.NOTHING,
      retry: { initialRetryTime: 200, retries: 60, multiplier: 1.1 },
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

  /** Nobody hears of it until `thaw`, after which it is as warm as before. */
  freeze(): void {
    process.kill(this.process.pid, "SIGSTOP");
  }

  thaw(): void {
    process.kill(this.process.pid, "SIGCONT");
  }

  async again(): Promise<void> {
    this.process = this.spawn();
    await this.ready();
  }

  async close(): Promise<void> {
    await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }
}
