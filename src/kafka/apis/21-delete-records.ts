/**
 * DeleteRecords: everything below an offset, for good; -1 is the high watermark. Answered when it is on disk.
 * A stream that is only compacted keeps its records: POLICY_VIOLATION, as in Kafka. What the configuration
 * states is the stream, not what is in it: its records can be deleted.
 */
import type { Log } from "../../log/log.ts";
import { array, int16, int32, int64, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode, outcomeOf, Refusal } from "../error-code.ts";
import { forEachPartition, partitionOf } from "./common.ts";

const HIGH_WATERMARK = -1;

async function deleteBefore(log: Log, name: string, index: number, offset: number) {
  const partition = partitionOf(log, name, index);
  const { internal, settings } = partition.stream;
  if (internal || settings.cleanup === "compact") {
    throw new Refusal(ErrorCode.POLICY_VIOLATION, `"${name}" keeps the latest record of each key`);
  }
  const before = offset === HIGH_WATERMARK ? partition.highWatermark : offset;
  return { lowWatermark: await log.deleteRecords(partition, before) };
}

export const deleteRecords = api({
  key: 21,
  name: "DeleteRecords",
  versions: { min: 0, max: 2, flexible: 2 },
  request: {
    topics: array({ name: string(), partitions: array({ partitionIndex: int32(), offset: int64() }) }),
    timeoutMs: int32(),
  },
  response: {
    throttleTimeMs: int32(),
    topics: array({
      name: string(),
      partitions: array({ partitionIndex: int32(), lowWatermark: int64(), errorCode: int16() }),
    }),
  },
  handle: async ({ topics }, { log }) => ({
    topics: await forEachPartition(topics, async ({ partitionIndex, offset }, { name }) => ({
      partitionIndex,
      lowWatermark: -1,
      ...(await outcomeOf(() => deleteBefore(log, name, partitionIndex, offset))),
    })),
  }),
});
