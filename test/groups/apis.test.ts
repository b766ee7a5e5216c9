/** What the handlers add to the coordinator: versions, filters, shapes. Requests go through the wire and back. */
import { expect, it } from "vitest";
import { EndSignal } from "../../src/end-signal.ts";
import type { GroupCoordinator } from "../../src/groups/coordinator.ts";
import type { ClientContext } from "../../src/kafka/api.ts";
import { apis } from "../../src/kafka/apis/index.ts";
import { ErrorCode } from "../../src/kafka/error-code.ts";
import { Reader, Writer } from "../../src/wire/buffer.ts";
import { decode, encode } from "../../src/wire/schema.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { silentLogger } from "../support/log.ts";
import { FakeLog } from "./fake-log.ts";
import { coordinatorOn } from "./harness.ts";

class Client {
  readonly clock = new FakeClock();
  readonly groups: GroupCoordinator;

  constructor(groups: GroupCoordinator, clock: FakeClock) {
    this.groups = groups;
    this.clock = clock;
  }

  static async connect(): Promise<Client> {
    const clock = new FakeClock();
    const log = new FakeLog({ telemetry: 2, other: 1 });
    return new Client(await coordinatorOn(log, clock, { initialRebalanceDelayMs: 0 }), clock);
  }

  // biome-ignore lint/suspicious/noExplicitAny: the answer of any API at all
  async ask(name: string, version: number, request: object): Promise<any> {
    const api = apis.find((each) => each.name === name);
    if (api === undefined) throw new Error(name);
    const sent = new Writer();
    encode(api.request, version, request as never, sent);
    const context = {
      groups: this.groups,
      clientHost: "127.0.0.1",
      logger: silentLogger,
      advertised: { host: "10.0.0.5", port: 9092 },
      signal: new EndSignal(),
    } as unknown as ClientContext;
    const header = { version, correlationId: 1, clientId: "client" };
    const answering = api.handle(decode(api.request, version, new Reader(sent.toBuffer())), context, header);
    this.clock.advance(1);
    const written = new Writer();
    encode(api.response, version, (await answering) as never, written);
    return decode(api.response, version, new Reader(written.toBuffer()));
  }

  async join(version: number, change: object = {}) {
    const protocols = [{ name: "range", metadata: Buffer.alloc(2) }];
    const request = { groupId: "g", sessionTimeoutMs: 6_000, protocolType: "consumer", protocols, ...change };
    return this.ask("JoinGroup", version, request);
  }

  async commit(version: number, offset: number, change: object = {}) {
    const partitions = [{ partitionIndex: 0, committedOffset: offset, committedMetadata: null }];
    return this.ask("OffsetCommit", version, {
      groupId: "g",
      topics: [{ name: "telemetry", partitions }],
      ...change,
    });
  }
}

it("JoinGroup asks for a member id from version 4 on, and never before: older clients would hang", async () => {
  for (let version = 0; version <= 9; version++) {
    const client = await Client.connect();
    const { errorCode, memberId } = await client.join(version);
    expect(memberId).toMatch(/^client-/);
    expect(errorCode).toBe(version >= 4 ? ErrorCode.MEMBER_ID_REQUIRED : ErrorCode.NONE);
    if (version < 4) continue;
    const joined = await client.join(version, { memberId });
    expect(joined).toMatchObject({ errorCode: ErrorCode.NONE, leader: memberId, generationId: 1 });
    expect(joined.protocolType).toBe(version >= 7 ? "consumer" : null);
  }
});

it("a member joins, syncs, beats, commits and leaves in every version", async () => {
  for (let version = 0; version <= 5; version++) {
    const client = await Client.connect();
    const { memberId, generationId } = await client.join(3);
    const member = { groupId: "g", memberId, generationId };
    const assignments = [{ memberId, assignment: Buffer.from("mine") }];
    const synced = await client.ask("SyncGroup", version, { ...member, assignments });
    expect([synced.errorCode, synced.assignment.toString()]).toEqual([ErrorCode.NONE, "mine"]);
    const beat = await client.ask("Heartbeat", Math.min(version, 4), member);
    expect(beat.errorCode).toBe(ErrorCode.NONE);
    const identity = { memberId, generationIdOrMemberEpoch: generationId };
    const committed = await client.commit(version + 3, 5, identity);
    expect(committed.topics[0].partitions).toEqual([{ partitionIndex: 0, errorCode: ErrorCode.NONE }]);
    const leaving = version < 3 ? member : { groupId: "g", members: [{ memberId }, { memberId: "who" }] };
    const left = await client.ask("LeaveGroup", version, leaving);
    expect(left.errorCode).toBe(ErrorCode.NONE);
    expect(left.members.map((each: { errorCode: number }) => each.errorCode)).toEqual(
      version < 3 ? [] : [ErrorCode.NONE, ErrorCode.UNKNOWN_MEMBER_ID],
    );
    expect(client.groups.describe("g")?.state).toBe("Empty");
  }
});

it("OffsetFetch gives what was committed, -1 for what was not, and everything when asked with null", async () => {
  const client = await Client.connect();
  for (let version = 2; version <= 9; version++) await client.commit(version, version);
  const topics = [{ name: "telemetry", partitionIndexes: [0, 1] }];
  for (let version = 1; version <= 7; version++) {
    const asked = await client.ask("OffsetFetch", version, { groupId: "g", topics });
    expect(asked.errorCode).toBe(ErrorCode.NONE);
    expect(asked.topics[0].partitions).toEqual([
      { partitionIndex: 0, committedOffset: 9, committedLeaderEpoch: -1, metadata: "", errorCode: 0 },
      { partitionIndex: 1, committedOffset: -1, committedLeaderEpoch: -1, metadata: "", errorCode: 0 },
    ]);
    if (version === 1) continue;
    const all = await client.ask("OffsetFetch", version, { groupId: "g", topics: null });
    expect(all.topics).toHaveLength(1);
    expect(all.topics[0].partitions).toHaveLength(1);
  }
  const groups = [
    { groupId: "g", topics: null },
    { groupId: "unknown", topics },
  ];
  for (const version of [8, 9]) {
    const answer = await client.ask("OffsetFetch", version, { groups });
    expect(answer.groups[0].topics[0].partitions[0].committedOffset).toBe(9);
    expect(answer.groups[1]).toMatchObject({ groupId: "unknown", errorCode: ErrorCode.NONE });
    expect(answer.groups[1].topics[0].partitions[0].committedOffset).toBe(-1);
  }
});

it("OffsetCommit tells a member of a group that there is not, from version 9 on in so many words", async () => {
  const client = await Client.connect();
  const member = { groupId: "none", generationIdOrMemberEpoch: 3, memberId: "m" };
  for (const [version, code] of [
    [8, ErrorCode.ILLEGAL_GENERATION],
    [9, ErrorCode.GROUP_ID_NOT_FOUND],
  ] as const) {
    expect((await client.commit(version, 1, member)).topics[0].partitions[0].errorCode).toBe(code);
  }
});

it("offsets are kept under the empty group id, by those who are no members, and nothing else is", async () => {
  const client = await Client.connect();
  const groupId = "";
  expect((await client.commit(9, 7, { groupId })).topics[0].partitions[0].errorCode).toBe(ErrorCode.NONE);
  const topics = [{ name: "telemetry", partitionIndexes: [0] }];
  const { groups } = await client.ask("OffsetFetch", 9, { groups: [{ groupId, topics }] });
  expect(groups[0].topics[0].partitions[0].committedOffset).toBe(7);
  const member = { groupId, memberId: "m", generationId: 0 };
  for (const [name, version, refused] of [
    ["SyncGroup", 5, member],
    ["Heartbeat", 4, member],
    ["LeaveGroup", 2, member],
    ["OffsetDelete", 0, member],
  ] as const) {
    expect((await client.ask(name, version, refused)).errorCode).toBe(ErrorCode.INVALID_GROUP_ID);
  }
  expect((await client.join(9, { groupId })).errorCode).toBe(ErrorCode.INVALID_GROUP_ID);
  const deleted = await client.ask("DeleteGroups", 2, { groupsNames: [""] });
  expect(deleted.results[0]).toEqual({ groupId, errorCode: ErrorCode.NONE });
  expect(client.groups.list()).toEqual([]);
});

it("OffsetCommit answers each partition under its own stream, in the order of the request", async () => {
  const client = await Client.connect();
  const partition = (partitionIndex: number) => ({
    partitionIndex,
    committedOffset: 1,
    committedMetadata: "",
  });
  const topics = [
    { name: "telemetry", partitions: [partition(1), partition(7)] },
    { name: "nowhere", partitions: [partition(0)] },
    { name: "other", partitions: [partition(0)] },
  ];
  const answer = await client.ask("OffsetCommit", 8, { groupId: "g", topics });
  const unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION;
  expect(answer.topics).toEqual([
    {
      name: "telemetry",
      partitions: [
        { partitionIndex: 1, errorCode: 0 },
        { partitionIndex: 7, errorCode: unknown },
      ],
    },
    { name: "nowhere", partitions: [{ partitionIndex: 0, errorCode: unknown }] },
    { name: "other", partitions: [{ partitionIndex: 0, errorCode: 0 }] },
  ]);
});

it("FindCoordinator tells the address on which the client reached us, for a transactional id too", async () => {
  const client = await Client.connect();
  const here = { nodeId: 0, host: "10.0.0.5", port: 9092, errorCode: ErrorCode.NONE };
  for (let version = 0; version <= 3; version++) {
    expect(await client.ask("FindCoordinator", version, { key: "g" })).toMatchObject(here);
  }
  const { coordinators } = await client.ask("FindCoordinator", 4, { coordinatorKeys: ["a", "b"] });
  expect(coordinators).toMatchObject([
    { key: "a", ...here },
    { key: "b", ...here },
  ]);
  // There InitProducerId says to a producer, and DescribeTransactions to an administrator, what there is not.
  expect(await client.ask("FindCoordinator", 1, { key: "t", keyType: 1 })).toMatchObject(here);
  const other = await client.ask("FindCoordinator", 3, { key: "t", keyType: 7 });
  expect(other.errorCode).toBe(ErrorCode.INVALID_REQUEST);
  expect(other.errorMessage).toBe("there are no coordinators of type 7 here");
});

it("DescribeGroups shows a member's address as Kafka does, with Java's slash", async () => {
  const client = await Client.connect();
  await client.join(3);
  const { groups } = await client.ask("DescribeGroups", 5, { groups: ["g"] });
  expect(groups[0].members[0]).toMatchObject({ clientId: "client", clientHost: "/127.0.0.1" });
});

it("DescribeGroups calls an unknown group dead, and from version 6 on says that it is not there", async () => {
  const client = await Client.connect();
  for (let version = 0; version <= 6; version++) {
    const { groups } = await client.ask("DescribeGroups", version, { groups: ["nobody"] });
    const errorCode = version < 6 ? ErrorCode.NONE : ErrorCode.GROUP_ID_NOT_FOUND;
    expect(groups).toMatchObject([{ groupId: "nobody", groupState: "Dead", errorCode, members: [] }]);
  }
});

it("ListGroups filters by state and type, in any case of letters", async () => {
  const client = await Client.connect();
  await client.commit(8, 1);
  await client.join(3, { groupId: "joined" });
  const listed = async (request: object) =>
    (await client.ask("ListGroups", 5, request)).groups.map((group: { groupId: string }) => group.groupId);
  expect(await listed({})).toEqual(["g", "joined"]);
  expect(await listed({ statesFilter: ["empty"] })).toEqual(["g"]);
  expect(await listed({ typesFilter: ["Classic"], statesFilter: ["CompletingRebalance"] })).toEqual([
    "joined",
  ]);
  expect(await listed({ typesFilter: ["consumer"] })).toEqual([]);
});

it("DeleteGroups and OffsetDelete answer item by item", async () => {
  const client = await Client.connect();
  await client.commit(8, 1);
  const topics = [{ name: "telemetry", partitions: [{ partitionIndex: 0 }, { partitionIndex: 9 }] }];
  const deleted = await client.ask("OffsetDelete", 0, { groupId: "g", topics });
  expect(deleted.topics[0].partitions.map((each: { errorCode: number }) => each.errorCode)).toEqual([
    ErrorCode.NONE,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
  ]);
  const unknown = await client.ask("OffsetDelete", 0, { groupId: "nobody", topics });
  expect(unknown.errorCode).toBe(ErrorCode.GROUP_ID_NOT_FOUND);
  const { results } = await client.ask("DeleteGroups", 2, { groupsNames: ["g", "nobody"] });
  expect(results).toEqual([
    { groupId: "g", errorCode: ErrorCode.NONE },
    { groupId: "nobody", errorCode: ErrorCode.GROUP_ID_NOT_FOUND },
  ]);
});

it("DescribeGroups tells what is allowed to those who ask, of an unknown group too where that is no error", async () => {
  const client = await Client.connect();
  await client.commit(9, 1);
  const allowed = async (version: number, includeAuthorizedOperations: boolean) => {
    const asked = { groups: ["g", "nobody"], includeAuthorizedOperations };
    const { groups } = await client.ask("DescribeGroups", version, asked);
    return groups.map((one: { authorizedOperations: number }) => one.authorizedOperations);
  };
  const [told, not] = [0x0d48, -(2 ** 31)]; // READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS
  expect(await allowed(5, true)).toEqual([told, told]);
  expect(await allowed(6, true)).toEqual([told, not]);
  expect(await allowed(6, false)).toEqual([not, not]);
});
