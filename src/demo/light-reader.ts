/**
 * A reader of the Kafka protocol as light as it can be: one connection, one Fetch under way, no group.
 *
 * It asks for the partitions of one stream and reads all of them from offset 0 for as long as it lives. It
 * speaks to a single broker (the one it connects to leads everything), which Sluice is.
 */
import { connect, type Socket } from "node:net";
import { messageOf, ProtocolError } from "../errors.ts";
import { fetch } from "../kafka/apis/01-fetch.ts";
import { metadata } from "../kafka/apis/03-metadata.ts";
import { FrameReader } from "../kafka/frame-reader.ts";
import type { StoredRecord } from "../record.ts";
import { Reader, Writer } from "../wire/buffer.ts";
import { lastOffsetOf, recordsOf } from "../wire/record-batch.ts";
import {
  decode,
  encode,
  type Fields,
  type MessageSchema,
  type Partially,
  type Shape,
} from "../wire/schema.ts";

// The last versions before the flexible encodings and topic ids: every broker of today serves them.
const METADATA = { ...metadata, version: 6 };
const FETCH = { ...fetch, version: 11 };

const MAX_FRAME_BYTES = 64 << 20;
const MAX_FETCH_BYTES = 1 << 20;
const MAX_WAIT_MS = 500;
const REPLY_TIMEOUT_MS = 60_000;

export interface LightReaderOptions {
  readonly host: string;
  readonly port: number;
  readonly stream: string;
  readonly clientId: string;
  readonly onRecord: (record: StoredRecord) => void;
}

export class LightReader {
  private readonly options: LightReaderOptions;
  private readonly frames = new FrameReader(MAX_FRAME_BYTES);
  private socket: Socket | undefined;
  private correlationId = 0;
  private onFrame: ((frame: Buffer) => void) | undefined;
  private onEnd: ((error: Error) => void) | undefined;
  /** By partition, the offset that is read next. */
  private readonly positions = new Map<number, number>();
  /** Why it reads no more; undefined as long as it does. */
  ended: string | undefined;

  constructor(options: LightReaderOptions) {
    this.options = options;
  }

  get connected(): boolean {
    return this.socket !== undefined && this.ended === undefined;
  }

  /** Connects, learns the partitions, and begins to read; from then on records arrive until `close`. */
  async start(): Promise<void> {
    await this.dial();
    const { stream } = this.options;
    const metadata = await this.ask(METADATA, { topics: [{ name: stream }], allowAutoTopicCreation: false });
    const topic = metadata.topics.find(({ name }) => name === stream);
    if (topic === undefined || topic.errorCode !== 0 || topic.partitions.length === 0) {
      this.close();
      throw new ProtocolError(`no stream "${stream}" there (error ${topic?.errorCode})`);
    }
    for (const { partitionIndex } of topic.partitions) this.positions.set(partitionIndex, 0);
    this.follow().catch((error) => this.end(error));
  }

  close(): void {
    this.end(new Error("closed"));
  }

  private dial(): Promise<void> {
    const { host, port } = this.options;
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port, noDelay: true }, resolve);
      this.socket = socket;
      socket.setTimeout(REPLY_TIMEOUT_MS, () => socket.destroy(new Error("no reply in time")));
      socket.on("data", (chunk: Buffer) => this.take(chunk));
      socket.on("error", (error) => this.end(error));
      socket.on("close", () => {
        this.end(new Error("the connection was closed"));
        reject(new Error(`port ${port}: ${this.ended}`));
      });
    });
  }

  private take(chunk: Buffer): void {
    try {
      this.frames.push(chunk);
      for (let frame = this.frames.take(); frame !== undefined; frame = this.frames.take())
        this.onFrame?.(frame);
    } catch (error) {
      this.end(error);
    }
  }

  private end(error: unknown): void {
    this.ended ??= messageOf(error);
    this.socket?.destroy();
    this.onEnd?.(new Error(this.ended));
  }

  private ask<Q extends Fields, R extends Fields>(
    api: { key: number; version: number; request: MessageSchema<Q>; response: MessageSchema<R> },
    body: Partially<Shape<Q>>,
  ): Promise<Shape<R>> {
    const correlationId = ++this.correlationId;
    const writer = new Writer();
    writer.int16(api.key);
    writer.int16(api.version);
    writer.int32(correlationId);
    writer.string(false, this.options.clientId);
    encode(api.request, api.version, body, writer);
    const message = writer.toBuffer();
    const frame = Buffer.allocUnsafe(4 + message.length);
    frame.writeInt32BE(message.length);
    message.copy(frame, 4);
    return new Promise((resolve, reject) => {
      this.onEnd = reject;
      if (this.ended !== undefined) return reject(new Error(this.ended));
      this.onFrame = (reply) => {
        const reader = new Reader(reply);
        const answered = reader.int32();
        if (answered !== correlationId)
          throw new ProtocolError(`reply ${answered} instead of ${correlationId}`);
        resolve(decode(api.response, api.version, reader));
      };
      this.socket?.write(frame);
    });
  }

  private async follow(): Promise<never> {
    for (;;) {
      const partitions = [...this.positions].map(([partition, fetchOffset]) => ({
        partition,
        fetchOffset,
        partitionMaxBytes: MAX_FETCH_BYTES,
      }));
      const { errorCode, responses } = await this.ask(FETCH, {
        replicaId: -1,
        maxWaitMs: MAX_WAIT_MS,
        minBytes: 1,
        maxBytes: MAX_FETCH_BYTES,
        sessionEpoch: -1, // no fetch session (KIP-227)
        topics: [{ topic: this.options.stream, partitions }],
      });
      if (errorCode !== 0) throw new ProtocolError(`fetch: error ${errorCode}`);
      for (const partition of responses.flatMap((response) => response.partitions)) {
        if (partition.errorCode !== 0) throw new ProtocolError(`partition: error ${partition.errorCode}`);
        this.deliver(partition.partitionIndex, partition.records ?? []);
      }
    }
  }

  /** A batch may begin before the offset asked for: what was read already is skipped. */
  private deliver(partition: number, batches: readonly Buffer[]): void {
    const from = this.positions.get(partition) ?? 0;
    let next = from;
    for (const record of recordsOf(batches)) {
      if (record.offset >= from) this.options.onRecord(record);
      next = record.offset + 1;
    }
    const first = batches[0];
    // A batch may end in offsets without records (compaction): never ask for the same batch again.
    if (next === from && first !== undefined && first.length > 0) next = lastOffsetOf(first) + 1;
    this.positions.set(partition, Math.max(from, next));
  }
}
