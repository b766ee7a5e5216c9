/**
 * Fetch: committed record batches as they lie, waiting for `min_bytes` up to `max_wait`.
 *
 * The first batch is always returned, even if larger than every limit, or the client would never get on
 * (KIP-74). Nothing beyond the high watermark is shown; without transactions the last stable offset is the
 * same. Fetch sessions (KIP-227) are declined by session id 0, so every fetch is a full one. Not here: topic
 * ids (13 and later), followers, diverging epochs (clients ask OffsetForLeaderEpoch instead).
 */
import type { Log, Partition } from "../../log/log.ts";
import { batchBytes } from "../../wire/record-batch.ts";
import { array, int8, int16, int32, int64, records, string, struct } from "../../wire/schema.ts";
import { api, type RequestContext } from "../api.ts";
import { untilReadable } from "../delayed-fetch.ts";
import { ErrorCode } from "../error-code.ts";
import { errorCodeOf, leaderEpochError, partitionOf } from "./common.ts";

/** What one answer holds at most, whatever the client would take; but for a single larger batch. */
const MAX_FETCH_BYTES = 16 << 20;
/** Granted even when the server's byte budget is spent, so that every client gets on. */
const MIN_FETCH_BYTES = 64 << 10;
const MAX_WAIT_MS = 300_000;

/** One partition of a request, on its way to an answer. */
interface Wanted {
  readonly topic: string;
  readonly index: number;
  readonly offset: number;
  readonly maxBytes: number;
  readonly leaderEpoch: number;
  partition: Partition | undefined;
  errorCode: ErrorCode;
  batches: readonly Buffer[];
}

/** Finds the partition and judges the position; done again after waiting, as streams come and go. */
function locate(wanted: Wanted, log: Log): void {
  const partition = partitionOf(log, wanted.topic, wanted.index);
  wanted.partition = partition;
  if (partition === undefined) {
    wanted.errorCode = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION;
  } else if (wanted.offset < partition.logStartOffset || wanted.offset > partition.highWatermark) {
    wanted.errorCode = ErrorCode.OFFSET_OUT_OF_RANGE;
  } else {
    wanted.errorCode = leaderEpochError(partition, wanted.leaderEpoch);
  }
}

/** As many whole batches from the front as fit. Batches lie one after another in each buffer. */
function cutTo(batches: readonly Buffer[], maxBytes: number): Buffer[] {
  const kept: Buffer[] = [];
  let left = maxBytes;
  for (const buffer of batches) {
    let end = 0;
    while (end < buffer.length && end + batchBytes(buffer, end) <= left) end += batchBytes(buffer, end);
    if (end > 0) kept.push(buffer.subarray(0, end));
    if (end < buffer.length) break;
    left -= end;
  }
  return kept;
}

const sizeOf = (batches: readonly Buffer[]): number => batches.reduce((sum, batch) => sum + batch.length, 0);

/** Reads one partition within what is left of the answer, and returns how many bytes it took of it. */
async function readInto(wanted: Wanted, leftBytes: number, isFirst: boolean): Promise<number> {
  const { partition, offset } = wanted;
  if (partition === undefined || wanted.errorCode !== ErrorCode.NONE) return 0;
  const limit = Math.min(leftBytes, wanted.maxBytes);
  if (offset === partition.highWatermark || (limit <= 0 && !isFirst)) return 0;
  try {
    const read = partition.read(offset, Math.max(limit, 0));
    const batches = read instanceof Promise ? await read : read;
    const whole = sizeOf(batches);
    if (whole <= limit) {
      wanted.batches = batches;
      return whole;
    }
    const cut = cutTo(batches, limit);
    // The first batch of the answer goes out whatever its size.
    if (cut.length === 0 && isFirst) cut.push(...cutTo(batches, firstBatchBytes(batches)));
    wanted.batches = cut;
    return sizeOf(cut);
  } catch (error) {
    wanted.errorCode = errorCodeOf(error);
    return 0;
  }
}

function firstBatchBytes(batches: readonly Buffer[]): number {
  const [first] = batches;
  return first === undefined ? 0 : batchBytes(first);
}

async function readAll(all: readonly Wanted[], maxBytes: number, memory: RequestContext["server"]["memory"]) {
  const limit = Math.min(maxBytes, MAX_FETCH_BYTES, Math.max(memory.roomBytes, MIN_FETCH_BYTES));
  const expected = Math.min(limit, readableBytes(all));
  memory.hold(expected);
  try {
    let taken = 0;
    // One after another: the answer's order is the client's, and so is who comes first when it is full.
    for (const wanted of all) taken += await readInto(wanted, limit - taken, taken === 0);
  } finally {
    memory.release(expected);
  }
}

function readableBytes(all: readonly Wanted[]): number {
  let sum = 0;
  for (const { partition, errorCode, offset } of all) {
    if (partition !== undefined && errorCode === ErrorCode.NONE) sum += partition.bytesFrom(offset);
  }
  return sum;
}

export const fetch = api({
  key: 1,
  name: "Fetch",
  versions: { min: 4, max: 12, flexible: 12 },
  request: {
    clusterId: string({ versions: "12+", nullable: "12+", default: null, tag: 0 }),
    replicaId: int32({ default: -1 }),
    maxWaitMs: int32(),
    minBytes: int32(),
    maxBytes: int32({ default: 0x7fffffff }),
    isolationLevel: int8(),
    sessionId: int32({ versions: "7+" }),
    sessionEpoch: int32({ versions: "7+", default: -1 }),
    topics: array({
      topic: string(),
      partitions: array({
        partition: int32(),
        currentLeaderEpoch: int32({ versions: "9+", default: -1 }),
        fetchOffset: int64(),
        lastFetchedEpoch: int32({ versions: "12+", default: -1 }),
        logStartOffset: int64({ versions: "5+", default: -1 }),
        partitionMaxBytes: int32(),
      }),
    }),
    forgottenTopicsData: array({ topic: string(), partitions: array(int32()) }, { versions: "7+" }),
    rackId: string({ versions: "11+" }),
  },
  response: {
    throttleTimeMs: int32(),
    errorCode: int16({ versions: "7+" }),
    sessionId: int32({ versions: "7+" }),
    responses: array({
      topic: string(),
      partitions: array({
        partitionIndex: int32(),
        errorCode: int16(),
        highWatermark: int64(),
        lastStableOffset: int64({ default: -1 }),
        logStartOffset: int64({ versions: "5+", default: -1 }),
        divergingEpoch: struct(
          { epoch: int32({ default: -1 }), endOffset: int64({ default: -1 }) },
          { versions: "12+", tag: 0 },
        ),
        currentLeader: struct(
          { leaderId: int32({ default: -1 }), leaderEpoch: int32({ default: -1 }) },
          { versions: "12+", tag: 1 },
        ),
        snapshotId: struct(
          { endOffset: int64({ default: -1 }), epoch: int32({ default: -1 }) },
          { versions: "12+", tag: 2 },
        ),
        abortedTransactions: array(
          { producerId: int64(), firstOffset: int64() },
          {
            nullable: "4+",
          },
        ),
        preferredReadReplica: int32({ versions: "11+", default: -1 }),
        records: records({ nullable: "0+" }),
      }),
    }),
  },
  async handle({ topics, sessionId, maxWaitMs, minBytes, maxBytes, isolationLevel }, context) {
    // No session was ever given out; Kafka's clients begin with a full fetch after this error.
    if (sessionId !== 0) return { errorCode: ErrorCode.FETCH_SESSION_ID_NOT_FOUND };
    const { log, signal, server } = context;
    const byTopic = topics.map(({ topic, partitions }) => ({
      topic,
      wanted: partitions.map(
        ({ partition, fetchOffset, partitionMaxBytes, currentLeaderEpoch }): Wanted => ({
          topic,
          index: partition,
          offset: fetchOffset,
          maxBytes: partitionMaxBytes,
          leaderEpoch: currentLeaderEpoch,
          partition: undefined,
          errorCode: ErrorCode.NONE,
          batches: [],
        }),
      ),
    }));
    const all = byTopic.flatMap(({ wanted }) => wanted);
    for (const wanted of all) locate(wanted, log);
    // An error is told at once, as Kafka does: the other partitions' data must not hold it back.
    if (maxWaitMs > 0 && all.every(({ errorCode }) => errorCode === ErrorCode.NONE)) {
      const positions = all.map(({ partition, offset }) => ({ partition: partition as Partition, offset }));
      await untilReadable(positions, minBytes, Math.min(maxWaitMs, MAX_WAIT_MS), signal);
      for (const wanted of all) locate(wanted, log);
    }
    await readAll(all, maxBytes, server.memory);
    return {
      responses: byTopic.map(({ topic, wanted }) => ({
        topic,
        partitions: wanted.map(({ index, errorCode, partition, batches }) => ({
          partitionIndex: index,
          errorCode,
          highWatermark: partition?.highWatermark ?? -1,
          lastStableOffset: partition?.highWatermark ?? -1,
          logStartOffset: partition?.logStartOffset ?? -1,
          // Null for read_uncommitted, as Kafka answers it.
          abortedTransactions: isolationLevel === 0 ? null : [],
          records: batches,
        })),
      })),
    };
  },
});
