/**
 * CreateTopics: streams by request of a client; each has its own result.
 *
 * A replication factor above the one broker that there is gets INVALID_REPLICATION_FACTOR, except on a
 * compacted stream: that is how Connect and MirrorMaker ask for their state stores, with a factor of 3 and
 * no way on without them. There it is taken as 1, with a logged line.
 */
import { isStreamName } from "../../log/catalog.ts";
import type { Stream, StreamSettings } from "../../log/log.ts";
import { array, bool, int8, int16, int32, string, uuid } from "../../wire/schema.ts";
import { api, type RequestContext } from "../api.ts";
import { ErrorCode } from "../error-code.ts";
import { describeSettings, parseSettings, type SettingEntry } from "../stream-config.ts";
import { ConfigSource, NODE_ID, type Refusal, refusal, refusalOf } from "./common.ts";

interface Wish {
  readonly name: string;
  readonly numPartitions: number;
  readonly replicationFactor: number;
  readonly assignments: readonly { readonly partitionIndex: number; readonly brokerIds: readonly number[] }[];
  readonly configs: readonly SettingEntry[];
}

interface Plan {
  readonly partitions: number;
  readonly settings: Partial<StreamSettings>;
}

function assignedPartitions({ numPartitions, replicationFactor, assignments }: Wish): number | Refusal {
  if (numPartitions !== -1 || replicationFactor !== -1) {
    return refusal(ErrorCode.INVALID_REQUEST, "give replica assignments or counts, not both");
  }
  const indexes = new Set(assignments.map(({ partitionIndex }) => partitionIndex));
  const gapless = assignments.every((_, index) => indexes.has(index));
  const onlyHere = assignments.every(({ brokerIds }) => brokerIds.length === 1 && brokerIds[0] === NODE_ID);
  return gapless && onlyHere
    ? assignments.length
    : refusal(
        ErrorCode.INVALID_REPLICA_ASSIGNMENT,
        `there is one broker, ${NODE_ID}, for partitions from 0 on`,
      );
}

function plan(wish: Wish, { autoCreate, server, logger }: RequestContext): Plan | Refusal {
  const { name, numPartitions, replicationFactor, assignments, configs } = wish;
  const settings = parseSettings(configs);
  if (typeof settings === "string") return refusal(ErrorCode.INVALID_CONFIG, settings);
  let partitions = numPartitions === -1 ? autoCreate.partitions : numPartitions;
  if (assignments.length > 0) {
    const assigned = assignedPartitions(wish);
    if (typeof assigned !== "number") return assigned;
    partitions = assigned;
  } else if (replicationFactor > 1 && settings.cleanup === "compact") {
    logger.info({ stream: name, replicationFactor }, "replication factor taken as 1: there is one broker");
  } else if (replicationFactor !== -1 && replicationFactor !== 1) {
    return refusal(
      ErrorCode.INVALID_REPLICATION_FACTOR,
      `replication factor ${replicationFactor} with one broker`,
    );
  }
  if (partitions < 1 || partitions > server.maxPartitionsPerRequest) {
    return refusal(
      ErrorCode.INVALID_PARTITIONS,
      `${partitions} partitions; 1 to ${server.maxPartitionsPerRequest} are possible`,
    );
  }
  return { partitions, settings };
}

function created(stream: Stream) {
  return {
    name: stream.name,
    topicId: stream.id,
    errorCode: ErrorCode.NONE,
    numPartitions: stream.partitions.length,
    replicationFactor: 1,
    configs: describeSettings(stream.settings).map(({ name, value, readOnly }) => ({
      name,
      value,
      readOnly,
      configSource: ConfigSource.DYNAMIC_TOPIC,
    })),
  };
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
    const { log, logger } = context;
    const names = topics.map(({ name }) => name);
    const one = async (wish: Wish) => {
      const { name } = wish;
      const refused = (reason: Refusal) => ({ name, ...reason, configs: null });
      if (names.indexOf(name) !== names.lastIndexOf(name)) {
        return refused(refusal(ErrorCode.INVALID_REQUEST, `"${name}" is named twice`));
      }
      if (!isStreamName(name)) {
        return refused(refusal(ErrorCode.INVALID_TOPIC_EXCEPTION, `"${name}" cannot be a stream's name`));
      }
      if (log.stream(name) !== undefined) {
        return refused(refusal(ErrorCode.TOPIC_ALREADY_EXISTS, `"${name}" exists`));
      }
      const planned = plan(wish, context);
      if ("errorCode" in planned) return refused(planned);
      if (validateOnly) {
        return { name, errorCode: ErrorCode.NONE, numPartitions: planned.partitions, replicationFactor: 1 };
      }
      try {
        const stream = await log.createStream(name, planned.partitions, planned.settings, "protocol");
        logger.info({ stream: name, partitions: planned.partitions }, "a Kafka client created a stream");
        return created(stream);
      } catch (error) {
        return refused(refusalOf(error));
      }
    };
    return { topics: await Promise.all(topics.map(one)) };
  },
});
