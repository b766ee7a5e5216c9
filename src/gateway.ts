/**
 * The composition root, the only file that knows everybody. It reads as the way of the data:
 *
 *     MQTT broker → ingest (mapper) → log → Kafka server (groups) → subscribers
 *           ↑                          │└→ uplinks → Kafka clusters
 *           └──────── downlinks ───────┘
 *
 * What is downstream starts first and stops last: nothing is accepted before it can be kept, and whatever
 * was accepted is committed and acknowledged before the log closes.
 */
import { resolve } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { LoadedConfig } from "./config/loaded.ts";
import { CONFIG_EXIT_CODE, ConfigError, didYouMean, type Place } from "./config/problems.ts";
import { type ConfigStatus, type LoadConfig, type Reloaded, Reloader } from "./config/reloader.ts";
import type { Address, Config } from "./config/schema.ts";
import { ControlServer } from "./control/server.ts";
import { DeadLetters } from "./dead-letters.ts";
import { type DownlinkStats, Downlinks } from "./downlink/downlink.ts";
import { messageOf, SluiceError } from "./errors.ts";
import { GroupCoordinator } from "./groups/coordinator.ts";
import { KafkaServer, type KafkaServerStats } from "./kafka/server.ts";
import { nodeFileSystem } from "./log/file-system.ts";
import type { LogStats } from "./log/log.ts";
import { StreamStore } from "./log/stream-store.ts";
import type { Logger } from "./logger.ts";
import { type Explanation, explain } from "./mapping/explain.ts";
import { compileInSlices, Mapper } from "./mapping/mapper.ts";
import type { TopicCount } from "./mapping/topic-census.ts";
import { MqttBroker, type MqttStats } from "./mqtt/broker.ts";
import { DEAD_LETTERS, Ingest, type IngestStats } from "./mqtt/ingest.ts";
import { publishProblem } from "./mqtt/topic-rules.ts";
import {
  downlinkRules,
  groupOptions,
  ingestOptions,
  kafkaOptions,
  mqttOptions,
  settingsOf,
  storageRules,
  uplinkOptions,
} from "./part-options.ts";
import type { PublishPacket } from "./record.ts";
import { Turns } from "./turns.ts";
import { uplinkRoutes } from "./uplink/commands.ts";
import type { UplinkReport } from "./uplink/report.ts";
import { Uplinks } from "./uplink/uplinks.ts";

export type { LogStats } from "./log/log.ts";

const TELL_PROGRESS_MS = 2_000;
/** About half of what a slow card takes for a sync. */
const MAX_COMMIT_WAIT_MS = 10;

/** Where the gateway is reached, with the ports that it really has. */
export interface GatewayAddresses {
  readonly mqtt: readonly Address[];
  readonly kafka: Address;
}

/** Counters since the start, and what is open now. */
export interface GatewayStats {
  readonly log: LogStats;
  readonly ingest: IngestStats;
  readonly mqtt: MqttStats;
  readonly downlinks: DownlinkStats;
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
  readonly config?: ConfigStatus | undefined;
  /** What no mapping took, by the patterns that the MQTT topics share; the most frequent. */
  readonly unmatched: readonly TopicCount[];
  readonly addresses?: GatewayAddresses | undefined;
  readonly stats?: GatewayStats;
  readonly uplinks?: readonly UplinkReport[];
}

/** What `POST /explain` asks: a message, its payload in base64. */
export interface ExplainRequest extends Omit<PublishPacket, "mqttTopic" | "payload" | "receivedAt"> {
  readonly topic: string;
  readonly payload: string;
}

interface Startable {
  start(): Promise<void>;
  close(): Promise<void>;
}

/** Where the configuration came from, so that it can be loaded anew. */
export interface ConfigOrigin {
  readonly loaded: LoadedConfig;
  readonly load: LoadConfig;
}

const MAX_UNMATCHED_SHOWN = 10;

export class Gateway {
  private config: Config;
  private places: LoadedConfig["partitionPlaces"] = {};
  private readonly logger: Logger;
  private readonly control: ControlServer;
  private readonly log: StreamStore;
  private readonly groups: GroupCoordinator;
  private mapper: Mapper;
  private readonly turns = new Turns();
  private readonly ingest: Ingest;
  private readonly broker: MqttBroker;
  private readonly downlinks: Downlinks;
  private readonly deadLetters: DeadLetters;
  private readonly reloader: Reloader | undefined;
  private kafka: KafkaServer | undefined;
  private uplinks: Uplinks | undefined;
  /** What runs, in the order in which it was started. */
  private readonly running: { readonly name: string; readonly part: Startable }[] = [];
  private starting: Promise<GatewayAddresses> | undefined;
  private closing: Promise<void> | undefined;
  private addresses: GatewayAddresses | undefined;

  /** Without an `origin` the configuration stays what it is. */
  constructor(config: Config, logger: Logger, origin?: ConfigOrigin) {
    this.config = config;
    this.logger = logger;
    this.control = new ControlServer(logger);
    this.log = new StreamStore({
      dataDir: config.dataDir,
      logger,
      onVisitor: this.control.accept,
      lingerMs: config.commit.linger,
      maxWaitMs: MAX_COMMIT_WAIT_MS,
      storage: storageRules(config),
      awaitsHolders: true,
      turns: this.turns,
    });
    this.groups = new GroupCoordinator(this.log, groupOptions(config), logger);
    this.mapper = new Mapper(config.mappings, this.partitionsOf, { tables: config.tables });
    this.ingest = new Ingest(this.mapper, this.log, logger, ingestOptions(config), this.log.time);
    this.broker = new MqttBroker(mqttOptions(config), this.log, this.ingest, logger, this.turns);
    this.downlinks = new Downlinks(
      downlinkRules(config),
      {
        log: this.log,
        groups: this.groups,
        publish: (messages, more) => this.broker.publish(messages, more),
        topicProblem: publishProblem,
        deadLetter: (failed) => this.deadLetters.ofDownlink(failed),
      },
      logger,
    );
    const { log, groups, ingest, downlinks } = this;
    const stream = (): string => this.config.deadLetters;
    this.deadLetters = new DeadLetters({ log, groups, ingest, downlinks, stream });
    if (origin !== undefined) {
      const { loaded, load } = origin;
      this.places = loaded.partitionPlaces;
      this.reloader = new Reloader(loaded, load, (next) => this.use(next), logger);
    }
    this.control.route("GET /status", () => this.status);
    this.control.route("POST /reload", () => this.reload());
    this.control.route("GET /tap", ({ query, gone }) => this.tap(query, gone));
    this.control.route("GET /dead-letters", ({ query }) => this.deadLetters.list(Number(query.get("max"))));
    this.control.route("POST /dead-letters/retry", ({ gone }) => this.deadLetters.retry(gone));
    this.control.route("POST /explain", ({ body }) => this.explain(body as ExplainRequest));
    const routes = uplinkRoutes(() => this.uplinks);
    for (const [what, route] of Object.entries(routes)) this.control.route(what, route);
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

  /** Loads the configuration anew and goes on with it. Rejects with what is wrong; then nothing has changed. */
  async reload(): Promise<Reloaded> {
    if (this.reloader === undefined || this.addresses === undefined || this.closing !== undefined) {
      throw new SluiceError("NOT_NOW", "a gateway that starts, stops or has no file cannot reload", {
        exitCode: 69,
      });
    }
    return this.reloader.reload();
  }

  get stats(): GatewayStats {
    return {
      log: this.log.stats,
      ingest: this.ingest.stats,
      mqtt: this.broker.stats,
      downlinks: this.downlinks.stats,
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
      config: this.reloader?.status,
      unmatched: this.ingest.unmatched.top(MAX_UNMATCHED_SHOWN),
      ...(addresses === undefined
        ? {}
        : { addresses, stats: this.stats, uplinks: this.uplinks?.reports ?? [] }),
    };
  }

  private async startParts(): Promise<GatewayAddresses> {
    const startedAt = performance.now();
    const telling = setInterval(() => {
      const ms = Math.round(performance.now() - startedAt);
      const what = this.log.progress ?? this.running.at(-1)?.name;
      this.logger.info({ ms }, `still starting: ${what}`);
    }, TELL_PROGRESS_MS);
    try {
      return await this.startEach();
    } finally {
      clearInterval(telling);
    }
  }

  private async startEach(): Promise<GatewayAddresses> {
    const { config } = this;
    await this.startPart("log", this.log);
    await this.addStreams(config, this.places);
    await this.settleStreams(config);
    await this.startPart("groups", this.groups);
    // Made late: the cluster's identity lies in the data folder.
    const { turns } = this;
    const brokerServices = { log: this.log, groups: this.groups, clusterId: this.log.clusterId, turns };
    const kafka = new KafkaServer(kafkaOptions(config), brokerServices, this.logger);
    this.kafka = kafka;
    await this.startPart("kafka", kafka);
    const { logger, log, groups } = this;
    const freeBytes = async (): Promise<number> => {
      return Math.max(0, (await nodeFileSystem.freeBytes(config.dataDir)) - this.config.storage.minFree);
    };
    const isCommitting = () => log.isCommitting;
    const services = { log, groups, logger, logId: log.clusterId, isCommitting, freeBytes };
    this.uplinks = new Uplinks(uplinkOptions(config), services);
    await this.startPart("uplinks", this.uplinks);
    await this.log.lookAfter();
    await this.startPart("mqtt", this.broker);
    await this.startPart("downlinks", this.downlinks);
    if (this.reloader !== undefined) await this.startPart("configuration", this.reloader);
    this.addresses = { mqtt: this.broker.addresses, kafka: kafka.address };
    return this.addresses;
  }

  /**
   * Takes over another configuration while everything runs. What may fail comes first, and adds only: streams,
   * partitions, listeners. Then, between two messages, all of it holds. Throws, and goes on as before.
   */
  private async use({ config, partitionPlaces }: LoadedConfig): Promise<void> {
    const kafka = this.kafka as KafkaServer;
    const [mqttNow, mqttThen] = [mqttOptions(this.config), mqttOptions(config)];
    refuseFixed(this.config, config);
    const { tables } = config;
    const rules = await compileInSlices(config.mappings, { tables });
    const mapper = new Mapper(rules, this.partitionsOf, { tables });
    await this.addStreams(config, partitionPlaces);
    await this.broker.open(mqttThen.listeners);
    try {
      await kafka.open(config.kafka);
    } catch (error) {
      this.broker.use(mqttNow);
      throw error;
    }
    if (config.logLevel !== this.config.logLevel) this.logger.level = config.logLevel;
    this.config = config;
    this.mapper = mapper;
    this.ingest.use(mapper, ingestOptions(config));
    this.broker.use(mqttThen);
    this.downlinks.use(downlinkRules(config));
    kafka.use(kafkaOptions(config));
    this.groups.use(groupOptions(config));
    this.log.lingerMs = config.commit.linger;
    this.log.storage = storageRules(config);
    this.addresses = { mqtt: this.broker.addresses, kafka: kafka.address };
    await this.uplinks?.use(uplinkOptions(config));
    // It holds already; a disk that takes no more is said by the log, too.
    await this.settleStreams(config).catch((error) =>
      this.logger.error({ err: error }, "streams keep their settings"),
    );
  }

  private readonly partitionsOf = (name: string): number => this.log.stream(name)?.partitions.length ?? 0;

  private tap(query: URLSearchParams, gone: AbortSignal): AsyncIterable<unknown> {
    const [unmatched, errors] = [query.has("unmatched"), query.has("errors")];
    const filter = { from: query.getAll("from"), streams: query.getAll("stream"), unmatched, errors };
    for (const name of filter.streams) if (this.log.stream(name) === undefined) throw this.noStream(name);
    const tap = this.ingest.taps.open(filter, gone);
    if (tap === undefined)
      throw new SluiceError("TOO_MANY", "enough others look on already", { exitCode: 69 });
    return tap;
  }

  private noStream(name: string): SluiceError {
    const names = this.log.streams.filter(({ internal }) => !internal).map((stream) => stream.name);
    const message = `there is no stream ${name}${didYouMean(name, names)}`;
    return new SluiceError("UNKNOWN_STREAM", message, { exitCode: 66 });
  }

  private explain({ topic: mqttTopic, payload, ...rest }: ExplainRequest): Explanation {
    const packet = { ...rest, mqttTopic, payload: Buffer.from(payload, "base64"), receivedAt: Date.now() };
    return explain(this.mapper, packet, this.partitionsOf, this.config);
  }

  private async startPart(name: string, part: Startable): Promise<void> {
    if (this.closing !== undefined) throw new SluiceError("STOPPED", "stopped while it was starting");
    // Before it starts: a part that fails half-way has something to close, too.
    this.running.push({ name, part });
    await part.start();
  }

  private async stopParts(): Promise<void> {
    this.log.stopLingering();
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

  /** Streams and partitions that the configuration has and the log has not; others stay as they are. */
  private async addStreams(
    { streams, downlinks, deadLetters }: Config,
    places: LoadedConfig["partitionPlaces"],
  ): Promise<void> {
    for (const [name, { partitions: wanted }] of Object.entries(streams)) {
      const had = this.log.stream(name)?.partitions.length ?? 0;
      if (had > wanted) throw fewerPartitions(name, had, wanted, places[name]);
    }
    for (const [name, wanted] of Object.entries(streams)) {
      const { partitions } = wanted;
      const stream = this.log.stream(name);
      if (stream === undefined) await this.log.createStream(name, partitions, settingsOf(wanted), "config");
      else if (stream.partitions.length < partitions) await this.log.alterStream(name, { partitions });
      else continue;
      this.logger.info(
        { stream: name, partitions },
        stream === undefined ? "stream created" : "stream grown",
      );
    }
    // A mapping's are made with the first one; a downlink has to have somewhere to put one in its own commit.
    if (downlinks.length > 0 && this.log.stream(deadLetters) === undefined) {
      await this.log.createStream(deadLetters, 1, DEAD_LETTERS, "config");
    }
  }

  /** Last, as a shorter retention cannot be taken back. */
  private async settleStreams({ streams }: Config): Promise<void> {
    for (const [name, wanted] of Object.entries(streams)) {
      const settings = settingsOf(wanted);
      const stream = this.log.stream(name);
      if (stream === undefined || isDeepStrictEqual({ ...stream.settings }, settings)) continue;
      await this.log.alterStream(name, { settings });
      this.logger.info({ stream: name, ...settings }, "stream altered");
    }
  }
}

function fewerPartitions(name: string, had: number, wanted: number, place?: Place): ConfigError {
  const label = `streams.${name}.partitions`;
  const message = `${label} is ${wanted}, but the stream has ${had} and cannot lose any`;
  const mend = `write partitions: ${had}, or give the stream a new name`;
  return new ConfigError([{ place: place ?? { label }, message, mend }]);
}

/** What only a start can change. */
function refuseFixed({ dataDir: now }: Config, { dataDir: then }: Config): void {
  if (resolve(now) === resolve(then)) return;
  throw new SluiceError("RESTART_NEEDED", `dataDir is ${now} and cannot become ${then} while it runs`, {
    mend: "Restart the gateway for this, or put it back.",
    exitCode: CONFIG_EXIT_CODE,
  });
}
