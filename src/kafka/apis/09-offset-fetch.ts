/** OffsetFetch 1–9. A partition without a committed offset, or of an unknown group, is answered with -1. */
import type { GroupCoordinator } from "../../groups/coordinator.ts";
import type { CommittedOffset } from "../../groups/types.ts";
import { array, bool, int16, int32, int64, string, struct } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";

const wantedTopic = struct({ name: string(), partitionIndexes: array(int32()) });

/** The same before version 8, for one group, and since, for several. */
const offsetsOfTopics = array({
  name: string(),
  partitions: array({
    partitionIndex: int32(),
    committedOffset: int64(),
    committedLeaderEpoch: int32({ versions: "5+", default: -1 }),
    metadata: string({ nullable: "0+" }),
    errorCode: int16(),
  }),
});

export const offsetFetch = api({
  key: 9,
  name: "OffsetFetch",
  limits: "no topic ids (10: not stable in Kafka 4.1 either)",
  versions: { min: 1, max: 9, flexible: 6 },
  request: {
    groupId: string({ versions: "0-7" }),
    topics: array(wantedTopic, { versions: "0-7", nullable: "2-7" }),
    groups: array(
      {
        groupId: string(),
        // Of the new protocol's groups (KIP-848), which there are not: a classic one is not asked who asks.
        memberId: string({ versions: "9+", nullable: "9+", default: null }),
        memberEpoch: int32({ versions: "9+", default: -1 }),
        topics: array(wantedTopic, { nullable: "8+" }),
      },
      {
        versions: "8+",
      },
    ),
    requireStable: bool({ versions: "7+" }),
  },
  response: {
    throttleTimeMs: int32({ versions: "3+" }),
    topics: { ...offsetsOfTopics, options: { versions: "0-7" } },
    errorCode: int16({ versions: "2-7" }),
    groups: array(
      { groupId: string(), topics: offsetsOfTopics, errorCode: int16() },
      {
        versions: "8+",
      },
    ),
  },
  handle(request, { groups }, { version }) {
    if (version < 8) return fetchOffsets(groups, request.groupId, request.topics);
    return {
      groups: request.groups.map(({ groupId, topics }) => ({
        groupId,
        ...fetchOffsets(groups, groupId, topics),
      })),
    };
  },
});

type Wanted = readonly { name: string; partitionIndexes: readonly number[] }[];

/** Null asks for everything that the group has committed. */
function fetchOffsets(groups: GroupCoordinator, groupId: string, wanted: Wanted | null) {
  const errorCode = ErrorCode[groups.availability];
  const topics = wanted ?? everything(groups.committedOffsets(groupId));
  return {
    errorCode,
    topics: topics.map(({ name, partitionIndexes }) => ({
      name,
      partitions: partitionIndexes.map((partitionIndex) => {
        const found = groups.committedOffset(groupId, { stream: name, partition: partitionIndex });
        return {
          partitionIndex,
          committedOffset: found?.offset ?? -1,
          committedLeaderEpoch: found?.leaderEpoch ?? -1,
          metadata: found?.metadata ?? "",
          errorCode,
        };
      }),
    })),
  };
}

function everything(offsets: readonly CommittedOffset[]): Wanted {
  const topics = new Map<string, number[]>();
  for (const { stream, partition } of offsets) {
    const partitions = topics.get(stream);
    if (partitions === undefined) topics.set(stream, [partition]);
    else partitions.push(partition);
  }
  return Array.from(topics, ([name, partitionIndexes]) => ({ name, partitionIndexes }));
}
