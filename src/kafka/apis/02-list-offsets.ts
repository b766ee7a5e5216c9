/**
 * ListOffsets: the offset for a timestamp, or for one of Kafka's special ones: -1 latest, -2 earliest,
 * -3 the record with the largest timestamp (KIP-734), -4 the local log's start (KIP-405; all of it is local),
 * -5 the latest tiered offset (there is no other tier, so none). Version 0 is gone from Kafka.
 */
import type { Partition } from "../../log/log.ts";
import { array, int8, int16, int32, int64, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode, outcomeOf, Refusal } from "../error-code.ts";
import { forEachPartition, partitionOf, repeatedIn } from "./common.ts";

const LATEST = -1;
const EARLIEST = -2;
const MAX_TIMESTAMP = -3;
const EARLIEST_LOCAL = -4;
const LATEST_TIERED = -5;
/** The first version that has it; others are UNSUPPORTED_VERSION, as in Kafka. */
const SPECIAL_SINCE = new Map([
  [LATEST, 1],
  [EARLIEST, 1],
  [MAX_TIMESTAMP, 7],
  [EARLIEST_LOCAL, 8],
  [LATEST_TIERED, 9],
]);

interface Found {
  readonly offset: number;
  /** Left out for the special timestamps: -1 then. */
  readonly timestamp?: number;
}

/** Nothing where no record has such a timestamp: the answer's offset is -1 then. */
async function find(partition: Partition, timestamp: number, version: number) {
  if (timestamp < 0 && version < (SPECIAL_SINCE.get(timestamp) ?? Number.POSITIVE_INFINITY)) {
    throw new Refusal(ErrorCode.UNSUPPORTED_VERSION, `timestamp ${timestamp} in version ${version}`);
  }
  const found = await placeOf(partition, timestamp);
  // Of the record, or of what comes next; -1 says that it is not known.
  return found === undefined ? {} : { ...found, leaderEpoch: partition.epochAt(found.offset) ?? -1 };
}

function placeOf(partition: Partition, timestamp: number): Promise<Found | undefined> | Found | undefined {
  switch (timestamp) {
    case LATEST:
      return { offset: partition.highWatermark };
    case EARLIEST:
    case EARLIEST_LOCAL:
      return { offset: partition.logStartOffset };
    case LATEST_TIERED:
      return undefined;
    case MAX_TIMESTAMP:
      return partition.maxTimestamp();
    default:
      return partition.offsetForTimestamp(timestamp);
  }
}

export const listOffsets = api({
  key: 2,
  name: "ListOffsets",
  versions: { min: 1, max: 10, flexible: 6 },
  request: {
    replicaId: int32(),
    isolationLevel: int8({ versions: "2+" }),
    topics: array({
      name: string(),
      partitions: array({
        partitionIndex: int32(),
        currentLeaderEpoch: int32({ versions: "4+", default: -1 }),
        timestamp: int64(),
      }),
    }),
    timeoutMs: int32({ versions: "10+" }),
  },
  response: {
    throttleTimeMs: int32({ versions: "2+" }),
    topics: array({
      name: string(),
      partitions: array({
        partitionIndex: int32(),
        errorCode: int16(),
        timestamp: int64({ default: -1 }),
        offset: int64({ default: -1 }),
        leaderEpoch: int32({ versions: "4+", default: -1 }),
      }),
    }),
  },
  async handle({ topics }, { log }, { version }) {
    const repeated = repeatedIn(
      topics.flatMap(({ name, partitions }) => partitions.map((one) => `${name}/${one.partitionIndex}`)),
    );
    return {
      topics: await forEachPartition(
        topics,
        async ({ partitionIndex, currentLeaderEpoch, timestamp }, { name }) => ({
          partitionIndex,
          ...(await outcomeOf(() => {
            if (repeated.has(`${name}/${partitionIndex}`)) {
              throw new Refusal(ErrorCode.INVALID_REQUEST, "named twice");
            }
            return find(partitionOf(log, name, partitionIndex, currentLeaderEpoch), timestamp, version);
          })),
        }),
      ),
    };
  },
});
