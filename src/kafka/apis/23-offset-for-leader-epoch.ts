/**
 * OffsetForLeaderEpoch (KIP-320): where a leader epoch ended, so that a consumer notices that the log was cut
 * after an unclean stop.
 *
 * The epochs stand in the batches and never fall, so the end of an epoch is found by bisecting the offsets,
 * one batch header per step; no epoch table is kept.
 */
import type { Partition } from "../../log/log.ts";
import { baseOffsetOf, lastOffsetOf, leaderEpochOf } from "../../wire/record-batch.ts";
import { array, int16, int32, int64, message, string, struct } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";
import { errorCodeOf, leaderEpochError, partitionOf } from "./common.ts";

const request = message(
  { flexible: 4 },
  {
    replicaId: int32({ versions: "3+", default: -2 }),
    topics: array(
      struct({
        topic: string(),
        partitions: array(
          struct({ partition: int32(), currentLeaderEpoch: int32({ default: -1 }), leaderEpoch: int32() }),
        ),
      }),
    ),
  },
);

const response = message(
  { flexible: 4 },
  {
    throttleTimeMs: int32(),
    topics: array(
      struct({
        topic: string(),
        partitions: array(
          struct({
            errorCode: int16(),
            partition: int32(),
            leaderEpoch: int32({ default: -1 }),
            endOffset: int64({ default: -1 }),
          }),
        ),
      }),
    ),
  },
);

const UNDEFINED = { leaderEpoch: -1, endOffset: -1 };

/** The largest epoch up to the one asked for, and the offset at which a larger one begins. */
async function endOf(
  partition: Partition,
  epoch: number,
): Promise<{ leaderEpoch: number; endOffset: number }> {
  // Kafka: an epoch that has not begun yet, and "no epoch", have no end.
  if (epoch < 0 || epoch > partition.leaderEpoch) return UNDEFINED;
  if (epoch === partition.leaderEpoch) return { leaderEpoch: epoch, endOffset: partition.highWatermark };
  const batchAt = async (offset: number): Promise<Buffer | undefined> => (await partition.read(offset, 1))[0];
  let low = partition.logStartOffset;
  let high = partition.highWatermark;
  let found = epoch;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const batch = await batchAt(middle);
    if (batch === undefined) break;
    if (leaderEpochOf(batch) > epoch) {
      // Compaction may have left a gap between the two.
      high = Math.min(middle, baseOffsetOf(batch));
    } else {
      found = leaderEpochOf(batch);
      low = Math.max(low, lastOffsetOf(batch) + 1);
    }
  }
  return { leaderEpoch: found, endOffset: Math.max(low, partition.logStartOffset) };
}

export const offsetForLeaderEpoch = api({
  key: 23,
  name: "OffsetForLeaderEpoch",
  versions: { min: 2, max: 4 },
  request,
  response,
  async handle({ topics }, { log }) {
    const answer = async (name: string, index: number, currentEpoch: number, epoch: number) => {
      const partition = partitionOf(log, name, index);
      if (partition === undefined) {
        return { partition: index, errorCode: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION };
      }
      const epochError = leaderEpochError(partition, currentEpoch);
      if (epochError !== ErrorCode.NONE) return { partition: index, errorCode: epochError };
      try {
        return { partition: index, errorCode: ErrorCode.NONE, ...(await endOf(partition, epoch)) };
      } catch (error) {
        return { partition: index, errorCode: errorCodeOf(error) };
      }
    };
    return {
      topics: await Promise.all(
        topics.map(async ({ topic, partitions }) => ({
          topic,
          partitions: await Promise.all(
            partitions.map(({ partition, currentLeaderEpoch, leaderEpoch }) =>
              answer(topic, partition, currentLeaderEpoch, leaderEpoch),
            ),
          ),
        })),
      ),
    };
  },
});
