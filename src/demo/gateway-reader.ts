/**
 * Subscribers that read the stream from the gateway: kafkajs as far as this machine bears it (it burns a timer
 * per connection), light readers of the same protocol beyond. Each reads everything, from the first record.
 */
import { type Consumer, Kafka, logLevel } from "kafkajs";
import { type Audit, READINGS_STREAM } from "./audit.ts";
import { LightReader } from "./light-reader.ts";
import type { Attach, Attached } from "./subscribers.ts";

export interface ReaderOptions {
  readonly kafkaPort: number;
  /** Subscribers with a lower number are kafkajs, the others light readers. */
  readonly kafkajs: number;
}

export function readGateway({ kafkaPort, kafkajs }: ReaderOptions): Attach {
  return (subscriber, audit) =>
    subscriber < kafkajs
      ? attachKafkajs(subscriber, audit, kafkaPort)
      : attachLight(subscriber, audit, kafkaPort);
}

async function attachLight(subscriber: number, audit: Audit, port: number): Promise<Attached> {
  const reader = new LightReader({
    host: "127.0.0.1",
    port,
    stream: READINGS_STREAM,
    clientId: `light-${subscriber}`,
    onRecord: ({ value }) => audit.take(value ?? Buffer.alloc(0)),
  });
  await reader.start();
  return { kind: "light reader", port: 0, connections: () => (reader.connected ? 1 : 0) };
}

const JOIN_TIMEOUT_MS = 30_000;

async function attachKafkajs(subscriber: number, audit: Audit, port: number): Promise<Attached> {
  const clientId = `kafkajs-${subscriber}`;
  const kafka = new Kafka({ clientId, brokers: [`127.0.0.1:${port}`], logLevel: logLevel.NOTHING });
  const consumer = kafka.consumer({ groupId: clientId, maxWaitTimeInMs: 500 });
  // Its requests in the pool tell nothing about sockets: connected is what it says of itself.
  let connected = false;
  consumer.on("consumer.crash", () => {
    connected = false;
  });
  await consumer.connect();
  await consumer.subscribe({ topics: [READINGS_STREAM], fromBeginning: true });
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
