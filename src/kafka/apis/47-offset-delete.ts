/** OffsetDelete 0: refused for streams that a living consumer group is subscribed to (KIP-496). */
import { array, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";
import { forEachPartition } from "./common.ts";

export const offsetDelete = api({
  key: 47,
  name: "OffsetDelete",
  versions: { min: 0, max: 0 },
  request: {
    groupId: string(),
    topics: array({ name: string(), partitions: array({ partitionIndex: int32() }) }),
  },
  response: {
    errorCode: int16(),
    throttleTimeMs: int32(),
    topics: array({ name: string(), partitions: array({ partitionIndex: int32(), errorCode: int16() }) }),
  },
  async handle({ groupId, topics }, { groups }) {
    const places = topics.flatMap(({ name, partitions }) =>
      partitions.map(({ partitionIndex }) => ({ stream: name, partition: partitionIndex })),
    );
    const result = await groups.deleteOffsets(groupId, places);
    if (typeof result === "string") return { errorCode: ErrorCode[result] };
    const errors = result.values();
    return {
      topics: await forEachPartition(topics, ({ partitionIndex }) => ({
        partitionIndex,
        errorCode: ErrorCode[errors.next().value ?? "UNKNOWN_SERVER_ERROR"],
      })),
    };
  },
});
