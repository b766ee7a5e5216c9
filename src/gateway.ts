/**
 * The composition root, the only file that knows everybody. It reads as the way of the data:
 *
 *     MQTT broker → ingest (mapper) → log → Kafka server (groups) → subscribers
 *
 * What is downstream starts first and stops last: nothing is accepted before it can be kept, and whatever
 * was accepted is committed and acknowledged before the log closes.
 */
import { rulesOf } from "./config/rules.ts";
import type { Address, Config, StreamConfig } from "./config/schema.ts";
import { GroupCoordinator } from "./groups/coordinator.ts";
import { KafkaServer } from "./kafka/server.ts";
import type { StreamSettings } from "./log/log.ts";
import { StreamStore } from "./log/stream-store.ts";
import { type Logger, messageOf } from "./logger.ts";
import { Mapper } from "./mapping/mapper.ts";
import { MqttBroker } from "./mqtt/broker.ts";
import { Ingest } from "./mqtt/ingest.ts";

/** Kafka's word for one who listens: where the gateway is reached, with the ports that it really has. */
export interface GatewayAddresses {
  readonly mqtt: readonly Address[];
  readonly kafka: Address;
}

interface Part {
  readonly name: string;
  close(): Promise<void>;
}

export class Gateway {
  private readonly config: Config;
  private readonly logger: Logger;
  private readonly log: StreamStore;
  private readonly groups: GroupCoordinator;
  private readonly ingest: Ingest;
  private readonly broker: MqttBroker;
  private kafka: KafkaServer | undefined;
  /** What runs, in the order in which it was started. */
  private readonly running: Part[] = [];
  private closing: Promise<void> | undefined;

  constructor(config: Config, logger: Logger) {
    this.config = config;
    this.logger = logger;
    const { dataDir, mqtt, fallback, kafka } = config;
    const part = (name: string): Logger => logger.child({ part: name });
    this.log = new StreamStore({ dataDir, logger: part("log") });
    this.groups = new GroupCoordinator(this.log, {}, part("groups"));
    const mapper = new Mapper(rulesOf(config), (name) => this.log.stream(name)?.partitions.length ?? 0);
    this.ingest = new Ingest(mapper, this.log, part("ingest"), {
      fallbackStream: fallback,
      autoCreate: kafka.autoCreate,
    });
    this.broker = new MqttBroker(
      {
        listeners: mqtt.listeners.map(({ bind }) => bind),
        maxPacketBytes: mqtt.maxPacket,
        maxConnections: mqtt.maxConnections,
        connectTimeoutMs: mqtt.connectTimeout,
        drainTimeoutMs: mqtt.drainTimeout,
        maxQueuedMessages: mqtt.maxQueued,
        maxInFlight: mqtt.maxInFlight,
      },
      this.ingest,
      part("mqtt"),
    );
  }
}
