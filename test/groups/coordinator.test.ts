import { describe, expect, it } from "vitest";
import { EndSignal } from "../../src/end-signal.ts";
import { GroupCoordinator } from "../../src/groups/coordinator.ts";
import { readRecord } from "../../src/groups/records.ts";
import { OFFSETS_STREAM } from "../../src/groups/store.ts";
import type { JoinResult, OffsetToCommit } from "../../src/groups/types.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { openStore, readAll } from "../support/log.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { FakeLog } from "./fake-log.ts";
import { coordinatorOn, joinRequest, SESSION_MS, SIMPLE, silent } from "./harness.ts";

const at = (partition: number, offset: number, metadata: string | null = null): OffsetToCommit => ({
  stream: "telemetry",
  partition,
  offset,
  leaderEpoch: 0,
  metadata,
});
const PLACE = { stream: "telemetry", partition: 0 };

async function stableMember(groups: GroupCoordinator, clock: FakeClock, change = {}): Promise<JoinResult> {
  const joining = groups.join(joinRequest(change));
  clock.advance(500);
  const joined = await joining;
  const assignments = [{ memberId: joined.memberId, assignment: Buffer.from("mine") }];
  const synced = await groups.sync({
    ...joined,
    groupId: "g",
    groupInstanceId: joinRequest(change).groupInstanceId,
    assignments,
  });
  expect(synced.error).toBe("NONE");
  return joined;
}

describe("committed offsets", () => {
  it("survive a restart of gateway and log, with their metadata and leader epoch", async () => {
    const folder = await temporaryFolder();
    const store = await openStore(folder);
    await store.createStream("telemetry", 2, {}, "protocol");
    const before = new GroupCoordinator(store, {}, silent);
    await before.start();
    const offsets = [at(0, 7, "note"), at(1, 9)];
    expect(await before.commit("g", SIMPLE, offsets)).toEqual(["NONE", "NONE"]);
    expect(await before.commit("g", SIMPLE, [at(0, 8, "later")])).toEqual(["NONE"]);
    await before.close();
    await store.close();

    const again = await openStore(folder);
    const after = new GroupCoordinator(again, {}, silent);
    await after.start();
    expect(after.committedOffset("g", PLACE)).toMatchObject({ offset: 8, leaderEpoch: 0, metadata: "later" });
    expect(after.committedOffsets("g")).toHaveLength(2);
    expect(after.list()).toEqual([{ groupId: "g", state: "Empty", protocolType: "" }]);
    await after.close();
  });

  it("lie on the log in Kafka's own record format", async () => {
    const store = await openStore(await temporaryFolder());
    await store.createStream("telemetry", 1, {}, "protocol");
    const groups = new GroupCoordinator(store, {}, silent);
    await groups.start();
    await groups.commit("g", SIMPLE, [at(0, 7, "n")]);
    const partition = store.stream(OFFSETS_STREAM)?.partitions[0];
    const [record] = await readAll(partition as NonNullable<typeof partition>);
    // int16 1 | "g" | "telemetry" | int32 0
    expect(record?.key?.toString("hex")).toBe("0001000167000974656c656d6574727900000000");
    // int16 3 | int64 7 | int32 0 | "n" | int64 time
    expect(record?.value?.toString("hex").slice(0, 34)).toBe("0003000000000000000700000000" + "00016e");
    expect(record?.value?.length).toBe(2 + 8 + 4 + 3 + 8);
    await groups.close();
  });

  it("are neither answered nor shown before they are on disk", async () => {
    const log = new FakeLog({ telemetry: 1 });
    const groups = await coordinatorOn(log);
    log.held = true;
    let answered = false;
    const committing = groups.commit("g", SIMPLE, [at(0, 7)]).then((errors) => {
      answered = true;
      return errors;
    });
    await new Promise(setImmediate);
    expect([answered, groups.committedOffset("g", PLACE)]).toEqual([false, undefined]);
    log.flush();
    expect(await committing).toEqual(["NONE"]);
    expect(groups.committedOffset("g", PLACE)?.offset).toBe(7);
  });

  it("that failed on disk are answered with an error, and the older one stays", async () => {
    const log = new FakeLog({ telemetry: 1 });
    const groups = await coordinatorOn(log);
    await groups.commit("g", SIMPLE, [at(0, 7)]);
    log.failWith = "READ_ONLY";
    expect(await groups.commit("g", SIMPLE, [at(0, 8)])).toEqual(["COORDINATOR_NOT_AVAILABLE"]);
    expect(groups.committedOffset("g", PLACE)?.offset).toBe(7);
    log.failWith = "TOO_LARGE";
    expect(await groups.commit("g", SIMPLE, [at(0, 9)])).toEqual(["INVALID_COMMIT_OFFSET_SIZE"]);
  });

  it("are refused one by one: an unknown stream or partition, metadata that is too long", async () => {
    const groups = await coordinatorOn(new FakeLog({ telemetry: 1 }));
    const wishes = [
      at(0, 1, "m".repeat(4096)),
      at(0, 2, "m".repeat(4097)),
      at(1, 1),
      { ...at(0, 1), stream: "no" },
    ];
    expect(await groups.commit("g", SIMPLE, wishes)).toEqual([
      "NONE",
      "OFFSET_METADATA_TOO_LARGE",
      "UNKNOWN_TOPIC_OR_PARTITION",
      "UNKNOWN_TOPIC_OR_PARTITION",
    ]);
    expect(groups.committedOffset("g", PLACE)?.offset).toBe(1);
  });

  it("of an unknown group are taken from a simple consumer, not from somebody's generation", async () => {
    const groups = await coordinatorOn(new FakeLog({ telemetry: 1 }));
    const zombie = { memberId: "m", groupInstanceId: null, generationId: 3 };
    expect(await groups.commit("g", zombie, [at(0, 1)])).toEqual(["ILLEGAL_GENERATION"]);
    expect(groups.list()).toEqual([]);
    expect(await groups.commit("g", SIMPLE, [at(0, 1)])).toEqual(["NONE"]);
  });

  it("of a deleted stream are forgotten, on disk too", async () => {
    const log = new FakeLog({ telemetry: 1, other: 1 });
    const groups = await coordinatorOn(log);
    await groups.commit("g", SIMPLE, [at(0, 7), { ...at(0, 3), stream: "other" }]);
    await groups.forgetStream("telemetry");
    expect(groups.committedOffsets("g").map(({ stream }) => stream)).toEqual(["other"]);
    const after = await coordinatorOn(log);
    expect(after.committedOffsets("g").map(({ stream }) => stream)).toEqual(["other"]);
  });
});

describe("a restart", () => {
  it("is no rebalance: members go on in their generation with their assignment", async () => {
    const log = new FakeLog({ telemetry: 1 });
    const clock = new FakeClock();
    const before = await coordinatorOn(log, clock);
    const joined = await stableMember(before, clock);
    await before.close();
    const after = await coordinatorOn(log, clock);
    const identity = { ...joined, groupInstanceId: null };
    expect(after.heartbeat("g", identity)).toBe("NONE");
    expect(await after.commit("g", identity, [at(0, 5)])).toEqual(["NONE"]);
    expect(after.describe("g")).toMatchObject({
      state: "Stable",
      generationId: 1,
      protocolType: "consumer",
      protocolName: "range",
      leader: joined.memberId,
    });
    expect(after.describe("g")?.members[0]?.assignment.toString()).toBe("mine");
    clock.advance(SESSION_MS);
    expect(after.describe("g")?.state).toBe("Empty");
  });

  it("finds no group that was deleted, and none of the tombstones", async () => {
    const log = new FakeLog({ telemetry: 1 });
    const clock = new FakeClock();
    const before = await coordinatorOn(log, clock);
    const { memberId } = await stableMember(before, clock);
    await before.commit("other", SIMPLE, [at(0, 1)]);
    before.leave("g", [{ memberId, groupInstanceId: null }]);
    expect(await before.delete("g")).toBe("NONE");
    const after = await coordinatorOn(log, clock);
    expect(after.list().map(({ groupId }) => groupId)).toEqual(["other"]);
  });

  it("answers that it is loading before start, and that it is gone after close", async () => {
    const groups = new GroupCoordinator(new FakeLog().log, {}, silent, new FakeClock());
    expect((await groups.join(joinRequest())).error).toBe("COORDINATOR_LOAD_IN_PROGRESS");
    await groups.start();
    const waiting = groups.join(joinRequest());
    await groups.close();
    await groups.close();
    expect((await waiting).error).toBe("COORDINATOR_NOT_AVAILABLE");
    expect(groups.heartbeat("g", SIMPLE)).toBe("COORDINATOR_NOT_AVAILABLE");
  });
});

describe("deleting", () => {
  it("refuses a group with members, and knows one that is not there", async () => {
    const clock = new FakeClock();
    const groups = await coordinatorOn(new FakeLog({ telemetry: 1 }), clock);
    await stableMember(groups, clock);
    expect(await groups.delete("g")).toBe("NON_EMPTY_GROUP");
    expect(await groups.delete("nobody")).toBe("GROUP_ID_NOT_FOUND");
  });

  it("takes a commit along that was on its way to disk", async () => {
    const log = new FakeLog({ telemetry: 1 });
    const groups = await coordinatorOn(log);
    log.held = true;
    const committing = groups.commit("g", SIMPLE, [at(0, 7)]);
    const deleting = groups.delete("g");
    log.flush();
    expect([await committing, await deleting]).toEqual([["NONE"], "NONE"]);
    log.held = false;
    expect(groups.list()).toEqual([]);
    expect((await coordinatorOn(log)).committedOffsets("g")).toEqual([]);
  });

  it("keeps a group that was committed to meanwhile, exactly as the log has it", async () => {
    const log = new FakeLog({ telemetry: 1 });
    const groups = await coordinatorOn(log);
    await groups.commit("g", SIMPLE, [at(0, 1)]);
    log.held = true;
    const deleting = groups.delete("g");
    const committing = groups.commit("g", SIMPLE, [at(0, 7)]);
    log.flush();
    await Promise.all([deleting, committing]);
    log.held = false;
    expect(groups.committedOffset("g", PLACE)?.offset).toBe(7);
    expect((await coordinatorOn(log)).committedOffset("g", PLACE)?.offset).toBe(7);
  });

  it("keeps the offsets of streams that a living consumer group reads", async () => {
    const clock = new FakeClock();
    const groups = await coordinatorOn(new FakeLog({ telemetry: 1, other: 1 }), clock);
    // int16 version | one topic: "telemetry"
    const metadata = Buffer.from("000100000001000974656c656d65747279ffffffff", "hex");
    const joined = await stableMember(groups, clock, { protocols: [{ name: "range", metadata }] });
    const other = { stream: "other", partition: 0 };
    const identity = { ...joined, groupInstanceId: null };
    await groups.commit("g", identity, [at(0, 1), { ...at(0, 1), ...other }]);
    expect(await groups.deleteOffsets("g", [PLACE, other])).toEqual(["GROUP_SUBSCRIBED_TO_TOPIC", "NONE"]);
    expect(groups.committedOffsets("g").map(({ stream }) => stream)).toEqual(["telemetry"]);
  });
});

describe("bounds", () => {
  it("refuses session timeouts outside them, but takes the three seconds that test suites use", async () => {
    const clock = new FakeClock();
    const groups = await coordinatorOn(new FakeLog(), clock);
    for (const sessionTimeoutMs of [999, 30 * 60_000 + 1]) {
      expect((await groups.join(joinRequest({ sessionTimeoutMs }))).error).toBe("INVALID_SESSION_TIMEOUT");
    }
    const joining = groups.join(joinRequest({ sessionTimeoutMs: 3_000 }));
    clock.advance(500);
    expect((await joining).error).toBe("NONE");
  });

  it("refuses metadata and assignments that are too large, and a group without a name", async () => {
    const groups = await coordinatorOn(new FakeLog(), new FakeClock(), { maxMetadataBytes: 100 });
    const protocols = [{ name: "range", metadata: Buffer.alloc(100) }];
    expect((await groups.join(joinRequest({ protocols }))).error).toBe("INVALID_REQUEST");
    const assignments = [{ memberId: "m", assignment: Buffer.alloc(101) }];
    const sync = { ...SIMPLE, groupId: "g", protocolType: null, protocolName: null, assignments };
    expect((await groups.sync(sync)).error).toBe("INVALID_REQUEST");
    expect((await groups.join(joinRequest({ groupId: "" }))).error).toBe("INVALID_GROUP_ID");
  });

  it("makes room for a new group by dropping unused ones, never one with offsets or members", async () => {
    const log = new FakeLog({ telemetry: 1 });
    const clock = new FakeClock();
    const groups = await coordinatorOn(log, clock, { maxGroups: 2 });
    await groups.commit("kept", SIMPLE, [at(0, 1)]);
    const { memberId } = await stableMember(groups, clock);
    expect(await groups.commit("third", SIMPLE, [at(0, 1)])).toEqual(["GROUP_MAX_SIZE_REACHED"]);
    groups.leave("g", [{ memberId, groupInstanceId: null }]);
    clock.advance(1_000);
    expect(await groups.commit("third", SIMPLE, [at(0, 1)])).toEqual(["NONE"]);
    expect(groups.list().map(({ groupId }) => groupId)).toEqual(["kept", "third"]);
  });

  it("forgets a group that nobody used for the retention time, counted while running", async () => {
    const log = new FakeLog({ telemetry: 1 });
    const clock = new FakeClock();
    const groups = await coordinatorOn(log, clock, { offsetRetentionMs: 3_600_000 });
    await groups.commit("old", SIMPLE, [at(0, 1)]);
    clock.jump(365 * 86_400_000);
    clock.advance(3_000_000);
    await groups.commit("new", SIMPLE, [at(0, 1)]);
    clock.advance(700_000);
    await new Promise(setImmediate);
    expect(groups.list().map(({ groupId }) => groupId)).toEqual(["new"]);
    expect((await coordinatorOn(log)).list().map(({ groupId }) => groupId)).toEqual(["new"]);
  });

  it("does not keep a group for someone who only asked for a member id", async () => {
    const clock = new FakeClock();
    const groups = await coordinatorOn(new FakeLog(), clock);
    await groups.join(joinRequest({ knowsMemberIdRequired: true }));
    clock.advance(SESSION_MS + 700_000);
    expect(groups.list()).toEqual([]);
  });
});

it("stops waiting for a member whose connection has ended", async () => {
  const clock = new FakeClock();
  const groups = await coordinatorOn(new FakeLog(), clock);
  const first = await stableMember(groups, clock);
  const connection = new EndSignal();
  const lost = groups.join(joinRequest({ clientId: "lost" }), connection);
  connection.end();
  // It holds bytes of the server's budget as long as it is open.
  expect((await lost).error).toBe("COORDINATOR_NOT_AVAILABLE");
  const again = groups.join(joinRequest({ memberId: first.memberId }));
  clock.advance(SESSION_MS);
  expect((await again).members).toHaveLength(1);
});

it("goes on without a disk: members still join and get their assignments", async () => {
  const log = new FakeLog();
  const clock = new FakeClock();
  const groups = await coordinatorOn(log, clock);
  log.failWith = "READ_ONLY";
  await stableMember(groups, clock);
  expect(groups.describe("g")?.state).toBe("Stable");
});

it("steps over records of kinds it does not know, and values of versions from the future", async () => {
  expect(readRecord(Buffer.from("0003000167", "hex"), Buffer.alloc(4))).toBeUndefined();
  expect(() => readRecord(Buffer.from("0002000167", "hex"), Buffer.from("0009", "hex"))).toThrow("version 9");
});

describe("texts that Kafka's format has no room for", () => {
  const long = "x".repeat(40_000);

  it("are refused when a member joins: its group could never be written, and the gateway would end with it", async () => {
    const clock = new FakeClock();
    const groups = await coordinatorOn(new FakeLog({ telemetry: 1 }), clock);
    const protocols = [{ name: long, metadata: Buffer.alloc(0) }];
    for (const change of [
      { protocolType: long },
      { groupInstanceId: long },
      { protocols },
      { clientId: long.slice(0, 32_767) },
      { protocolType: "ä".repeat(20_000) },
    ]) {
      const joining = groups.join(joinRequest(change));
      clock.advance(500);
      expect((await joining).error).toBe("INVALID_REQUEST");
    }
    expect(() => clock.advance(SESSION_MS * 2)).not.toThrow();
    expect(groups.list()).toEqual([]);
  });
});
