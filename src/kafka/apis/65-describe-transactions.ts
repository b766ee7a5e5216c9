/** DescribeTransactions: there are none, so no id is known: TRANSACTIONAL_ID_NOT_FOUND. */
import { array, int16, int32, int64, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";

export const describeTransactions = api({
  key: 65,
  name: "DescribeTransactions",
  limits: "no transactions: TRANSACTIONAL_ID_NOT_FOUND",
  versions: { min: 0, max: 0, flexible: 0 },
  request: { transactionalIds: array(string()) },
  response: {
    throttleTimeMs: int32(),
    transactionStates: array({
      errorCode: int16(),
      transactionalId: string(),
      transactionState: string(),
      transactionTimeoutMs: int32(),
      transactionStartTimeMs: int64(),
      producerId: int64(),
      producerEpoch: int16(),
      topics: array({ topic: string(), partitions: array(int32()) }),
    }),
  },
  handle: ({ transactionalIds }) => ({
    transactionStates: transactionalIds.map((transactionalId) => ({
      transactionalId,
      errorCode: ErrorCode.TRANSACTIONAL_ID_NOT_FOUND,
    })),
  }),
});
