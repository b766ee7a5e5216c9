/**
 * What a transactional producer says to a cluster beyond the requests that the gateway itself serves
 * (src/kafka/apis): in the words of Kafka's own definitions, before the flexible encodings.
 */
import type { Exchange } from "../kafka/client.ts";
import { array, bool, type Fields, int16, int32, int64, message, string } from "../wire/schema.ts";

function exchange<Q extends Fields, R extends Fields>(
  key: number,
  name: string,
  request: Q,
  response: R,
): Exchange<Q, R> {
  return { key, name, request: message({}, request), response: message({}, response) };
}

const producer = { producerId: int64(), producerEpoch: int16() };

/** 0–2; with 2 a fenced producer is told PRODUCER_FENCED. */
export const addPartitionsToTxn = exchange(
  24,
  "AddPartitionsToTxn",
  {
    transactionalId: string(),
    ...producer,
    topics: array({ name: string(), partitions: array(int32()) }),
  },
  {
    throttleTimeMs: int32(),
    topics: array({
      name: string(),
      partitions: array({ partitionIndex: int32(), errorCode: int16() }),
    }),
  },
);

/** 0–2 */
export const addOffsetsToTxn = exchange(
  25,
  "AddOffsetsToTxn",
  { transactionalId: string(), ...producer, groupId: string() },
  { throttleTimeMs: int32(), errorCode: int16() },
);

/** 0–2 */
export const endTxn = exchange(
  26,
  "EndTxn",
  { transactionalId: string(), ...producer, committed: bool() },
  { throttleTimeMs: int32(), errorCode: int16() },
);

/** 2 */
export const txnOffsetCommit = exchange(
  28,
  "TxnOffsetCommit",
  {
    transactionalId: string(),
    groupId: string(),
    ...producer,
    topics: array({
      name: string(),
      partitions: array({
        partitionIndex: int32(),
        committedOffset: int64(),
        committedLeaderEpoch: int32({ versions: "2+", default: -1 }),
        committedMetadata: string({ nullable: "0+" }),
      }),
    }),
  },
  {
    throttleTimeMs: int32(),
    topics: array({
      name: string(),
      partitions: array({ partitionIndex: int32(), errorCode: int16() }),
    }),
  },
);
