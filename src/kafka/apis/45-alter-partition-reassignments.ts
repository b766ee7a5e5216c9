/**
 * AlterPartitionReassignments: every partition is on the one broker and stays there. To assign it to that is
 * nothing to do; to cancel (null) is NO_REASSIGNMENT_IN_PROGRESS.
 */
import { array, bool, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode, outcomeOf, Refusal } from "../error-code.ts";
import { forEachPartition, NODE_ID, partitionOf } from "./common.ts";

function checkReplicas(replicas: readonly number[] | null): void {
  if (replicas === null) {
    throw new Refusal(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, "nothing is being reassigned");
  }
  if (replicas.length !== 1 || replicas[0] !== NODE_ID) {
    throw new Refusal(ErrorCode.INVALID_REPLICA_ASSIGNMENT, `there is one broker, ${NODE_ID}`);
  }
}

export const alterPartitionReassignments = api({
  key: 45,
  name: "AlterPartitionReassignments",
  limits: "one broker: nothing to do, or INVALID_REPLICA_ASSIGNMENT",
  versions: { min: 0, max: 1, flexible: 0 },
  request: {
    timeoutMs: int32({ default: 60_000 }),
    allowReplicationFactorChange: bool({ versions: "1+", default: true }),
    topics: array({
      name: string(),
      partitions: array({
        partitionIndex: int32(),
        replicas: array(int32(), { nullable: "0+", default: null }),
      }),
    }),
  },
  response: {
    throttleTimeMs: int32(),
    allowReplicationFactorChange: bool({ versions: "1+", default: true }),
    errorCode: int16(),
    errorMessage: string({ nullable: "0+", default: null }),
    responses: array({
      name: string(),
      partitions: array({
        partitionIndex: int32(),
        errorCode: int16(),
        errorMessage: string({ nullable: "0+" }),
      }),
    }),
  },
  async handle({ topics, allowReplicationFactorChange }, { log }) {
    const responses = await forEachPartition(topics, async ({ partitionIndex, replicas }, { name }) => ({
      partitionIndex,
      ...(await outcomeOf(() => {
        partitionOf(log, name, partitionIndex);
        checkReplicas(replicas);
        return {};
      })),
    }));
    return { allowReplicationFactorChange, responses };
  },
});
