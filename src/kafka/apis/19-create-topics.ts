/**
 * CreateTopics: streams by request of a client; each has its own result.
 *
 * A replication factor above the one broker that there is gets INVALID_REPLICATION_FACTOR, except on a
 * compacted stream: that is how Connect and MirrorMaker ask for their state stores, with a factor of 3 and
 * no way on without them. There it is taken as 1, with a logged line.
 */
import type { StreamSettings } from "../../log/log.ts";
import { DEFAULT_SETTINGS } from "../../log/stream-state.ts";
import { array, bool, int8, int16, int32, string, uuid } from "../../wire/schema.ts";
import { api, type ClientContext } from "../api.ts";
import { ErrorCode, outcomeOf, Refusal } from "../error-code.ts";
import { describeSettings, parseSettings, type SettingEntry } from "../stream-config.ts";
import { checkNewName, likenessIn, NODE_ID, repeatedIn } from "./common.ts";

interface Wish {
  readonly name: string;
  readonly numPartitions: number;
  readonly replicationFactor: number;
  readonly assignments: readonly { readonly partitionIndex: number; readonly brokerIds: readonly number[] }[];
  readonly configs: readonly SettingEntry[];
}

/** How many partitions the replica assignments make; throws `Refusal` unless they name the one broker. */
function assignedPartitions({ numPartitions, replicationFactor, assignments }: Wish): number {
  if (numPartitions !== -1 || replicationFactor !== -1) {
    throw new Refusal(ErrorCode.INVALID_REQUEST, "give replica assignments or counts, not both");
  }
  const indexes = new Set(assignments.map(({ partitionIndex }) => partitionIndex));
  const gapless = assignments.every((_, index) => indexes.has(index));
  const onlyHere = assignments.every(({ brokerIds }) => brokerIds.length === 1 && brokerIds[0] === NODE_ID);
  if (gapless && onlyHere) return assignments.length;
  const words = `there is one broker, ${NODE_ID}, for partitions from 0 on`;
  throw new Refusal(ErrorCode.INVALID_REPLICA_ASSIGNMENT, words);
}

/** Throws `Refusal` for what cannot be had with one broker. */
function partitionsFor(wish: Wish, { cleanup }: Partial<StreamSettings>, context: ClientContext): number {
  const { name, numPartitions, replicationFactor, assignments } = wish;
  const { autoCreate, maxPartitionsPerRequest: most, logger } = context;
  let partitions = numPartitions === -1 ? autoCreate.partitions : numPartitions;
  if (assignments.length > 0) {
    partitions = assignedPartitions(wish);
  } else if (replicationFactor > 1 && cleanup?.includes("compact")) {
    logger.info({ stream: name, replicationFactor }, "replication factor taken as 1: there is one broker");
  } else if (replicationFactor !== -1 && replicationFactor !== 1) {
    const words = `replication factor ${replicationFactor} with one broker`;
    throw new Refusal(ErrorCode.INVALID_REPLICATION_FACTOR, words);
  }
  if (partitions >= 1 && partitions <= most) return partitions;
  throw new Refusal(ErrorCode.INVALID_PARTITIONS, `${partitions} partitions; 1 to ${most} are possible`);
}

async function create(
  wish: Wish,
  validateOnly: boolean,
  like: (name: string) => string | undefined,
  context: ClientContext,
) {
  const { name, configs } = wish;
  const { log, logger } = context;
  if (log.stream(name) !== undefined) {
    throw new Refusal(ErrorCode.TOPIC_ALREADY_EXISTS, `"${name}" exists`);
  }
  checkNewName(name, like);
  const settings = parseSettings(configs);
  const numPartitions = partitionsFor(wish, settings, context);
  if (validateOnly) {
    const would = describeSettings({ ...DEFAULT_SETTINGS, ...settings });
    return { numPartitions, replicationFactor: 1, configs: would };
  }
  const stream = await log.createStream(name, numPartitions, settings, "protocol");
  logger.info({ stream: name, partitions: numPartitions }, "a Kafka client created a stream");
  const made = describeSettings(stream.settings);
  return { topicId: stream.id, numPartitions, replicationFactor: 1, configs: made };
}

export const createTopics = api({
  key: 19,
  name: "CreateTopics",
  versions: { min: 2, max: 7, flexible: 5 },
  request: {
    topics: array({
      name: string(),
      numPartitions: int32(),
      replicationFactor: int16(),
      assignments: array({ partitionIndex: int32(), brokerIds: array(int32()) }),
      configs: array({ name: string(), value: string({ nullable: "0+" }) }),
    }),
    timeoutMs: int32({ default: 60_000 }),
    validateOnly: bool(),
  },
  response: {
    throttleTimeMs: int32(),
    topics: array({
      name: string(),
      topicId: uuid({ versions: "7+" }),
      errorCode: int16(),
      errorMessage: string({ nullable: "0+", default: null }),
      topicConfigErrorCode: int16({ versions: "5+", tag: 0 }),
      numPartitions: int32({ versions: "5+", default: -1 }),
      replicationFactor: int16({ versions: "5+", default: -1 }),
      configs: array(
        {
          name: string(),
          value: string({ nullable: "5+" }),
          readOnly: bool(),
          configSource: int8({ default: -1 }),
          isSensitive: bool(),
        },
        { versions: "5+", nullable: "5+" },
      ),
    }),
  },
  async handle({ topics, validateOnly }, context) {
    const repeated = repeatedIn(topics.map(({ name }) => name));
    const like = likenessIn(context.log);
    const one = async (wish: Wish) => {
      const { name } = wish;
      const outcome = await outcomeOf(() => {
        if (!repeated.has(name)) return create(wish, validateOnly, like, context);
        throw new Refusal(ErrorCode.INVALID_REQUEST, `"${name}" is named twice`);
      });
      return { name, configs: null, ...outcome };
    };
    return { topics: await Promise.all(topics.map(one)) };
  },
});
