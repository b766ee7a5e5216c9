/** What several APIs share: this node's place in the "cluster", look-ups, and the log's errors in Kafka's words. */
import { LogError } from "../../errors.ts";
import type { Log, Partition, Stream } from "../../log/log.ts";
import type { Endpoint } from "../api.ts";
import { ErrorCode } from "../error-code.ts";

/** The only broker, leader and controller. Clients that assign replicas by hand expect 0. */
export const NODE_ID = 0;

/** "Authorized operations" where they were not asked for (KIP-430). */
export const OPERATIONS_NOT_ASKED = -2147483648;
/** Without an authorizer everything is allowed: bits by `AclOperation` code, as Kafka fills them in. */
export const STREAM_OPERATIONS = 0b1101_1111_1000;
export const CLUSTER_OPERATIONS = 0b1_1111_1010_0000;

export function broker(advertised: Endpoint): { nodeId: number; host: string; port: number } {
  return { nodeId: NODE_ID, host: advertised.host, port: advertised.port };
}

export function partitionOf(log: Log, stream: string, index: number): Partition | undefined {
  return log.stream(stream)?.partitions[index];
}

const CODES: Readonly<Record<string, ErrorCode>> = {
  CORRUPT_BATCH: ErrorCode.CORRUPT_MESSAGE,
  KEYLESS_RECORD: ErrorCode.INVALID_RECORD,
  TOO_LARGE: ErrorCode.MESSAGE_TOO_LARGE,
  READ_ONLY: ErrorCode.KAFKA_STORAGE_ERROR,
  CLOSED: ErrorCode.KAFKA_STORAGE_ERROR,
  UNKNOWN_STREAM: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
  OFFSET_OUT_OF_RANGE: ErrorCode.OFFSET_OUT_OF_RANGE,
  OUT_OF_ORDER_SEQUENCE: ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
  DUPLICATE_SEQUENCE: ErrorCode.DUPLICATE_SEQUENCE_NUMBER,
  INVALID_PRODUCER_EPOCH: ErrorCode.INVALID_PRODUCER_EPOCH,
  STREAM_EXISTS: ErrorCode.TOPIC_ALREADY_EXISTS,
  INVALID_STREAM: ErrorCode.INVALID_TOPIC_EXCEPTION,
  INVALID_PARTITIONS: ErrorCode.INVALID_PARTITIONS,
  FEWER_PARTITIONS: ErrorCode.INVALID_PARTITIONS,
};

/** Rethrows what is neither the log's error nor the disk's: that is a fault of ours. */
export function errorCodeOf(error: unknown): ErrorCode {
  if (error instanceof LogError) return CODES[error.code] ?? ErrorCode.KAFKA_STORAGE_ERROR;
  if (error instanceof Error && "syscall" in error) return ErrorCode.KAFKA_STORAGE_ERROR;
  throw error;
}

/** A refusal of one item of an administrative request. */
export interface Refusal {
  readonly errorCode: ErrorCode;
  readonly errorMessage: string;
}

export function refusal(errorCode: ErrorCode, errorMessage: string): Refusal {
  return { errorCode, errorMessage };
}

export function refusalOf(error: unknown): Refusal {
  return refusal(errorCodeOf(error), (error as LogError).message);
}

/** Why a client may not change or delete a stream, or undefined. */
export function lockOf(stream: Stream): Refusal | undefined {
  if (stream.internal || stream.origin === "internal") {
    return refusal(ErrorCode.POLICY_VIOLATION, `"${stream.name}" holds the gateway's own state`);
  }
  if (stream.origin === "config") {
    return refusal(
      ErrorCode.POLICY_VIOLATION,
      `"${stream.name}" is set in the gateway's configuration: change it there`,
    );
  }
  return undefined;
}

/** KIP-320: a client that says which leader epoch it knows is told when it is behind, or ahead. */
export function leaderEpochError(partition: Partition, knownEpoch: number): ErrorCode {
  if (knownEpoch < 0 || knownEpoch === partition.leaderEpoch) return ErrorCode.NONE;
  return knownEpoch < partition.leaderEpoch ? ErrorCode.FENCED_LEADER_EPOCH : ErrorCode.UNKNOWN_LEADER_EPOCH;
}

/** `ConfigSource` of DescribeConfigs and CreateTopics. */
export const ConfigSource = { DYNAMIC_TOPIC: 1, STATIC_BROKER: 4, DEFAULT: 5 } as const;
/** `ConfigResource.Type` */
export const ResourceType = { TOPIC: 2, BROKER: 4 } as const;
