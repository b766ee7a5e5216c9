/**
 * DeleteTopics: streams by name, or by topic id from version 6 on. What the gateway's configuration states,
 * and the gateway's own state, stays: POLICY_VIOLATION, with words from version 5 on.
 */
import type { Log } from "../../log/log.ts";
import { array, int16, int32, string, uuid } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";
import { lockOf, refusal, refusalOf } from "./common.ts";

async function remove(name: string, log: Log) {
  const stream = log.stream(name);
  const refused =
    stream === undefined
      ? refusal(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, `there is no stream "${name}"`)
      : lockOf(stream);
  if (refused !== undefined) return refused;
  try {
    await log.deleteStream(name);
    return { errorCode: ErrorCode.NONE };
  } catch (error) {
    return refusalOf(error);
  }
}

export const deleteTopics = api({
  key: 20,
  name: "DeleteTopics",
  versions: { min: 1, max: 6, flexible: 4 },
  request: {
    topics: array(
      { name: string({ nullable: "6+", default: null }), topicId: uuid() },
      {
        versions: "6+",
      },
    ),
    topicNames: array(string(), { versions: "0-5" }),
    timeoutMs: int32(),
  },
  response: {
    throttleTimeMs: int32({ versions: "1+" }),
    responses: array({
      name: string({ nullable: "6+" }),
      topicId: uuid({ versions: "6+" }),
      errorCode: int16(),
      errorMessage: string({ versions: "5+", nullable: "5+", default: null }),
    }),
  },
  async handle({ topics, topicNames }, { version, log, groups, logger }) {
    const wishes = version >= 6 ? topics : topicNames.map((name) => ({ name, topicId: undefined }));
    const responses = await Promise.all(
      wishes.map(async ({ name, topicId }) => {
        const stream = name !== null ? log.stream(name) : log.streamById(topicId as string);
        if (stream === undefined && name === null) {
          return {
            name,
            topicId: topicId as string,
            ...refusal(ErrorCode.UNKNOWN_TOPIC_ID, "unknown topic id"),
          };
        }
        const streamName = stream?.name ?? (name as string);
        const result = await remove(streamName, log);
        if (result.errorCode === ErrorCode.NONE) {
          logger.info({ stream: streamName }, "a Kafka client deleted a stream");
          // A stream made anew under this name must not be read from the old one's offsets.
          await groups.forgetStream(streamName);
        }
        return { name: streamName, ...(stream === undefined ? {} : { topicId: stream.id }), ...result };
      }),
    );
    return { responses };
  },
});
