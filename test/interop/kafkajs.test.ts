/** kafkajs: its admin client, its producers, its consumers, and a group that loses a member. */
import { fileURLToPath } from "node:url";
import { type Admin, CompressionTypes, ConfigResourceTypes } from "kafkajs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { byPartition, kafkaClient, readAll } from "./support/kafka.ts";
import { eventually, Running } from "./support/process.ts";
import { startTarget, type Target } from "./support/target.ts";

describe("kafkajs", () => {
  let target: Target;
  let admin: Admin;

  beforeAll(async () => {
    target = await startTarget({ one: 1, four: 4, idempotent: 1, timed: 1, places: 2, group: 6 });
    admin = kafkaClient(target.brokers).admin();
    await admin.connect();
  });
  afterAll(async () => {
    await admin?.disconnect();
    await target?.close();
  });

  const withProducer = async (options: { idempotent?: boolean }, send: (p: Producer) => Promise<void>) => {
    const producer = kafkaClient(target.brokers).producer({ ...options, allowAutoTopicCreation: false });
    await producer.connect();
    try {
      await send(producer);
    } finally {
      await producer.disconnect();
    }
  };
  type Producer = ReturnType<ReturnType<typeof kafkaClient>["producer"]>;

  test("the admin client creates, lists, describes and deletes a stream", async () => {
    expect(await admin.createTopics({ topics: [{ topic: "made-here", numPartitions: 5 }] })).toBe(true);
    expect(await admin.createTopics({ topics: [{ topic: "made-here", numPartitions: 5 }] })).toBe(false);
    expect(await admin.listTopics()).toContain("made-here");
    const { topics } = await admin.fetchTopicMetadata({ topics: ["made-here"] });
    expect(topics[0]?.partitions.map(({ partitionId }) => partitionId).sort()).toEqual([0, 1, 2, 3, 4]);
    await admin.deleteTopics({ topics: ["made-here"] });
    await eventually(async () => !(await admin.listTopics()).includes("made-here"), "the stream gone");
  });

  test("the admin client sees one broker, who is the controller", async () => {
    const { brokers, controller, clusterId } = await admin.describeCluster();
    expect(brokers.map(({ host, port }) => `${host}:${port}`)).toEqual([target.brokers]);
    expect(controller).toBe(brokers[0]?.nodeId);
    expect(clusterId).toBeTruthy();
  });

  test("keys, values and headers, null and empty ones, come back as they went", async () => {
    const messages = [
      { key: "k", value: "v", headers: { h: "1", twice: ["a", "b"] } },
      { key: null, value: "no key" },
      { key: "", value: "" },
      { key: "tombstone", value: null },
      { key: "ümläut", value: Buffer.alloc(100_000, 7) },
    ];
    await withProducer({}, async (producer) => {
      const sent = await producer.send({ topic: "one", acks: -1, messages });
      expect(sent[0]?.baseOffset).toBe("0");
    });
    const read = await readAll(target.brokers, "one");
    expect(read.map(({ key }) => key)).toEqual(["k", null, "", "tombstone", "ümläut"]);
    expect(read.map(({ value }) => value?.length ?? null)).toEqual([1, 6, 0, null, 100_000]);
    expect(read[0]?.headers).toEqual({ h: "1", twice: "a,b" });
  });

  test("acks 0, 1 and all, plain and gzip: nothing is lost and each partition keeps its order", async () => {
    await withProducer({}, async (producer) => {
      let sequence = 0;
      for (const acks of [0, 1, -1]) {
        for (const compression of [CompressionTypes.None, CompressionTypes.GZIP]) {
          const messages = Array.from({ length: 100 }, () => ({
            key: `k${sequence % 16}`,
            value: `${sequence++}`,
          }));
          await producer.send({ topic: "four", acks, compression, messages });
        }
      }
    });
    const ended = async () =>
      (await admin.fetchTopicOffsets("four")).reduce((sum, { high }) => sum + Number(high), 0) === 600;
    await eventually(ended, "600 records, the unacknowledged ones included");
    const read = await readAll(target.brokers, "four");
    expect(new Set(read.map(({ value }) => value)).size).toBe(600);
    for (const records of byPartition(read).values()) {
      const values = records.map(({ value }) => Number(value));
      expect(values).toEqual(values.toSorted((a, b) => a - b));
      expect(records.map(({ offset }) => offset)).toEqual(records.map((_, index) => index));
    }
  });

  test("an idempotent producer writes each record once, in order", async () => {
    await withProducer({ idempotent: true }, async (producer) => {
      for (let round = 0; round < 20; round++) {
        const messages = Array.from({ length: 10 }, (_, index) => ({ value: `${round * 10 + index}` }));
        await producer.send({ topic: "idempotent", messages });
      }
    });
    const read = await readAll(target.brokers, "idempotent");
    expect(read.map(({ value }) => Number(value))).toEqual(Array.from({ length: 200 }, (_, index) => index));
  });

  test("offsets are found by time", async () => {
    const start = Date.now() - 100_000;
    await withProducer({}, async (producer) => {
      const messages = Array.from({ length: 10 }, (_, index) => ({
        value: `${index}`,
        timestamp: String(start + index * 1_000),
      }));
      await producer.send({ topic: "timed", messages });
    });
    const at = async (time: number) => (await admin.fetchTopicOffsetsByTimestamp("timed", time))[0]?.offset;
    expect(await at(start - 5)).toBe("0");
    expect(await at(start + 4_000)).toBe("4");
    expect(await at(start + 4_001)).toBe("5");
    expect(await at(start + 60_000)).toBe("10");
  });

  test("committed offsets are set, fetched, and used", async () => {
    await withProducer({}, async (producer) => {
      for (const partition of [0, 1]) {
        const messages = Array.from({ length: 10 }, (_, index) => ({
          partition,
          value: `${partition}-${index}`,
        }));
        await producer.send({ topic: "places", messages });
      }
    });
    const partitions = [
      { partition: 0, offset: "7" },
      { partition: 1, offset: "10" },
    ];
    await admin.setOffsets({ groupId: "placed", topic: "places", partitions });
    const fetched = await admin.fetchOffsets({ groupId: "placed", topics: ["places"] });
    const offsets = fetched[0]?.partitions.map(({ partition, offset }) => ({ partition, offset }));
    expect(offsets?.toSorted((a, b) => a.partition - b.partition)).toEqual(partitions);
    const consumer = kafkaClient(target.brokers).consumer({ groupId: "placed", maxWaitTimeInMs: 100 });
    const values: string[] = [];
    await consumer.connect();
    await consumer.subscribe({ topic: "places", fromBeginning: true });
    await consumer.run({ eachMessage: async ({ message }) => void values.push(String(message.value)) });
    await eventually(() => values.length >= 3, "the last three records");
    await consumer.disconnect();
    expect(values).toEqual(["0-7", "0-8", "0-9"]);
  });

  test("groups are listed and described with their members", async () => {
    const consumer = kafkaClient(target.brokers).consumer({ groupId: "described", maxWaitTimeInMs: 100 });
    let joined = false;
    consumer.on(consumer.events.GROUP_JOIN, () => {
      joined = true;
    });
    await consumer.connect();
    await consumer.subscribe({ topic: "one" });
    await consumer.run({ eachMessage: async () => {} });
    await eventually(() => joined, "the member to join");
    try {
      const { groups } = await admin.listGroups();
      expect(groups).toContainEqual({ groupId: "described", protocolType: "consumer" });
      const described = await admin.describeGroups(["described"]);
      expect(described.groups[0]).toMatchObject({ groupId: "described", state: "Stable" });
      expect(described.groups[0]?.members.map(({ clientId }) => clientId)).toEqual(["interop"]);
    } finally {
      await consumer.disconnect();
    }
  });

  test("a stream's settings are described", async () => {
    const resources = [{ type: ConfigResourceTypes.TOPIC, name: "one" }];
    const { resources: described } = await admin.describeConfigs({ resources, includeSynonyms: false });
    const names = described[0]?.configEntries.map(({ configName }) => configName);
    expect(names).toEqual(expect.arrayContaining(["retention.ms", "cleanup.policy", "segment.bytes"]));
  });

  test("three members share a group; one is killed, its partitions are taken over, nothing is missed", async () => {
    const script = fileURLToPath(new URL("./support/member.ts", import.meta.url));
    const args = ["--import", "tsx", script, target.brokers, "trio", "group"];
    const members = [0, 1, 2].map(() => new Running(process.execPath, args));
    const said = (member: Running) =>
      member.stdout.split("\n").flatMap((line) => (line.endsWith("}") ? [JSON.parse(line)] : []));
    const assigned = (member: Running): number[] =>
      said(member).findLast((line) => line.partitions !== undefined)?.partitions ?? [];
    const shared = (among: readonly Running[]) => {
      const all = among.flatMap(assigned).sort();
      return (
        among.every((member) => assigned(member).length === 6 / among.length) && all.join() === "0,1,2,3,4,5"
      );
    };
    let sent = 0;
    let sending = true;
    const load = withProducer({}, async (producer) => {
      while (sending) {
        const messages = Array.from({ length: 6 }, (_, partition) => ({ partition, value: `${sent++}` }));
        await producer.send({ topic: "group", messages });
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    });
    try {
      await eventually(() => shared(members), "two partitions for each of three members", 40_000);
      const before = sent;
      await eventually(() => sent > before + 120, "some records to three members");
      const [victim, ...survivors] = members as [Running, Running, Running];
      await victim.end("SIGKILL");
      await eventually(() => shared(survivors), "three partitions for each survivor", 40_000);
      const after = sent;
      await eventually(() => sent > after + 120, "some records to two members");
      sending = false;
      await load;
      const got = () => new Set(members.flatMap(said).map((line) => line.value));
      const missed = () => {
        const values = got();
        return Array.from({ length: sent }, (_, index) => String(index)).filter(
          (value) => !values.has(value),
        );
      };
      await eventually(() => missed().length === 0, "every record at one of the members");
    } finally {
      sending = false;
      await Promise.allSettled([load, ...members.map((member) => member.end("SIGKILL"))]);
    }
  });
});
