/** Reading back and checking by kafkajs, the client that is always there. */
import { type Admin, type EachMessagePayload, Kafka, type KafkaConfig, logLevel } from "kafkajs";
import { eventually } from "./process.ts";

process.env.KAFKAJS_NO_PARTITIONER_WARNING = "1";

export const kafkaClient = (brokers: string, options: Partial<KafkaConfig> = {}): Kafka =>
  new Kafka({
    brokers: [brokers],
    clientId: "interop",
    logLevel: logLevel.NOTHING,
    retry: { initialRetryTime: 50, retries: 8 },
    ...options,
  });

export interface ReadRecord {
  readonly partition: number;
  readonly offset: number;
  readonly timestamp: number;
  readonly key: string | null;
  readonly value: string | null;
  readonly headers: Readonly<Record<string, string>>;
}

export function readRecord({ partition, message }: EachMessagePayload): ReadRecord {
  const headers = Object.entries(message.headers ?? {}).map(([name, value]) => [name, String(value)]);
  return {
    partition,
    offset: Number(message.offset),
    timestamp: Number(message.timestamp),
    key: message.key?.toString() ?? null,
    value: message.value?.toString() ?? null,
    headers: Object.fromEntries(headers),
  };
}

/** What `body` gives, asked by an admin client of kafkajs that is connected for as long. */
export async function withAdmin<T>(brokers: string, body: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = kafkaClient(brokers).admin();
  await admin.connect();
  try {
    return await body(admin);
  } finally {
    await admin.disconnect();
  }
}

let groups = 0;

/** Everything in a stream up to its present end, each partition in its order. */
export async function readAll(brokers: string, stream: string, timeoutMs = 60_000): Promise<ReadRecord[]> {
  const records: ReadRecord[] = [];
  await readEach(brokers, stream, (record) => records.push(record), timeoutMs);
  return records;
}

/** The same, one record at a time. */
export async function readEach(
  brokers: string,
  stream: string,
  each: (record: ReadRecord) => void,
  timeoutMs = 60_000,
): Promise<void> {
  const kafka = kafkaClient(brokers);
  const ends = await withAdmin(brokers, (admin) => admin.fetchTopicOffsets(stream));
  const missing = new Map(
    ends.filter(({ high, low }) => high !== low).map(({ partition, high }) => [partition, Number(high)]),
  );
  if (missing.size === 0) return;
  const consumer = kafka.consumer({ groupId: `read-all-${process.pid}-${groups++}`, maxWaitTimeInMs: 100 });
  let read = 0;
  try {
    await consumer.connect();
    await consumer.subscribe({ topic: stream, fromBeginning: true });
    await consumer.run({
      autoCommit: false,
      eachMessage: async (payload) => {
        const record = readRecord(payload);
        each(record);
        read++;
        const end = missing.get(record.partition);
        if (end !== undefined && record.offset + 1 >= end) missing.delete(record.partition);
      },
    });
    await eventually(() => missing.size === 0, `all of ${stream} read (${read} so far)`, timeoutMs);
  } finally {
    await consumer.disconnect();
  }
}

export const byPartition = (records: readonly ReadRecord[]): Map<number, ReadRecord[]> => {
  const partitions = new Map<number, ReadRecord[]>();
  for (const record of records) {
    const list = partitions.get(record.partition) ?? [];
    list.push(record);
    partitions.set(record.partition, list);
  }
  return partitions;
};
