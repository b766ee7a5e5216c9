/** CreatePartitions: more partitions for a stream that no configuration states; never fewer. */
import { array, bool, int16, int32, string } from "../../wire/schema.ts";
import { api, type RequestContext } from "../api.ts";
import { ErrorCode } from "../error-code.ts";
import { lockOf, NODE_ID, refusal, refusalOf } from "./common.ts";

interface Wish {
  readonly name: string;
  readonly count: number;
  readonly assignments: readonly { readonly brokerIds: readonly number[] }[] | null;
}

async function grow({ name, count, assignments }: Wish, validateOnly: boolean, context: RequestContext) {
  const { log, server } = context;
  const stream = log.stream(name);
  if (stream === undefined)
    return refusal(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, `there is no stream "${name}"`);
  const locked = lockOf(stream);
  if (locked !== undefined) return locked;
  const present = stream.partitions.length;
  if (count <= present || count > server.maxPartitionsPerRequest) {
    return refusal(
      ErrorCode.INVALID_PARTITIONS,
      `${count} partitions; it has ${present} and may have up to ${server.maxPartitionsPerRequest}`,
    );
  }
  const assigned = assignments?.every(({ brokerIds }) => brokerIds.length === 1 && brokerIds[0] === NODE_ID);
  if (assigned === false || (assignments !== null && assignments.length !== count - present)) {
    return refusal(
      ErrorCode.INVALID_REPLICA_ASSIGNMENT,
      `every new partition goes to the one broker, ${NODE_ID}`,
    );
  }
  if (validateOnly) return { errorCode: ErrorCode.NONE };
  try {
    await log.alterStream(name, { partitions: count });
    return { errorCode: ErrorCode.NONE };
  } catch (error) {
    return refusalOf(error);
  }
}

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
  async handle({ topics, validateOnly }, context) {
    return {
      results: await Promise.all(
        topics.map(async (wish) => ({ name: wish.name, ...(await grow(wish, validateOnly, context)) })),
      ),
    };
  },
});
