/**
 * A reader of the Kafka protocol as light as it can be: one connection, one Fetch under way, no group.
 *
 * It asks for the partitions of one stream and reads all of them from offset 0 for as long as it lives. It
 * speaks to a single broker, the one that leads all of them: Sluice, or whoever leads the one there is.
 */
import { ProtocolError } from "../errors.ts";
import { fetch } from "../kafka/apis/01-fetch.ts";
import { metadata } from "../kafka/apis/03-metadata.ts";
import { KafkaClient } from "../kafka/client.ts";
import type { StoredRecord } from "../record.ts";
import { type AbortedTransactions, committedOf, READ_COMMITTED } from "../uplink/committed-reader.ts";
import { endOffsetOf, recordsOf } from "../wire/record-batch.ts";

// The last versions before the flexible encodings and topic ids: every broker of today serves them.
const METADATA_VERSION = 6;
const FETCH_VERSION = 11;

const MAX_FETCH_BYTES = 1 << 20;
const MAX_WAIT_MS = 500;

export interface LightReaderOptions {
  readonly host: string;
  readonly port: number;
  readonly stream: string;
  readonly clientId: string;
  readonly onRecord: (record: StoredRecord) => void;
}

export class LightReader {
  private readonly options: LightReaderOptions;
  private client: KafkaClient;
  /** By partition, the offset that is read next. */
  private readonly positions = new Map<number, number>();

  constructor(options: LightReaderOptions) {
    this.options = options;
    this.client = new KafkaClient(options.clientId);
  }

  get connected(): boolean {
    return this.client.connected;
  }

  /** Why it reads no more; undefined as long as it does. */
  get ended(): string | undefined {
    return this.client.ended;
  }

  /** Connects, learns the partitions, and begins to read; from then on records arrive until `close`. */
  async start(): Promise<void> {
    const { host, port, stream } = this.options;
    await this.client.connect(host, port);
    const body = { topics: [{ name: stream }], allowAutoTopicCreation: false };
    const { brokers, topics } = await this.client.ask(metadata, METADATA_VERSION, body);
    const [topic] = topics;
    if (topic === undefined || topic.errorCode !== 0 || topic.partitions.length === 0) {
      this.close();
      throw new ProtocolError(`no stream "${stream}" there (error ${topic?.errorCode})`);
    }
    const leaders = new Set(topic.partitions.map(({ leaderId }) => leaderId));
    const leader = brokers.find(({ nodeId }) => leaders.has(nodeId));
    if (leader === undefined || leaders.size > 1) {
      this.close();
      throw new ProtocolError(`"${stream}" has ${leaders.size} leaders, or none that is there`);
    }
    if (leader.host !== host || leader.port !== port) {
      this.close();
      this.client = new KafkaClient(this.options.clientId);
      await this.client.connect(leader.host, leader.port);
    }
    for (const { partitionIndex } of topic.partitions) this.positions.set(partitionIndex, 0);
    this.follow().catch((error) => this.client.close(error));
  }

  close(): void {
    this.client.close();
  }

  private async follow(): Promise<never> {
    for (;;) {
      const partitions = [...this.positions].map(([partition, fetchOffset]) => ({
        partition,
        fetchOffset,
        partitionMaxBytes: MAX_FETCH_BYTES,
      }));
      const { errorCode, responses } = await this.client.ask(fetch, FETCH_VERSION, {
        replicaId: -1,
        maxWaitMs: MAX_WAIT_MS,
        minBytes: 1,
        maxBytes: MAX_FETCH_BYTES,
        isolationLevel: READ_COMMITTED,
        sessionEpoch: -1, // no fetch session (KIP-227)
        topics: [{ topic: this.options.stream, partitions }],
      });
      if (errorCode !== 0) throw new ProtocolError(`fetch: error ${errorCode}`);
      for (const partition of responses.flatMap((response) => response.partitions)) {
        if (partition.errorCode !== 0) throw new ProtocolError(`partition: error ${partition.errorCode}`);
        this.deliver(partition.partitionIndex, partition.records ?? [], partition.abortedTransactions ?? []);
      }
    }
  }

  /** A batch may begin before the offset asked for: what was read already is skipped. */
  private deliver(partition: number, batches: readonly Buffer[], aborted: AbortedTransactions): void {
    const from = this.positions.get(partition) ?? 0;
    for (const record of recordsOf([...committedOf(batches, aborted)])) {
      if (record.offset >= from) this.options.onRecord(record);
    }
    if (batches.some(({ length }) => length > 0))
      this.positions.set(partition, Math.max(from, endOffsetOf(batches)));
  }
}
