/** What one client, and all together, may have of the broker. */
import type { SessionLimits } from "./sessions.ts";

export interface MqttLimits extends SessionLimits {
  /** The largest packet, fixed header included. */
  readonly maxPacketBytes: number;
  readonly maxConnections: number;
  /** Of a client whose session is not kept. */
  readonly maxSubscriptionsPerConnection: number;
  /** From the TCP connection to CONNECT. */
  readonly connectTimeoutMs: number;
  /** What may be on its way to subscribers before publishers wait for them. */
  readonly maxPendingDeliveryBytes: number;
  readonly maxClientIdBytes: number;
  /** The bound of `close()`. */
  readonly stopTimeoutMs: number;
  /** How long, give or take half, a client whose message the disk refuses is kept before it is disconnected. */
  readonly refusalDelayMs: number;
}

export const DEFAULT_MQTT_LIMITS: MqttLimits = {
  maxPacketBytes: 256 << 10,
  maxConnections: 10_000,
  maxSubscriptionsPerConnection: 10_000,
  maxInFlight: 1_024,
  connectTimeoutMs: 10_000,
  drainTimeoutMs: 2_000,
  maxPendingDeliveryBytes: 16 << 20,
  maxClientIdBytes: 256,
  stopTimeoutMs: 3_000,
  refusalDelayMs: 2_000,
  maxQueuedMessages: 1_000,
  maxQueuedBytes: 16 << 20,
  maxQueuedMessagesInAll: 100_000,
  maxQueuedBytesInAll: 64 << 20,
  whenQueueFull: "dropOldest",
  maxSessions: 10_000,
  maxSubscriptionsPerSession: 1_000,
  maxRetainedMessages: 100_000,
  maxRetainedBytes: 64 << 20,
};
