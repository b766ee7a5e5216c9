/**
 * Fetch: committed record batches as they lie, waiting for `min_bytes` up to `max_wait`.
 *
 * The first batch is always returned, even if larger than every limit, or the client would never get on
 * (KIP-74). Nothing beyond the high watermark is shown; without transactions the last stable offset is the
 * same. Fetch sessions (KIP-227) are declined by session id 0, so every fetch is a full one; whether a request is one
 * its epoch says, not its session id, which some clients leave at -1. From version 13 on streams go by their ids
 * (KIP-516). Not here: followers, diverging epochs (clients ask OffsetForLeaderEpoch instead).
 */
import type { Log, Partition } from "../../log/log.ts";
import { readMemory } from "../../log/reused-memory.ts";
import { batchBytes, endOffsetOf } from "../../wire/record-batch.ts";
import { array, int8, int16, int32, int64, records, string, struct, uuid } from "../../wire/schema.ts";
import { api } from "../api.ts";
import type { ByteBudget } from "../byte-budget.ts";
import { untilReadable } from "../delayed-fetch.ts";
import { ErrorCode, errorCodeOf } from "../error-code.ts";
import type { ReadAhead } from "../read-ahead.ts";
import { nameOfId, partitionOf } from "./common.ts";

/**
 * What one answer holds at most, whatever the client would take; but for a single larger batch. Eight partitions at the
 * MiB that Kafka's clients ask for of each: half of what they ask for at a time costs them a tenth of their throughput.
 */
const MAX_FETCH_BYTES = 8 << 20;
/** While MQTT clients are there, who would wait for so much: a turn's end comes only behind an answer. */
const MAX_FETCH_BYTES_BESIDE = 4 << 20;
/** Granted even when the server's byte budget is spent, so that every client gets on. */
const MIN_FETCH_BYTES = 64 << 10;
const MAX_WAIT_MS = 300_000;
/** Kafka's `FetchMetadata`: no session, or one to be begun anew. Any other goes on with one. */
const FULL_FETCH_EPOCHS = [-1, 0];

interface Asked {
  readonly partition: number;
  readonly fetchOffset: number;
  readonly partitionMaxBytes: number;
  readonly currentLeaderEpoch: number;
}

/** One partition of a request, on its way to an answer. */
class Wanted {
  private readonly log: Log;
  /** The stream by its name; by its id where that is not empty. */
  private readonly name: string;
  private readonly id: string;
  readonly asked: Asked;
  partition: Partition | undefined;
  errorCode: ErrorCode = ErrorCode.NONE;
  batches: readonly Buffer[] = [];

  constructor(log: Log, name: string, id: string, asked: Asked) {
    this.log = log;
    this.name = name;
    this.id = id;
    this.asked = asked;
  }

  /** Finds the partition and judges the position: anew each time, as streams come and go. */
  private locate(): void {
    const { partition: index, fetchOffset, currentLeaderEpoch } = this.asked;
    this.partition = undefined;
    try {
      // The epoch before the offset: who is behind in both must not take it for a reason to start over.
      const name = this.id === "" ? this.name : nameOfId(this.log, this.id);
      const partition = partitionOf(this.log, name, index, currentLeaderEpoch);
      const isThere = fetchOffset >= partition.logStartOffset && fetchOffset <= partition.highWatermark;
      this.errorCode = isThere ? ErrorCode.NONE : ErrorCode.OFFSET_OUT_OF_RANGE;
      this.partition = partition;
    } catch (error) {
      this.errorCode = errorCodeOf(error);
    }
  }

  /** As it is now. An error is told at once: the other partitions must not hold it back. */
  readableBytes(): number {
    this.locate();
    if (this.partition === undefined || this.errorCode !== ErrorCode.NONE) return Number.POSITIVE_INFINITY;
    return this.partition.bytesFrom(this.asked.fetchOffset);
  }

  /**
   * Reads within what is left of the answer, and returns how many bytes it took of it; those are held in
   * `memory` until the caller releases them.
   */
  async read(leftBytes: number, isFirst: boolean, memory: ByteBudget, ahead: ReadAhead): Promise<number> {
    this.locate();
    const { partition } = this;
    const { fetchOffset: offset, partitionMaxBytes } = this.asked;
    if (partition === undefined || this.errorCode !== ErrorCode.NONE) return 0;
    // Of the moment: many may have begun when there was room for one.
    const room = Math.max(memory.roomBytes, MIN_FETCH_BYTES);
    const limit = Math.max(0, Math.min(leftBytes, partitionMaxBytes, room));
    if (offset === partition.highWatermark || (limit === 0 && !isFirst)) return 0;
    try {
      let found = ahead.take(partition, offset) ?? partition.read(offset, limit);
      const isInFiles = found instanceof Promise;
      if (found instanceof Promise) {
        memory.hold(limit);
        try {
          found = (await found).map(withoutMargin);
        } finally {
          memory.release(limit);
        }
      }
      const [batches, bytes] = cutTo(found, limit, isFirst);
      this.batches = batches;
      memory.hold(bytes);
      if (isInFiles && batches.length > 0) {
        // When the answer has been written: beside that it would take the core on which the client receives it. By
        // then what it was written from may already be used again.
        const next = endOffsetOf(batches);
        setImmediate(() => ahead.begin(partition, next, limit));
      }
      return bytes;
    } catch (error) {
      this.errorCode = errorCodeOf(error);
      return 0;
    }
  }
}

/** A piece of a much larger buffer would keep all of it in memory for as long as a client takes to read it. */
function withoutMargin(piece: Buffer): Buffer {
  if (piece.buffer.byteLength <= 2 * piece.length) return piece;
  const own = Buffer.from(piece);
  readMemory.give(piece);
  return own;
}

/**
 * As many whole batches from the front as fit, and their size; with `isFirst` one at least. Batches lie one
 * after another in each buffer.
 */
function cutTo(buffers: readonly Buffer[], maxBytes: number, isFirst: boolean): [readonly Buffer[], number] {
  const kept: Buffer[] = [];
  let bytes = 0;
  for (const buffer of buffers) {
    let end = buffer.length;
    if (bytes + end > maxBytes) {
      end = bytes === 0 && isFirst ? batchBytes(buffer) : 0;
      while (end < buffer.length && bytes + end + batchBytes(buffer, end) <= maxBytes) {
        end += batchBytes(buffer, end);
      }
    }
    if (end > 0) kept.push(end === buffer.length ? buffer : buffer.subarray(0, end));
    bytes += end;
    if (end < buffer.length) break;
  }
  return [kept, bytes];
}

export const fetch = api({
  key: 1,
  name: "Fetch",
  limits: "no sessions (session id 0)",
  versions: { min: 4, max: 17, flexible: 12 },
  request: {
    clusterId: string({ versions: "12+", nullable: "12+", default: null, tag: 0 }),
    replicaId: int32({ versions: "0-14", default: -1 }),
    replicaState: struct(
      { replicaId: int32({ default: -1 }), replicaEpoch: int64({ default: -1 }) },
      { versions: "15+", tag: 1 },
    ),
    maxWaitMs: int32(),
    minBytes: int32(),
    maxBytes: int32({ default: 0x7fffffff }),
    isolationLevel: int8(),
    sessionId: int32({ versions: "7+" }),
    sessionEpoch: int32({ versions: "7+", default: -1 }),
    topics: array({
      topic: string({ versions: "0-12" }),
      topicId: uuid({ versions: "13+" }),
      partitions: array({
        partition: int32(),
        currentLeaderEpoch: int32({ versions: "9+", default: -1 }),
        fetchOffset: int64(),
        lastFetchedEpoch: int32({ versions: "12+", default: -1 }),
        logStartOffset: int64({ versions: "5+", default: -1 }),
        partitionMaxBytes: int32(),
        replicaDirectoryId: uuid({ versions: "17+", tag: 0 }),
      }),
    }),
    forgottenTopicsData: array(
      {
        topic: string({ versions: "7-12" }),
        topicId: uuid({ versions: "13+" }),
        partitions: array(int32()),
      },
      { versions: "7+" },
    ),
    rackId: string({ versions: "11+" }),
  },
  response: {
    throttleTimeMs: int32(),
    errorCode: int16({ versions: "7+" }),
    sessionId: int32({ versions: "7+" }),
    responses: array({
      topic: string({ versions: "0-12" }),
      topicId: uuid({ versions: "13+" }),
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
    nodeEndpoints: array(
      { nodeId: int32(), host: string(), port: int32(), rack: string({ nullable: "16+", default: null }) },
      { versions: "16+", tag: 0 },
    ),
  },
  async handle(
    { topics, sessionEpoch, maxWaitMs, minBytes, maxBytes, isolationLevel },
    context,
    { version },
  ) {
    const { log, memory, ahead, turns, signal } = context;
    // No session was ever given out; Kafka's clients begin with a full fetch after this error.
    if (!FULL_FETCH_EPOCHS.includes(sessionEpoch)) return { errorCode: ErrorCode.FETCH_SESSION_ID_NOT_FOUND };
    const byTopic = topics.map(({ topic, topicId, partitions }) => ({
      topic,
      topicId,
      wanted: partitions.map((asked) => new Wanted(log, topic, version < 13 ? "" : topicId, asked)),
    }));
    const all = byTopic.flatMap(({ wanted }) => wanted);
    await untilReadable(all, minBytes, Math.min(maxWaitMs, MAX_WAIT_MS), signal);
    let left = Math.min(maxBytes, turns.hasOthers(context) ? MAX_FETCH_BYTES_BESIDE : MAX_FETCH_BYTES);
    let held = 0;
    try {
      // One after another: the answer's order is the client's, and so is who comes first when it is full.
      for (const wanted of all) {
        const bytes = await wanted.read(left, held === 0, memory, ahead);
        left -= bytes;
        held += bytes;
      }
    } finally {
      // From here on the connection answers for them.
      memory.release(held);
    }
    return {
      responses: byTopic.map(({ topic, topicId, wanted }) => ({
        topic,
        topicId,
        partitions: wanted.map(({ asked, errorCode, partition, batches }) => ({
          partitionIndex: asked.partition,
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
