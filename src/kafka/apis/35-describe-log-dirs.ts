/** DescribeLogDirs: the data folder with each partition's size. There is one folder, and no replica moves. */
import { statfs } from "node:fs/promises";
import { array, bool, int16, int32, int64, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";

/** Of the file system; left out (-1, "not known") where it cannot be told. */
async function room(folder: string): Promise<{ totalBytes?: number; usableBytes?: number }> {
  try {
    const { bsize, blocks, bavail } = await statfs(folder);
    return { totalBytes: bsize * blocks, usableBytes: bsize * bavail };
  } catch {
    return {};
  }
}

export const describeLogDirs = api({
  key: 35,
  name: "DescribeLogDirs",
  versions: { min: 1, max: 4, flexible: 2 },
  request: { topics: array({ topic: string(), partitions: array(int32()) }, { nullable: "0+" }) },
  response: {
    throttleTimeMs: int32(),
    errorCode: int16({ versions: "3+" }),
    results: array({
      errorCode: int16(),
      logDir: string(),
      topics: array({
        name: string(),
        partitions: array({
          partitionIndex: int32(),
          partitionSize: int64(),
          offsetLag: int64(),
          isFutureKey: bool(),
        }),
      }),
      totalBytes: int64({ versions: "4+", default: -1 }),
      usableBytes: int64({ versions: "4+", default: -1 }),
    }),
  },
  async handle({ topics }, { log, dataDir }) {
    const wanted = topics === null ? undefined : new Map(topics.map((one) => [one.topic, one.partitions]));
    const described = log.streams
      .filter(({ name }) => wanted?.has(name) ?? true)
      .map(({ name, partitions }) => ({
        name,
        partitions: partitions
          .filter(({ index }) => wanted?.get(name)?.includes(index) ?? true)
          .map(({ index, sizeBytes }) => ({ partitionIndex: index, partitionSize: sizeBytes })),
      }));
    const { NONE: errorCode } = ErrorCode;
    return { results: [{ errorCode, logDir: dataDir, topics: described, ...(await room(dataDir)) }] };
  },
});
