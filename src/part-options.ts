/** From the configuration to the options of each part: the only place where the one's words become the others'. */
import type { Config, StreamConfig } from "./config/schema.ts";
import { UNLIMITED } from "./config/units.ts";
import type { DownlinkRules } from "./downlink/downlink.ts";
import type { GroupOptions } from "./groups/types.ts";
import type { KafkaServerOptions } from "./kafka/server.ts";
import type { StorageRules } from "./log/disk-space.ts";
import type { StreamSettings } from "./log/log.ts";
import { DEFAULT_SETTINGS } from "./log/stream-state.ts";
import type { MqttBrokerOptions } from "./mqtt/broker.ts";
import type { IngestOptions } from "./mqtt/ingest.ts";
import type { UplinkOptions } from "./uplink/options.ts";

export function groupOptions({ kafka: { offsetRetention } }: Config): Partial<GroupOptions> {
  return { offsetRetentionMs: offsetRetention === UNLIMITED ? Number.POSITIVE_INFINITY : offsetRetention };
}

export function ingestOptions({ fallback, deadLetters, kafka }: Config): IngestOptions {
  return { fallbackStream: fallback, deadLetterStream: deadLetters, autoCreate: kafka.autoCreate };
}

export function downlinkRules({ downlinks, tables }: Config): DownlinkRules {
  return { rules: downlinks, tables };
}

export function mqttOptions({ mqtt }: Config): MqttBrokerOptions {
  return {
    listeners: mqtt.listeners.map(({ bind }) => bind),
    access: { users: mqtt.users, anonymous: mqtt.anonymous },
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
  };
}

export function kafkaOptions({ kafka, dataDir }: Config): KafkaServerOptions {
  return {
    bind: kafka.bind,
    advertise: kafka.advertise,
    listeners: kafka.listeners,
    maxFrameBytes: kafka.maxFrame,
    maxConnections: kafka.maxConnections,
    maxInFlight: kafka.maxInFlight,
    maxPartitionsPerRequest: kafka.maxPartitionsPerRequest,
    maxBufferedBytes: kafka.maxBuffered,
    autoCreate: kafka.autoCreate,
    dataDir,
  };
}

export function uplinkOptions({ name: gateway, uplinks, streams: all }: Config): UplinkOptions[] {
  const waiting = Object.entries(all).filter(([, { retention }]) => retention.waitForUplink);
  return uplinks.map(({ streams, to, interval, rate, ...uplink }) => ({
    ...uplink,
    gateway,
    streams: streams.map((one) =>
      typeof one === "string" ? { pattern: one, to } : { pattern: one.stream, to: one.to },
    ),
    intervalMs: interval,
    maxTransactionBytes: uplink.maxTransaction,
    maxBatchBytes: uplink.maxBatch,
    connectTimeoutMs: uplink.connectTimeout,
    requestTimeoutMs: uplink.requestTimeout,
    transactionTimeoutMs: uplink.transactionTimeout,
    maxBackoffMs: uplink.maxBackoff,
    waitFor: waiting.map(([stream]) => stream),
    rate,
    warnAtMs: uplink.warnAt.toSorted((a, b) => b - a),
  }));
}

export function storageRules({ storage: { minFree, whenFull } }: Config): StorageRules {
  return { minFreeBytes: minFree, whenFull };
}

export function settingsOf({
  retention,
  segment,
  maxMessage,
  cleanup,
  tombstones,
}: StreamConfig): StreamSettings {
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
