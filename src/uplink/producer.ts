/**
 * A producer of whole deliveries: batches together with the places that they bring the source to.
 *
 * The one rule that exactly once rests on: **a delivery either went through with every answer in order, or the
 * producer is begun anew** (`begin`: InitProducerId with the same transactional id). That gives it a new epoch,
 * which fences whatever of it is still under way, and it is not answered before the transaction that was open is
 * settled, aborted or committed. Only then are the places read that the cluster holds, and they are the truth.
 * So no sequence is ever used twice for other records, no outcome is guessed, and no error has to be understood
 * for the data to be right.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { produce } from "../kafka/apis/00-produce.ts";
import { offsetCommit } from "../kafka/apis/08-offset-commit.ts";
import { offsetFetch } from "../kafka/apis/09-offset-fetch.ts";
import { initProducerId } from "../kafka/apis/22-init-producer-id.ts";
import { ErrorCode } from "../kafka/error-code.ts";
import { type Cluster, GROUP, TRANSACTION } from "./cluster.ts";
import { addOffsetsToTxn, addPartitionsToTxn, endTxn, txnOffsetCommit } from "./messages.ts";
import type { Codec, Compress, RemoteBatch } from "./remote-batch.ts";
import { KafkaError } from "./words.ts";

const CONCURRENT_TRANSACTIONS = 51;
const UNSTABLE_OFFSET_COMMIT = 88;
const OPERATION_NOT_ATTEMPTED = 55;
const OF_PRODUCER = new Set<number>([
  ErrorCode.INVALID_TXN_STATE,
  ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
]);
const MAX_SEQUENCE = 0x7fff_ffff;
/** A broker that takes longer, and several times as long as the others, is not waited for together with them. */
export const SLOW_BROKER_MS = 1_000;

/** Where a place is kept: an offset that a group has committed for a topic's partition. */
export interface PlaceKey {
  readonly topic: string;
  readonly partition: number;
}

export interface Place extends PlaceKey {
  readonly offset: number;
  readonly metadata: string;
}

export interface ProducerOptions {
  readonly group: string;
  /** Undefined: deliveries are sent once and again until they are acknowledged, and their places after them. */
  readonly transactionalId: string | undefined;
  readonly transactionTimeoutMs: number;
  readonly produceTimeoutMs: number;
  readonly codec: Codec;
  readonly compress: Compress | undefined;
}

/** What single partitions answered where the others were fine: only they are to be left alone. */
export class PartitionsError extends Error {
  readonly culprits: ReadonlyMap<string, KafkaError>;

  constructor(culprits: ReadonlyMap<string, KafkaError>) {
    super([...culprits.values()].map(({ message }) => message).join("; "));
    this.culprits = culprits;
  }
}

export const placeName = ({ topic, partition }: PlaceKey): string => `${topic}/${partition}`;

export class Producer {
  private readonly cluster: Cluster;
  private readonly options: ProducerOptions;
  private producerId = -1;
  private producerEpoch = -1;
  /** By `topic/partition`, since `begin`. */
  private readonly sequences = new Map<string, number>();

  constructor(cluster: Cluster, options: ProducerOptions) {
    this.cluster = cluster;
    this.options = options;
  }

  private get identity() {
    const { producerId, producerEpoch } = this;
    return { transactionalId: this.options.transactionalId ?? "", producerId, producerEpoch };
  }

  /** Fences all that this transactional id has under way, and settles it. */
  async begin(): Promise<void> {
    const { transactionalId, transactionTimeoutMs } = this.options;
    this.sequences.clear();
    if (transactionalId === undefined) return;
    const answer = await this.atCoordinator(TRANSACTION, transactionalId, async (nodeId) => {
      const body = { transactionalId, transactionTimeoutMs };
      const answer = await this.cluster.ask(nodeId, initProducerId, [0, 1], body);
      check(answer.errorCode, `transactional id ${transactionalId}`);
      return answer;
    });
    this.producerId = answer.producerId;
    this.producerEpoch = answer.producerEpoch;
  }

  /** What the cluster holds; a place that it does not have is left out. Waits for transactions to be settled. */
  async places(keys: readonly PlaceKey[]): Promise<Map<string, Place>> {
    const { group } = this.options;
    return this.atCoordinator(GROUP, group, async (nodeId) => {
      const answer = await this.cluster.ask(nodeId, offsetFetch, [1, 7], {
        groupId: group,
        topics: byTopic(keys, ({ partition }) => partition).map(({ name, partitions }) => ({
          name,
          partitionIndexes: partitions,
        })),
        requireStable: true,
      });
      check(answer.errorCode, `group ${group}`);
      const found = new Map<string, Place>();
      for (const { name, partitions } of answer.topics) {
        for (const { partitionIndex, committedOffset, metadata, errorCode } of partitions) {
          check(errorCode, `group ${group}, ${name}/${partitionIndex}`);
          if (committedOffset < 0) continue;
          const place = { topic: name, partition: partitionIndex, offset: committedOffset };
          found.set(placeName(place), { ...place, metadata: metadata ?? "" });
        }
      }
      return found;
    });
  }

  /**
   * Resolves when the batches and the places are in the cluster for good, with those of the batches whose broker
   * kept the others waiting. Rejects with PartitionsError where
   * single partitions refused, or with whatever else went wrong; in both cases the outcome is unknown until
   * `begin` and `places`.
   */
  async deliver(batches: readonly RemoteBatch[], places: readonly Place[]): Promise<ReadonlySet<string>> {
    if (this.options.transactionalId === undefined) {
      const slow = await this.produce(batches);
      await this.commitPlaces(places);
      return slow;
    }
    await allOf([this.addPartitions(batches), this.addOffsets()]);
    const [slow] = await allOf([this.produce(batches), this.addPlaces(places)]);
    await this.end();
    return slow;
  }

  private async addPartitions(batches: readonly RemoteBatch[]): Promise<void> {
    if (batches.length === 0) return;
    const topics = byTopic(batches, ({ partition }) => partition);
    await this.atCoordinator(TRANSACTION, this.identity.transactionalId, async (nodeId) => {
      const body = { ...this.identity, topics };
      const answer = await this.cluster.ask(nodeId, addPartitionsToTxn, [0, 2], body);
      const culprits = new Map<string, KafkaError>();
      for (const { name, partitions } of answer.topics) {
        for (const { partitionIndex, errorCode } of partitions) {
          if (errorCode === 0 || errorCode === OPERATION_NOT_ATTEMPTED) continue;
          const place = `${name}/${partitionIndex}`;
          const error = new KafkaError(errorCode, place);
          // What is wrong with the producer or its coordinator is said of every partition.
          if (isOfCoordinator(error) || error.isFenced || OF_PRODUCER.has(errorCode)) throw error;
          culprits.set(place, error);
        }
      }
      if (culprits.size > 0) throw new PartitionsError(culprits);
    });
  }

  private async addOffsets(): Promise<void> {
    const { group: groupId } = this.options;
    await this.atCoordinator(TRANSACTION, this.identity.transactionalId, async (nodeId) => {
      const answer = await this.cluster.ask(nodeId, addOffsetsToTxn, [0, 2], { ...this.identity, groupId });
      check(answer.errorCode, `group ${groupId}`);
    });
  }

  /** One request to each leader, all at once. Every partition's answer is looked at. */
  private async produce(batches: readonly RemoteBatch[]): Promise<ReadonlySet<string>> {
    const culprits = new Map<string, KafkaError>();
    const byLeader = new Map<number, RemoteBatch[]>();
    for (const batch of batches) {
      const leader = this.cluster.leaderOf(batch.topic, batch.partition);
      if (leader < 0)
        culprits.set(placeName(batch), new KafkaError(ErrorCode.LEADER_NOT_AVAILABLE, placeName(batch)));
      else byLeader.set(leader, [...(byLeader.get(leader) ?? []), batch]);
    }
    if (culprits.size > 0) throw new PartitionsError(culprits);
    const tookMs = new Map<number, number>();
    const startedAt = performance.now();
    const failures: { leader: number; error: unknown }[] = [];
    await Promise.all(
      Array.from(byLeader, async ([leader, own]) => {
        try {
          for (const [place, error] of await this.produceTo(leader, own)) culprits.set(place, error);
          tookMs.set(leader, performance.now() - startedAt);
        } catch (error) {
          failures.push({ leader, error });
        }
      }),
    );
    for (const { leader, error } of failures) {
      // One broker of several: its partitions are left alone, the others go on.
      if (tookMs.size === 0 && this.cluster.brokerIds.length <= 1) throw error;
      for (const batch of byLeader.get(leader) ?? []) {
        culprits.set(
          placeName(batch),
          new KafkaError(ErrorCode.LEADER_NOT_AVAILABLE, placeName(batch), (error as Error).message),
        );
      }
    }
    if (culprits.size > 0) throw new PartitionsError(culprits);
    for (const batch of batches) {
      const sequence = this.sequenceOf(batch) + batch.count;
      // Behind the last comes 0 (Kafka's DefaultRecordBatch.incrementSequence).
      this.sequences.set(placeName(batch), sequence > MAX_SEQUENCE ? sequence - MAX_SEQUENCE - 1 : sequence);
    }
    const slow = slowestOf(tookMs);
    return new Set((slow === undefined ? [] : (byLeader.get(slow) ?? [])).map(placeName));
  }

  private sequenceOf(batch: RemoteBatch): number {
    return this.options.transactionalId === undefined ? -1 : (this.sequences.get(placeName(batch)) ?? 0);
  }

  private async produceTo(leader: number, batches: readonly RemoteBatch[]): Promise<Map<string, KafkaError>> {
    const { transactionalId, produceTimeoutMs, codec, compress } = this.options;
    const { producerId, producerEpoch } = this;
    const identity = { producerId, producerEpoch, transactional: transactionalId !== undefined };
    const sealed: { name: string; index: number; records: Buffer[] }[] = [];
    // One after another: compressors share a few threads with the disk's syncs, for which sensors wait.
    for (const batch of batches) {
      const records = await batch.seal({ ...identity, sequence: this.sequenceOf(batch) }, codec, compress);
      sealed.push({ name: batch.topic, index: batch.partition, records: [records] });
    }
    const topicData = [...new Set(sealed.map(({ name }) => name))].map((name) => ({
      name,
      partitionData: sealed.filter((one) => one.name === name),
    }));
    // The remote's own words come with 8.
    const answer = await this.cluster.ask(leader, produce, [3, 11], {
      transactionalId: transactionalId ?? null,
      acks: -1,
      timeoutMs: produceTimeoutMs,
      topicData,
    });
    // A partition that is not answered was not acknowledged.
    const missing = new Set(batches.map(placeName));
    const culprits = new Map<string, KafkaError>();
    for (const { name, partitionResponses } of answer.responses) {
      for (const { index, errorCode, errorMessage, recordErrors } of partitionResponses) {
        const place = `${name}/${index}`;
        missing.delete(place);
        if (errorCode === 0) continue;
        const words = errorMessage ?? recordErrors[0]?.batchIndexErrorMessage;
        const error = new KafkaError(errorCode, place, words);
        if (error.isFenced) throw error;
        culprits.set(place, error);
      }
    }
    for (const place of missing) culprits.set(place, new KafkaError(-1, place, "no answer for it"));
    return culprits;
  }

  private async addPlaces(places: readonly Place[]): Promise<void> {
    const { group: groupId } = this.options;
    await this.atCoordinator(GROUP, groupId, async (nodeId) => {
      const body = { ...this.identity, groupId, topics: committed(places) };
      const { topics } = await this.cluster.ask(nodeId, txnOffsetCommit, [2, 2], body);
      checkAll(topics, groupId, places);
    });
  }

  private async commitPlaces(places: readonly Place[]): Promise<void> {
    const { group: groupId } = this.options;
    await this.atCoordinator(GROUP, groupId, async (nodeId) => {
      const body = { groupId, topics: committed(places) };
      const { topics } = await this.cluster.ask(nodeId, offsetCommit, [2, 5], body);
      checkAll(topics, groupId, places);
    });
  }

  private async end(): Promise<void> {
    await this.atCoordinator(TRANSACTION, this.identity.transactionalId, async (nodeId) => {
      const answer = await this.cluster.ask(nodeId, endTxn, [0, 2], { ...this.identity, committed: true });
      check(answer.errorCode, `transactional id ${this.identity.transactionalId}`);
    });
  }

  /**
   * Asks a coordinator, and asks again where it answered that it cannot yet or is not the one: an answer, so
   * nothing of it was done. A connection that breaks is no answer, and ends the delivery.
   */
  private async atCoordinator<T>(kind: number, key: string, ask: (nodeId: number) => Promise<T>): Promise<T> {
    const deadline = performance.now() + this.cluster.options.requestTimeoutMs;
    for (let waitMs = 2; ; waitMs = Math.min(waitMs * 2, 100)) {
      try {
        return await ask(await this.cluster.coordinator(kind, key));
      } catch (error) {
        const retry = error instanceof KafkaError && isOfCoordinator(error);
        if (!retry || performance.now() > deadline) throw error;
        if (error.isCoordinator) this.cluster.forgetCoordinators();
      }
      await sleep(waitMs);
    }
  }
}

function isOfCoordinator(error: KafkaError): boolean {
  const { kafkaCode } = error;
  return error.isCoordinator || kafkaCode === CONCURRENT_TRANSACTIONS || kafkaCode === UNSTABLE_OFFSET_COMMIT;
}

function check(errorCode: number, about: string): void {
  if (errorCode !== 0) throw new KafkaError(errorCode, about);
}

/** Rejects with the first that is not 0, or where one that was given is not answered. */
function checkAll(
  topics: readonly { name: string; partitions: readonly { partitionIndex: number; errorCode: number }[] }[],
  group: string,
  places: readonly Place[],
): void {
  const missing = new Set(places.map(placeName));
  for (const { name, partitions } of topics) {
    for (const { partitionIndex, errorCode } of partitions) {
      check(errorCode, `group ${group}, ${name}/${partitionIndex}`);
      missing.delete(`${name}/${partitionIndex}`);
    }
  }
  for (const place of missing) throw new KafkaError(-1, `group ${group}, ${place}`, "no answer for it");
}

function committed(places: readonly Place[]) {
  return byTopic(places, ({ partition, offset, metadata }) => ({
    partitionIndex: partition,
    committedOffset: offset,
    committedMetadata: metadata,
  }));
}

function byTopic<T extends { topic: string }, P>(items: readonly T[], partition: (item: T) => P) {
  const topics = new Map<string, P[]>();
  for (const item of items) {
    const list = topics.get(item.topic);
    if (list === undefined) topics.set(item.topic, [partition(item)]);
    else list.push(partition(item));
  }
  return Array.from(topics, ([name, partitions]) => ({ name, partitions }));
}

/** The broker that took long for what all others did quickly. */
function slowestOf(tookMs: ReadonlyMap<number, number>): number | undefined {
  const [slowest, next] = [...tookMs].sort(([, a], [, b]) => b - a);
  if (slowest === undefined || next === undefined) return undefined;
  return slowest[1] > SLOW_BROKER_MS && slowest[1] > 4 * next[1] ? slowest[0] : undefined;
}

/** Waits for all, so that nothing goes on behind a failure; then rejects with the most telling one. */
async function allOf<T extends readonly unknown[]>(work: readonly [...{ [K in keyof T]: Promise<T[K]> }]) {
  const results = await Promise.allSettled(work);
  const reasons = results.flatMap((result) => (result.status === "rejected" ? [result.reason] : []));
  if (reasons.length > 0) throw reasons.find((reason) => reason instanceof PartitionsError) ?? reasons[0];
  return results.map((result) => (result as PromiseFulfilledResult<unknown>).value) as unknown as T;
}
