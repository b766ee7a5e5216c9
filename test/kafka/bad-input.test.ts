/** What a client gets that goes too far, and what its neighbours notice of it: nothing. */
import { once } from "node:events";
import { connect } from "node:net";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { apis } from "../../src/kafka/apis/index.ts";
import { ErrorCode } from "../../src/kafka/error-code.ts";
import { KafkaServer } from "../../src/kafka/server.ts";
import { FakeLog } from "./fake-log.ts";
import { type Broker, Client, framed, OPTIONS, servicesFor, startBroker } from "./harness.ts";

let broker: Broker;
let client: Client;

beforeEach(async () => {
  broker = await startBroker();
  await broker.groups.start();
  client = await broker.connect();
});
afterEach(async () => {
  await broker.close();
  await broker.groups.close();
});

const NAMES: [name: string][] = [
  ["../../etc/passwd"],
  [".."],
  ["."],
  ["a/b"],
  ["a\\b"],
  ["a\0b"],
  ["a b"],
  ["ü"],
  [""],
  ["x".repeat(250)],
];

it.each(NAMES)("no stream is made under the name %j, whichever way it is asked for", async (name) => {
  const wish = { name, numPartitions: 1, replicationFactor: 1 };
  const created = await client.send("CreateTopics", 7, { topics: [wish] });
  expect(created.topics[0].errorCode).toBe(ErrorCode.INVALID_TOPIC_EXCEPTION);
  const told = await client.send("Metadata", 9, { topics: [{ name }], allowAutoTopicCreation: true });
  expect(told.topics[0].errorCode).toBe(ErrorCode.INVALID_TOPIC_EXCEPTION);
  const removed = await client.send("DeleteTopics", 5, { topicNames: [name] });
  expect(removed.responses[0].errorCode).toBe(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION);
  const committed = await client.send("OffsetCommit", 8, {
    groupId: "g",
    topics: [{ name, partitions: [{ partitionIndex: 0, committedOffset: 1, committedMetadata: null }] }],
  });
  expect(committed.topics[0].partitions[0].errorCode).toBe(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION);
});

it.each([4, 7])(
  "a name of 32,767 bytes is refused in words that fit into an answer (version %i)",
  async (version) => {
    const name = "€".repeat(10_922);
    const created = await client.send("CreateTopics", version, {
      topics: [{ name, numPartitions: 1, replicationFactor: 1 }],
    });
    expect(created.topics[0]).toMatchObject({ name, errorCode: ErrorCode.INVALID_TOPIC_EXCEPTION });
    expect(created.topics[0].errorMessage).toMatch(/^"€+ … €+" cannot be a stream's name/);
  },
);

describe("a group id of 30 kB", () => {
  const groupId = "g".repeat(30_000);

  it("is refused by every API that takes one, and no group is made", async () => {
    const member = { groupId, memberId: "", generationId: 0 };
    const joining = {
      ...member,
      sessionTimeoutMs: 6000,
      protocolType: "consumer",
      protocols: [{ name: "range" }],
    };
    const { INVALID_GROUP_ID } = ErrorCode;
    expect((await client.send("JoinGroup", 5, joining)).errorCode).toBe(INVALID_GROUP_ID);
    expect((await client.send("SyncGroup", 3, member)).errorCode).toBe(INVALID_GROUP_ID);
    expect((await client.send("Heartbeat", 3, member)).errorCode).toBe(INVALID_GROUP_ID);
    const left = await client.send("LeaveGroup", 3, {
      groupId,
      members: [{ memberId: "m", groupInstanceId: null }],
    });
    expect(left.members[0].errorCode).toBe(INVALID_GROUP_ID);
    expect((await client.send("OffsetDelete", 0, { groupId })).errorCode).toBe(INVALID_GROUP_ID);
    expect((await client.send("DeleteGroups", 2, { groupsNames: [groupId] })).results[0].errorCode).toBe(
      INVALID_GROUP_ID,
    );
    expect((await client.send("ListGroups", 4, {})).groups).toEqual([]);
  });
});

it("a hundred thousand made-up groups: some are taken, the others refused, and those that are used go on", async () => {
  await broker.log.createStream("s", 1, {}, "protocol");
  const commit = (groupId: string) =>
    client.send("OffsetCommit", 7, {
      groupId,
      topics: [
        { name: "s", partitions: [{ partitionIndex: 0, committedOffset: 1, committedMetadata: null }] },
      ],
    });
  const codeOf = (answer: { topics: { partitions: { errorCode: number }[] }[] }) =>
    answer.topics[0]?.partitions[0]?.errorCode;
  expect(codeOf(await commit("mine"))).toBe(0);
  const codes = new Map<number | undefined, number>();
  for (let batch = 0; batch < 100; batch++) {
    const answers = await Promise.all(
      Array.from({ length: 1000 }, (_, at) => commit(`made-up-${batch}-${at}`)),
    );
    for (const answer of answers) codes.set(codeOf(answer), (codes.get(codeOf(answer)) ?? 0) + 1);
  }
  expect(codes).toEqual(
    new Map([
      [0, 9_999],
      [ErrorCode.GROUP_MAX_SIZE_REACHED, 90_001],
    ]),
  );
  expect(codeOf(await commit("mine"))).toBe(0);
});

it("what thousands of connections do wrong is said once, and then with a count", async () => {
  const lines: { reason?: string; heldBack?: number }[] = [];
  const logger = pino({}, { write: (line: string) => lines.push(JSON.parse(line)) });
  const server = new KafkaServer(OPTIONS, servicesFor(new FakeLog()), logger);
  await server.start();
  const wrong = [
    framed(Buffer.alloc(0)),
    Buffer.from([0x7f, 0xff, 0xff, 0xff]),
    Buffer.from([0x80, 0, 0, 0]),
    framed(Buffer.from("GET / HTTP/1.1\r\n\r\n")),
    // Metadata 1 that claims 2^31 - 1 streams.
    framed(Buffer.from([0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff])),
  ];
  for (let round = 0; round < 40; round++) {
    const sockets = wrong.map((bytes) => {
      const socket = connect(server.address.port, "127.0.0.1", () => socket.write(bytes));
      socket.on("error", () => {});
      socket.resume();
      return once(socket, "close");
    });
    await Promise.all(sockets);
  }
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatchObject({ heldBack: 0, reason: expect.stringContaining("frame") });
  expect(server.stats).toMatchObject({ acceptedConnections: 200, connections: 0, bufferedBytes: 0 });
  await server.close();
});

it("who asks for transactions again and again is told each time, and the log says it once", async () => {
  const lines: { msg?: string; transactionalId?: string }[] = [];
  const logger = pino({}, { write: (line: string) => lines.push(JSON.parse(line)) });
  const server = new KafkaServer(OPTIONS, servicesFor(new FakeLog()), logger);
  await server.start();
  const socket = connect(server.address.port, "127.0.0.1");
  await once(socket, "connect");
  const client = new Client(socket, apis);
  const code = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
  for (let round = 0; round < 20; round++) {
    expect((await client.send("InitProducerId", 4, { transactionalId: "t" })).errorCode).toBe(code);
  }
  expect(lines).toMatchObject([
    { msg: expect.stringContaining("transactional producer was refused"), transactionalId: "t" },
  ]);
  socket.destroy();
  await server.close();
});
