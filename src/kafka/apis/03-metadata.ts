/**
 * Metadata: this one broker, and the streams with their partitions.
 *
 * The broker's address is the one on which this client reached us (or the configured one). A stream that is
 * created on the way (auto-creation) is in this very answer, where Kafka first answers
 * UNKNOWN_TOPIC_OR_PARTITION and has the client ask again. Version 13 is not here: with topic ids in
 * Produce 13 and Fetch 13 unsupported it would bring nothing.
 */
import { LogError } from "../../errors.ts";
import type { Stream } from "../../log/log.ts";
import { ZERO_UUID } from "../../wire/buffer.ts";
import { array, bool, int16, int32, string, uuid } from "../../wire/schema.ts";
import { api, type ClientContext } from "../api.ts";
import { ErrorCode, outcomeOf, Refusal } from "../error-code.ts";
import {
  broker,
  CLUSTER_OPERATIONS,
  checkNewName,
  describePartition,
  likenessIn,
  NODE_ID,
  OPERATIONS_NOT_ASKED,
  STREAM_OPERATIONS,
  streamOf,
} from "./common.ts";

function described({ name, id, internal, partitions }: Stream, topicAuthorizedOperations: number) {
  return {
    errorCode: ErrorCode.NONE,
    name,
    topicId: id,
    isInternal: internal,
    partitions: partitions.map(describePartition),
    topicAuthorizedOperations,
  };
}

type Like = ReturnType<typeof likenessIn>;

/** Creates it if it is missing and may be; throws where there is none in the end. */
async function find(name: string, mayCreate: boolean, like: Like, context: ClientContext): Promise<Stream> {
  const { log, autoCreate, logger } = context;
  if (log.stream(name) !== undefined || !mayCreate || !autoCreate.enabled) return streamOf(log, name);
  checkNewName(name, like);
  try {
    const created = await log.createStream(name, autoCreate.partitions, {}, "protocol");
    logger.info({ stream: name, partitions: autoCreate.partitions }, "a Kafka client's stream was created");
    return created;
  } catch (error) {
    // Another request was faster.
    if (error instanceof LogError && error.code === "STREAM_EXISTS") return streamOf(log, name);
    throw error;
  }
}

export const metadata = api({
  key: 3,
  name: "Metadata",
  limits: "13 only adds an error for the whole answer",
  versions: { min: 0, max: 12, flexible: 9 },
  request: {
    topics: array(
      { topicId: uuid({ versions: "10+" }), name: string({ nullable: "10+" }) },
      {
        nullable: "1+",
      },
    ),
    allowAutoTopicCreation: bool({ versions: "4+", default: true }),
    includeClusterAuthorizedOperations: bool({ versions: "8-10" }),
    includeTopicAuthorizedOperations: bool({ versions: "8+" }),
  },
  response: {
    throttleTimeMs: int32({ versions: "3+" }),
    brokers: array({
      nodeId: int32(),
      host: string(),
      port: int32(),
      rack: string({ versions: "1+", nullable: "1+", default: null }),
    }),
    clusterId: string({ versions: "2+", nullable: "2+", default: null }),
    controllerId: int32({ versions: "1+", default: -1 }),
    topics: array({
      errorCode: int16(),
      name: string({ nullable: "12+" }),
      topicId: uuid({ versions: "10+" }),
      isInternal: bool({ versions: "1+" }),
      partitions: array({
        errorCode: int16(),
        partitionIndex: int32(),
        leaderId: int32(),
        leaderEpoch: int32({ versions: "7+", default: -1 }),
        replicaNodes: array(int32()),
        isrNodes: array(int32()),
        offlineReplicas: array(int32(), { versions: "5+" }),
      }),
      topicAuthorizedOperations: int32({ versions: "8+", default: OPERATIONS_NOT_ASKED }),
    }),
    clusterAuthorizedOperations: int32({ versions: "8-10", default: OPERATIONS_NOT_ASKED }),
  },
  async handle(
    { topics, allowAutoTopicCreation, includeClusterAuthorizedOperations, includeTopicAuthorizedOperations },
    context,
    { version },
  ) {
    const { log, clusterId, advertised, reachability, clientHost } = context;
    reachability.told(clientHost, advertised);
    const like = likenessIn(log);
    const allowed = includeTopicAuthorizedOperations ? STREAM_OPERATIONS : OPERATIONS_NOT_ASKED;
    const byId = (topicId: string) => {
      const stream = log.streamById(topicId);
      if (stream === undefined) throw new Refusal(ErrorCode.UNKNOWN_TOPIC_ID, `no topic id ${topicId}`);
      return described(stream, allowed);
    };
    const one = async ({ name, topicId }: { name: string | null; topicId: string }) => {
      // The id goes first: beside it Java sends the empty name. A name is not nullable in versions 10 and 11,
      // which can ask by id already.
      if (name === null || topicId !== ZERO_UUID) {
        return { name: version >= 12 ? null : "", topicId, ...(await outcomeOf(() => byId(topicId))) };
      }
      const outcome = await outcomeOf(async () =>
        described(await find(name, allowAutoTopicCreation, like, context), allowed),
      );
      // Of a stream that there is not as well, as Kafka does; not of an unknown id.
      return { name, topicAuthorizedOperations: allowed, ...outcome };
    };
    // "All" is null, but an empty list in version 0, which has no null.
    const all = topics === null || (version === 0 && topics.length === 0);
    return {
      brokers: [broker(advertised)],
      clusterId,
      controllerId: NODE_ID,
      topics: all
        ? log.streams.map((stream) => described(stream, allowed))
        : await Promise.all(topics.map(one)),
      clusterAuthorizedOperations: includeClusterAuthorizedOperations
        ? CLUSTER_OPERATIONS
        : OPERATIONS_NOT_ASKED,
    };
  },
});
