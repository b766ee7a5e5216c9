/**
 * The coordinator's laws under random members, commits, deletions, slow and failing disks, and restarts that lose
 * what was not on disk. Clients behave as real ones do: they beat, rejoin when told to, and commit what they read.
 */
import fc from "fast-check";
import { expect, it } from "vitest";
import type { GroupCoordinator } from "../../src/groups/coordinator.ts";
import type { JoinResult } from "../../src/groups/types.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { FakeLog } from "./fake-log.ts";
import { coordinatorOn, joinRequest, SESSION_MS, SIMPLE } from "./harness.ts";

const STREAM = "telemetry";
const PARTITIONS = 2;

interface Client {
  readonly groupId: string;
  readonly groupInstanceId: string | null;
  memberId: string;
  generationId: number;
  /** Waits for a JoinGroup or SyncGroup. */
  busy: boolean;
  alive: boolean;
  synced: boolean;
}

/** What a reader of one offset may be shown: what was acknowledged last, or what was asked for since. */
class Place {
  private asks: { readonly offset: number | undefined }[] = [{ offset: undefined }];

  get allowed(): (number | undefined)[] {
    return this.asks.map(({ offset }) => offset);
  }

  asked(offset: number | undefined): { done(written: boolean): void } {
    const ask = { offset };
    this.asks.push(ask);
    return {
      done: (written) => {
        const at = this.asks.indexOf(ask);
        if (at < 0) return;
        // Appends are done in their order: what came before is overwritten.
        if (written) this.asks = this.asks.slice(at);
        else this.asks.splice(at, 1);
      },
    };
  }
}

class World {
  readonly log = new FakeLog({ [STREAM]: PARTITIONS });
  readonly clock = new FakeClock();
  groups!: GroupCoordinator;
  readonly clients: Client[] = [];
  private readonly places = new Map<string, Place>();
  private nextOffset = 1;
  /** Answers of an earlier life are no answers. */
  private life = 0;
  reached = { synced: 0, commits: 0, survived: 0, restarts: 0 };

  async start(): Promise<void> {
    this.groups = await coordinatorOn(this.log, this.clock);
  }

  place(groupId: string, partition: number): Place {
    const key = `${groupId}/${partition}`;
    const place = this.places.get(key) ?? new Place();
    this.places.set(key, place);
    return place;
  }

  async step(action: number, who: number, ms: number): Promise<void> {
    const client = this.clients[who % Math.max(1, this.clients.length)];
    if (client === undefined || action === 0) this.arrive(who);
    else if (action === 2) this.end(client, who);
    else if (action === 1 || action === 4) this.clock.advance(ms);
    else if (action === 5) this.log.held = !this.log.held;
    else if (action === 6 && who % 4 === 0)
      this.log.failWith = this.log.failWith === undefined ? "READ_ONLY" : undefined;
    else if (action === 7) await this.restart();
    else if (action === 8) this.remove(client.groupId);
    else if (action <= 11) this.commit(client, who % PARTITIONS);
    else this.beat(client);
    if (!this.log.held) this.log.flush();
    await turn();
    this.check();
  }

  private arrive(who: number): void {
    const groupId = who % 2 === 0 ? "g" : "h";
    if (this.clients.filter((one) => one.alive && one.groupId === groupId).length >= 3) return;
    const groupInstanceId = who % 5 === 0 ? `static-${who % 3}` : null;
    const client = {
      groupId,
      groupInstanceId,
      memberId: "",
      generationId: -1,
      busy: false,
      alive: true,
      synced: false,
    };
    this.clients.push(client);
    void this.join(client);
  }

  private async join(client: Client): Promise<void> {
    const { life } = this;
    const { groupId, memberId, groupInstanceId } = client;
    client.busy = true;
    client.synced = false;
    const joined = await this.groups.join(
      joinRequest({
        groupId,
        memberId,
        groupInstanceId,
        knowsMemberIdRequired: true,
        knowsSkipAssignment: true,
      }),
    );
    if (life !== this.life) return;
    if (joined.error === "NONE" && client.alive) return this.sync(client, joined);
    if (joined.error === "MEMBER_ID_REQUIRED" && client.alive) {
      client.memberId = joined.memberId;
      return this.join(client);
    }
    client.busy = false;
    if (joined.error === "FENCED_INSTANCE_ID") client.alive = false;
    else if (joined.error !== "REBALANCE_IN_PROGRESS") client.memberId = "";
  }

  private async sync(client: Client, joined: JoinResult): Promise<void> {
    const { life } = this;
    const { groupId, groupInstanceId } = client;
    const { memberId, generationId } = joined;
    Object.assign(client, { memberId, generationId });
    const assignments = joined.members.map((one) => ({
      memberId: one.memberId,
      assignment: Buffer.from(`${one.memberId}@${generationId}`),
    }));
    const { error, assignment } = await this.groups.sync({
      ...{ groupId, memberId, generationId, groupInstanceId, protocolType: null, protocolName: null },
      assignments: joined.skipAssignment ? [] : assignments,
    });
    if (life !== this.life) return;
    client.busy = false;
    client.synced = error === "NONE";
    if (!client.synced || groupInstanceId !== null) return;
    this.reached.synced++;
    // Nobody is handed what was meant for another generation, or another member.
    expect(assignment.toString()).toBe(`${memberId}@${generationId}`);
  }

  private beat(client: Client): void {
    if (!client.alive || client.busy) return;
    const error =
      client.memberId === "" ? "UNKNOWN_MEMBER_ID" : this.groups.heartbeat(client.groupId, client);
    if (error === "NONE" && client.synced) return;
    if (error === "FENCED_INSTANCE_ID") client.alive = false;
    else {
      if (error === "UNKNOWN_MEMBER_ID") client.memberId = "";
      void this.join(client);
    }
  }

  /** With a word, or without. */
  private end(client: Client, who: number): void {
    if (who % 2 === 0 && client.memberId !== "") this.groups.leave(client.groupId, [client]);
    client.alive = false;
  }

  private commit(client: Client, partition: number): void {
    const { life } = this;
    const offset = this.nextOffset++;
    const ask = this.place(client.groupId, partition).asked(offset);
    const identity = client.synced ? client : SIMPLE;
    const one = { stream: STREAM, partition, offset, leaderEpoch: -1, metadata: "" };
    void this.groups.commit(client.groupId, identity, [one]).then(([error]) => {
      if (life !== this.life) return;
      if (error === "NONE") this.reached.commits++;
      ask.done(error === "NONE");
    });
  }

  private remove(groupId: string): void {
    const { life } = this;
    const asks = Array.from({ length: PARTITIONS }, (_, at) => this.place(groupId, at).asked(undefined));
    void this.groups.delete(groupId).then((error) => {
      if (life !== this.life) return;
      for (const ask of asks) ask.done(error === "NONE");
    });
  }

  /** Killed: what waits for the disk is lost, members live on and find their coordinator again. */
  private async restart(): Promise<void> {
    this.reached.restarts++;
    // A group that is stable is on disk, but for a disk that failed: then it goes on in memory only.
    const sound = this.log.failWith === undefined && !this.log.failed;
    const members = this.clients.filter(
      (one) => one.alive && one.synced && this.groups.describe(one.groupId)?.state === "Stable",
    );
    const beating = members.filter((one) => this.groups.heartbeat(one.groupId, one) === "NONE");
    this.life++;
    this.log.lose();
    this.log.failWith = undefined;
    await this.groups.close();
    for (const client of this.clients) {
      if (client.busy) Object.assign(client, { busy: false, synced: false });
    }
    await this.start();
    if (!sound) return;
    for (const client of beating) {
      this.reached.survived++;
      expect(this.groups.heartbeat(client.groupId, client)).toBe("NONE");
    }
  }

  private check(): void {
    for (const [key, { allowed }] of this.places) {
      const [groupId = "", partition] = key.split("/");
      const at = { stream: STREAM, partition: Number(partition) };
      expect(allowed).toContain(this.groups.committedOffset(groupId, at)?.offset);
    }
  }

  /** Everybody alive does what a client does, with a good disk. */
  async settle(): Promise<void> {
    this.log.held = false;
    this.log.failWith = undefined;
    for (let round = 0; round < 40; round++) {
      this.log.flush();
      await turn();
      this.clock.advance(SESSION_MS / 4);
      await turn();
      for (const client of this.clients) this.beat(client);
    }
    await turn();
  }
}

/** Long enough for every promise that can be kept. */
async function turn(): Promise<void> {
  await new Promise(setImmediate);
}

it("shows what was acknowledged, through restarts too, and members of a stable group notice none", async () => {
  const step = fc.tuple(fc.integer({ min: 0, max: 15 }), fc.nat(30), fc.integer({ min: 1, max: 6_000 }));
  const reached = { synced: 0, commits: 0, survived: 0, restarts: 0 };
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 80 }), async (steps) => {
      const world = new World();
      await world.start();
      for (const [action, who, ms] of steps) await world.step(action, who, ms);
      await world.settle();
      for (const groupId of ["g", "h"]) {
        const living = world.clients.filter((one) => one.alive && one.groupId === groupId);
        const group = world.groups.describe(groupId);
        expect(group?.members.length ?? 0).toBe(living.length);
        if (living.length > 0) expect(group?.state).toBe("Stable");
        for (const { generationId } of living) expect(generationId).toBe(group?.generationId);
      }
      await world.groups.close();
      for (const key of Object.keys(reached) as (keyof typeof reached)[]) reached[key] += world.reached[key];
    }),
    { numRuns: 150 },
  );
  // The walk went where the laws are.
  expect(reached.synced).toBeGreaterThan(150);
  expect(reached.commits).toBeGreaterThan(150);
  expect(reached.restarts).toBeGreaterThan(150);
  expect(reached.survived).toBeGreaterThan(30);
});
