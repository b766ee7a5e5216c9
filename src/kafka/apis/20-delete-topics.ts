/**
 * DeleteTopics: streams by name, or by topic id from version 6 on. What the gateway's configuration states,
 * and the gateway's own state, stays: POLICY_VIOLATION, with words from version 5 on.
 */
import { ZERO_UUID } from "../../wire/buffer.ts";
import { array, int16, int32, string, uuid } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode, outcomeOf, Refusal } from "../error-code.ts";
import { changeableStream, repeatedIn } from "./common.ts";

interface Wish {
  readonly name: string | null;
  readonly topicId: string;
}

/** No name has a space. */
const asked = ({ name, topicId }: Wish): string => name ?? `id ${topicId}`;

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
  async handle({ topics, topicNames }, { log, groups, logger }, { version }) {
    const remove = async (name: string) => {
      changeableStream(log, name);
      await log.deleteStream(name);
      logger.info({ stream: name }, "a Kafka client deleted a stream");
      // A stream made anew under this name must not be read from the old one's offsets.
      await groups.forgetStream(name);
      return {};
    };
    const one = async ({ name: given, topicId }: Wish) => {
      const stream = given === null ? log.streamById(topicId) : log.stream(given);
      const name = stream?.name ?? given;
      const outcome = await outcomeOf(() => {
        if (repeated.has(asked({ name: given, topicId })))
          throw new Refusal(ErrorCode.INVALID_REQUEST, "named twice");
        if (name === null) throw new Refusal(ErrorCode.UNKNOWN_TOPIC_ID, `there is no topic id ${topicId}`);
        return remove(name);
      });
      return { name, topicId: stream?.id ?? topicId, ...outcome };
    };
    const wishes = version >= 6 ? topics : topicNames.map((name) => ({ name, topicId: ZERO_UUID }));
    const repeated = repeatedIn(wishes.map(asked));
    // One result for each, as Kafka gives it.
    const distinct = new Map(wishes.map((wish) => [asked(wish), wish]));
    return { responses: await Promise.all(Array.from(distinct.values(), one)) };
  },
});
