/**
 * InitProducerId: an id for an idempotent producer, new at every request. Without a transactional id Kafka
 * does not look at the id and epoch that a client may send along (version 3 and later), nor do we.
 *
 * Transactions are not here. A transactional id gets TRANSACTIONAL_ID_AUTHORIZATION_FAILED, and not before: every client
 * that was tried takes that as final, at once, and most name the transactional id to the user; other errors are
 * retried by some of them or blamed on the client's version, and Sarama retries whatever FindCoordinator refuses.
 */
import { int16, int32, int64, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode, outcomeOf, Refusal } from "../error-code.ts";

export const initProducerId = api({
  key: 22,
  name: "InitProducerId",
  limits: "no transactional id: TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
  versions: { min: 0, max: 5, flexible: 2 },
  request: {
    transactionalId: string({ nullable: "0+" }),
    transactionTimeoutMs: int32(),
    producerId: int64({ versions: "3+", default: -1 }),
    producerEpoch: int16({ versions: "3+", default: -1 }),
  },
  response: {
    throttleTimeMs: int32(),
    errorCode: int16(),
    producerId: int64({ default: -1 }),
    producerEpoch: int16(),
  },
  async handle({ transactionalId }, { log, logger, repeated, clientHost }, { clientId }) {
    const outcome = await outcomeOf(async () => {
      if (transactionalId === null) return { producerId: await log.nextProducerId(), producerEpoch: 0 };
      if (transactionalId === "") throw new Refusal(ErrorCode.INVALID_REQUEST, "an empty transactional id");
      repeated.say(`transactions ${clientHost}`, (heldBack) =>
        logger.warn(
          { clientHost, clientId, transactionalId, heldBack },
          "a transactional producer was refused: leave out its transactional id",
        ),
      );
      throw new Refusal(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "there are no transactions here");
    });
    return { producerEpoch: -1, ...outcome };
  },
});
