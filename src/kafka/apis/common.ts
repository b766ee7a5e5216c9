/** What several APIs share: this node's place in the "cluster", and the look-ups by stream and partition. */
import { isStreamName } from "../../log/catalog.ts";
import type { Log, Partition, Stream } from "../../log/log.ts";
import type { Endpoint } from "../api.ts";
import { ErrorCode, Refusal } from "../error-code.ts";

/** The only broker, leader and controller. Clients that assign replicas by hand expect 0. */
export const NODE_ID = 0;

/** "Authorized operations" where they were not asked for (KIP-430). */
export const OPERATIONS_NOT_ASKED = -2147483648;
/** Without an authorizer everything is allowed: bits by `AclOperation` code, as Kafka fills them in. */
export const STREAM_OPERATIONS = 0b1101_1111_1000;
export const GROUP_OPERATIONS = 0b1101_0100_1000;
export const CLUSTER_OPERATIONS = 0b1_1111_1010_0000;

/** `ConfigResource.Type` */
export const ResourceType = { TOPIC: 2, BROKER: 4, BROKER_LOGGER: 8, GROUP: 32 } as const;

export function broker({ host, port }: Endpoint): { nodeId: number; host: string; port: number } {
  return { nodeId: NODE_ID, host, port };
}

/** A partition as Metadata and DescribeTopicPartitions tell it. */
export function describePartition({ index, leaderEpoch }: Partition) {
  return {
    partitionIndex: index,
    leaderId: NODE_ID,
    leaderEpoch,
    replicaNodes: [NODE_ID],
    isrNodes: [NODE_ID],
  };
}

/** Throws `Refusal` where there is none. */
export function streamOf(log: Log, name: string): Stream {
  const stream = log.stream(name);
  if (stream === undefined)
    throw new Refusal(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, `there is no stream "${name}"`);
  return stream;
}

/**
 * Finds the stream whose name metrics could not tell from another's: dots are underscores there, so Kafka makes no
 * such second topic. Looks at the streams once, when it is first called.
 */
export function likenessIn(log: Log): (name: string) => string | undefined {
  const likeness = (name: string) => name.replaceAll(".", "_");
  let known: Map<string, string> | undefined;
  return (name) => {
    known ??= new Map(log.streams.map((stream) => [likeness(stream.name), stream.name]));
    return known.get(likeness(name));
  };
}

/** Throws `Refusal` for a stream that there is not, if it may not be made under that name either. */
export function checkNewName(name: string, like: (name: string) => string | undefined): void {
  const { INVALID_TOPIC_EXCEPTION } = ErrorCode;
  if (!isStreamName(name)) throw new Refusal(INVALID_TOPIC_EXCEPTION, `"${name}" cannot be a stream's name`);
  const other = like(name);
  if (other !== undefined) {
    throw new Refusal(INVALID_TOPIC_EXCEPTION, `"${name}" would be as "${other}" in the names of metrics`);
  }
}

/** Those that are there more than once. */
export function repeatedIn<T>(all: readonly T[]): ReadonlySet<T> {
  const seen = new Set<T>();
  return new Set(all.filter((one) => seen.size === seen.add(one).size));
}

/** Its name, by which everything else goes. Throws `Refusal` where there is none of this id. */
export function nameOfId(log: Log, id: string): string {
  const name = log.streamById(id)?.name;
  if (name === undefined) throw new Refusal(ErrorCode.UNKNOWN_TOPIC_ID, `there is no topic id ${id}`);
  return name;
}

/** A stream that clients may change or delete; throws `Refusal` for the others. */
export function changeableStream(log: Log, name: string): Stream {
  const stream = streamOf(log, name);
  if (stream.internal || stream.origin === "internal") {
    throw new Refusal(ErrorCode.POLICY_VIOLATION, `"${name}" holds the gateway's own state`);
  }
  if (stream.origin === "config") {
    const words = `"${name}" is set in the gateway's configuration: change it there`;
    throw new Refusal(ErrorCode.POLICY_VIOLATION, words);
  }
  return stream;
}

/**
 * The partition, if the client's idea of its leader is ours: who says which leader epoch it knows is told when
 * it is behind, or ahead (KIP-320); -1 says nothing. Throws `Refusal`.
 */
export function partitionOf(log: Log, name: string, index: number, knownEpoch = -1): Partition {
  const partition = streamOf(log, name).partitions[index];
  if (partition === undefined) {
    throw new Refusal(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, `there is no partition ${index} of "${name}"`);
  }
  const { leaderEpoch } = partition;
  if (knownEpoch >= 0 && knownEpoch !== leaderEpoch) {
    const { FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH } = ErrorCode;
    const code = knownEpoch < leaderEpoch ? FENCED_LEADER_EPOCH : UNKNOWN_LEADER_EPOCH;
    throw new Refusal(code, `leader epoch ${knownEpoch}; it is ${leaderEpoch}`);
  }
  return partition;
}

/** The answer to a request that names partitions under their streams; `answer` is called in their order. */
export function forEachPartition<T extends { readonly partitions: readonly unknown[] }, A>(
  topics: readonly T[],
  answer: (asked: T["partitions"][number], topic: T) => Promise<A> | A,
) {
  const each = async (topic: T) => ({
    ...topic,
    partitions: await Promise.all(topic.partitions.map((asked) => answer(asked, topic))),
  });
  return Promise.all(topics.map(each));
}
