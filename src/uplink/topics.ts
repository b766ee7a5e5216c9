/** Topics of the cluster, before anything is sent to them: there, made by the policy, and wide enough. */
import { setTimeout as sleep } from "node:timers/promises";
import { createTopics } from "../kafka/apis/19-create-topics.ts";
import { ErrorCode } from "../kafka/error-code.ts";
import type { Logger } from "../logger.ts";
import type { Cluster, Versions } from "./cluster.ts";
import type { TopicPolicy, UplinkOptions } from "./options.ts";
import type { Source } from "./source.ts";
import { KafkaError, NamedError } from "./words.ts";

const LEADERS_WAIT_MS = 10_000;

/** Those of the sources whose topics are as they have to be; the others are failed, each with its reason. */
export async function prepare(
  sources: readonly Source[],
  cluster: Cluster,
  options: UplinkOptions,
  logger: Logger,
): Promise<readonly Source[]> {
  const wanted = widthsOf(sources);
  await cluster.refresh([...wanted.keys()]);
  const missing = [...wanted].filter(
    ([name]) => cluster.topic(name)?.errorCode === ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
  );
  const refused = missing.length === 0 ? new Map() : await create(missing, cluster, options, logger);
  return sources.filter((source) => {
    const problem = problemOf(source, cluster, options, refused);
    if (problem !== undefined) source.fail(problem, 0);
    return problem === undefined;
  });
}

/** How many partitions each topic needs at least for these sources, their places' topics included. */
function widthsOf(sources: readonly Source[]): Map<string, number> {
  const widths = new Map<string, number>();
  for (const { topic, place, partition } of sources) {
    const width = partition.stream.partitions.length;
    for (const name of [topic, place.topic]) widths.set(name, Math.max(width, widths.get(name) ?? 0));
  }
  return widths;
}

function problemOf(
  source: Source,
  cluster: Cluster,
  { partitioning, create: policy }: UplinkOptions,
  refused: ReadonlyMap<string, Error>,
): Error | undefined {
  for (const name of new Set([source.topic, source.place.topic])) {
    const why = refused.get(name);
    if (why !== undefined) return why;
    const topic = cluster.topic(name);
    const width = source.partition.stream.partitions.length;
    if (topic === undefined || topic.errorCode === ErrorCode.UNKNOWN_TOPIC_OR_PARTITION) {
      const words = policy === false ? ", and create is false" : "";
      return new NamedError(
        "NO_TOPIC",
        `the cluster has no topic ${name}${words}`,
        `Make it: kafka-topics.sh --create --topic ${name} --partitions ${width}`,
      );
    }
    if (topic.errorCode !== 0) return new KafkaError(topic.errorCode, name);
    const needed =
      name === source.place.topic ? source.place.partition : partitioning === "same" ? source.index : 0;
    if (needed >= topic.leaders.length) {
      return new NamedError(
        "FEWER_PARTITIONS",
        `the cluster's topic ${name} has ${topic.leaders.length} partitions, but ${source.name} is to go to partition ${needed}`,
        `Add partitions: kafka-topics.sh --alter --topic ${name} --partitions ${width}; or set partitioning: modulo or key.`,
      );
    }
    if (partitioning === "same" && name === source.topic && cluster.leaderOf(name, needed) < 0) {
      return new KafkaError(ErrorCode.LEADER_NOT_AVAILABLE, `${name}/${needed}`);
    }
  }
  return undefined;
}

export const CREATE_TOPICS: Versions = [2, 5];

/** As CreateTopics wants it. -1 for "as the cluster has it" came with Kafka 2.4 (KIP-464). */
export function newTopic(name: string, numPartitions: number, { replication, settings }: TopicPolicy) {
  const configs = Object.entries(settings).map(([key, value]) => ({ name: key, value }));
  return { name, numPartitions, replicationFactor: replication, configs };
}

/** Makes what is missing; by name, why a topic could not be made. */
async function create(
  missing: readonly (readonly [name: string, partitions: number])[],
  cluster: Cluster,
  { create: policy }: UplinkOptions,
  logger: Logger,
): Promise<Map<string, Error>> {
  const refused = new Map<string, Error>();
  if (policy === false) return refused;
  const answer = await cluster.ask(cluster.controllerId, createTopics, CREATE_TOPICS, {
    topics: missing.map(([name, width]) => newTopic(name, width, policy)),
    timeoutMs: cluster.options.requestTimeoutMs,
  });
  const made = new Set<string>();
  for (const { name, errorCode, errorMessage } of answer.topics) {
    if (errorCode === 0) logger.info({ topic: name }, "topic made in the cluster");
    if (errorCode === 0 || errorCode === ErrorCode.TOPIC_ALREADY_EXISTS) made.add(name);
    else refused.set(name, new KafkaError(errorCode, name, errorMessage));
  }
  const deadline = performance.now() + LEADERS_WAIT_MS;
  for (let waitMs = 20; performance.now() < deadline; waitMs = Math.min(waitMs * 2, 500)) {
    await cluster.refresh([...made]);
    const ready = [...made].every((name) => {
      const topic = cluster.topic(name);
      return topic?.errorCode === 0 && topic.leaders.every((leader) => leader >= 0);
    });
    if (ready) break;
    await sleep(waitMs);
  }
  return refused;
}
