/**
 * A Kafka cluster of several brokers, as far as an uplink asks it: who leads, who coordinates, transactions that
 * are committed or not. It holds what it has been given in memory, and does on demand what real brokers do only
 * now and then: it is slow, has no leader, is of an old version.
 */
import { createServer, type Server, type Socket } from "node:net";
import { onTestFinished } from "vitest";
import { produce } from "../../src/kafka/apis/00-produce.ts";
import { metadata } from "../../src/kafka/apis/03-metadata.ts";
import { offsetFetch } from "../../src/kafka/apis/09-offset-fetch.ts";
import { findCoordinator } from "../../src/kafka/apis/10-find-coordinator.ts";
import { apiVersions } from "../../src/kafka/apis/18-api-versions.ts";
import { initProducerId } from "../../src/kafka/apis/22-init-producer-id.ts";
import type { Exchange } from "../../src/kafka/client.ts";
import { FrameReader } from "../../src/kafka/frame-reader.ts";
import { addOffsetsToTxn, addPartitionsToTxn, endTxn, txnOffsetCommit } from "../../src/uplink/messages.ts";
import { Reader, Writer } from "../../src/wire/buffer.ts";
import { recordsOf } from "../../src/wire/record-batch.ts";
import { decode, encode, type Fields, type Partially, type Shape } from "../../src/wire/schema.ts";

const LEADER_NOT_AVAILABLE = 5;
const NOT_LEADER = 6;
const MESSAGE_TOO_LARGE = 10;
const PRODUCER_FENCED = 90;

export const KEY = { produce: 0, metadata: 3, apiVersions: 18, initProducerId: 22, endTxn: 26 } as const;

interface Transaction {
  epoch: number;
  readonly values: Map<number, string[]>;
  readonly places: Map<string, { offset: number; metadata: string }>;
}

interface Broker {
  readonly server: Server;
  readonly port: number;
  readonly sockets: Set<Socket>;
}

interface Handler {
  readonly exchange: Exchange;
  readonly answer: (body: never, nodeId: number) => object;
}

function serving<Q extends Fields, R extends Fields>(
  exchange: Exchange<Q, R>,
  answer: (body: Shape<Q>, nodeId: number) => Partially<Shape<R>>,
): [number, Handler] {
  return [exchange.key, { exchange: exchange as unknown as Exchange, answer }];
}

export class FakeCluster {
  /** Who leads each partition of the one topic; -1 nobody. */
  readonly leaders: number[];
  readonly topic: string;
  /** What is committed, by partition. */
  readonly committed = new Map<number, string[]>();
  readonly versions = new Map<number, readonly [number, number]>([
    [0, [3, 9]],
    [3, [4, 12]],
    [9, [1, 7]],
    [10, [0, 2]],
    [18, [0, 3]],
    [22, [0, 1]],
    [24, [0, 2]],
    [25, [0, 2]],
    [26, [0, 2]],
    [28, [0, 2]],
  ]);
  coordinator = 0;
  /** A value that it takes for too large. */
  refused: string | undefined;
  /** Called before each answer, which waits for it. */
  onRequest: (nodeId: number, apiKey: number) => Promise<void> | void = () => {};
  private readonly brokers: Broker[] = [];
  private readonly transactions = new Map<string, Transaction>();
  private readonly places = new Map<string, { offset: number; metadata: string }>();
  private readonly handlers: ReadonlyMap<number, Handler>;

  private constructor(topic: string, leaders: readonly number[]) {
    this.topic = topic;
    this.leaders = [...leaders];
    this.handlers = new Map(this.all());
  }

  /** `leaders`: by partition, a broker from 0 on. */
  static async start(topic: string, leaders: readonly number[], brokers: number): Promise<FakeCluster> {
    const cluster = new FakeCluster(topic, leaders);
    for (let nodeId = 0; nodeId < brokers; nodeId++) cluster.brokers.push(await cluster.listen(nodeId, 0));
    onTestFinished(() => cluster.close());
    return cluster;
  }

  address(nodeId: number): { host: string; port: number } {
    return { host: "127.0.0.1", port: (this.brokers[nodeId] as Broker).port };
  }

  valuesOf(partition: number): readonly string[] {
    return this.committed.get(partition) ?? [];
  }

  /** Its port refuses connections from now on, and those that there are end. */
  stop(nodeId: number): Promise<void> {
    const { server, sockets } = this.brokers[nodeId] as Broker;
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => server.close(() => resolve()));
  }

  async again(nodeId: number): Promise<void> {
    this.brokers[nodeId] = await this.listen(nodeId, this.address(nodeId).port);
  }

  private async close(): Promise<void> {
    await Promise.all(this.brokers.map((_, nodeId) => this.stop(nodeId)));
  }

  private listen(nodeId: number, port: number): Promise<Broker> {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => sockets.delete(socket));
      const frames = new FrameReader(16 << 20);
      let before: Promise<unknown> = Promise.resolve();
      socket.on("data", (chunk) => {
        frames.push(chunk);
        for (let frame = frames.take(); frame !== undefined; frame = frames.take()) {
          const own = frame;
          before = before.then(() => this.serve(nodeId, own, socket)).catch((error) => socket.destroy(error));
        }
      });
    });
    return new Promise((resolve) => {
      server.listen(port, "127.0.0.1", () => {
        resolve({ server, port: (server.address() as { port: number }).port, sockets });
      });
    });
  }

  private async serve(nodeId: number, frame: Buffer, socket: Socket): Promise<void> {
    const reader = new Reader(frame);
    const key = reader.int16();
    const version = reader.int16();
    const correlationId = reader.int32();
    reader.string(false);
    const { exchange, answer } = this.handlers.get(key) as Handler;
    if (version >= exchange.request.flexibleFrom) reader.taggedFields();
    const body = decode(exchange.request, version, reader);
    await this.onRequest(nodeId, key);
    const writer = new Writer();
    writer.int32(0);
    writer.int32(correlationId);
    if (version >= exchange.response.flexibleFrom && key !== apiVersions.key) writer.uvarint(0);
    encode(exchange.response, version, answer(body as never, nodeId), writer);
    const length = writer.length - 4;
    const pieces = writer.finish();
    (pieces[0] as Buffer).writeInt32BE(length, 0);
    for (const piece of pieces) socket.write(piece);
  }

  private all(): [number, Handler][] {
    const ok = (
      topics: readonly { name: string; partitions: readonly (number | { partitionIndex: number })[] }[],
    ) =>
      topics.map(({ name, partitions }) => ({
        name,
        partitions: partitions.map((one) => ({
          partitionIndex: typeof one === "number" ? one : one.partitionIndex,
        })),
      }));
    return [
      serving(apiVersions, () => ({
        apiKeys: Array.from(this.versions, ([apiKey, [minVersion, maxVersion]]) => ({
          apiKey,
          minVersion,
          maxVersion,
        })),
      })),
      serving(metadata, ({ topics }) => ({
        brokers: this.brokers.map((_, nodeId) => ({ nodeId, ...this.address(nodeId) })),
        clusterId: "fake",
        controllerId: 0,
        topics: (topics ?? []).map(({ name }) => ({
          name,
          partitions: this.leaders.map((leaderId, partitionIndex) => ({
            partitionIndex,
            leaderId,
            errorCode: leaderId < 0 ? LEADER_NOT_AVAILABLE : 0,
          })),
        })),
      })),
      serving(findCoordinator, () => ({ nodeId: this.coordinator, ...this.address(this.coordinator) })),
      serving(initProducerId, ({ transactionalId }) => {
        const id = transactionalId ?? "";
        const epoch = (this.transactions.get(id)?.epoch ?? -1) + 1;
        this.transactions.set(id, { epoch, values: new Map(), places: new Map() });
        return { producerId: 1, producerEpoch: epoch };
      }),
      serving(offsetFetch, ({ topics }) => ({
        topics: (topics ?? []).map(({ name, partitionIndexes }) => ({
          name,
          partitions: partitionIndexes.map((partitionIndex) => {
            const place = this.places.get(`${name}/${partitionIndex}`);
            return { partitionIndex, committedOffset: place?.offset ?? -1, metadata: place?.metadata ?? "" };
          }),
        })),
      })),
      serving(addPartitionsToTxn, ({ topics }) => ({ topics: ok(topics) })),
      serving(addOffsetsToTxn, () => ({})),
      serving(produce, ({ transactionalId, topicData }, nodeId) => ({
        responses: topicData.map(({ name, partitionData }) => ({
          name,
          partitionResponses: partitionData.map(({ index, records }) => ({
            index,
            errorCode: this.take(transactionalId ?? "", index, records ?? [], nodeId),
          })),
        })),
      })),
      serving(txnOffsetCommit, ({ transactionalId, topics }) => {
        const { places } = this.transactions.get(transactionalId) as Transaction;
        for (const { name, partitions } of topics) {
          for (const { partitionIndex, committedOffset: offset, committedMetadata } of partitions) {
            places.set(`${name}/${partitionIndex}`, { offset, metadata: committedMetadata ?? "" });
          }
        }
        return { topics: ok(topics) };
      }),
      serving(endTxn, ({ transactionalId, producerEpoch }) => {
        const open = this.transactions.get(transactionalId) as Transaction;
        if (open.epoch !== producerEpoch) return { errorCode: PRODUCER_FENCED };
        for (const [index, values] of open.values) {
          this.committed.set(index, [...this.valuesOf(index), ...values]);
        }
        for (const [name, place] of open.places) this.places.set(name, place);
        open.values.clear();
        open.places.clear();
        return {};
      }),
    ];
  }

  private take(id: string, index: number, records: readonly Buffer[], nodeId: number): number {
    if (this.leaders[index] !== nodeId) return NOT_LEADER;
    const { values } = this.transactions.get(id) as Transaction;
    const own = Array.from(recordsOf(records), ({ value }) => String(value));
    if (own.some((value) => value === this.refused)) return MESSAGE_TOO_LARGE;
    values.set(index, [...(values.get(index) ?? []), ...own]);
    return 0;
  }
}
