import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ErrorCode } from "../../src/kafka/error-code.ts";
import { ZERO_UUID } from "../../src/wire/buffer.ts";
import { type Broker, type Client, startBroker } from "./harness.ts";

let broker: Broker;
let client: Client;

beforeEach(async () => {
  broker = await startBroker();
  await broker.log.createStream("fixed", 2, {}, "config");
  await broker.log.createStream("__own", 1, {}, "internal");
  client = await broker.connect();
});
afterEach(() => broker.close());

const wish = (name: string, more: object = {}) => ({ name, numPartitions: 1, replicationFactor: 1, ...more });

async function create(topics: object[], validateOnly = false) {
  return (await client.send("CreateTopics", 7, { topics, validateOnly })).topics;
}

const config = (name: string, value: string) => ({ configs: [{ name, value }] });

describe("Metadata", () => {
  it("lists all streams for null, none for an empty list, and all for version 0's empty list", async () => {
    const namesIn = async (version: number, topics: object[] | null) =>
      (await client.send("Metadata", version, { topics })).topics.map(({ name }: { name: string }) => name);
    expect(await namesIn(12, null)).toEqual(["fixed", "__own"]);
    expect(await namesIn(1, [])).toEqual([]);
    expect(await namesIn(0, [])).toEqual(["fixed", "__own"]);
  });

  it("marks internal streams and carries the topic id, by which a stream can be asked for", async () => {
    const id = broker.log.stream("fixed")?.id;
    const { topics, clusterId, controllerId } = await client.send("Metadata", 12, {
      topics: [{ name: null, topicId: id }, { name: "__own" }, { name: null, topicId: "x".repeat(22) }],
    });
    expect({ clusterId, controllerId }).toEqual({ clusterId: "test-cluster", controllerId: 0 });
    expect(topics).toMatchObject([
      { name: "fixed", topicId: id, isInternal: false, partitions: [{ leaderId: 0, isrNodes: [0] }, {}] },
      { name: "__own", isInternal: true },
      { errorCode: ErrorCode.UNKNOWN_TOPIC_ID, name: null },
    ]);
  });

  it("goes by the id where there is one, whatever the name beside it, and creates nothing for it", async () => {
    const id = broker.log.stream("fixed")?.id;
    const unknown = `${"x".repeat(21)}w`;
    const ask = async (version: number) => {
      const asked = [id, unknown].flatMap((topicId) => ["", "other"].map((name) => ({ name, topicId })));
      const request = { topics: asked, allowAutoTopicCreation: true, includeTopicAuthorizedOperations: true };
      return (await client.send("Metadata", version, request)).topics;
    };
    const found = { errorCode: 0, name: "fixed", topicId: id, topicAuthorizedOperations: 0xdf8 };
    const { UNKNOWN_TOPIC_ID } = ErrorCode;
    const not = { errorCode: UNKNOWN_TOPIC_ID, topicId: unknown, topicAuthorizedOperations: -2147483648 };
    expect(await ask(12)).toMatchObject([found, found, { ...not, name: null }, { ...not, name: null }]);
    expect(await ask(11)).toMatchObject([found, found, { ...not, name: "" }, { ...not, name: "" }]);
    expect(broker.log.stream("other")).toBeUndefined();
  });

  it("creates a missing stream where that is allowed, and answers with it", async () => {
    const ask = (name: string, allowAutoTopicCreation: boolean) =>
      client.send("Metadata", 9, { topics: [{ name }], allowAutoTopicCreation });
    expect((await ask("new", false)).topics).toMatchObject([{ errorCode: 3, partitions: [] }]);
    const both = await Promise.all([ask("new", true), ask("new", true)]);
    for (const { topics } of both) expect(topics).toMatchObject([{ errorCode: 0, partitions: [{}, {}, {}] }]);
    expect((await ask("no good name", true)).topics[0].errorCode).toBe(ErrorCode.INVALID_TOPIC_EXCEPTION);
  });

  it("tells what is allowed only to those who ask", async () => {
    const { topics, clusterAuthorizedOperations } = await client.send("Metadata", 8, {
      topics: [{ name: "fixed" }],
      includeClusterAuthorizedOperations: true,
    });
    expect([clusterAuthorizedOperations, topics[0].topicAuthorizedOperations]).toEqual([8096, -2147483648]);
    const more = { includeTopicAuthorizedOperations: true, allowAutoTopicCreation: false };
    const asked = await client.send("Metadata", 9, {
      topics: [{ name: "fixed" }, { name: "none" }],
      ...more,
    });
    expect(asked.topics).toMatchObject([
      { errorCode: 0, topicAuthorizedOperations: 0xdf8 },
      { errorCode: 3, topicAuthorizedOperations: 0xdf8 },
    ]);
  });
});

it("DescribeTopicPartitions tells what is allowed of a stream that there is not, and a name that none can have", async () => {
  const topics = ["a b", "fixed", "none"].map((name) => ({ name }));
  const described = await client.send("DescribeTopicPartitions", 0, { topics });
  expect(described.topics).toMatchObject([
    { name: "a b", errorCode: ErrorCode.INVALID_TOPIC_EXCEPTION, topicAuthorizedOperations: 0xdf8 },
    { name: "fixed", errorCode: 0, topicAuthorizedOperations: 0xdf8 },
    { name: "none", errorCode: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, topicAuthorizedOperations: 0xdf8 },
  ]);
});

describe("CreateTopics", () => {
  it("creates, with settings, and answers with what was made", async () => {
    const [made] = await create([wish("a", { numPartitions: -1, ...config("retention.ms", "1000") })]);
    const stream = broker.log.stream("a");
    expect(made).toMatchObject({ errorCode: 0, topicId: stream?.id, numPartitions: 3, replicationFactor: 1 });
    expect(stream?.settings.retentionMs).toBe(1000);
    expect(stream?.origin).toBe("protocol");
  });

  it("only judges when asked to validate", async () => {
    expect(await create([wish("a"), wish("fixed")], true)).toMatchObject([
      { errorCode: 0 },
      { errorCode: 36 },
    ]);
    expect(broker.log.stream("a")).toBeUndefined();
  });

  it("tells the settings that a stream would have, when asked to validate", async () => {
    const [would] = await create([wish("a", config("retention.ms", "1000"))], true);
    const [made] = await create([wish("a", config("retention.ms", "1000"))]);
    expect(would.configs).toContainEqual(expect.objectContaining({ name: "retention.ms", value: "1000" }));
    const names = ({ configs }: { configs: { name: string }[] }) => configs.map(({ name }) => name);
    expect(names(would)).toEqual(names(made));
  });

  it("refuses a name that metrics could not tell from another stream's, whichever way it is asked for", async () => {
    await broker.log.createStream("a.b_c", 1, {}, "config");
    const refused = { errorCode: ErrorCode.INVALID_TOPIC_EXCEPTION };
    expect(await create([wish("a_b.c"), wish("a.b_c"), wish("a_b_d")])).toMatchObject([
      { ...refused, errorMessage: expect.stringContaining('"a.b_c"') },
      { errorCode: ErrorCode.TOPIC_ALREADY_EXISTS },
      { errorCode: 0 },
    ]);
    expect(await create([wish("a.b.c")], true)).toMatchObject([refused]);
    const topics = [{ name: "a_b_c" }, { name: "a.b_c" }];
    const told = await client.send("Metadata", 9, { topics, allowAutoTopicCreation: true });
    expect(told.topics).toMatchObject([refused, { errorCode: 0 }]);
    expect(broker.log.streams.map(({ name }) => name)).toEqual(["fixed", "__own", "a.b_c", "a_b_d"]);
  });

  it("takes a high replication factor for compacted streams only, as Connect asks for its own", async () => {
    const compacted = wish("connect-offsets", {
      replicationFactor: 3,
      ...config("cleanup.policy", "compact"),
    });
    expect(await create([compacted, wish("b", { replicationFactor: 3 })])).toMatchObject([
      { errorCode: 0, replicationFactor: 1 },
      { errorCode: ErrorCode.INVALID_REPLICATION_FACTOR },
    ]);
  });

  it("takes a replica assignment that names the one broker", async () => {
    const assigned = (name: string, assignments: object[], counts = -1) =>
      wish(name, { numPartitions: counts, replicationFactor: counts, assignments });
    const good = [
      { partitionIndex: 1, brokerIds: [0] },
      { partitionIndex: 0, brokerIds: [0] },
    ];
    const answers = await create([
      assigned("a", good),
      assigned("b", good, 1),
      assigned("c", [{ partitionIndex: 0, brokerIds: [1] }]),
      assigned("d", [{ partitionIndex: 1, brokerIds: [0] }]),
    ]);
    expect(answers).toMatchObject([
      { errorCode: 0, numPartitions: 2 },
      { errorCode: ErrorCode.INVALID_REQUEST },
      { errorCode: ErrorCode.INVALID_REPLICA_ASSIGNMENT },
      { errorCode: ErrorCode.INVALID_REPLICA_ASSIGNMENT },
    ]);
  });

  it.each([
    ["a bad name", wish("a b"), ErrorCode.INVALID_TOPIC_EXCEPTION],
    ["a name that exists", wish("fixed"), ErrorCode.TOPIC_ALREADY_EXISTS],
    ["no partitions", wish("a", { numPartitions: 0 }), ErrorCode.INVALID_PARTITIONS],
    ["too many partitions", wish("a", { numPartitions: 1001 }), ErrorCode.INVALID_PARTITIONS],
    ["an unknown setting", wish("a", config("x.y", "1")), ErrorCode.INVALID_CONFIG],
    ["a setting of the object prototype", wish("a", config("constructor", "1")), ErrorCode.INVALID_CONFIG],
    ["a value that is none", wish("a", config("retention.ms", "soon")), ErrorCode.INVALID_CONFIG],
    ["a value out of bounds", wish("a", config("segment.bytes", "1")), ErrorCode.INVALID_CONFIG],
    [
      "a value that is none where it has no effect",
      wish("a", config("flush.ms", "soon")),
      ErrorCode.INVALID_CONFIG,
    ],
    ["what only a cluster can do", wish("a", config("min.insync.replicas", "2")), ErrorCode.INVALID_CONFIG],
  ])("refuses %s, in words", async (_, given, errorCode) => {
    expect(await create([given])).toMatchObject([{ errorCode, errorMessage: expect.stringMatching(/\w/) }]);
  });

  it("takes settings that only say how Kafka does it, as Kafka Streams 2.1 sends them, and does not tell them", async () => {
    const configs = [
      { name: "segment.index.bytes", value: "52428800" },
      { name: "flush.messages", value: "9223372036854775807" },
      { name: "preallocate", value: "true" },
      { name: "segment.ms", value: "600000" },
    ];
    const [made] = await create([wish("a", { configs })]);
    expect(made.errorCode).toBe(0);
    const named = made.configs.map(({ name }: { name: string }) => name);
    expect(named).toContain("segment.ms");
    expect(named).not.toContain("segment.index.bytes");
    expect(broker.log.stream("a")?.settings.segmentMs).toBe(600_000);
  });

  it("refuses a name that is in the request twice", async () => {
    expect(await create([wish("a"), wish("a")])).toMatchObject([{ errorCode: 42 }, { errorCode: 42 }]);
  });
});

describe("the other administrative requests", () => {
  it("delete clients' streams by name and by id, and leave the gateway's", async () => {
    await create([wish("a"), wish("b")]);
    const byName = (await client.send("DeleteTopics", 5, { topicNames: ["a", "fixed", "__own", "none"] }))
      .responses;
    expect(byName.map(({ errorCode }: { errorCode: number }) => errorCode)).toEqual([
      0,
      ErrorCode.POLICY_VIOLATION,
      ErrorCode.POLICY_VIOLATION,
      ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ]);
    expect(byName[1].errorMessage).toContain("configuration");
    const byId = (
      await client.send("DeleteTopics", 6, {
        topics: [
          { name: null, topicId: broker.log.stream("b")?.id },
          { name: null, topicId: ZERO_UUID },
        ],
      })
    ).responses;
    expect(byId).toMatchObject([{ name: "b", errorCode: 0 }, { errorCode: ErrorCode.UNKNOWN_TOPIC_ID }]);
    expect(broker.log.streams.map(({ name }) => name)).toEqual(["fixed", "__own"]);
  });

  it("do nothing with a stream that is named twice, and say so once", async () => {
    await create([wish("a"), wish("b")]);
    const refused = { errorCode: ErrorCode.INVALID_REQUEST };
    const growing = [3, 2, 2].map((count, at) => ({ name: at < 2 ? "a" : "b", count, assignments: null }));
    const grown = await client.send("CreatePartitions", 3, { topics: growing });
    expect(grown.results).toMatchObject([
      { name: "a", ...refused },
      { name: "b", errorCode: 0 },
    ]);
    expect(broker.log.stream("a")?.partitions).toHaveLength(1);
    const removed = await client.send("DeleteTopics", 5, { topicNames: ["a", "b", "a"] });
    expect(removed.responses).toMatchObject([
      { name: "a", ...refused },
      { name: "b", errorCode: 0 },
    ]);
    const topicId = broker.log.stream("a")?.id;
    const topics = [topicId, topicId].map((id) => ({ name: null, topicId: id }));
    expect((await client.send("DeleteTopics", 6, { topics })).responses).toMatchObject([
      { topicId, ...refused },
    ]);
    expect(broker.log.stream("a")).toBeDefined();
  });

  it("add partitions, never fewer, and not to what the configuration states", async () => {
    await create([wish("a", { numPartitions: 2 })]);
    const grow = async (name: string, count: number, validateOnly = false) =>
      (
        await client.send("CreatePartitions", 3, {
          topics: [{ name, count, assignments: null }],
          validateOnly,
        })
      ).results[0].errorCode;
    expect(await grow("a", 4, true)).toBe(0);
    expect(broker.log.stream("a")?.partitions).toHaveLength(2);
    expect(await grow("a", 4)).toBe(0);
    expect(broker.log.stream("a")?.partitions).toHaveLength(4);
    expect(await grow("a", 4)).toBe(ErrorCode.INVALID_PARTITIONS);
    expect(await grow("fixed", 4)).toBe(ErrorCode.POLICY_VIOLATION);
    expect(await grow("none", 4)).toBe(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION);
  });

  it("describe and set a stream's settings under Kafka's names", async () => {
    await create([wish("a")]);
    const alter = async (resourceName: string, configs: object[], validateOnly = false) =>
      (
        await client.send("IncrementalAlterConfigs", 1, {
          resources: [{ resourceType: 2, resourceName, configs }],
          validateOnly,
        })
      ).responses[0].errorCode;
    const set = [{ name: "retention.ms", configOperation: 0, value: "9223372036854775807" }];
    expect(await alter("fixed", set)).toBe(ErrorCode.POLICY_VIOLATION);
    expect(await alter("a", set)).toBe(0);
    const { results } = await client.send("DescribeConfigs", 4, {
      resources: [
        { resourceType: 2, resourceName: "a", configurationKeys: ["retention.ms", "compression.type"] },
        { resourceType: 4, resourceName: "0", configurationKeys: null },
        { resourceType: 2, resourceName: "none", configurationKeys: null },
        { resourceType: 2, resourceName: "a", configurationKeys: [] },
      ],
    });
    expect(results[0].configs).toMatchObject([
      { name: "retention.ms", value: String(Number.MAX_SAFE_INTEGER), readOnly: false },
      { name: "compression.type", value: "producer", readOnly: true },
    ]);
    expect(results[1].configs).toContainEqual(expect.objectContaining({ name: "node.id", value: "0" }));
    expect(results[2].errorCode).toBe(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION);
    expect(results[3].configs).toHaveLength(18);
    const origin = { name: "sluice.origin", value: "client", readOnly: true };
    expect(results[3].configs).toContainEqual(expect.objectContaining(origin));
  });

  it("find no settings of a group and of the broker's loggers, and no fault in asking", async () => {
    const asked = [
      [32, "g"],
      [8, "0"],
      [32, ""],
      [8, "1"],
    ] as const;
    const { results } = await client.send("DescribeConfigs", 4, {
      resources: asked.map(([resourceType, resourceName]) => ({ resourceType, resourceName })),
    });
    expect(results).toMatchObject([
      { errorCode: 0, configs: [] },
      { errorCode: 0, configs: [] },
      { errorCode: ErrorCode.INVALID_REQUEST },
      { errorCode: ErrorCode.INVALID_REQUEST },
    ]);
  });

  it("tell where a setting's value comes from, for those who ask", async () => {
    await create([wish("a", config("segment.bytes", "1000000"))]);
    const ask = async (includeSynonyms: boolean) => {
      const configurationKeys = ["segment.bytes", "max.message.bytes", "retention.ms"];
      const resources = [{ resourceType: 2, resourceName: "a", configurationKeys }];
      const { results } = await client.send("DescribeConfigs", 4, { resources, includeSynonyms });
      return results[0].configs.map(({ synonyms }: { synonyms: object[] }) => synonyms);
    };
    expect(await ask(false)).toEqual([[], [], []]);
    // As Apache Kafka answers: retention.ms has its default in another unit.
    expect((await ask(true)).toSorted((a: object[], b: object[]) => a.length - b.length)).toEqual([
      [],
      [{ name: "message.max.bytes", value: "1048588", source: 5 }],
      [
        { name: "segment.bytes", value: "1000000", source: 1 },
        { name: "log.segment.bytes", value: String(64 << 20), source: 5 },
      ],
    ]);
  });

  it("put settings back to their defaults, one or all, and edit the list that there is", async () => {
    await create([wish("a", config("retention.ms", "1000"))]);
    const settings = () => broker.log.stream("a")?.settings;
    const alter = async (name: string, configOperation: number, value: string | null) =>
      (
        await client.send("IncrementalAlterConfigs", 1, {
          resources: [{ resourceType: 2, resourceName: "a", configs: [{ name, configOperation, value }] }],
        })
      ).responses[0].errorCode;
    expect(await alter("retention.ms", 1, null)).toBe(0);
    expect(settings()?.retentionMs).toBe(604_800_000);
    // MirrorMaker 2 takes back each of Kafka's settings that its source has by default, in one request.
    expect(await alter("leader.replication.throttled.replicas", 1, null)).toBe(0);
    expect(await alter("nonsense", 1, null)).toBe(0);
    expect(await alter("nonsense", 0, "1")).toBe(ErrorCode.INVALID_CONFIG);
    expect(await alter("cleanup.policy", 2, "compact")).toBe(0);
    expect(settings()?.cleanup).toBe("compact,delete");
    expect(await alter("cleanup.policy", 3, "delete")).toBe(0);
    expect(settings()?.cleanup).toBe("compact");
    expect(await alter("cleanup.policy", 3, "compact")).toBe(ErrorCode.INVALID_CONFIG);
    expect(await alter("retention.ms", 2, "1")).toBe(ErrorCode.INVALID_CONFIG);
    expect(await alter("retention.ms", 9, "1")).toBe(ErrorCode.INVALID_REQUEST);
    expect(await alter("retention.ms", 0, null)).toBe(ErrorCode.INVALID_REQUEST);
    expect(await alter("cleanup.policy", 2, null)).toBe(ErrorCode.INVALID_REQUEST);

    const { responses } = await client.send("AlterConfigs", 2, {
      resources: [
        { resourceType: 2, resourceName: "a", configs: [{ name: "segment.ms", value: "5" }] },
        { resourceType: 4, resourceName: "0", configs: [] },
        { resourceType: 2, resourceName: "fixed", configs: [] },
      ],
    });
    expect(responses.map(({ errorCode }: { errorCode: number }) => errorCode)).toEqual([0, 42, 44]);
    expect(settings()).toMatchObject({ cleanup: "delete", segmentMs: 5, retentionMs: 604_800_000 });
  });

  it.each([
    ["message.timestamp.type", "LogAppendTime", 0],
    ["message.timestamp.type", "logappendtime", 0],
    ["message.timestamp.type", "BrokerTime", 40],
    ["min.cleanable.dirty.ratio", "0.25", 0],
    ["min.cleanable.dirty.ratio", "1.5", 40],
    ["min.cleanable.dirty.ratio", "1e-3", 40],
    ["cleanup.policy", "delete, compact", 0],
    ["cleanup.policy", "delete,delete", 0],
    ["cleanup.policy", "", 40],
    ["max.message.bytes", "4194304", 0],
    ["max.message.bytes", "4194305", 40],
  ])("take or refuse %s = %s", async (name, value, errorCode) => {
    expect(await create([wish("a", config(name, value))])).toMatchObject([{ errorCode }]);
  });

  it("describe the data folder with the partitions asked for", async () => {
    const ask = async (topics: object[] | null) =>
      (await client.send("DescribeLogDirs", 4, { topics })).results[0];
    const all = await ask(null);
    expect(all.topics.map(({ name }: { name: string }) => name)).toEqual(["fixed", "__own"]);
    expect(all.totalBytes).toBeGreaterThan(0);
    const one = await ask([{ topic: "fixed", partitions: [1] }]);
    expect(one).toMatchObject({ logDir: "/tmp", topics: [{ partitions: [{ partitionIndex: 1 }] }] });
  });

  it("are all advertised as they are registered, Produce from 0 on for librdkafka's sake", async () => {
    const { apiKeys } = await client.send("ApiVersions", 0, {});
    expect(apiKeys).toContainEqual({ apiKey: 0, minVersion: 0, maxVersion: 13 });
    expect(apiKeys).toContainEqual({ apiKey: 1, minVersion: 4, maxVersion: 17 });
    const unnamed = { clientSoftwareName: "", clientSoftwareVersion: "1" };
    expect((await client.send("ApiVersions", 3, unnamed)).errorCode).toBe(ErrorCode.INVALID_REQUEST);
  });
});
