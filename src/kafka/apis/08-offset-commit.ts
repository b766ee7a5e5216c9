/**
 * OffsetCommit 2–9: answered when the offsets are on disk. The retention time of 2–4 is not honoured (KIP-211). Not
 * here: 10, which Kafka 4.1 holds back too.
 */
import { array, int16, int32, int64, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";
import { forEachPartition } from "./common.ts";

export const offsetCommit = api({
  key: 8,
  name: "OffsetCommit",
  limits: "no topic ids (10: not stable in Kafka 4.1 either)",
  versions: { min: 2, max: 9, flexible: 8 },
  request: {
    groupId: string(),
    generationIdOrMemberEpoch: int32({ versions: "1+", default: -1 }),
    memberId: string({ versions: "1+" }),
    groupInstanceId: string({ versions: "7+", nullable: "7+", default: null }),
    retentionTimeMs: int64({ versions: "2-4", default: -1 }),
    topics: array({
      name: string(),
      partitions: array({
        partitionIndex: int32(),
        committedOffset: int64(),
        committedLeaderEpoch: int32({ versions: "6+", default: -1 }),
        committedMetadata: string({ nullable: "0+" }),
      }),
    }),
  },
  response: {
    throttleTimeMs: int32({ versions: "3+" }),
    topics: array({ name: string(), partitions: array({ partitionIndex: int32(), errorCode: int16() }) }),
  },
  async handle(
    { groupId, memberId, groupInstanceId, generationIdOrMemberEpoch, topics },
    { groups },
    { version },
  ) {
    const identity = { memberId, groupInstanceId, generationId: generationIdOrMemberEpoch };
    const offsets = topics.flatMap(({ name, partitions }) =>
      partitions.map((each) => ({
        stream: name,
        partition: each.partitionIndex,
        offset: each.committedOffset,
        leaderEpoch: each.committedLeaderEpoch,
        metadata: each.committedMetadata,
      })),
    );
    const unknown = version < 9 ? "ILLEGAL_GENERATION" : "GROUP_ID_NOT_FOUND";
    const errors = (await groups.commit(groupId, identity, offsets, unknown)).values();
    return {
      topics: await forEachPartition(topics, ({ partitionIndex }) => ({
        partitionIndex,
        errorCode: ErrorCode[errors.next().value ?? "UNKNOWN_SERVER_ERROR"],
      })),
    };
  },
});
