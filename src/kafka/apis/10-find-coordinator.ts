/** FindCoordinator 0–4: this node, at the address on which the client reached it. No transaction coordinator. */
import { array, int8, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode, Refusal } from "../error-code.ts";
import { broker, noTransactions } from "./common.ts";

/** `CoordinatorType` */
const Type = { GROUP: 0, TRANSACTION: 1 } as const;

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
  handle({ key, keyType, coordinatorKeys }, context, { clientId }) {
    let answer = {
      errorCode: ErrorCode.NONE as ErrorCode,
      errorMessage: null as string | null,
      ...broker(context.advertised),
    };
    if (keyType !== Type.GROUP) {
      const { errorCode, message } =
        keyType === Type.TRANSACTION
          ? noTransactions(context, clientId, key || (coordinatorKeys[0] ?? ""))
          : new Refusal(ErrorCode.INVALID_REQUEST, `there are no coordinators of type ${keyType} here`);
      answer = { errorCode, errorMessage: message, nodeId: -1, host: "", port: -1 };
    }
    return { ...answer, coordinators: coordinatorKeys.map((one) => ({ key: one, ...answer })) };
  },
});
