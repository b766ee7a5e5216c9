/** AlterReplicaLogDirs: there is one folder. Moving to it is done already, another is LOG_DIR_NOT_FOUND. */
import { array, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode, outcomeOf, Refusal } from "../error-code.ts";
import { partitionOf } from "./common.ts";

export const alterReplicaLogDirs = api({
  key: 34,
  name: "AlterReplicaLogDirs",
  limits: "one folder: nothing to do, or LOG_DIR_NOT_FOUND",
  versions: { min: 1, max: 2, flexible: 2 },
  request: {
    dirs: array({ path: string(), topics: array({ name: string(), partitions: array(int32()) }) }),
  },
  response: {
    throttleTimeMs: int32(),
    results: array({
      topicName: string(),
      partitions: array({ partitionIndex: int32(), errorCode: int16() }),
    }),
  },
  async handle({ dirs }, { log, dataDir }) {
    const one = async (path: string, name: string, partitionIndex: number) => {
      const outcome = await outcomeOf(() => {
        partitionOf(log, name, partitionIndex);
        if (path !== dataDir) throw new Refusal(ErrorCode.LOG_DIR_NOT_FOUND, `there is only ${dataDir}`);
        return {};
      });
      return { partitionIndex, ...outcome };
    };
    const results = dirs.flatMap(({ path, topics }) =>
      topics.map(async ({ name, partitions }) => ({
        topicName: name,
        partitions: await Promise.all(partitions.map((index) => one(path, name, index))),
      })),
    );
    return { results: await Promise.all(results) };
  },
});
