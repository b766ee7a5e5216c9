/**
 * InitProducerId: an id for an idempotent producer, new at every request. Without a transactional id Kafka
 * does not look at the id and epoch that a client may send along (version 3 and later), nor do we.
 */
import { int16, int32, int64, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode, outcomeOf, Refusal } from "../error-code.ts";
import { noTransactions } from "./common.ts";

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
  async handle({ transactionalId }, context, { clientId }) {
    const outcome = await outcomeOf(async () => {
      if (transactionalId === null)
        return { producerId: await context.log.nextProducerId(), producerEpoch: 0 };
      if (transactionalId === "") throw new Refusal(ErrorCode.INVALID_REQUEST, "an empty transactional id");
      throw noTransactions(context, clientId, transactionalId);
    });
    return { producerEpoch: -1, ...outcome };
  },
});
