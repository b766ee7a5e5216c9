/**
 * The laws of a group under random joins, leaves, deaths, syncs, lost connections and passing time. The
 * members here behave as clients do, but forget to beat, sync late, and die without a word.
 */
import fc from "fast-check";
import { expect, it } from "vitest";
import type { JoinResult, SyncResult } from "../../src/groups/types.ts";
import { LoneGroup, SESSION_MS, type Waiting } from "./harness.ts";

interface Client {
  readonly groupInstanceId: string | null;
  memberId: string;
  generationId: number;
  join: Waiting<JoinResult> | undefined;
  sync: Waiting<SyncResult> | undefined;
  alive: boolean;
  /** Owns the assignment of `generationId`. */
  assignment: string | undefined;
}

class World {
  readonly lone = new LoneGroup({ maxMembersPerGroup: 6 });
  readonly clients: Client[] = [];
  lastGeneration = 0;
  /** What the leader gave in each generation. */
  readonly given = new Map<number, Map<string, string>>();
  reached = { stable: 0, generations: 0 };

  step(action: number, who: number, ms: number): void {
    const client = this.clients[who % Math.max(1, this.clients.length)];
    if (action === 0 || client === undefined) this.arrive(who % 3 === 0 ? `static-${who % 2}` : null);
    else if (action === 1) client.alive = false;
    else if (action === 2) this.leave(client);
    else if (action === 3) this.lone.clock.advance(ms);
    else if (action === 4) this.lone.flush();
    else if (action === 5) this.lone.held = !this.lone.held;
    else this.live(client);
    for (const each of this.clients) this.hear(each);
    this.check();
  }

  private arrive(groupInstanceId: string | null): void {
    if (this.clients.filter(({ alive }) => alive).length >= 5) return;
    const client: Client = {
      groupInstanceId,
      memberId: "",
      generationId: -1,
      join: undefined,
      sync: undefined,
      alive: true,
      assignment: undefined,
    };
    this.clients.push(client);
    this.ask(client);
  }

  private ask(client: Client): void {
    client.assignment = undefined;
    client.sync = undefined;
    const { memberId, groupInstanceId } = client;
    client.join = this.lone.join({ memberId, groupInstanceId, knowsMemberIdRequired: true });
  }

  private leave(client: Client): void {
    if (client.memberId !== "") this.lone.group.leave(client);
    client.alive = false;
  }

  /** One turn of a client's loop: beat, or go on with what was answered. */
  private live(client: Client): void {
    if (!client.alive || client.join !== undefined || client.sync !== undefined) return;
    const error = this.lone.group.heartbeat(client);
    if (error === "NONE") return;
    if (error === "UNKNOWN_MEMBER_ID") client.memberId = "";
    if (error === "FENCED_INSTANCE_ID") client.alive = false;
    else this.ask(client);
  }

  private hear(client: Client): void {
    const joined = client.join?.result;
    if (joined !== undefined) {
      client.join = undefined;
      if (!client.alive) return;
      if (joined.error === "MEMBER_ID_REQUIRED") {
        client.memberId = joined.memberId;
        this.ask(client);
      } else if (joined.error === "NONE") this.enter(client, joined);
      else if (joined.error === "FENCED_INSTANCE_ID") client.alive = false;
      else client.memberId = "";
    }
    const synced = client.sync?.result;
    if (synced !== undefined) {
      client.sync = undefined;
      if (synced.error === "NONE") client.assignment = synced.assignment.toString();
    }
  }

  private enter(client: Client, joined: JoinResult): void {
    client.memberId = joined.memberId;
    client.generationId = joined.generationId;
    const assignments: Record<string, string> = {};
    if (joined.members.length > 0 && !joined.skipAssignment) {
      for (const { memberId } of joined.members) assignments[memberId] = `${memberId}@${joined.generationId}`;
      if (this.lone.group.state === "CompletingRebalance") {
        this.given.set(joined.generationId, new Map(Object.entries(assignments)));
      }
    }
    client.sync = this.lone.sync(joined, assignments, client.groupInstanceId);
  }

  private check(): void {
    const { group, clock } = this.lone;
    expect(group.generationId).toBeGreaterThanOrEqual(this.lastGeneration);
    this.reached.generations += group.generationId - this.lastGeneration;
    this.lastGeneration = group.generationId;
    expect(group.size).toBeLessThanOrEqual(6);
    expect(this.lone.doubleAnswers).toBe(0);
    const members = [...group.members.values()];
    expect(group.state === "Empty").toBe(members.length === 0);
    // A timer for each member and each invitation, and one for the phase.
    expect(clock.timerCount).toBeLessThanOrEqual(group.size + 1);
    if (group.state === "CompletingRebalance" || group.state === "Stable") {
      expect(members.filter(({ memberId }) => memberId === group.leaderId)).toHaveLength(1);
      expect(members.every((member) => member.supports(group.protocolName ?? ""))).toBe(true);
    }
    if (group.state !== "Stable") return;
    this.reached.stable++;
    const given = this.given.get(group.generationId);
    for (const member of members) {
      const mine = given?.get(member.memberId);
      // A static member that came back has what its former self was given.
      if (member.groupInstanceId === null) expect(member.assignment.toString()).toBe(mine);
      else expect([...(given?.values() ?? [])]).toContain(member.assignment.toString());
    }
    const owners = this.clients.filter(
      (client) => client.assignment !== undefined && this.lone.heartbeatOf(client) === "NONE",
    );
    for (const { assignment, generationId } of owners)
      expect(assignment).toMatch(new RegExp(`@${generationId}$`));
    expect(new Set(owners.map(({ assignment }) => assignment)).size).toBe(owners.length);
  }

  /** Everybody alive does what a client does, for as long as it may take. */
  settle(): void {
    this.lone.held = false;
    for (let round = 0; round < 40; round++) {
      this.lone.flush();
      this.lone.clock.advance(SESSION_MS / 3);
      for (const client of this.clients) {
        this.live(client);
        for (const each of this.clients) this.hear(each);
      }
    }
  }
}

it("has one leader, hands out what that leader gave, never goes back a generation, and always settles", () => {
  const steps = fc.array(
    fc.tuple(fc.integer({ min: 0, max: 9 }), fc.nat(20), fc.integer({ min: 1, max: 12_000 })),
    {
      minLength: 10,
      maxLength: 120,
    },
  );
  const reached = { stable: 0, generations: 0 };
  fc.assert(
    fc.property(steps, (actions) => {
      const world = new World();
      for (const [action, who, ms] of actions) world.step(action, who, ms);
      world.settle();
      const living = world.clients.filter(({ alive }) => alive);
      const { group } = world.lone;
      expect(group.state).toBe(living.length === 0 ? "Empty" : "Stable");
      expect(group.members.size).toBe(living.length);
      for (const client of living) expect(client.generationId).toBe(group.generationId);
      reached.stable += world.reached.stable;
      reached.generations += world.reached.generations;
    }),
    { numRuns: 300 },
  );
  // The walk went where the laws are.
  expect(reached.stable).toBeGreaterThan(300);
  expect(reached.generations).toBeGreaterThan(300);
});
