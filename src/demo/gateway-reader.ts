/**
 * Subscribers that read the stream from the gateway, or its topic from a cluster: kafkajs as far as this machine
 * bears it (it burns a timer per connection), light readers of the same protocol beyond. Each reads everything,
 * from the first record, and of transactions what was committed.
 */
import type { Consumer } from "kafkajs";
import type { Address } from "../config/schema.ts";
import { formatAddress } from "../config/units.ts";
import { Kafka, logLevel } from "../kafkajs.ts";
import type { Audit } from "./audit.ts";
import { LightReader } from "./light-reader.ts";
import type { Attach, Attached } from "./subscribers.ts";

export interface ReaderOptions {
  readonly brokers: readonly Address[];
  readonly stream: string;
  /** Subscribers with a lower number are kafkajs, the others light readers. */
  readonly kafkajs: number;
}

export function readGateway(options: ReaderOptions): Attach {
  return (subscriber, audit) =>
    subscriber < options.kafkajs
      ? attachKafkajs(subscriber, audit, options)
      : attachLight(subscriber, audit, options);
}

async function attachLight(
  subscriber: number,
  audit: Audit,
  { brokers, stream }: ReaderOptions,
): Promise<Attached> {
  const { host, port } = brokers[subscriber % brokers.length] as Address;
  const reader = new LightReader({
    host,
    port,
    stream,
    clientId: `light-${subscriber}`,
    onRecord: ({ value }) => audit.take(value ?? Buffer.alloc(0)),
  });
  await reader.start();
  return { kind: "light reader", port: 0, connections: () => (reader.connected ? 1 : 0) };
}

const JOIN_TIMEOUT_MS = 30_000;

async function attachKafkajs(
  subscriber: number,
  audit: Audit,
  { brokers, stream }: ReaderOptions,
): Promise<Attached> {
  const clientId = `kafkajs-${subscriber}`;
  const kafka = new Kafka({ clientId, brokers: brokers.map(formatAddress), logLevel: logLevel.NOTHING });
  // A cluster outlives the demonstration: the group is this one's alone.
  const consumer = kafka.consumer({ groupId: `${stream}-${clientId}`, maxWaitTimeInMs: 500 });
  // Its requests in the pool tell nothing about sockets: connected is what it says of itself.
  let connected = false;
  consumer.on("consumer.crash", () => {
    connected = false;
  });
  await consumer.connect();
  await consumer.subscribe({ topics: [stream], fromBeginning: true });
  const joined = hasJoined(consumer);
  await consumer.run({
    autoCommitInterval: 5_000,
    eachBatch: async ({ batch }) => {
      for (const { value } of batch.messages) audit.take(value ?? Buffer.alloc(0));
    },
  });
  await joined;
  connected = true;
  return { kind: "kafkajs", port: 0, connections: () => (connected ? 1 : 0) };
}

function hasJoined(consumer: Consumer): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error("kafkajs did not join its group in time")),
      JOIN_TIMEOUT_MS,
    );
    consumer.on("consumer.group_join", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
