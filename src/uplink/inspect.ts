/** The dry run: connects, asks for everything that an uplink will need, and says what would happen. */
import { messageOf, SluiceError } from "../errors.ts";
import { createTopics } from "../kafka/apis/19-create-topics.ts";
import { describeConfigs } from "../kafka/apis/32-describe-configs.ts";
import { ErrorCode } from "../kafka/error-code.ts";
import { type Cluster, TRANSACTION } from "./cluster.ts";
import { compressorFor } from "./compressors.ts";
import { identityOf, type UplinkOptions } from "./options.ts";
import { producerOf } from "./session.ts";
import type { Source } from "./source.ts";
import { CREATE_TOPICS, newTopic } from "./topics.ts";
import { KafkaError } from "./words.ts";

export interface Finding {
  readonly what: string;
  readonly isGood: boolean;
  readonly words: string;
  readonly mend?: string | undefined;
}

const TOPIC_RESOURCE = 2;
/** Bits of `topicAuthorizedOperations`, by `AclOperation` code. */
const WRITE = 1 << 4;
const NOT_TOLD = -2147483648;

/** Changes nothing but that the cluster learns of a transactional id `<identity>.dry-run`. */
export async function* inspect(
  sources: readonly Source[],
  cluster: Cluster,
  options: UplinkOptions,
): AsyncGenerator<Finding> {
  const tried = async (what: string, work: () => Promise<string>): Promise<Finding> => {
    try {
      return { what, isGood: true, words: await work() };
    } catch (error) {
      const mend = error instanceof SluiceError ? error.mend : undefined;
      return { what, isGood: false, words: messageOf(error), mend };
    }
  };
  if (options.compression !== "none") {
    yield await tried("compression", async () => {
      await compressorFor(options.compression);
      return options.compression;
    });
  }
  const first = await tried("cluster", async () => {
    await cluster.refresh([]);
    return `${cluster.clusterId}, ${cluster.brokerIds.length} brokers`;
  });
  yield first;
  if (!first.isGood) return;
  for (const nodeId of cluster.brokerIds) {
    yield await tried(`broker ${nodeId}`, async () => `at ${await cluster.reach(nodeId)}`);
  }
  const topics = new Map(sources.map((source) => [source.topic, source]));
  await cluster.refresh([...topics.keys()]);
  for (const [topic, source] of topics) {
    yield await tried(`topic ${topic}`, () => inspectTopic(topic, source, cluster, options));
  }
  const group = identityOf(options.gateway, options.name);
  if (options.delivery === "exactly-once") {
    yield await tried("transactions", async () => {
      await cluster.coordinator(TRANSACTION, group);
      await producerOf(cluster, options, `${group}.dry-run`).begin();
      return `as ${group}.0 and on`;
    });
  }
  yield await tried("places", async () => {
    const places = await producerOf(cluster, options).places(sources.map(({ place }) => place));
    return places.size === 0
      ? `none yet in group ${group}: it would begin at the ${options.from}`
      : `${places.size} of ${sources.length} in group ${group}`;
  });
}

async function inspectTopic(
  name: string,
  { partition, stream }: Source,
  cluster: Cluster,
  { create, partitioning }: UplinkOptions,
): Promise<string> {
  const width = partition.stream.partitions.length;
  const topic = cluster.topic(name);
  if (topic === undefined || topic.errorCode === ErrorCode.UNKNOWN_TOPIC_OR_PARTITION) {
    if (create === false) {
      throw new SluiceError("NO_TOPIC", "it is not there, and create is false", {
        mend: `Make it: kafka-topics.sh --create --topic ${name} --partitions ${width}`,
      });
    }
    const body = { topics: [newTopic(name, width, create)], validateOnly: true };
    const answer = await cluster.ask(cluster.controllerId, createTopics, CREATE_TOPICS, body);
    const { errorCode = -1, errorMessage } = answer.topics[0] ?? {};
    if (errorCode !== 0) throw new KafkaError(errorCode, name, errorMessage);
    return `would be made, with ${width} partitions`;
  }
  if (topic.errorCode !== 0) throw new KafkaError(topic.errorCode, name);
  const { operations } = topic;
  if (operations !== NOT_TOLD && (operations & WRITE) === 0) throw new KafkaError(29, name);
  if (partitioning === "same" && topic.leaders.length < width) {
    throw new SluiceError(
      "FEWER_PARTITIONS",
      `it has ${topic.leaders.length} partitions, but ${stream} has ${width}`,
      {
        mend: `kafka-topics.sh --alter --topic ${name} --partitions ${width}; or set partitioning: modulo or key.`,
      },
    );
  }
  const largest = await maxMessageBytes(name, cluster);
  const { maxMessageBytes: ours } = partition.stream.settings;
  const note =
    largest !== undefined && largest < ours
      ? `; it takes messages of ${largest} bytes, the stream here of ${ours}: see onPoison`
      : "";
  return `${topic.leaders.length} partitions for ${width} of ${stream}${note}`;
}

async function maxMessageBytes(name: string, cluster: Cluster): Promise<number | undefined> {
  const answer = await cluster.ask(cluster.controllerId, describeConfigs, [1, 3], {
    resources: [
      { resourceType: TOPIC_RESOURCE, resourceName: name, configurationKeys: ["max.message.bytes"] },
    ],
  });
  const value = answer.results[0]?.configs[0]?.value;
  return value === undefined || value === null ? undefined : Number(value);
}
