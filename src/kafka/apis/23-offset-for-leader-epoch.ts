/**
 * OffsetForLeaderEpoch (KIP-320): where a leader epoch ended, so that a consumer notices that it was shown more
 * than there is. Nothing that was shown is ever cut here, as long as the disk keeps what it said it had: the
 * epoch goes up with every start that had to recover (leader-epochs.ts), and readers look.
 */
import { array, int16, int32, int64, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { outcomeOf } from "../error-code.ts";
import { forEachPartition, partitionOf } from "./common.ts";

export const offsetForLeaderEpoch = api({
  key: 23,
  name: "OffsetForLeaderEpoch",
  versions: { min: 2, max: 4, flexible: 4 },
  request: {
    replicaId: int32({ versions: "3+", default: -2 }),
    topics: array({
      topic: string(),
      partitions: array({
        partition: int32(),
        currentLeaderEpoch: int32({ default: -1 }),
        leaderEpoch: int32(),
      }),
    }),
  },
  response: {
    throttleTimeMs: int32(),
    topics: array({
      topic: string(),
      partitions: array({
        errorCode: int16(),
        partition: int32(),
        leaderEpoch: int32({ default: -1 }),
        endOffset: int64({ default: -1 }),
      }),
    }),
  },
  async handle({ topics }, { log }) {
    return {
      topics: await forEachPartition(
        topics,
        async ({ partition: index, currentLeaderEpoch, leaderEpoch }, { topic }) => ({
          partition: index,
          ...(await outcomeOf(() => {
            const partition = partitionOf(log, topic, index, currentLeaderEpoch);
            const endOffset = partition.endOfEpoch(leaderEpoch);
            return endOffset === undefined ? {} : { leaderEpoch, endOffset };
          })),
        }),
      ),
    };
  },
});
