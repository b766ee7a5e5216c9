/** CreatePartitions: more partitions for a stream that no configuration states; never fewer. */
import { array, bool, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode, outcomeOf, Refusal } from "../error-code.ts";
import { changeableStream, NODE_ID, repeatedIn } from "./common.ts";

export const createPartitions = api({
  key: 37,
  name: "CreatePartitions",
  versions: { min: 0, max: 3, flexible: 2 },
  request: {
    topics: array({
      name: string(),
      count: int32(),
      assignments: array({ brokerIds: array(int32()) }, { nullable: "0+" }),
    }),
    timeoutMs: int32(),
    validateOnly: bool(),
  },
  response: {
    throttleTimeMs: int32(),
    results: array({
      name: string(),
      errorCode: int16(),
      errorMessage: string({ nullable: "0+", default: null }),
    }),
  },
  async handle({ topics, validateOnly }, { log, maxPartitionsPerRequest: most }) {
    const repeated = repeatedIn(topics.map(({ name }) => name));
    // One result for each name, as Kafka gives it.
    const byName = new Map(topics.map((topic) => [topic.name, topic]));
    const results = Array.from(byName.values(), async ({ name, count, assignments }) => {
      const outcome = await outcomeOf(async () => {
        if (repeated.has(name)) throw new Refusal(ErrorCode.INVALID_REQUEST, `"${name}" is named twice`);
        const present = changeableStream(log, name).partitions.length;
        if (count <= present || count > most) {
          const words = `${count} partitions; it has ${present} and may have up to ${most}`;
          throw new Refusal(ErrorCode.INVALID_PARTITIONS, words);
        }
        const onlyHere = assignments?.every(({ brokerIds: ids }) => ids.length === 1 && ids[0] === NODE_ID);
        if (onlyHere === false || (assignments?.length ?? count - present) !== count - present) {
          const words = `every new partition goes to the one broker, ${NODE_ID}`;
          throw new Refusal(ErrorCode.INVALID_REPLICA_ASSIGNMENT, words);
        }
        if (!validateOnly) await log.alterStream(name, { partitions: count });
        return {};
      });
      return { name, ...outcome };
    });
    return { results: await Promise.all(results) };
  },
});
