/**
 * The composition root, the only file that knows everybody. It reads as the way of the data:
 *
 *     MQTT broker → ingest (mapper) → log → Kafka server (groups) → subscribers
 *
 * What is downstream starts first and stops last: nothing is accepted before it can be kept, and whatever
 * was accepted is committed and acknowledged before the log closes.
 */
import { resolve } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { CONFIG_EXIT_CODE } from "./config/problems.ts";
import type { Address, Config, StreamConfig } from "./config/schema.ts";
import { ControlServer } from "./control/server.ts";
import { messageOf, SluiceError } from "./errors.ts";
import { GroupCoordinator } from "./groups/coordinator.ts";
import { KafkaServer, type KafkaServerStats } from "./kafka/server.ts";
import type { StreamSettings } from "./log/log.ts";
import { DEFAULT_SETTINGS } from "./log/stream-state.ts";
import { StreamStore } from "./log/stream-store.ts";
import type { Logger } from "./logger.ts";
import { Mapper } from "./mapping/mapper.ts";
import { MqttBroker, type MqttStats } from "./mqtt/broker.ts";
import { Ingest, type IngestStats } from "./mqtt/ingest.ts";

/** Where the gateway is reached, with the ports that it really has. */
export interface GatewayAddresses {
  readonly mqtt: readonly Address[];
  readonly kafka: Address;
}

/** Counters since the start, and what is open now. */
export interface GatewayStats {
  readonly log: StreamStore["stats"];
  readonly ingest: IngestStats;
  readonly mqtt: MqttStats;
  readonly kafka: KafkaServerStats | undefined;
}

/** What `GET /status` of the data folder's socket says; what is not there yet while it starts is left out. */
export interface GatewayStatus {
  readonly name: string;
  readonly pid: number;
  readonly state: "starting" | "running" | "stopping";
  readonly upMs: number;
  readonly memoryBytes: number;
  readonly dataDir: string;
  readonly addresses?: GatewayAddresses | undefined;
  readonly stats?: GatewayStats;
}

interface Startable {
  start(): Promise<void>;
  close(): Promise<void>;
}

export class Gateway {
  private readonly config: Config;
  private readonly logger: Logger;
  private readonly control: ControlServer;
  private readonly log: StreamStore;
  private readonly groups: GroupCoordinator;
  private readonly ingest: Ingest;
  private readonly broker: MqttBroker;
  private kafka: KafkaServer | undefined;
  /** What runs, in the order in which it was started. */
  private readonly running: { readonly name: string; readonly part: Startable }[] = [];
  private starting: Promise<GatewayAddresses> | undefined;
  private closing: Promise<void> | undefined;
  private addresses: GatewayAddresses | undefined;

  constructor(config: Config, logger: Logger) {
    this.config = config;
    this.logger = logger;
    const { dataDir, mqtt, fallback, kafka } = config;
    this.control = new ControlServer(logger);
    this.log = new StreamStore({ dataDir, logger, onVisitor: this.control.accept });
    this.groups = new GroupCoordinator(this.log, {}, logger);
    const mapper = new Mapper(config.mappings, (name) => this.log.stream(name)?.partitions.length ?? 0);
    this.ingest = new Ingest(mapper, this.log, logger, {
      fallbackStream: fallback,
      autoCreate: kafka.autoCreate,
    });
    this.broker = new MqttBroker(
      {
        listeners: mqtt.listeners.map(({ bind }) => bind),
        limits: {
          maxPacketBytes: mqtt.maxPacket,
          maxConnections: mqtt.maxConnections,
          maxInFlight: mqtt.maxInFlight,
          connectTimeoutMs: mqtt.connectTimeout,
          drainTimeoutMs: mqtt.drainTimeout,
          maxQueuedMessages: mqtt.maxQueued,
          maxQueuedBytes: mqtt.maxQueuedBytes,
          maxQueuedMessagesInAll: mqtt.maxQueuedInAll,
          maxQueuedBytesInAll: mqtt.maxQueuedBytesInAll,
          whenQueueFull: mqtt.whenQueueFull,
          maxSessions: mqtt.maxSessions,
          maxRetainedMessages: mqtt.maxRetained,
          maxRetainedBytes: mqtt.maxRetainedBytes,
        },
      },
      this.log,
      this.ingest,
      logger,
    );
    this.control.route("GET /status", () => this.status);
  }

  /**
   * Resolves when everything listens. Rejects with the SluiceError of what could not start (a port in use, a
   * data folder that another gateway holds); what had started by then is closed again. At most once.
   */
  async start(): Promise<GatewayAddresses> {
    this.starting = this.startParts();
    try {
      return await this.starting;
    } catch (error) {
      await this.stopParts();
      throw error;
    }
  }

  /**
   * In reverse: sensors first, the log last. Idempotent; resolves when all that was acknowledged is kept.
   * Waits for a start that is under way, which then ends with an error.
   */
  close(): Promise<void> {
    this.closing ??= (this.starting ?? Promise.resolve()).then(
      () => this.stopParts(),
      () => this.stopParts(),
    );
    return this.closing;
  }

  get stats(): GatewayStats {
    return {
      log: this.log.stats,
      ingest: this.ingest.stats,
      mqtt: this.broker.stats,
      kafka: this.kafka?.stats,
    };
  }

  get status(): GatewayStatus {
    const { name, dataDir } = this.config;
    const { addresses } = this;
    return {
      name,
      pid: process.pid,
      state: this.closing !== undefined ? "stopping" : addresses === undefined ? "starting" : "running",
      upMs: Math.round(process.uptime() * 1000),
      memoryBytes: process.memoryUsage.rss(),
      dataDir: resolve(dataDir),
      ...(addresses === undefined ? {} : { addresses, stats: this.stats }),
    };
  }

  private async startParts(): Promise<GatewayAddresses> {
    await this.startPart("log", this.log);
    await this.ensureStreams();
    await this.startPart("groups", this.groups);
    const kafka = this.kafkaServer();
    this.kafka = kafka;
    await this.startPart("kafka", kafka);
    await this.startPart("mqtt", this.broker);
    this.addresses = { mqtt: this.broker.addresses, kafka: kafka.address };
    return this.addresses;
  }

  private async startPart(name: string, part: Startable): Promise<void> {
    if (this.closing !== undefined) throw new SluiceError("STOPPED", "stopped while it was starting");
    // Before it starts: a part that fails half-way has something to close, too.
    this.running.push({ name, part });
    await part.start();
  }

  private async stopParts(): Promise<void> {
    await this.control.close();
    for (const { name, part } of this.running.splice(0).reverse()) {
      try {
        await part.close();
      } catch (error) {
        // The others still have to be closed, the log above all.
        this.logger.error({ part: name, err: error }, `closing failed: ${messageOf(error)}`);
      }
    }
  }

  /** Makes the log's streams what the configuration says; streams that it does not name stay as they are. */
  private async ensureStreams(): Promise<void> {
    for (const [name, wanted] of Object.entries(this.config.streams)) {
      const settings = settingsOf(wanted);
      const stream = this.log.stream(name);
      if (stream === undefined) {
        await this.log.createStream(name, wanted.partitions, settings, "config");
        this.logger.info({ stream: name, partitions: wanted.partitions }, "stream created");
        continue;
      }
      const had = stream.partitions.length;
      if (had > wanted.partitions) {
        throw new SluiceError(
          "FEWER_PARTITIONS",
          `streams.${name}.partitions is ${wanted.partitions}, but the stream has ${had}`,
          {
            mend: `A stream cannot lose partitions: write partitions: ${had}, or give it a new name.`,
            exitCode: CONFIG_EXIT_CODE,
          },
        );
      }
      if (had === wanted.partitions && isDeepStrictEqual({ ...stream.settings }, settings)) continue;
      await this.log.alterStream(name, { partitions: wanted.partitions, settings });
      this.logger.info({ stream: name, partitions: wanted.partitions, ...settings }, "stream altered");
    }
  }

  /** Made late: the cluster's identity lies in the data folder. */
  private kafkaServer(): KafkaServer {
    const { kafka, dataDir } = this.config;
    return new KafkaServer(
      {
        bind: kafka.bind,
        advertise: kafka.advertise,
        maxFrameBytes: kafka.maxFrame,
        maxConnections: kafka.maxConnections,
        maxInFlight: kafka.maxInFlight,
        maxPartitionsPerRequest: kafka.maxPartitionsPerRequest,
        maxBufferedBytes: kafka.maxBuffered,
        autoCreate: kafka.autoCreate,
        dataDir,
      },
      { log: this.log, groups: this.groups, clusterId: this.log.clusterId },
      this.logger,
    );
  }
}

function settingsOf({ retention, segment, maxMessage, cleanup, tombstones }: StreamConfig): StreamSettings {
  return {
    ...DEFAULT_SETTINGS,
    retentionMs: retention.time,
    retentionBytes: retention.size,
    segmentBytes: segment.size,
    segmentMs: segment.time,
    maxMessageBytes: maxMessage,
    cleanup,
    deleteRetentionMs: tombstones,
  };
}
