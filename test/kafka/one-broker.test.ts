/** What tools ask of a cluster, and one broker without security, quorum and transactions answers. */
import { afterEach, beforeEach, expect, it } from "vitest";
import { ErrorCode } from "../../src/kafka/error-code.ts";
import { type Broker, batch, type Client, fetchBody, produceBody, startBroker } from "./harness.ts";

let broker: Broker;
let client: Client;

beforeEach(async () => {
  broker = await startBroker();
  await broker.log.createStream("a", 2, {}, "protocol");
  client = await broker.connect();
});
afterEach(() => broker.close());

it("answers SASL as a listener without it", async () => {
  const handshake = await client.send("SaslHandshake", 1, { mechanism: "PLAIN" });
  expect(handshake).toEqual({ errorCode: ErrorCode.ILLEGAL_SASL_STATE, mechanisms: [] });
  const token = { authBytes: Buffer.from("\0user\0secret") };
  const authenticated = await client.send("SaslAuthenticate", 2, token);
  expect(authenticated).toMatchObject({
    errorCode: ErrorCode.ILLEGAL_SASL_STATE,
    authBytes: Buffer.alloc(0),
  });
});

it("has no authorizer", async () => {
  const any = { resourceTypeFilter: 1, operation: 1, permissionType: 1 };
  const none = { resourceNameFilter: null, principalFilter: null, hostFilter: null };
  const disabled = { errorCode: ErrorCode.SECURITY_DISABLED };
  expect(await client.send("DescribeAcls", 3, { ...any, ...none })).toMatchObject(disabled);
  const rule = { resourceType: 2, resourceName: "a", principal: "User:x", host: "*", operation: 3 };
  const created = await client.send("CreateAcls", 3, { creations: [rule, rule] });
  expect(created.results).toMatchObject([disabled, disabled]);
  const deleted = await client.send("DeleteAcls", 1, { filters: [{ ...any, ...none }] });
  expect(deleted.filterResults).toMatchObject([disabled]);
});

it("leads every partition, and moves none", async () => {
  const partitions = [0, 7];
  const elected = await client.send("ElectLeaders", 2, { topicPartitions: [{ topic: "a", partitions }] });
  expect(elected.replicaElectionResults[0].partitionResult).toMatchObject([
    { partitionId: 0, errorCode: ErrorCode.ELECTION_NOT_NEEDED },
    { partitionId: 7, errorCode: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION },
  ]);
  expect((await client.send("ElectLeaders", 2, { topicPartitions: null })).replicaElectionResults).toEqual(
    [],
  );

  const to = (partitionIndex: number, replicas: number[] | null) => ({ partitionIndex, replicas });
  const moved = await client.send("AlterPartitionReassignments", 1, {
    topics: [{ name: "a", partitions: [to(0, [0]), to(1, [1]), to(1, null), to(7, [0])] }],
  });
  expect(moved.responses[0].partitions.map(({ errorCode }: { errorCode: number }) => errorCode)).toEqual([
    ErrorCode.NONE,
    ErrorCode.INVALID_REPLICA_ASSIGNMENT,
    ErrorCode.NO_REASSIGNMENT_IN_PROGRESS,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
  ]);
  expect(await client.send("ListPartitionReassignments", 0, { topics: null })).toMatchObject({ topics: [] });

  const dir = (path: string) => ({ path, topics: [{ name: "a", partitions: [0] }] });
  const dirs = await client.send("AlterReplicaLogDirs", 2, { dirs: [dir("/tmp"), dir("/elsewhere")] });
  expect(dirs.results).toMatchObject([
    { topicName: "a", partitions: [{ partitionIndex: 0, errorCode: 0 }] },
    { topicName: "a", partitions: [{ partitionIndex: 0, errorCode: ErrorCode.LOG_DIR_NOT_FOUND }] },
  ]);
});

it("has neither quorum nor transactions", async () => {
  const quorum = await client.send("DescribeQuorum", 2, { topics: [] });
  expect(quorum).toMatchObject({ errorCode: ErrorCode.UNSUPPORTED_VERSION, nodes: [] });
  const listed = await client.send("ListTransactions", 2, { stateFilters: ["Ongoing", "Sleeping"] });
  expect(listed).toMatchObject({ unknownStateFilters: ["Sleeping"], transactionStates: [] });
  const described = await client.send("DescribeTransactions", 0, { transactionalIds: ["t"] });
  expect(described.transactionStates).toMatchObject([
    { transactionalId: "t", errorCode: ErrorCode.TRANSACTIONAL_ID_NOT_FOUND },
  ]);
});

it("lists what has settings", async () => {
  const ask = async (version: number, resourceTypes: number[]) => {
    const answer = await client.send("ListConfigResources", version, { resourceTypes });
    return answer.errorCode || answer.configResources;
  };
  const stream = { resourceName: "a", resourceType: 2 };
  const node = { resourceName: "0", resourceType: 4 };
  expect(await ask(1, [])).toEqual([stream, node]);
  expect(await ask(1, [2])).toEqual([stream]);
  expect(await ask(1, [16, 32])).toEqual([]);
  expect(await ask(1, [99])).toBe(ErrorCode.UNSUPPORTED_VERSION);
  expect(await ask(0, [])).toEqual([]);
});

interface Page {
  readonly topics: readonly { name: string; errorCode: number; partitions: { partitionIndex: number }[] }[];
  readonly nextCursor: object | null;
}

it("describes streams in pages, each partition once, whatever the limit", async () => {
  await broker.log.createStream("b", 5, {}, "protocol");
  await broker.log.createStream("c", 1, {}, "protocol");
  const walk = async (names: string[], limit: number): Promise<string[]> => {
    const seen: string[] = [];
    for (let cursor: object | null = null; ; ) {
      const page: Page = await client.send("DescribeTopicPartitions", 0, {
        topics: names.map((name) => ({ name })),
        responsePartitionLimit: limit,
        cursor,
      });
      for (const { name, errorCode, partitions } of page.topics) {
        if (errorCode !== 0) seen.push(`${name}!${errorCode}`);
        for (const { partitionIndex } of partitions) seen.push(`${name}-${partitionIndex}`);
      }
      cursor = page.nextCursor;
      if (cursor === null) return seen;
    }
  };
  const all = ["a-0", "a-1", "b-0", "b-1", "b-2", "b-3", "b-4", "c-0"];
  for (const limit of [-1, 1, 2, 3, 7, 8, 9, 2_000]) expect(await walk([], limit)).toEqual(all);
  expect(await walk(["c", "none", "a", "a"], 2)).toEqual(["a-0", "a-1", "c-0", "none!3"]);
});

it("says that no replica stands by with an empty list: Kafka's admin client fails on null", async () => {
  const page = await client.send("DescribeTopicPartitions", 0, { topics: [{ name: "a" }], cursor: null });
  expect(page.topics[0].partitions[0]).toMatchObject({ eligibleLeaderReplicas: [], lastKnownElr: [] });
});

it("deletes records up to an offset or all of them, where a stream is not only compacted", async () => {
  await broker.log.createStream("latest", 1, { cleanup: "compact" }, "protocol");
  await broker.log.createStream("__own", 1, {}, "internal");
  for (const text of ["x", "y", "z"]) await client.send("Produce", 9, produceBody("a", batch(text)));
  const remove = async (name: string, offset: number, partitionIndex = 0) =>
    (
      await client.send("DeleteRecords", 2, {
        topics: [{ name, partitions: [{ partitionIndex, offset }] }],
      })
    ).topics[0].partitions[0];
  expect(await remove("a", 2)).toMatchObject({ errorCode: 0, lowWatermark: 2 });
  const [topic] = (await client.send("Fetch", 11, fetchBody("a", 1))).responses;
  expect(topic.partitions[0]).toMatchObject({ errorCode: ErrorCode.OFFSET_OUT_OF_RANGE, logStartOffset: 2 });
  expect(await remove("a", 4)).toMatchObject({ errorCode: ErrorCode.OFFSET_OUT_OF_RANGE, lowWatermark: -1 });
  expect(await remove("a", -1)).toMatchObject({ errorCode: 0, lowWatermark: 3 });
  expect(await remove("a", 0, 9)).toMatchObject({ errorCode: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION });
  expect(await remove("latest", 0)).toMatchObject({ errorCode: ErrorCode.POLICY_VIOLATION });
  expect(await remove("__own", 0)).toMatchObject({ errorCode: ErrorCode.POLICY_VIOLATION });
});

it("lists the producers that a partition remembers", async () => {
  const remembered = { producerId: 7, epoch: 1, lastSequence: 41, timestamp: 1000 };
  broker.log.partition("a").activeProducers = [remembered];
  const { topics } = await client.send("DescribeProducers", 0, {
    topics: [{ name: "a", partitionIndexes: [0, 9] }],
  });
  expect(topics[0].partitions).toMatchObject([
    { activeProducers: [{ producerId: 7, producerEpoch: 1, lastSequence: 41, lastTimestamp: 1000 }] },
    { errorCode: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, activeProducers: [] },
  ]);
});

it("tells where a leader epoch ended, and who is behind or ahead", async () => {
  const partition = broker.log.partition("a");
  await client.send("Produce", 9, produceBody("a", batch("x", "y", "z")));
  partition.leaderEpoch = 2;
  partition.epochEnds.set(0, 1).set(1, 2);
  const ask = async (leaderEpoch: number, currentLeaderEpoch = -1) => {
    const { topics } = await client.send("OffsetForLeaderEpoch", 4, {
      topics: [{ topic: "a", partitions: [{ partition: 0, currentLeaderEpoch, leaderEpoch }] }],
    });
    const { errorCode, leaderEpoch: found, endOffset } = topics[0].partitions[0];
    return errorCode || [found, endOffset];
  };
  expect([await ask(0), await ask(1), await ask(2), await ask(3)]).toEqual([
    [0, 1],
    [1, 2],
    [2, 3],
    [-1, -1],
  ]);
  expect([await ask(1, 2), await ask(1, 1), await ask(1, 3)]).toEqual([
    [1, 2],
    ErrorCode.FENCED_LEADER_EPOCH,
    ErrorCode.UNKNOWN_LEADER_EPOCH,
  ]);
});
