/**
 * FindCoordinator 0–4: this node, at the address on which the client reached it. For a transactional id, too: what there
 * is not InitProducerId says to a producer, and DescribeTransactions to an administrator.
 */
import { array, int8, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";
import { broker } from "./common.ts";

/** `CoordinatorType` */
const Type = { GROUP: 0, TRANSACTION: 1 } as const;

export const findCoordinator = api({
  key: 10,
  name: "FindCoordinator",
  limits: "no share groups (key type 2)",
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
  handle({ keyType, coordinatorKeys }, { advertised }) {
    const isKnown = keyType === Type.GROUP || keyType === Type.TRANSACTION;
    const answer = isKnown
      ? { errorCode: ErrorCode.NONE, errorMessage: null, ...broker(advertised) }
      : {
          errorCode: ErrorCode.INVALID_REQUEST,
          errorMessage: `there are no coordinators of type ${keyType} here`,
          ...{ nodeId: -1, host: "", port: -1 },
        };
    return { ...answer, coordinators: coordinatorKeys.map((one) => ({ key: one, ...answer })) };
  },
});
