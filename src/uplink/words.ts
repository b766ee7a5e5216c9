/** What goes wrong between a gateway and a cluster, each in one sentence with what mends it. */
import { messageOf, SluiceError } from "../errors.ts";

/** A code of the protocol, as far as a producer meets it: name, sentence, mend. */
type Row = readonly [name: string, words: string, mend?: string];

const UNREACHABLE_LEADER = "The cluster has to mend that; the uplink goes on by itself.";

const CODES: Readonly<Record<number, Row>> = {
  [-1]: ["UNKNOWN_SERVER_ERROR", "the cluster met an error of its own", "Its log says more."],
  2: ["CORRUPT_MESSAGE", "what arrived was damaged on the way"],
  3: ["UNKNOWN_TOPIC_OR_PARTITION", "the cluster has no such topic or partition"],
  5: ["LEADER_NOT_AVAILABLE", "the partition has no leader", UNREACHABLE_LEADER],
  6: ["NOT_LEADER_OR_FOLLOWER", "the partition's leader has moved"],
  7: ["REQUEST_TIMED_OUT", "the partition's replicas did not acknowledge in time", UNREACHABLE_LEADER],
  10: [
    "MESSAGE_TOO_LARGE",
    "a record is larger than the topic takes",
    "Raise max.message.bytes of the topic, or set onPoison.",
  ],
  13: ["NETWORK_EXCEPTION", "the cluster lost a connection of its own"],
  14: ["COORDINATOR_LOAD_IN_PROGRESS", "the coordinator is starting"],
  15: ["COORDINATOR_NOT_AVAILABLE", "there is no coordinator yet"],
  16: ["NOT_COORDINATOR", "the coordinator has moved"],
  17: ["INVALID_TOPIC_EXCEPTION", "the cluster takes no topic of that name", "Change `to`."],
  18: [
    "RECORD_LIST_TOO_LARGE",
    "a batch is larger than the segments of the topic",
    "Raise segment.bytes of the topic.",
  ],
  19: ["NOT_ENOUGH_REPLICAS", "too few replicas are in sync", UNREACHABLE_LEADER],
  20: ["NOT_ENOUGH_REPLICAS_AFTER_APPEND", "too few replicas are in sync", UNREACHABLE_LEADER],
  29: [
    "TOPIC_AUTHORIZATION_FAILED",
    "the user may not write to the topic",
    "Grant it Write and Describe on the topic.",
  ],
  30: ["GROUP_AUTHORIZATION_FAILED", "the user may not use the group", "Grant it Read on the group."],
  31: ["CLUSTER_AUTHORIZATION_FAILED", "the user may not do that", "Grant it Create on topics."],
  32: [
    "INVALID_TIMESTAMP",
    "the topic refuses the record's timestamp",
    "See message.timestamp.after.max.ms.",
  ],
  33: ["UNSUPPORTED_SASL_MECHANISM", "the listener does not take this SASL mechanism"],
  34: ["ILLEGAL_SASL_STATE", "the listener expects no SASL, or other"],
  35: ["UNSUPPORTED_VERSION", "the cluster is too old for this request", "Kafka 2.5 or newer is needed."],
  37: ["INVALID_PARTITIONS", "the cluster refuses that number of partitions"],
  38: ["INVALID_REPLICATION_FACTOR", "the cluster has too few brokers for that replication factor"],
  41: ["NOT_CONTROLLER", "the controller has moved"],
  44: ["POLICY_VIOLATION", "a policy of the cluster forbids that"],
  45: ["OUT_OF_ORDER_SEQUENCE_NUMBER", "the cluster has not what was sent before"],
  47: ["INVALID_PRODUCER_EPOCH", "a newer producer has the same transactional id"],
  48: ["INVALID_TXN_STATE", "the transaction is over already"],
  49: ["INVALID_PRODUCER_ID_MAPPING", "the cluster has forgotten the transactional id"],
  51: ["CONCURRENT_TRANSACTIONS", "the transaction before is not finished yet"],
  53: [
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
    "the user may not use transactions",
    "Grant it Write on the transactional id, or set delivery: at-least-once.",
  ],
  56: ["KAFKA_STORAGE_ERROR", "the broker's disk failed"],
  58: ["SASL_AUTHENTICATION_FAILED", "user or password is wrong", "Check sasl.username and sasl.password."],
  59: ["UNKNOWN_PRODUCER_ID", "the cluster has forgotten the producer"],
  74: ["FENCED_LEADER_EPOCH", "the partition's leader has moved"],
  76: ["UNSUPPORTED_COMPRESSION_TYPE", "the cluster does not take this compression", "Change `compression`."],
  87: [
    "INVALID_RECORD",
    "the topic refuses a record",
    "A compacted topic takes only records with a key, and no topic one that does not parse: a header without a name.",
  ],
  88: ["UNSTABLE_OFFSET_COMMIT", "a transaction is still being finished"],
  90: ["PRODUCER_FENCED", "a newer producer has the same transactional id"],
};

const COORDINATOR = new Set([14, 15, 16]);
const POISON = new Set([10, 18, 32, 87]);
const FENCED = new Set([47, 90]);

/** An error that the cluster answered with. */
export class KafkaError extends SluiceError {
  readonly kafkaCode: number;

  /** `about` is where it came from: a request's name, or a place such as `edge.telemetry/3`. */
  constructor(kafkaCode: number, about: string, remoteWords?: string | null) {
    const [name, words, mend] = CODES[kafkaCode] ?? [`ERROR_${kafkaCode}`, "the cluster refused"];
    const quoted = remoteWords ? `: "${remoteWords.slice(0, 300)}"` : "";
    super(name, `${about}: ${words} (${name}${quoted})`, { mend });
    this.kafkaCode = kafkaCode;
  }

  /** Another coordinator has to be found, or this one waited for. */
  get isCoordinator(): boolean {
    return COORDINATOR.has(this.kafkaCode);
  }
  /** The same records would be refused again. */
  get isPoison(): boolean {
    return POISON.has(this.kafkaCode);
  }
  get isFenced(): boolean {
    return FENCED.has(this.kafkaCode);
  }
}

/** One that a person has to mend, or that has its sentence already. */
export class NamedError extends SluiceError {
  constructor(code: string, message: string, mend?: string) {
    super(code, message, { mend });
  }
}

/** No connection to a broker; says which, and whether its address came from the cluster itself. */
export class ConnectError extends SluiceError {
  constructor(address: string, cause: unknown, advertised: { nodeId: number; by: string } | undefined) {
    const [code, words, mend] = connectWords(cause);
    const where =
      advertised === undefined
        ? address
        : `${address}, the address that ${advertised.by} tells of broker ${advertised.nodeId}`;
    const remedy =
      advertised !== undefined && UNREACHED.has(code)
        ? `Set advertised.listeners of broker ${advertised.nodeId} to an address that this machine reaches.`
        : mend;
    super(code, `${where}: ${words}`, { cause, mend: remedy });
  }
}

const UNREACHED = new Set(["REFUSED", "NO_HOST", "NO_ANSWER"]);

/** Words of the system and of TLS (Node's and OpenSSL's codes). */
const CONNECT_WORDS: readonly (readonly [RegExp, string, string, string])[] = [
  [/ECONNREFUSED/, "REFUSED", "nothing listens there", "Is the cluster up, and the port right?"],
  [
    /ENOTFOUND|EAI_AGAIN/,
    "NO_HOST",
    "no host of that name is known",
    "Check the name, and this machine's DNS.",
  ],
  [
    /ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENETDOWN/,
    "NO_ANSWER",
    "no answer",
    "Is the network up, and no firewall between?",
  ],
  [/NOT_KAFKA/, "NOT_KAFKA", "", "Give the port of a Kafka listener; set tls if it speaks TLS."],
  [
    /CERT_HAS_EXPIRED/,
    "CERT_EXPIRED",
    "its certificate has expired",
    "The cluster needs a new one; is this machine's clock right?",
  ],
  [/CERT_NOT_YET_VALID/, "CERT_EARLY", "its certificate is not valid yet", "Is this machine's clock right?"],
  [
    /SELF_SIGNED|DEPTH_ZERO|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER/,
    "CERT_UNKNOWN",
    "its certificate is signed by nobody whom this machine trusts",
    "Set tls.ca to the certificate of the cluster's authority.",
  ],
  [
    /ALTNAME/,
    "CERT_NAME",
    "its certificate is for another name",
    "Use the certificate's name in brokers, or set tls.serverName.",
  ],
  [
    /WRONG_VERSION_NUMBER|PACKET_LENGTH|EPROTO/,
    "NO_TLS",
    "the listener does not speak TLS",
    "Leave out tls, or give the port of the TLS listener.",
  ],
  [
    /CERTIFICATE_REQUIRED|BAD_CERTIFICATE|ALERT/,
    "CERT_CLIENT",
    "it wants another client certificate",
    "Set tls.cert and tls.key to a pair that the cluster trusts.",
  ],
  [
    /ECONNRESET|EPIPE|closed/,
    "CLOSED",
    "it closed the connection",
    "Is that a Kafka listener, and does it want TLS or SASL?",
  ],
];

function connectWords(cause: unknown): readonly [code: string, words: string, mend: string | undefined] {
  if (cause instanceof SluiceError) return [cause.code, cause.message, cause.mend];
  const { code = "" } = cause as { code?: string };
  const found =
    CONNECT_WORDS.find(([words]) => words.test(code)) ??
    CONNECT_WORDS.find(([words]) => words.test(messageOf(cause)));
  if (found === undefined) return ["CONNECT", messageOf(cause), undefined];
  const [, name, words, mend] = found;
  return [name, words === "" ? messageOf(cause) : words, mend];
}
