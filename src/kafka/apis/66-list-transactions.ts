/** ListTransactions: none, ever. State filters that Kafka does not know are told back, as it does. */
import { array, int16, int32, int64, string } from "../../wire/schema.ts";
import { api } from "../api.ts";

const STATES = new Set([
  ...["Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead"],
  "PrepareEpochFence",
]);

export const listTransactions = api({
  key: 66,
  name: "ListTransactions",
  limits: "no transactions: always none",
  versions: { min: 0, max: 2, flexible: 0 },
  request: {
    stateFilters: array(string()),
    producerIdFilters: array(int64()),
    durationFilter: int64({ versions: "1+", default: -1 }),
    transactionalIdPattern: string({ versions: "2+", nullable: "2+", default: null }),
  },
  response: {
    throttleTimeMs: int32(),
    errorCode: int16(),
    unknownStateFilters: array(string()),
    transactionStates: array({ transactionalId: string(), producerId: int64(), transactionState: string() }),
  },
  handle: ({ stateFilters }) => ({ unknownStateFilters: stateFilters.filter((name) => !STATES.has(name)) }),
});
