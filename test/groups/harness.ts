/** A group, or a coordinator, with members that are easy to write down. */
import { pino } from "pino";
import { GroupCoordinator } from "../../src/groups/coordinator.ts";
import { Group } from "../../src/groups/group.ts";
import {
  DEFAULT_GROUP_OPTIONS,
  type GroupOptions,
  type JoinRequest,
  type JoinResult,
  type SyncResult,
} from "../../src/groups/types.ts";
import { FakeClock } from "../support/fake-clock.ts";
import type { FakeLog } from "./fake-log.ts";

export const SESSION_MS = 10_000;
export const REBALANCE_MS = 60_000;
export const silent = pino({ level: "silent" });

export function joinRequest(change: Partial<JoinRequest> = {}): JoinRequest {
  return {
    groupId: "g",
    memberId: "",
    groupInstanceId: null,
    clientId: "client",
    clientHost: "/127.0.0.1",
    sessionTimeoutMs: SESSION_MS,
    rebalanceTimeoutMs: REBALANCE_MS,
    protocolType: "consumer",
    protocols: [{ name: "range", metadata: Buffer.from("metadata") }],
    knowsMemberIdRequired: false,
    knowsSkipAssignment: false,
    ...change,
  };
}

/** What a request was answered; undefined while it waits. */
export interface Waiting<R> {
  result: R | undefined;
}

/** A group alone, whose stores are done at once unless `held`. */
export class LoneGroup {
  readonly clock = new FakeClock();
  readonly group: Group;
  stores: (() => void)[] = [];
  held = false;
  /** Every answer ever given, to find a second one. */
  doubleAnswers = 0;

  constructor(options: Partial<GroupOptions> = {}) {
    this.group = new Group("g", {
      clock: this.clock,
      options: { ...DEFAULT_GROUP_OPTIONS, ...options },
      store: (_group, done) => {
        if (this.held) this.stores.push(done);
        else done();
      },
    });
  }

  flush(): void {
    for (const done of this.stores.splice(0)) done();
  }

  private waiting<R>(ask: (answer: (result: R) => void) => void): Waiting<R> {
    const waiting: Waiting<R> = { result: undefined };
    ask((result) => {
      if (waiting.result !== undefined) this.doubleAnswers++;
      waiting.result = result;
    });
    return waiting;
  }

  join(change: Partial<JoinRequest> = {}): Waiting<JoinResult> {
    return this.waiting((answer) => this.group.join(joinRequest(change), answer));
  }

  sync(
    joined: { memberId: string; generationId: number },
    assignments: Record<string, string> = {},
    groupInstanceId: string | null = null,
  ): Waiting<SyncResult> {
    return this.waiting((answer) =>
      this.group.sync(
        {
          groupId: "g",
          memberId: joined.memberId,
          generationId: joined.generationId,
          groupInstanceId,
          protocolType: null,
          protocolName: null,
          assignments: Object.entries(assignments).map(([memberId, text]) => ({
            memberId,
            assignment: Buffer.from(text),
          })),
        },
        answer,
      ),
    );
  }

  heartbeat({ memberId, generationId }: { memberId: string; generationId: number }) {
    return this.group.heartbeat({ memberId, generationId, groupInstanceId: null });
  }

  /** Whether this one belongs to the current generation, asked without giving a sign of life. */
  heartbeatOf({ memberId, generationId }: { memberId: string; generationId: number }) {
    const current = this.group.generationId === generationId;
    return current && this.group.members.get(memberId) !== undefined ? "NONE" : "ILLEGAL_GENERATION";
  }

  leave(memberId: string) {
    return this.group.leave({ memberId, groupInstanceId: null });
  }

  /** `count` members together in a stable group, the leader first; each is assigned its own id. */
  stable(count: number, change: (index: number) => Partial<JoinRequest> = () => ({})): JoinResult[] {
    const joins = Array.from({ length: count }, (_, index) => this.join(change(index)));
    this.clock.advance(5_000);
    const results = joins.map(({ result }) => result as JoinResult);
    return this.syncAll(results);
  }

  /** Everybody's SyncGroup, the leader's last; the leader is the first returned. */
  syncAll(results: readonly JoinResult[]): JoinResult[] {
    const leaderFirst = [...results].sort((a, b) => b.members.length - a.members.length);
    const all = Object.fromEntries(results.map(({ memberId }) => [memberId, `for ${memberId}`]));
    for (const result of leaderFirst.toReversed()) {
      const instance = leaderFirst[0]?.members.find(({ memberId }) => memberId === result.memberId);
      this.sync(result, result.members.length > 0 ? all : {}, instance?.groupInstanceId ?? null);
    }
    return leaderFirst;
  }
}

export async function coordinatorOn(
  log: FakeLog,
  clock = new FakeClock(),
  options: Partial<GroupOptions> = {},
): Promise<GroupCoordinator> {
  const coordinator = new GroupCoordinator(log.log, options, silent, clock);
  await coordinator.start();
  return coordinator;
}

export const SIMPLE = { memberId: "", groupInstanceId: null, generationId: -1 };
