/**
 * Reads a partition of the cluster as a careful consumer does: read_committed, so that neither a transaction
 * that is open nor one that was aborted is shown (KIP-98; the filter is the client's, by the list that comes
 * along with each fetch).
 */
import { fetch } from "../kafka/apis/01-fetch.ts";
import { listOffsets } from "../kafka/apis/02-list-offsets.ts";
import { batchesIn, isControl, isTransactional, lastOffsetOf, producerIdOf } from "../wire/record-batch.ts";
import type { Cluster } from "./cluster.ts";
import { KafkaError, NamedError } from "./words.ts";

export const READ_COMMITTED = 1;
const FETCH_BYTES = 4 << 20;
const MAX_WAIT_MS = 500;
/** Fetches that bring nothing, one after another. */
const MAX_IDLE = 20;

/** The first offset at or after a time; -2 the beginning, -1 the last stable offset. -1 where there is none. */
export async function remoteOffset(
  cluster: Cluster,
  topic: string,
  partition: number,
  timestamp: number,
): Promise<number> {
  const leader = cluster.leaderOf(topic, partition);
  const answer = await cluster.ask(leader, listOffsets, [2, 3], {
    replicaId: -1,
    isolationLevel: READ_COMMITTED,
    topics: [{ name: topic, partitions: [{ partitionIndex: partition, timestamp }] }],
  });
  const found = answer.topics[0]?.partitions[0];
  if (found === undefined || found.errorCode !== 0) {
    throw new KafkaError(found?.errorCode ?? -1, `${topic}/${partition}`);
  }
  return found.offset;
}

/** Batches with records that count, from `from` to the last stable offset `end`. */
export async function* committedBatches(
  cluster: Cluster,
  topic: string,
  partition: number,
  from: number,
  end: number,
): AsyncGenerator<Buffer> {
  const leader = cluster.leaderOf(topic, partition);
  let idle = 0;
  for (let offset = from; offset < end; ) {
    const answer = await cluster.ask(leader, fetch, [4, 11], {
      maxWaitMs: MAX_WAIT_MS,
      minBytes: 1,
      maxBytes: FETCH_BYTES,
      isolationLevel: READ_COMMITTED,
      topics: [{ topic, partitions: [{ partition, fetchOffset: offset, partitionMaxBytes: FETCH_BYTES }] }],
    });
    const found = answer.responses[0]?.partitions[0];
    if (found === undefined || found.errorCode !== 0) {
      throw new KafkaError(found?.errorCode ?? -1, `${topic}/${partition}`);
    }
    const aborted = new Aborted(found.abortedTransactions ?? []);
    const before = offset;
    for (const batch of batchesIn(found.records ?? [])) {
      const last = lastOffsetOf(batch);
      const isWanted = !aborted.leavesOut(batch) && last >= before;
      offset = Math.max(offset, last + 1);
      if (isWanted) yield batch;
      if (offset >= end) break;
    }
    idle = offset === before ? idle + 1 : 0;
    if (idle === MAX_IDLE)
      throw new NamedError("NO_PROGRESS", `${topic}/${partition} gives nothing at offset ${offset}`);
  }
}

export type AbortedTransactions = readonly { readonly producerId: number; readonly firstOffset: number }[];

/** The batches of a fetched partition that hold records which count. */
export function* committedOf(buffers: readonly Buffer[], aborted: AbortedTransactions): Generator<Buffer> {
  const left = new Aborted(aborted);
  for (const batch of batchesIn(buffers)) if (!left.leavesOut(batch)) yield batch;
}

/** Which producers are in an aborted transaction at the place that was read. */
class Aborted {
  private readonly coming: AbortedTransactions[number][];
  private readonly open = new Set<number>();

  constructor(list: AbortedTransactions) {
    this.coming = list.toSorted((a, b) => a.firstOffset - b.firstOffset);
  }

  leavesOut(batch: Buffer): boolean {
    while ((this.coming[0]?.firstOffset ?? Number.POSITIVE_INFINITY) <= lastOffsetOf(batch)) {
      this.open.add((this.coming.shift() as { producerId: number }).producerId);
    }
    const producer = producerIdOf(batch);
    if (isControl(batch)) {
      // A marker ends the transaction, whichever it was.
      this.open.delete(producer);
      return true;
    }
    return isTransactional(batch) && this.open.has(producer);
  }
}
