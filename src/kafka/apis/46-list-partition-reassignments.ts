/** ListPartitionReassignments: none, ever: there is one broker. */
import { array, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";

export const listPartitionReassignments = api({
  key: 46,
  name: "ListPartitionReassignments",
  limits: "one broker: always none",
  versions: { min: 0, max: 0, flexible: 0 },
  request: {
    timeoutMs: int32({ default: 60_000 }),
    topics: array({ name: string(), partitionIndexes: array(int32()) }, { nullable: "0+", default: null }),
  },
  response: {
    throttleTimeMs: int32(),
    errorCode: int16(),
    errorMessage: string({ nullable: "0+", default: null }),
    topics: array({
      name: string(),
      partitions: array({
        partitionIndex: int32(),
        replicas: array(int32()),
        addingReplicas: array(int32()),
        removingReplicas: array(int32()),
      }),
    }),
  },
  handle: () => ({}),
});
