import { CompressionTypes, Kafka, logLevel } from "kafkajs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { StreamStore } from "../../src/log/stream-store.ts";
import { recordsOf } from "../../src/wire/record-batch.ts";
import { openStore } from "../support/log.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { type Broker, fetchBody, startBrokerOn } from "./harness.ts";

let broker: Broker<StreamStore>;
let kafka: Kafka;

beforeEach(async () => {
  const log = await openStore(await temporaryFolder());
  broker = await startBrokerOn(log, { autoCreate: { enabled: false, partitions: 1 } });
  const { host, port } = broker.server.address;
  kafka = new Kafka({ brokers: [`${host}:${port}`], logLevel: logLevel.NOTHING, retry: { retries: 1 } });
});
afterEach(() => broker.close());

describe("kafkajs", () => {
  it("creates, lists, describes, grows, configures and deletes streams", async () => {
    const admin = kafka.admin();
    await admin.connect();
    try {
      expect(await admin.createTopics({ topics: [{ topic: "a", numPartitions: 2 }] })).toBe(true);
      expect(await admin.createTopics({ topics: [{ topic: "a" }] })).toBe(false);
      expect(await admin.listTopics()).toEqual(["__catalog", "a"]);
      await admin.createPartitions({ topicPartitions: [{ topic: "a", count: 3 }] });
      const { topics } = await admin.fetchTopicMetadata({ topics: ["a"] });
      expect(topics[0]?.partitions.map(({ partitionId, leader }) => [partitionId, leader])).toEqual([
        [0, 0],
        [1, 0],
        [2, 0],
      ]);
      expect(await admin.describeCluster()).toMatchObject({ clusterId: "test-cluster", controller: 0 });
      expect(await admin.fetchTopicOffsets("a")).toHaveLength(3);
      const { resources } = await admin.describeConfigs({
        resources: [{ type: 2, name: "a", configNames: ["retention.bytes"] }],
        includeSynonyms: false,
      });
      expect(resources[0]?.configEntries).toMatchObject([
        { configName: "retention.bytes", configValue: "-1" },
      ]);
      await admin.deleteTopics({ topics: ["a"] });
      expect(await admin.listTopics()).toEqual(["__catalog"]);
    } finally {
      await admin.disconnect();
    }
  });

  it("is told that a compacted stream takes no record without a key", async () => {
    await broker.log.createStream("states", 1, { cleanup: "compact" }, "config");
    const producer = kafka.producer({ retry: { retries: 0 } });
    await producer.connect();
    try {
      for (const compression of [CompressionTypes.None, CompressionTypes.GZIP]) {
        const keyless = {
          topic: "states",
          messages: [{ key: "a", value: "1" }, { value: "2" }],
          compression,
        };
        await expect(producer.send(keyless)).rejects.toMatchObject({ type: "INVALID_RECORD" });
      }
      const [sent] = await producer.send({ topic: "states", messages: [{ key: "a", value: null }] });
      expect(sent?.baseOffset).toBe("0");
    } finally {
      await producer.disconnect();
    }
  });

  it.each([
    ["plainly", false, CompressionTypes.None],
    ["with gzip", false, CompressionTypes.GZIP],
    ["idempotently", true, CompressionTypes.None],
  ])("produces %s, with keys and headers, and the records read back", async (_, idempotent, compression) => {
    await broker.log.createStream("s", 1, {}, "config");
    const producer = kafka.producer({ idempotent });
    await producer.connect();
    try {
      const messages = [
        { key: "k", value: "1", headers: { site: "north" } },
        { key: null, value: null },
      ];
      const [answer] = await producer.send({ topic: "s", messages, compression });
      expect(answer).toMatchObject({ topicName: "s", partition: 0, errorCode: 0, baseOffset: "0" });
    } finally {
      await producer.disconnect();
    }
    const client = await broker.connect();
    const { responses } = await client.send("Fetch", 11, fetchBody("s", 0));
    const records = [...recordsOf(responses[0].partitions[0].records)];
    expect(records).toMatchObject([
      { offset: 0, key: Buffer.from("k"), value: Buffer.from("1") },
      { offset: 1, key: null, value: null },
    ]);
    expect(records[0]?.headers).toEqual([{ key: "site", value: Buffer.from("north") }]);
  });
});
