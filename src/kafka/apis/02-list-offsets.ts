/**
 * ListOffsets: the offset for a timestamp, or for one of Kafka's special ones: -1 latest, -2 earliest,
 * -3 the record with the largest timestamp (KIP-734), -4 the local log's start (KIP-405; all of it is local),
 * -5 the latest tiered offset (there is no other tier, so none). Version 0 is gone from Kafka.
 */
import type { Partition } from "../../log/log.ts";
import { array, int8, int16, int32, int64, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";
import { errorCodeOf, leaderEpochError, partitionOf } from "./common.ts";

const LATEST = -1;
const EARLIEST = -2;
const MAX_TIMESTAMP = -3;
const EARLIEST_LOCAL = -4;

interface Found {
  readonly offset: number;
  /** Left out for the special timestamps and where nothing was found: -1 then. */
  readonly timestamp?: number;
  /** Known without reading a batch only at the end of the log; -1 says "not known". */
  readonly leaderEpoch?: number;
}

async function find(partition: Partition, timestamp: number): Promise<Found | undefined> {
  switch (timestamp) {
    case LATEST:
      return { offset: partition.highWatermark, leaderEpoch: partition.leaderEpoch };
    case EARLIEST:
    case EARLIEST_LOCAL:
      return { offset: partition.logStartOffset };
    case MAX_TIMESTAMP:
      return partition.maxTimestamp();
    default:
      // Any other negative one: the latest tiered offset (-5), or one that a later Kafka may know.
      return timestamp < 0 ? undefined : partition.offsetForTimestamp(timestamp);
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
  async handle({ topics }, { log }) {
    const answer = async (name: string, index: number, epoch: number, timestamp: number) => {
      const partition = partitionOf(log, name, index);
      if (partition === undefined) {
        return { partitionIndex: index, errorCode: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION };
      }
      const epochError = leaderEpochError(partition, epoch);
      if (epochError !== ErrorCode.NONE) return { partitionIndex: index, errorCode: epochError };
      try {
        return { partitionIndex: index, errorCode: ErrorCode.NONE, ...(await find(partition, timestamp)) };
      } catch (error) {
        return { partitionIndex: index, errorCode: errorCodeOf(error) };
      }
    };
    return {
      topics: await Promise.all(
        topics.map(async ({ name, partitions }) => ({
          name,
          partitions: await Promise.all(
            partitions.map(({ partitionIndex, currentLeaderEpoch, timestamp }) =>
              answer(name, partitionIndex, currentLeaderEpoch, timestamp),
            ),
          ),
        })),
      ),
    };
  },
});
