/** ElectLeaders: each partition has its one leader: ELECTION_NOT_NEEDED; null asks for all, of which none needs one. */
import { array, int8, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode, outcomeOf, Refusal } from "../error-code.ts";
import { partitionOf } from "./common.ts";

export const electLeaders = api({
  key: 43,
  name: "ElectLeaders",
  limits: "one broker leads everything: ELECTION_NOT_NEEDED",
  versions: { min: 0, max: 2, flexible: 2 },
  request: {
    electionType: int8({ versions: "1+" }),
    topicPartitions: array({ topic: string(), partitions: array(int32()) }, { nullable: "0+" }),
    timeoutMs: int32({ default: 60_000 }),
  },
  response: {
    throttleTimeMs: int32(),
    errorCode: int16({ versions: "1+" }),
    replicaElectionResults: array({
      topic: string(),
      partitionResult: array({
        partitionId: int32(),
        errorCode: int16(),
        errorMessage: string({ nullable: "0+" }),
      }),
    }),
  },
  async handle({ topicPartitions }, { log }) {
    const one = async (topic: string, partitionId: number) => {
      const outcome = await outcomeOf(() => {
        partitionOf(log, topic, partitionId);
        throw new Refusal(ErrorCode.ELECTION_NOT_NEEDED, "the one broker leads it");
      });
      return { partitionId, ...outcome };
    };
    const results = (topicPartitions ?? []).map(async ({ topic, partitions }) => ({
      topic,
      partitionResult: await Promise.all(partitions.map((index) => one(topic, index))),
    }));
    return { replicaElectionResults: await Promise.all(results) };
  },
});
