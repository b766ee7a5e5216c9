/** A server on the fake log, and a client that speaks the protocol by the server's own declarations, reversed. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { pino } from "pino";
import { GroupCoordinator } from "../../src/groups/coordinator.ts";
import type { Api } from "../../src/kafka/api.ts";
import { apis } from "../../src/kafka/apis/index.ts";
import { FrameReader } from "../../src/kafka/frame-reader.ts";
import { KafkaServer, type KafkaServerOptions, type KafkaServices } from "../../src/kafka/server.ts";
import type { Log } from "../../src/log/log.ts";
import { Turns } from "../../src/turns.ts";
import { Reader, Writer } from "../../src/wire/buffer.ts";
import { batchOf, type EncodableRecord, NO_HEADERS } from "../../src/wire/record-batch.ts";
import { decode, encode } from "../../src/wire/schema.ts";
import { FakeLog } from "./fake-log.ts";

export const silent = pino({ level: "silent" });

export const OPTIONS: KafkaServerOptions = {
  bind: { host: "127.0.0.1", port: 0 },
  advertise: "auto",
  maxFrameBytes: 8 << 20,
  maxConnections: 100,
  maxInFlight: 8,
  maxPartitionsPerRequest: 1000,
  maxBufferedBytes: 64 << 20,
  autoCreate: { enabled: true, partitions: 3 },
  dataDir: "/tmp",
};

/** What a server in a test is given besides its log. */
export function servicesFor(log: Log, clusterId = "test-cluster", turns = new Turns()): KafkaServices {
  return { log, groups: new GroupCoordinator(log, {}, silent), clusterId, turns };
}

export interface Broker<L extends Log = FakeLog> {
  readonly server: KafkaServer;
  readonly log: L;
  /** Not started. */
  readonly groups: GroupCoordinator;
  connect(): Promise<Client>;
  close(): Promise<void>;
}

export function startBroker(
  options: Partial<KafkaServerOptions> = {},
  served: readonly Api[] = apis,
  turns?: Turns,
): Promise<Broker> {
  return startBrokerOn(new FakeLog(), options, served, turns);
}

export async function startBrokerOn<L extends Log>(
  log: L,
  options: Partial<KafkaServerOptions> = {},
  served: readonly Api[] = apis,
  turns?: Turns,
): Promise<Broker<L>> {
  const services = servicesFor(log, undefined, turns);
  const server = new KafkaServer({ ...OPTIONS, ...options }, services, silent, served);
  await server.start();
  const clients: Client[] = [];
  return {
    server,
    log,
    groups: services.groups,
    async connect() {
      const socket = connect(server.address.port, server.address.host);
      await once(socket, "connect");
      const client = new Client(socket, served);
      clients.push(client);
      return client;
    },
    async close() {
      for (const client of clients) client.socket.destroy();
      await server.close();
    },
  };
}

/** An answer has the shape of the API asked; the tests know which. */
// biome-ignore lint/suspicious/noExplicitAny: the schema's types are lost in the list of all APIs
type Answer = any;

export class Client {
  readonly socket: Socket;
  readonly closed: Promise<void>;
  private readonly apis: readonly Api[];
  private readonly frames = new FrameReader(1 << 30);
  private readonly waiting: { api: Api; version: number; resolve: (answer: Answer) => void }[] = [];
  private correlation = 0;
  /** Correlation ids in the order in which replies came. */
  readonly order: number[] = [];

  constructor(socket: Socket, served: readonly Api[]) {
    this.socket = socket;
    this.apis = served;
    socket.on("error", () => {});
    this.closed = new Promise((resolve) => socket.once("close", () => resolve()));
    socket.on("data", (chunk) => {
      this.frames.push(chunk);
      for (let frame = this.frames.take(); frame !== undefined; frame = this.frames.take()) this.reply(frame);
    });
  }

  private reply(frame: Buffer): void {
    const reader = new Reader(frame);
    this.order.push(reader.int32());
    const { api, version, resolve } = this.waiting.shift() as (typeof this.waiting)[number];
    if (version >= api.response.flexibleFrom && api.key !== 18) reader.taggedFields();
    const answer = decode(api.response, version, reader);
    if (reader.remaining > 0) throw new Error(`${reader.remaining} bytes left behind ${api.name} ${version}`);
    resolve(answer);
  }

  api(name: string): Api {
    const found = this.apis.find((api) => api.name === name);
    if (found === undefined) throw new Error(`no API ${name}`);
    return found;
  }

  /** The bytes of a request, its length in front. */
  frame(name: string, version: number, body: object): Buffer {
    const api = this.api(name);
    const writer = new Writer();
    writer.int16(api.key);
    writer.int16(version);
    writer.int32(this.correlation++);
    writer.string(false, "test");
    if (version >= api.request.flexibleFrom) writer.uvarint(0);
    encode(api.request, version, body, writer);
    return framed(writer.toBuffer());
  }

  /** Waits for the answer of a request whose bytes go out some other way. */
  expect(name: string, version: number): Promise<Answer> {
    return new Promise((resolve) => this.waiting.push({ api: this.api(name), version, resolve }));
  }

  send(name: string, version: number, body: object): Promise<Answer> {
    const answer = this.expect(name, version);
    this.socket.write(this.frame(name, version, body));
    return answer;
  }
}

export function framed(body: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeInt32BE(body.length);
  return Buffer.concat([length, body]);
}

export function record(value: string, timestamp = 1_700_000_000_000): EncodableRecord {
  return { key: null, value: Buffer.from(value), headers: NO_HEADERS, timestamp };
}

export function produceBody(stream: string, batch: Buffer | null, acks = -1, index = 0) {
  return {
    acks,
    timeoutMs: 1000,
    topicData: [{ name: stream, partitionData: [{ index, records: batch === null ? null : [batch] }] }],
  };
}

export function fetchBody(
  stream: string,
  offset: number,
  more: { maxWaitMs?: number; minBytes?: number; maxBytes?: number; partitionMaxBytes?: number } = {},
) {
  const { partitionMaxBytes = 1 << 20, ...rest } = more;
  return {
    maxWaitMs: 0,
    minBytes: 1,
    maxBytes: 1 << 20,
    ...rest,
    topics: [{ topic: stream, partitions: [{ partition: 0, fetchOffset: offset, partitionMaxBytes }] }],
  };
}

export function batch(...values: string[]): Buffer {
  return batchOf(values.map((value) => record(value)));
}

/** Resolves when `test` holds; the suite's time-out is the only clock. */
export async function until(test: () => boolean): Promise<void> {
  while (!test()) await new Promise((resolve) => setTimeout(resolve, 2));
}
