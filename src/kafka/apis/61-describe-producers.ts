/** DescribeProducers (KIP-664): the idempotent producers that a partition remembers. No transaction is ever open. */
import { array, int16, int32, int64, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { outcomeOf } from "../error-code.ts";
import { partitionOf } from "./common.ts";

export const describeProducers = api({
  key: 61,
  name: "DescribeProducers",
  limits: "no transactions: none is open",
  versions: { min: 0, max: 0, flexible: 0 },
  request: { topics: array({ name: string(), partitionIndexes: array(int32()) }) },
  response: {
    throttleTimeMs: int32(),
    topics: array({
      name: string(),
      partitions: array({
        partitionIndex: int32(),
        errorCode: int16(),
        errorMessage: string({ nullable: "0+", default: null }),
        activeProducers: array({
          producerId: int64(),
          producerEpoch: int32(),
          lastSequence: int32({ default: -1 }),
          lastTimestamp: int64({ default: -1 }),
          coordinatorEpoch: int32(),
          currentTxnStartOffset: int64({ default: -1 }),
        }),
      }),
    }),
  },
  async handle({ topics }, { log }) {
    const described = topics.map(async ({ name, partitionIndexes }) => ({
      name,
      partitions: await Promise.all(
        partitionIndexes.map(async (partitionIndex) => ({
          partitionIndex,
          ...(await outcomeOf(() => ({
            activeProducers: partitionOf(log, name, partitionIndex).activeProducers.map(
              ({ producerId, epoch, lastSequence, timestamp }) => ({
                producerId,
                producerEpoch: epoch,
                lastSequence,
                lastTimestamp: timestamp,
                // Kafka's value for a producer that no coordinator has written for.
                coordinatorEpoch: -1,
              }),
            ),
          }))),
        })),
      ),
    }));
    return { topics: await Promise.all(described) };
  },
});
