import { describe, expect, it } from "vitest";
import type { JoinResult } from "../../src/groups/types.ts";
import { joinRequest, LoneGroup, REBALANCE_MS, SESSION_MS } from "./harness.ts";

const JOINED = { error: "NONE" };

describe("a group that forms", () => {
  it("waits half a second for others, then makes the first to come its leader", () => {
    const lone = new LoneGroup();
    const first = lone.join();
    lone.clock.advance(499);
    expect(first.result).toBeUndefined();
    expect(lone.group.state).toBe("PreparingRebalance");
    lone.clock.advance(1);
    const { memberId } = first.result as JoinResult;
    expect(first.result).toMatchObject({
      ...JOINED,
      generationId: 1,
      leader: memberId,
      protocolName: "range",
    });
    expect(first.result?.members).toHaveLength(1);
    expect(lone.group.state).toBe("CompletingRebalance");
  });

  it("goes on waiting while somebody comes, but no longer than the rebalance timeout", () => {
    const lone = new LoneGroup();
    const joins = [lone.join({ rebalanceTimeoutMs: 1_200 })];
    for (let came = 0; came < 5 && lone.group.state === "PreparingRebalance"; came++) {
      lone.clock.advance(400);
      if (lone.group.state === "PreparingRebalance") joins.push(lone.join({ rebalanceTimeoutMs: 1_200 }));
    }
    expect(joins.length).toBe(3);
    expect(joins.map(({ result }) => result?.generationId)).toEqual([1, 1, 1]);
  });

  it("shows the members to the leader only", () => {
    const [leader, follower] = new LoneGroup().stable(2);
    expect(leader?.members).toHaveLength(2);
    expect(follower?.members).toEqual([]);
    expect(follower?.leader).toBe(leader?.memberId);
  });

  it("gives each member its assignment when the leader has brought them and they are stored", () => {
    const lone = new LoneGroup();
    const joins = [lone.join(), lone.join()];
    lone.clock.advance(5_000);
    const [leader, follower] = joins.map(({ result }) => result as JoinResult) as [JoinResult, JoinResult];
    lone.held = true;
    const waiting = lone.sync(follower);
    const brought = lone.sync(leader, { [leader.memberId]: "a", [follower.memberId]: "b" });
    expect([waiting.result, brought.result]).toEqual([undefined, undefined]);
    lone.flush();
    expect(brought.result?.assignment.toString()).toBe("a");
    expect(waiting.result?.assignment.toString()).toBe("b");
    expect(lone.group.state).toBe("Stable");
  });

  it("chooses the protocol that most members prefer among those that all know", () => {
    const lone = new LoneGroup();
    const named = (...names: string[]) => names.map((name) => ({ name, metadata: Buffer.from(name) }));
    const joins = [
      lone.join({ protocols: named("only-mine", "range", "sticky") }),
      lone.join({ protocols: named("sticky", "range") }),
      lone.join({ protocols: named("sticky", "range") }),
    ];
    lone.clock.advance(5_000);
    expect(joins.map(({ result }) => result?.protocolName)).toEqual(["sticky", "sticky", "sticky"]);
    expect(joins[0]?.result?.members[0]?.metadata.toString()).toBe("sticky");
  });

  it("refuses a member that has no protocol in common with it, or another protocol type", () => {
    const lone = new LoneGroup();
    lone.stable(1);
    const protocols = [{ name: "strange", metadata: Buffer.alloc(0) }];
    expect(lone.join({ protocols }).result?.error).toBe("INCONSISTENT_GROUP_PROTOCOL");
    expect(lone.join({ protocolType: "connect" }).result?.error).toBe("INCONSISTENT_GROUP_PROTOCOL");
  });

  it("refuses another protocol type from its only member, too", () => {
    const lone = new LoneGroup();
    const [only] = lone.stable(1) as [JoinResult];
    const changed = lone.join({ memberId: only.memberId, protocolType: "connect" });
    expect(changed.result?.error).toBe("INCONSISTENT_GROUP_PROTOCOL");
  });

  it("asks those who know the error to come back with the member id it gives them", () => {
    const lone = new LoneGroup();
    const invited = lone.join({ knowsMemberIdRequired: true });
    expect(invited.result?.error).toBe("MEMBER_ID_REQUIRED");
    const memberId = invited.result?.memberId as string;
    expect(memberId).toMatch(/^client-[0-9a-f-]{36}$/);
    const joined = lone.join({ memberId, knowsMemberIdRequired: true });
    lone.clock.advance(5_000);
    expect(joined.result).toMatchObject({ ...JOINED, memberId });
  });

  it("forgets an invited member that does not come within its session timeout", () => {
    const lone = new LoneGroup();
    const memberId = lone.join({ knowsMemberIdRequired: true }).result?.memberId as string;
    expect(lone.group.size).toBe(1);
    lone.clock.advance(SESSION_MS);
    expect(lone.group.size).toBe(0);
    expect(lone.join({ memberId }).result?.error).toBe("UNKNOWN_MEMBER_ID");
  });

  it("waits for an invited member before it ends a join phase", () => {
    const lone = new LoneGroup();
    const [leader] = lone.stable(1) as [JoinResult];
    const memberId = lone.join({ knowsMemberIdRequired: true }).result?.memberId as string;
    const again = lone.join({ memberId: leader.memberId });
    expect(again.result).toBeUndefined();
    lone.join({ memberId });
    expect(again.result?.members).toHaveLength(2);
  });

  it("takes no more than its members", () => {
    const lone = new LoneGroup({ maxMembersPerGroup: 2 });
    lone.join({ knowsMemberIdRequired: true });
    lone.join();
    expect(lone.join().result?.error).toBe("GROUP_MAX_SIZE_REACHED");
  });
});

describe("a stable group", () => {
  it("rebalances when a third member joins", () => {
    const lone = new LoneGroup();
    const two = lone.stable(2);
    const third = lone.join();
    expect(lone.group.state).toBe("PreparingRebalance");
    expect(two.map((member) => lone.heartbeat(member))).toEqual([
      "REBALANCE_IN_PROGRESS",
      "REBALANCE_IN_PROGRESS",
    ]);
    const again = two.map(({ memberId }) => lone.join({ memberId }));
    const results = [...again, third].map(({ result }) => result as JoinResult);
    expect(results.map(({ generationId }) => generationId)).toEqual([2, 2, 2]);
    expect(results.filter(({ members }) => members.length === 3)).toHaveLength(1);
  });

  it("notices a killed member by its session timeout, and rebalances without it", () => {
    const lone = new LoneGroup();
    const [alive, killed] = lone.stable(2) as [JoinResult, JoinResult];
    for (let passed = 0; passed < SESSION_MS; passed += 3_000) {
      expect(lone.heartbeat(alive)).toBe("NONE");
      lone.clock.advance(3_000);
    }
    expect(lone.heartbeat(alive)).toBe("REBALANCE_IN_PROGRESS");
    expect(lone.heartbeat(killed)).toBe("UNKNOWN_MEMBER_ID");
    const again = lone.join({ memberId: alive.memberId });
    expect(again.result).toMatchObject({ ...JOINED, generationId: 2 });
    expect(again.result?.members).toHaveLength(1);
  });

  it("does not wait for a killed member longer than its session, though others are joining", () => {
    const lone = new LoneGroup();
    const [alive] = lone.stable(2) as [JoinResult, JoinResult];
    const third = lone.join();
    const again = lone.join({ memberId: alive.memberId });
    lone.clock.advance(SESSION_MS);
    expect(again.result).toMatchObject({ ...JOINED, generationId: 2 });
    expect(third.result).toMatchObject({ ...JOINED, generationId: 2 });
  });

  it("drops a member that beats but does not rejoin within the rebalance timeout", () => {
    const lone = new LoneGroup();
    const [alive, busy] = lone.stable(2) as [JoinResult, JoinResult];
    lone.join();
    const again = lone.join({ memberId: alive.memberId });
    for (let passed = 0; passed < REBALANCE_MS; passed += 5_000) {
      expect(lone.heartbeat(busy)).toBe("REBALANCE_IN_PROGRESS");
      lone.clock.advance(5_000);
    }
    expect(again.result?.generationId).toBe(2);
    expect(lone.heartbeat(busy)).toBe("UNKNOWN_MEMBER_ID");
  });

  it("rebalances at once when a member leaves, and is empty after the last", () => {
    const lone = new LoneGroup();
    const [first, second] = lone.stable(2) as [JoinResult, JoinResult];
    expect(lone.leave(second.memberId)).toBe("NONE");
    expect(lone.heartbeat(first)).toBe("REBALANCE_IN_PROGRESS");
    expect(lone.leave(first.memberId)).toBe("NONE");
    expect(lone.group.state).toBe("Empty");
    expect(lone.group.generationId).toBe(2);
    expect(lone.leave(first.memberId)).toBe("UNKNOWN_MEMBER_ID");
    expect(lone.clock.timerCount).toBe(0);
  });

  it("fences a zombie of an earlier generation", () => {
    const lone = new LoneGroup();
    const [leader] = lone.stable(1) as [JoinResult];
    lone.join({ memberId: leader.memberId });
    expect(lone.group.generationId).toBe(2);
    const zombie = { ...leader, groupInstanceId: null };
    expect(lone.heartbeat(zombie)).toBe("ILLEGAL_GENERATION");
    expect(lone.group.commitError(zombie)).toBe("ILLEGAL_GENERATION");
    expect(lone.sync(leader, { [leader.memberId]: "stale" }).result?.error).toBe("ILLEGAL_GENERATION");
  });

  it("answers a follower that lost its answer with the same generation, without a rebalance", () => {
    const lone = new LoneGroup();
    const [, follower] = lone.stable(2) as [JoinResult, JoinResult];
    expect(lone.join({ memberId: follower.memberId }).result).toMatchObject({ ...JOINED, generationId: 1 });
    expect(lone.sync(follower).result?.assignment.toString()).toBe(`for ${follower.memberId}`);
    expect(lone.group.state).toBe("Stable");
  });

  it("rebalances when its leader joins again, or a follower with other metadata", () => {
    const lone = new LoneGroup();
    const [leader, follower] = lone.stable(2) as [JoinResult, JoinResult];
    const metadata = Buffer.from("another subscription");
    lone.join({ memberId: follower.memberId, protocols: [{ name: "range", metadata }] });
    expect(lone.group.state).toBe("PreparingRebalance");
    const again = lone.join({ memberId: leader.memberId });
    expect(again.result?.members.some((member) => member.metadata.equals(metadata))).toBe(true);
  });

  it("lets members commit, but not strangers, nor anybody before the assignments are out", () => {
    const lone = new LoneGroup();
    const [leader] = lone.stable(1) as [JoinResult];
    const identity = { ...leader, groupInstanceId: null };
    expect(lone.group.commitError(identity)).toBe("NONE");
    expect(lone.group.commitError({ ...identity, memberId: "who" })).toBe("UNKNOWN_MEMBER_ID");
    expect(lone.group.commitError({ memberId: "", groupInstanceId: null, generationId: -1 })).toBe(
      "UNKNOWN_MEMBER_ID",
    );
    lone.join({ memberId: leader.memberId });
    expect(lone.group.commitError({ ...identity, generationId: 2 })).toBe("REBALANCE_IN_PROGRESS");
  });
});

describe("a group whose assignments are awaited", () => {
  function completing() {
    const lone = new LoneGroup();
    const joins = [lone.join(), lone.join()];
    lone.clock.advance(5_000);
    const [leader, follower] = joins.map(({ result }) => result as JoinResult) as [JoinResult, JoinResult];
    return { lone, leader, follower };
  }

  it("starts anew when the leader dies before it brought them", () => {
    const { lone, follower } = completing();
    const waiting = lone.sync(follower);
    lone.clock.advance(SESSION_MS);
    expect(waiting.result?.error).toBe("REBALANCE_IN_PROGRESS");
    const again = lone.join({ memberId: follower.memberId });
    expect(again.result).toMatchObject({ ...JOINED, generationId: 2, leader: follower.memberId });
  });

  it("drops a follower that beats but never syncs", () => {
    const { lone, leader, follower } = completing();
    lone.sync(leader, {});
    for (let passed = 0; passed < REBALANCE_MS; passed += 5_000) {
      lone.heartbeat(leader);
      lone.heartbeat(follower);
      lone.clock.advance(5_000);
    }
    expect(lone.heartbeat(follower)).toBe("UNKNOWN_MEMBER_ID");
    expect(lone.heartbeat(leader)).toBe("REBALANCE_IN_PROGRESS");
  });

  it("does not hand out assignments that a rebalance has overtaken while they were stored", () => {
    const { lone, leader, follower } = completing();
    lone.held = true;
    const brought = lone.sync(leader, { [leader.memberId]: "old" });
    lone.leave(follower.memberId);
    expect(brought.result?.error).toBe("REBALANCE_IN_PROGRESS");
    lone.flush();
    expect(lone.group.state).toBe("PreparingRebalance");
    expect(lone.doubleAnswers).toBe(0);
  });

  it("refuses a sync that names another protocol than was chosen", () => {
    const { lone, leader } = completing();
    let error: string | undefined;
    const request = { groupId: "g", groupInstanceId: null, assignments: [], protocolType: "consumer" };
    lone.group.sync({ ...leader, ...request, protocolName: "sticky" }, (result) => {
      error = result.error;
    });
    expect(error).toBe("INCONSISTENT_GROUP_PROTOCOL");
  });
});

describe("every request in every state", () => {
  /** A group in this state, and one of its members that owes it nothing (or was one, where there is none). */
  const groups: Record<string, () => [LoneGroup, JoinResult]> = {
    Empty: () => {
      const lone = new LoneGroup();
      const [member] = lone.stable(1) as [JoinResult];
      lone.leave(member.memberId);
      return [lone, { ...member, generationId: lone.group.generationId }];
    },
    PreparingRebalance: () => {
      const lone = new LoneGroup();
      const [, follower] = lone.stable(2) as [JoinResult, JoinResult];
      lone.join();
      return [lone, follower];
    },
    CompletingRebalance: () => {
      const lone = new LoneGroup();
      const joins = [lone.join(), lone.join()];
      lone.clock.advance(5_000);
      return [lone, joins[1]?.result as JoinResult];
    },
    Stable: () => {
      const lone = new LoneGroup();
      const [, follower] = lone.stable(2) as [JoinResult, JoinResult];
      return [lone, follower];
    },
    Dead: () => {
      const lone = new LoneGroup();
      const [leader] = lone.stable(1) as [JoinResult];
      lone.group.kill();
      return [lone, leader];
    },
  };
  const waits = undefined;
  const gone = "UNKNOWN_MEMBER_ID";
  const moved = "REBALANCE_IN_PROGRESS";
  const stale = "ILLEGAL_GENERATION";
  const dead = "COORDINATOR_NOT_AVAILABLE";

  it.each([
    // state, heartbeat, sync, commit, leave; of an old generation: heartbeat, sync, commit; simple commit; stranger
    ["Empty", [gone, gone, gone, gone], [gone, gone, gone], "NONE", gone],
    ["PreparingRebalance", [moved, moved, "NONE", "NONE"], [stale, stale, stale], gone, gone],
    ["CompletingRebalance", ["NONE", waits, moved, "NONE"], [stale, stale, stale], gone, gone],
    ["Stable", ["NONE", "NONE", "NONE", "NONE"], [stale, stale, stale], gone, gone],
    ["Dead", [dead, dead, dead, dead], [dead, dead, dead], dead, dead],
  ] as const)("%s", (state, current, old, simple, stranger) => {
    const open = groups[state] as () => [LoneGroup, JoinResult];
    const asked = (ask: (lone: LoneGroup, member: JoinResult) => string | undefined, older = 0) => {
      const [lone, member] = open();
      expect(lone.group.state).toBe(state);
      return ask(lone, { ...member, generationId: member.generationId - older });
    };
    const heartbeat = (lone: LoneGroup, member: JoinResult) => lone.heartbeat(member);
    const sync = (lone: LoneGroup, member: JoinResult) => lone.sync(member).result?.error;
    const commit = (lone: LoneGroup, member: JoinResult) =>
      lone.group.commitError({ ...member, groupInstanceId: null });
    const leave = (lone: LoneGroup, { memberId }: JoinResult) => lone.leave(memberId);
    expect([heartbeat, sync, commit, leave].map((ask) => asked(ask))).toEqual(current);
    expect([heartbeat, sync, commit].map((ask) => asked(ask, 1))).toEqual(old);
    const nobody = { memberId: "", groupInstanceId: null, generationId: -1 };
    expect(asked(({ group }) => group.commitError(nobody))).toBe(simple);
    expect(asked((lone) => lone.join({ memberId: "who" }).result?.error)).toBe(stranger);
  });
});

describe("a static member", () => {
  const named = (index: number) => ({ groupInstanceId: `pi-${index}` });

  it("comes back under a new member id without a rebalance, to its old assignment", () => {
    const lone = new LoneGroup();
    const [, follower] = lone.stable(2, named) as [JoinResult, JoinResult];
    const back = lone.join(named(1));
    expect(back.result).toMatchObject({ ...JOINED, generationId: 1 });
    expect(back.result?.memberId).not.toBe(follower.memberId);
    const synced = lone.sync(back.result as JoinResult, {}, "pi-1");
    expect(synced.result?.assignment.toString()).toBe(`for ${follower.memberId}`);
    expect(lone.group.state).toBe("Stable");
  });

  it("fences its former self", () => {
    const lone = new LoneGroup();
    const [, follower] = lone.stable(2, named) as [JoinResult, JoinResult];
    lone.join(named(1));
    expect(lone.group.heartbeat({ ...follower, ...named(1) })).toBe("FENCED_INSTANCE_ID");
    expect(lone.sync(follower, {}, "pi-1").result?.error).toBe("FENCED_INSTANCE_ID");
    expect(lone.join({ memberId: follower.memberId, ...named(1) }).result?.error).toBe("FENCED_INSTANCE_ID");
    expect(lone.group.leave({ memberId: follower.memberId, ...named(1) })).toBe("FENCED_INSTANCE_ID");
  });

  it("that led is told to skip the assignment, or sees a leader that is not itself", () => {
    for (const knowsSkipAssignment of [true, false]) {
      const lone = new LoneGroup();
      const [leader] = lone.stable(2, named) as [JoinResult];
      const back = lone.join({ ...named(0), knowsSkipAssignment }).result as JoinResult;
      expect(back.skipAssignment).toBe(knowsSkipAssignment);
      expect(back.members).toHaveLength(knowsSkipAssignment ? 2 : 0);
      expect(back.leader).toBe(knowsSkipAssignment ? back.memberId : leader.memberId);
    }
  });

  it("keeps its place through a rebalance, until its session ends", () => {
    const lone = new LoneGroup();
    const [leader] = lone.stable(2, named) as [JoinResult];
    lone.join();
    const again = lone.join({ memberId: leader.memberId, ...named(0) });
    lone.clock.advance(SESSION_MS - 5_000);
    expect(again.result).toBeUndefined();
    lone.clock.advance(5_000);
    expect(again.result?.members).toHaveLength(2);
  });

  it("can be removed by an administrator who knows the instance id only", () => {
    const lone = new LoneGroup();
    lone.stable(2, named);
    expect(lone.group.leave({ memberId: "", groupInstanceId: "pi-1" })).toBe("NONE");
    expect(lone.group.members.size).toBe(1);
    expect(lone.group.leave({ memberId: "", groupInstanceId: "pi-1" })).toBe("UNKNOWN_MEMBER_ID");
  });
});

describe("time", () => {
  it("expires nobody when the wall clock jumps", () => {
    const lone = new LoneGroup();
    const [member] = lone.stable(1) as [JoinResult];
    lone.clock.jump(50 * 365 * 86_400_000);
    expect(lone.heartbeat(member)).toBe("NONE");
    lone.clock.advance(SESSION_MS - 1);
    expect(lone.heartbeat(member)).toBe("NONE");
  });

  it("lets heartbeats that waited out a stall of the process be read before anybody is expired", () => {
    const lone = new LoneGroup();
    const [member] = lone.stable(1) as [JoinResult];
    lone.clock.stall(3 * SESSION_MS);
    expect(lone.heartbeat(member)).toBe("NONE");
    lone.clock.advance(SESSION_MS - 1);
    expect(lone.group.state).toBe("Stable");
  });

  it("still expires a member that stays silent after a stall", () => {
    const lone = new LoneGroup();
    lone.stable(1);
    lone.clock.stall(3 * SESSION_MS);
    lone.clock.advance(SESSION_MS);
    expect(lone.group.state).toBe("Empty");
  });

  it("moves a deadline with each heartbeat but keeps one timer for each member", () => {
    const lone = new LoneGroup();
    const members = lone.stable(3);
    for (let beat = 0; beat < 100; beat++) {
      for (const member of members) expect(lone.heartbeat(member)).toBe("NONE");
      lone.clock.advance(100);
      expect(lone.clock.timerCount).toBeLessThanOrEqual(3);
    }
  });

  it("has a joining member whose connection ended expire by its session", () => {
    const lone = new LoneGroup();
    let answered = false;
    const answer = () => {
      answered = true;
    };
    const [leader] = lone.stable(1) as [JoinResult];
    lone.group.join(joinRequest(), answer);
    lone.group.abandon(answer);
    expect(answered).toBe(true);
    const again = lone.join({ memberId: leader.memberId });
    expect(again.result).toBeUndefined();
    lone.clock.advance(SESSION_MS);
    expect(again.result?.members).toHaveLength(1);
  });
});

it("a dead group answers everybody who waits and leaves no timer", () => {
  const lone = new LoneGroup();
  lone.stable(2);
  const waiting = lone.join();
  lone.group.kill();
  expect(waiting.result?.error).toBe("COORDINATOR_NOT_AVAILABLE");
  expect(lone.join().result?.error).toBe("COORDINATOR_NOT_AVAILABLE");
  expect(lone.clock.timerCount).toBe(0);
});
