/** FindCoordinator 0–4: this node, at the address on which the client reached it. No transaction coordinator. */
import { array, int8, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";
import { broker } from "./common.ts";

/** `CoordinatorType` */
const Type = { GROUP: 0, TRANSACTION: 1 } as const;
const NO_TRANSACTIONS = "Sluice coordinates consumer groups only: there are no transactions";

export const findCoordinator = api({
  key: 10,
  name: "FindCoordinator",
  limits: "groups only; for a transactional id TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
  versions: { min: 0, max: 4, flexible: 3 },
  request: {
    key: string({ versions: "0-3" }),
    keyType: int8({ versions: "1+" }),
    coordinatorKeys: array(string(), { versions: "4+" }),
  },
  response: {
    throttleTimeMs: int32({ versions: "1+" }),
    errorCode: int16({ versions: "0-3" }),
    errorMessage: string({ versions: "1-3", nullable: "1-3" }),
    nodeId: int32({ versions: "0-3" }),
    host: string({ versions: "0-3" }),
    port: int32({ versions: "0-3" }),
    coordinators: array(
      {
        key: string(),
        nodeId: int32(),
        host: string(),
        port: int32(),
        errorCode: int16(),
        errorMessage: string({ nullable: "4+" }),
      },
      { versions: "4+" },
    ),
  },
  handle({ key, keyType, coordinatorKeys }, { advertised, logger }, { clientId }) {
    let answer = {
      errorCode: ErrorCode.NONE as ErrorCode,
      errorMessage: null as string | null,
      ...broker(advertised),
    };
    if (keyType !== Type.GROUP) {
      // Of the codes that no client retries the one that every client takes as final for a transactional id:
      // librdkafka asks again and again after INVALID_REQUEST.
      const isTransaction = keyType === Type.TRANSACTION;
      const errorCode = isTransaction
        ? ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        : ErrorCode.INVALID_REQUEST;
      const errorMessage = isTransaction
        ? NO_TRANSACTIONS
        : `there are no coordinators of type ${keyType} here`;
      answer = { errorCode, errorMessage, nodeId: -1, host: "", port: -1 };
      if (isTransaction) {
        const transactionalId = key || coordinatorKeys[0];
        logger.warn(
          { clientId, transactionalId },
          "a transactional producer was refused: leave out its transactional id",
        );
      }
    }
    return { ...answer, coordinators: coordinatorKeys.map((one) => ({ key: one, ...answer })) };
  },
});
