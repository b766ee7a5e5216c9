/**
 * One group: Kafka's rebalance state machine ("classic" protocol). See README.md for the picture.
 *
 * It knows no protocol type: metadata and assignments are bytes that the members exchange. Everything happens
 * in the turn of the call; only `store` answers later. Invariants:
 *  - generations only grow, and every member of Stable or CompletingRebalance belongs to the current one,
 *    unless it is a static member that has not come back yet;
 *  - the leader is a member; an assignment is handed out only in the generation whose leader gave it;
 *  - a member that waits for no answer has a session timer running.
 */
import { randomUUID } from "node:crypto";
import type { Clock } from "../clock.ts";
import { Invitations } from "./invitations.ts";
import {
  type JoinAnswer,
  Member,
  MemberSet,
  type MemberTerms,
  NO_BYTES,
  refusedJoin,
  refusedSync,
  type SyncAnswer,
  termsOf,
} from "./member.ts";
import type { StoredGroup } from "./records.ts";
import { Timeout } from "./timeout.ts";
import type {
  GenerationIdentity,
  GroupDescription,
  GroupError,
  GroupOptions,
  GroupState,
  JoinRequest,
  JoinResult,
  MemberIdentity,
  SyncRequest,
  SyncResult,
} from "./types.ts";

/** What a group needs of its owner. */
export interface GroupHost {
  readonly clock: Clock;
  readonly options: GroupOptions;
  /** Makes the group as it is now durable; `done` is called once, also when the disk failed. */
  store(group: Group, done: () => void): void;
}

export class Group {
  readonly id: string;
  private readonly host: GroupHost;
  // Read by others, written only here.
  state: GroupState = "Empty";
  generationId = 0;
  protocolName: string | null = null;
  leaderId: string | null = null;
  readonly members = new MemberSet();
  private readonly pending: Invitations;
  /** Ends the join phase, and after it the sync phase. */
  private readonly phase: Timeout;
  /** Whose SyncGroup of this generation has not come. */
  private readonly unsynced = new Set<string>();
  /** What is left of an empty group's first join phase, while it waits for others; else undefined. */
  private initialDelay: { leftMs: number; someoneJoined: boolean } | undefined;

  constructor(id: string, host: GroupHost) {
    this.id = id;
    this.host = host;
    this.phase = new Timeout(host.clock, () => this.phaseDue());
    this.pending = new Invitations(host.clock, () => this.completeJoinIfAllHere());
  }

  /** Members, and those with nothing but an id yet. */
  get size(): number {
    return this.members.size + this.pending.size;
  }

  // ── JoinGroup ──────────────────────────────────────────────────────────────────────────────────────────

  /** Answers now, or when the join phase ends: at the latest after the longest rebalance timeout. */
  join(request: JoinRequest, answer: JoinAnswer): void {
    const error = this.joinError(request);
    const result = error === "NONE" ? this.admit(request, answer) : refusedJoin(error, request.memberId);
    if (result !== undefined) answer(result);
  }

  private joinError(request: JoinRequest): GroupError {
    const { memberId, groupInstanceId } = request;
    if (this.state === "Dead") return "COORDINATOR_NOT_AVAILABLE";
    if (!this.members.supports(request)) return "INCONSISTENT_GROUP_PROTOCOL";
    const invited = groupInstanceId === null && this.pending.has(memberId);
    if (memberId !== "") return invited ? "NONE" : this.members.identityError(request);
    const full = this.size >= this.host.options.maxMembersPerGroup;
    return full && this.members.static(groupInstanceId) === undefined ? "GROUP_MAX_SIZE_REACHED" : "NONE";
  }

  /** Undefined: the answer comes later. */
  private admit(request: JoinRequest, answer: JoinAnswer): JoinResult | undefined {
    const { memberId, groupInstanceId } = request;
    const member = this.members.get(memberId);
    if (member !== undefined) return this.rejoin(member, request, answer);
    if (this.pending.has(memberId)) return this.add(memberId, request, answer);
    const replaced = this.members.static(groupInstanceId);
    if (replaced !== undefined) return this.replaceStatic(replaced, request, answer);
    const newId = `${groupInstanceId ?? request.clientId}-${randomUUID()}`;
    if (groupInstanceId !== null || !request.knowsMemberIdRequired) return this.add(newId, request, answer);
    this.pending.add(newId, request.sessionTimeoutMs);
    return refusedJoin("MEMBER_ID_REQUIRED", newId);
  }

  private terms(request: JoinRequest): MemberTerms {
    return termsOf(request, this.host.options.maxRebalanceTimeoutMs);
  }

  private newMember(memberId: string, groupInstanceId: string | null, terms: MemberTerms): Member {
    const session = new Timeout(this.host.clock, () => this.remove(member, "UNKNOWN_MEMBER_ID"));
    const member = new Member(memberId, groupInstanceId, terms, session);
    this.members.add(member);
    return member;
  }

  private add(memberId: string, request: JoinRequest, answer: JoinAnswer): undefined {
    this.pending.delete(memberId);
    if (this.members.size === 0) this.members.protocolType = request.protocolType;
    const member = this.newMember(memberId, request.groupInstanceId, this.terms(request));
    if (this.initialDelay !== undefined) this.initialDelay.someoneJoined = true;
    this.awaitJoin(member, answer);
  }

  private rejoin(member: Member, request: JoinRequest, answer: JoinAnswer): JoinResult | undefined {
    const state = this.state;
    const changed = !member.matches(request.protocols);
    // An unchanged member that asks again has lost our answer; the leader of a stable group asks for a
    // rebalance that way (it saw new partitions, say).
    const leads = member.memberId === this.leaderId;
    if (!changed && (state === "CompletingRebalance" || (state === "Stable" && !leads))) {
      member.answerSync(refusedSync("REBALANCE_IN_PROGRESS"));
      member.touch();
      return this.joined(member);
    }
    member.terms = this.terms(request);
    this.awaitJoin(member, answer);
    return undefined;
  }

  /** KIP-345: a restarted static member takes the place of its former self, if possible without a rebalance. */
  private replaceStatic(old: Member, request: JoinRequest, answer: JoinAnswer): undefined {
    this.forget(old, "FENCED_INSTANCE_ID");
    const memberId = `${request.groupInstanceId}-${randomUUID()}`;
    const member = this.newMember(memberId, request.groupInstanceId, this.terms(request));
    member.assignment = old.assignment;
    const led = old.memberId === this.leaderId;
    if (led) this.leaderId = memberId;
    if (this.state !== "Stable" || this.members.selectProtocol() !== this.protocolName) {
      this.awaitJoin(member, answer);
      return;
    }
    this.host.store(this, () => {
      const here = this.members.get(memberId) === member;
      if (here) member.touch();
      const result = this.joined(member);
      if (!here || this.state !== "Stable") answer(refusedJoin("UNKNOWN_MEMBER_ID", memberId));
      // Who leads computes assignments, and that would be thrown away here. Clients before JoinGroup 9 cannot
      // be told to skip it, so they are shown the leader of old and take themselves for a follower.
      else if (!led) answer(result);
      else if (request.knowsSkipAssignment) answer({ ...result, skipAssignment: true });
      else answer({ ...result, leader: old.memberId, members: [] });
    });
  }

  private awaitJoin(member: Member, answer: JoinAnswer): void {
    member.answerJoin(refusedJoin("REBALANCE_IN_PROGRESS", member.memberId));
    if (this.state !== "PreparingRebalance") this.startRebalance();
    member.joinAnswer = answer;
    member.session.clear();
    this.completeJoinIfAllHere();
  }

  // ── the phases ─────────────────────────────────────────────────────────────────────────────────────────

  private startRebalance(): void {
    const wasEmpty = this.state === "Empty";
    const completing = this.state === "CompletingRebalance";
    this.state = "PreparingRebalance";
    this.unsynced.clear();
    if (completing) {
      for (const member of this.members.values()) {
        member.answerSync(refusedSync("REBALANCE_IN_PROGRESS"));
      }
    }
    if (wasEmpty) {
      this.initialDelay = { leftMs: this.members.longestRebalanceMs(), someoneJoined: false };
      this.waitForMore();
    } else {
      this.phase.set(this.members.longestRebalanceMs());
      this.completeJoinIfAllHere();
    }
  }

  /** An empty group's first rebalance goes on waiting as long as somebody came in the last delay. */
  private waitForMore(): void {
    const initial = this.initialDelay as NonNullable<typeof this.initialDelay>;
    const delayMs = Math.min(this.host.options.initialRebalanceDelayMs, initial.leftMs);
    initial.leftMs -= delayMs;
    initial.someoneJoined = false;
    this.phase.set(delayMs);
  }

  private phaseDue(): void {
    if (this.state !== "PreparingRebalance") this.expelUnsynced();
    else if (this.initialDelay?.someoneJoined && this.initialDelay.leftMs > 0) this.waitForMore();
    else this.completeJoin();
  }

  private completeJoinIfAllHere(): void {
    if (this.state !== "PreparingRebalance") return;
    if (this.members.size > 0) {
      if (this.initialDelay !== undefined || this.pending.size > 0) return;
      for (const member of this.members.values()) if (member.joinAnswer === undefined) return;
    }
    this.completeJoin();
  }

  private completeJoin(): void {
    this.initialDelay = undefined;
    this.phase.clear();
    for (const member of [...this.members.values()]) {
      // A static member keeps its place until its session ends (KIP-345).
      const stays = member.joinAnswer !== undefined || member.groupInstanceId !== null;
      if (!stays) this.forget(member, "UNKNOWN_MEMBER_ID");
    }
    const here = [...this.members.values()].filter((member) => member.joinAnswer !== undefined);
    if (this.members.size === 0) this.becomeEmpty();
    else this.phase.set(this.members.longestRebalanceMs());
    if (here.length === 0) return;
    if (!here.some(({ memberId }) => memberId === this.leaderId)) this.leaderId = here[0]?.memberId ?? null;
    this.generationId++;
    this.protocolName = this.members.selectProtocol();
    this.state = "CompletingRebalance";
    for (const { memberId } of this.members.values()) this.unsynced.add(memberId);
    for (const member of here) member.answerJoin(this.joined(member));
  }

  private expelUnsynced(): void {
    for (const id of [...this.unsynced]) {
      const member = this.members.get(id);
      if (member !== undefined) this.forget(member, "UNKNOWN_MEMBER_ID");
    }
    this.unsynced.clear();
    this.rebalanceAfterLoss();
  }

  private becomeEmpty(): void {
    this.state = "Empty";
    this.generationId++;
    this.protocolName = null;
    this.leaderId = null;
    this.host.store(this, () => {});
  }

  // ── SyncGroup ──────────────────────────────────────────────────────────────────────────────────────────

  /** Answers now, or when the leader's assignments are durable, or when the next rebalance begins. */
  sync(request: SyncRequest, answer: SyncAnswer): void {
    const error = this.syncError(request);
    const member = this.members.get(request.memberId);
    if (error !== "NONE" || member === undefined) {
      answer(refusedSync(error));
      return;
    }
    this.synced(member.memberId);
    member.answerSync(refusedSync("REBALANCE_IN_PROGRESS"));
    member.syncAnswer = answer;
    member.session.clear();
    if (this.state === "Stable") member.answerSync(this.assigned(member));
    else if (member.memberId === this.leaderId) this.assign(request.assignments);
  }

  private syncError(request: SyncRequest): GroupError {
    if (this.state === "Dead") return "COORDINATOR_NOT_AVAILABLE";
    const error = this.generationError(request);
    if (error !== "NONE") return error;
    if (this.state === "PreparingRebalance") return "REBALANCE_IN_PROGRESS";
    const { protocolType, protocolName } = request;
    const type = protocolType === null || protocolType === this.members.protocolType;
    const name = protocolName === null || protocolName === this.protocolName;
    return type && name ? "NONE" : "INCONSISTENT_GROUP_PROTOCOL";
  }

  private assign(assignments: SyncRequest["assignments"]): void {
    for (const member of this.members.values()) member.assignment = NO_BYTES;
    for (const { memberId, assignment } of assignments) {
      const member = this.members.get(memberId);
      if (member !== undefined) member.assignment = Buffer.from(assignment);
    }
    const generation = this.generationId;
    this.host.store(this, () => {
      if (this.state !== "CompletingRebalance" || this.generationId !== generation) return;
      this.state = "Stable";
      for (const member of this.members.values()) member.answerSync(this.assigned(member));
    });
  }

  private synced(memberId: string): void {
    if (this.unsynced.delete(memberId) && this.unsynced.size === 0) this.phase.clear();
  }

  // ── Heartbeat, LeaveGroup, OffsetCommit ────────────────────────────────────────────────────────────────

  heartbeat(identity: GenerationIdentity): GroupError {
    if (this.state === "Dead") return "COORDINATOR_NOT_AVAILABLE";
    const error = this.generationError(identity);
    if (error !== "NONE") return error;
    this.members.get(identity.memberId)?.touch();
    return this.state === "PreparingRebalance" ? "REBALANCE_IN_PROGRESS" : "NONE";
  }

  /** An empty member id with an instance id is an administrator removing a static member. */
  leave(identity: MemberIdentity): GroupError {
    if (this.state === "Dead") return "COORDINATOR_NOT_AVAILABLE";
    if (this.pending.delete(identity.memberId)) {
      this.completeJoinIfAllHere();
      return "NONE";
    }
    const { groupInstanceId } = identity;
    const named = identity.memberId === "" && groupInstanceId !== null;
    const member = named ? this.members.static(groupInstanceId) : this.members.get(identity.memberId);
    const error = named ? "NONE" : this.members.identityError(identity);
    if (error !== "NONE") return error;
    if (member === undefined) return "UNKNOWN_MEMBER_ID";
    this.remove(member, "UNKNOWN_MEMBER_ID");
    return "NONE";
  }

  /** Whether this one may commit offsets now; a member's commit is a sign of life. */
  commitError(identity: GenerationIdentity): GroupError {
    const { memberId, groupInstanceId, generationId } = identity;
    if (this.state === "Dead") return "COORDINATOR_NOT_AVAILABLE";
    if (generationId < 0 && this.state === "Empty") return "NONE";
    if (generationId < 0 && memberId === "" && groupInstanceId === null) return "UNKNOWN_MEMBER_ID";
    const error = this.generationError(identity);
    if (error !== "NONE") return error;
    this.members.get(memberId)?.touch();
    // Who owns what is being decided: the member has to sync first.
    return this.state === "CompletingRebalance" ? "REBALANCE_IN_PROGRESS" : "NONE";
  }

  /** The connection that waited for this answer has ended: from now on the session timer decides. */
  abandon(answer: JoinAnswer | SyncAnswer): void {
    for (const member of this.members.values()) {
      const { memberId, joinAnswer, syncAnswer } = member;
      // Answered all the same: what waits holds the request's bytes, and a closing server still can send it.
      if (joinAnswer === answer) member.answerJoin(refusedJoin("COORDINATOR_NOT_AVAILABLE", memberId));
      else if (syncAnswer === answer) member.answerSync(refusedSync("COORDINATOR_NOT_AVAILABLE"));
    }
  }

  // ── losing members ─────────────────────────────────────────────────────────────────────────────────────

  private remove(member: Member, why: GroupError): void {
    this.forget(member, why);
    this.rebalanceAfterLoss();
  }

  private rebalanceAfterLoss(): void {
    if (this.state === "PreparingRebalance") this.completeJoinIfAllHere();
    else if (this.state !== "Empty") this.startRebalance();
  }

  private forget(member: Member, why: GroupError): void {
    const { memberId } = member;
    this.members.delete(member);
    this.synced(memberId);
    member.answerJoin(refusedJoin(why, memberId));
    member.answerSync(refusedSync(why));
    member.session.clear();
  }

  /** The end of this object: answers everybody, stops every timer. */
  kill(): void {
    this.state = "Dead";
    this.phase.clear();
    this.pending.clear();
    for (const member of [...this.members.values()]) this.forget(member, "COORDINATOR_NOT_AVAILABLE");
  }

  // ── looking ────────────────────────────────────────────────────────────────────────────────────────────

  private generationError(identity: GenerationIdentity): GroupError {
    const error = this.members.identityError(identity);
    if (error !== "NONE") return error;
    return identity.generationId === this.generationId ? "NONE" : "ILLEGAL_GENERATION";
  }

  private joined(member: Member): JoinResult {
    const leads = member.memberId === this.leaderId;
    return {
      error: "NONE",
      generationId: this.generationId,
      protocolType: this.members.protocolType,
      protocolName: this.protocolName,
      leader: this.leaderId ?? "",
      skipAssignment: false,
      memberId: member.memberId,
      members: leads ? this.members.metadataFor(this.protocolName) : [],
    };
  }

  private assigned(member: Member): SyncResult {
    const { protocolType } = this.members;
    return { error: "NONE", protocolType, protocolName: this.protocolName, assignment: member.assignment };
  }

  describe(): GroupDescription {
    const { id: groupId, state, generationId, protocolName, leaderId: leader } = this;
    const { protocolType } = this.members;
    const members = this.members.describe(protocolName);
    return { groupId, state, generationId, protocolType, protocolName, leader, members };
  }

  /** After a restart: the members have a whole session timeout to be heard of, and notice nothing if they are. */
  restore(stored: StoredGroup): void {
    this.members.protocolType = stored.protocolType;
    this.generationId = stored.generationId;
    this.protocolName = stored.protocolName;
    this.leaderId = stored.leader;
    for (const { memberId, groupInstanceId, metadata, assignment, ...terms } of stored.members) {
      const protocols = [{ name: stored.protocolName ?? "", metadata: Buffer.from(metadata) }];
      const member = this.newMember(memberId, groupInstanceId, { ...terms, protocols });
      member.assignment = Buffer.from(assignment);
      member.touch();
    }
    this.state = this.members.size === 0 ? "Empty" : "Stable";
  }
}
