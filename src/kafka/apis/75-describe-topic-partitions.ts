/**
 * DescribeTopicPartitions (KIP-966): Metadata's streams in pages, in the order of their names. A page holds at
 * most 2,000 partitions, or what the client asks for if that is less; `nextCursor` says where the next begins.
 * A named stream that is not there is an error in its place and counts for one; nothing is created.
 */
import { isStreamName } from "../../log/catalog.ts";
import type { Log } from "../../log/log.ts";
import { array, bool, int16, int32, string, struct, uuid } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";
import { describePartition, STREAM_OPERATIONS } from "./common.ts";

/** Kafka's `max.request.partition.size.limit`. */
const MAX_PARTITIONS = 2_000;

const cursor = struct({ topicName: string(), partitionIndex: int32() }, { nullable: "0+", default: null });

interface Place {
  readonly topicName: string;
  readonly partitionIndex: number;
}

/** The wanted names from the cursor on, sorted: none named asks for all. */
function namesFrom(log: Log, wanted: readonly string[], at: Place | null): string[] {
  const names = wanted.length === 0 ? log.streams.map(({ name }) => name) : [...new Set(wanted)];
  return names.filter((name) => at === null || name >= at.topicName).sort();
}

export const describeTopicPartitions = api({
  key: 75,
  name: "DescribeTopicPartitions",
  versions: { min: 0, max: 0, flexible: 0 },
  request: {
    topics: array({ name: string() }),
    responsePartitionLimit: int32({ default: MAX_PARTITIONS }),
    cursor,
  },
  response: {
    throttleTimeMs: int32(),
    topics: array({
      errorCode: int16(),
      name: string({ nullable: "0+" }),
      topicId: uuid(),
      isInternal: bool(),
      partitions: array({
        errorCode: int16(),
        partitionIndex: int32(),
        leaderId: int32(),
        leaderEpoch: int32({ default: -1 }),
        replicaNodes: array(int32()),
        isrNodes: array(int32()),
        eligibleLeaderReplicas: array(int32(), { nullable: "0+", default: null }),
        lastKnownElr: array(int32(), { nullable: "0+", default: null }),
        offlineReplicas: array(int32()),
      }),
      topicAuthorizedOperations: int32({ default: -2147483648 }),
    }),
    nextCursor: cursor,
  },
  handle({ topics, responsePartitionLimit, cursor: at }, { log }) {
    const names = namesFrom(
      log,
      topics.map(({ name }) => name),
      at,
    );
    let left = Math.min(Math.max(responsePartitionLimit, 1), MAX_PARTITIONS);
    const page = [];
    for (const name of names) {
      if (left === 0) return { topics: page, nextCursor: { topicName: name, partitionIndex: 0 } };
      const stream = log.stream(name);
      if (stream === undefined) {
        const { UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION } = ErrorCode;
        const errorCode = isStreamName(name) ? UNKNOWN_TOPIC_OR_PARTITION : INVALID_TOPIC_EXCEPTION;
        page.push({ name, errorCode, topicAuthorizedOperations: STREAM_OPERATIONS });
        left--;
        continue;
      }
      const from = at?.topicName === name ? Math.max(0, at.partitionIndex) : 0;
      const partitions = stream.partitions.slice(from, from + left);
      left -= partitions.length;
      page.push({
        name,
        topicId: stream.id,
        isInternal: stream.internal,
        // Kafka's own admin client fails on null here.
        partitions: partitions.map((partition) => ({
          ...describePartition(partition),
          eligibleLeaderReplicas: [],
          lastKnownElr: [],
        })),
        topicAuthorizedOperations: STREAM_OPERATIONS,
      });
      const partitionIndex = from + partitions.length;
      if (partitionIndex < stream.partitions.length) {
        return { topics: page, nextCursor: { topicName: name, partitionIndex } };
      }
    }
    return { topics: page };
  },
});
