/**
 * Kafka's error codes, as far as a single node can answer with them (protocol guide, "Error Codes"), and how
 * what is thrown becomes one.
 */
import { LogError } from "../errors.ts";

export const ErrorCode = {
  UNKNOWN_SERVER_ERROR: -1,
  NONE: 0,
  OFFSET_OUT_OF_RANGE: 1,
  CORRUPT_MESSAGE: 2,
  UNKNOWN_TOPIC_OR_PARTITION: 3,
  LEADER_NOT_AVAILABLE: 5,
  MESSAGE_TOO_LARGE: 10,
  OFFSET_METADATA_TOO_LARGE: 12,
  COORDINATOR_LOAD_IN_PROGRESS: 14,
  COORDINATOR_NOT_AVAILABLE: 15,
  INVALID_TOPIC_EXCEPTION: 17,
  INVALID_REQUIRED_ACKS: 21,
  ILLEGAL_GENERATION: 22,
  INCONSISTENT_GROUP_PROTOCOL: 23,
  INVALID_GROUP_ID: 24,
  UNKNOWN_MEMBER_ID: 25,
  INVALID_SESSION_TIMEOUT: 26,
  REBALANCE_IN_PROGRESS: 27,
  INVALID_COMMIT_OFFSET_SIZE: 28,
  INVALID_TIMESTAMP: 32,
  ILLEGAL_SASL_STATE: 34,
  UNSUPPORTED_VERSION: 35,
  TOPIC_ALREADY_EXISTS: 36,
  INVALID_PARTITIONS: 37,
  INVALID_REPLICATION_FACTOR: 38,
  INVALID_REPLICA_ASSIGNMENT: 39,
  INVALID_CONFIG: 40,
  INVALID_REQUEST: 42,
  POLICY_VIOLATION: 44,
  OUT_OF_ORDER_SEQUENCE_NUMBER: 45,
  INVALID_PRODUCER_EPOCH: 47,
  INVALID_TXN_STATE: 48,
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED: 53,
  SECURITY_DISABLED: 54,
  KAFKA_STORAGE_ERROR: 56,
  LOG_DIR_NOT_FOUND: 57,
  NON_EMPTY_GROUP: 68,
  GROUP_ID_NOT_FOUND: 69,
  FETCH_SESSION_ID_NOT_FOUND: 70,
  FENCED_LEADER_EPOCH: 74,
  UNKNOWN_LEADER_EPOCH: 75,
  UNSUPPORTED_COMPRESSION_TYPE: 76,
  MEMBER_ID_REQUIRED: 79,
  GROUP_MAX_SIZE_REACHED: 81,
  FENCED_INSTANCE_ID: 82,
  ELECTION_NOT_NEEDED: 84,
  NO_REASSIGNMENT_IN_PROGRESS: 85,
  GROUP_SUBSCRIBED_TO_TOPIC: 86,
  INVALID_RECORD: 87,
  UNKNOWN_TOPIC_ID: 100,
  TRANSACTIONAL_ID_NOT_FOUND: 105,
  MISMATCHED_ENDPOINT_TYPE: 114,
} as const;

export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode];

/** UTF-16 code units, of three bytes at most each. */
const MAX_MESSAGE = 1_000;

/** Why one item of a request is refused, in Kafka's code and in words: thrown by whoever judges it. */
export class Refusal extends Error {
  readonly errorCode: ErrorCode;

  constructor(errorCode: ErrorCode, message: string) {
    super(message);
    this.errorCode = errorCode;
  }
}

const LOG_ERRORS: Readonly<Record<string, ErrorCode>> = {
  CORRUPT_BATCH: ErrorCode.CORRUPT_MESSAGE,
  INVALID_RECORDS: ErrorCode.INVALID_RECORD,
  KEYLESS_RECORD: ErrorCode.INVALID_RECORD,
  TOO_LARGE: ErrorCode.MESSAGE_TOO_LARGE,
  UNKNOWN_STREAM: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
  OFFSET_OUT_OF_RANGE: ErrorCode.OFFSET_OUT_OF_RANGE,
  OUT_OF_ORDER_SEQUENCE: ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
  INVALID_PRODUCER_EPOCH: ErrorCode.INVALID_PRODUCER_EPOCH,
  STREAM_EXISTS: ErrorCode.TOPIC_ALREADY_EXISTS,
  INVALID_STREAM: ErrorCode.INVALID_TOPIC_EXCEPTION,
  INVALID_PARTITIONS: ErrorCode.INVALID_PARTITIONS,
  FEWER_PARTITIONS: ErrorCode.INVALID_PARTITIONS,
};

/** Rethrows what is neither a refusal nor an error of the log or of the disk: that is a fault of ours. */
export function errorCodeOf(error: unknown): ErrorCode {
  if (error instanceof Refusal) return error.errorCode;
  if (error instanceof LogError) return LOG_ERRORS[error.code] ?? ErrorCode.KAFKA_STORAGE_ERROR;
  if (error instanceof Error && "syscall" in error) return ErrorCode.KAFKA_STORAGE_ERROR;
  throw error;
}

type Outcome<A> = ({ errorCode: 0; errorMessage: null } & A) | Failure;

interface Failure {
  errorCode: ErrorCode;
  errorMessage: string;
}

/** What an answer says of an error; rethrows what `errorCodeOf` rethrows. */
export function failureOf(error: unknown): Failure {
  return { errorCode: errorCodeOf(error), errorMessage: clipped((error as Error).message) };
}

/** One item of an answer: what `act` finds, or the error that it ends with. */
export async function outcomeOf<A extends object>(act: () => A | Promise<A>): Promise<Outcome<A>> {
  try {
    return { errorCode: ErrorCode.NONE, errorMessage: null, ...(await act()) };
  } catch (error) {
    return failureOf(error);
  }
}

/** It may quote a name as long as a request's names may be, and a string of the older versions takes 32,767 bytes. */
function clipped(message: string): string {
  if (message.length <= MAX_MESSAGE) return message;
  const half = MAX_MESSAGE / 2;
  return `${message.slice(0, half)} … ${message.slice(-half)}`;
}
