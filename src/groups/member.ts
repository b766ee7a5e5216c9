/** The members of a group: each with the request of its that may wait for an answer, and all of them together. */
import type { Timeout } from "./timeout.ts";
import type {
  GroupDescription,
  GroupError,
  GroupOptions,
  JoinRequest,
  JoinResult,
  MemberIdentity,
  MemberProtocol,
  SyncResult,
} from "./types.ts";

export type JoinAnswer = (result: JoinResult) => void;
export type SyncAnswer = (result: SyncResult) => void;

/** A stored group's texts have an int16 for their length, and a member's id is one of these with a UUID behind it. */
const MAX_TEXT_BYTES = 32_767 - 37;

export const NO_BYTES: Buffer = Buffer.alloc(0);

/** What a JoinGroup says about its member. */
export type MemberTerms = Pick<
  JoinRequest,
  "clientId" | "clientHost" | "sessionTimeoutMs" | "rebalanceTimeoutMs" | "protocols"
>;

/** Copied: a request's bytes are slices of a frame. */
export function termsOf(request: JoinRequest, maxRebalanceTimeoutMs: number): MemberTerms {
  const { clientId, clientHost, sessionTimeoutMs, rebalanceTimeoutMs: askedMs } = request;
  const rebalanceTimeoutMs = Math.min(askedMs < 0 ? sessionTimeoutMs : askedMs, maxRebalanceTimeoutMs);
  const protocols = request.protocols.map(({ name, metadata }) => ({
    name,
    metadata: Buffer.from(metadata),
  }));
  return { clientId, clientHost, sessionTimeoutMs, rebalanceTimeoutMs, protocols };
}

/** What is wrong with them, whatever the group: NONE where nothing is. */
export function termsError(
  { sessionTimeoutMs, protocolType, protocols, clientId, groupInstanceId }: JoinRequest,
  { minSessionTimeoutMs, maxSessionTimeoutMs, maxMetadataBytes }: GroupOptions,
): GroupError {
  if (sessionTimeoutMs < minSessionTimeoutMs || sessionTimeoutMs > maxSessionTimeoutMs) {
    return "INVALID_SESSION_TIMEOUT";
  }
  if (protocolType === "" || protocols.length === 0) return "INCONSISTENT_GROUP_PROTOCOL";
  const texts = [protocolType, clientId, groupInstanceId ?? "", ...protocols.map(({ name }) => name)];
  if (texts.some((text) => Buffer.byteLength(text) > MAX_TEXT_BYTES)) return "INVALID_REQUEST";
  let bytes = clientId.length + (groupInstanceId?.length ?? 0);
  for (const { name, metadata } of protocols) bytes += name.length + metadata.length;
  return bytes > maxMetadataBytes ? "INVALID_REQUEST" : "NONE";
}

export class Member implements MemberIdentity {
  readonly memberId: string;
  readonly groupInstanceId: string | null;
  terms: MemberTerms;
  assignment: Buffer = NO_BYTES;
  /** Runs but while an answer is owed: a client that waits for one cannot send heartbeats. */
  readonly session: Timeout;
  joinAnswer: JoinAnswer | undefined;
  syncAnswer: SyncAnswer | undefined;

  constructor(memberId: string, groupInstanceId: string | null, terms: MemberTerms, session: Timeout) {
    this.memberId = memberId;
    this.groupInstanceId = groupInstanceId;
    this.terms = terms;
    this.session = session;
  }

  /** A sign of life. */
  touch(): void {
    if (this.joinAnswer === undefined && this.syncAnswer === undefined) {
      this.session.set(this.terms.sessionTimeoutMs);
    }
  }

  /** Answers what waits for a join, if anything does. */
  answerJoin(result: JoinResult): void {
    const answer = this.joinAnswer;
    this.joinAnswer = undefined;
    this.touch();
    answer?.(result);
  }

  answerSync(result: SyncResult): void {
    const answer = this.syncAnswer;
    this.syncAnswer = undefined;
    this.touch();
    answer?.(result);
  }

  metadataFor(protocolName: string | null): Buffer {
    return this.terms.protocols.find(({ name }) => name === protocolName)?.metadata ?? NO_BYTES;
  }

  supports(protocolName: string): boolean {
    return this.terms.protocols.some(({ name }) => name === protocolName);
  }

  /** Whether these are the protocols it has already: the same names in the same order, the same bytes. */
  matches(protocols: readonly MemberProtocol[]): boolean {
    const mine = this.terms.protocols;
    return (
      mine.length === protocols.length &&
      mine.every(({ name, metadata }, index) => {
        const other = protocols[index];
        return other !== undefined && name === other.name && metadata.equals(other.metadata);
      })
    );
  }
}

export function refusedJoin(error: JoinResult["error"], memberId: string): JoinResult {
  return {
    error,
    generationId: -1,
    protocolType: null,
    // Not nullable before JoinGroup 7; Kafka says "" too.
    protocolName: "",
    leader: "",
    skipAssignment: false,
    memberId,
    members: [],
  };
}

export function refusedSync(error: SyncResult["error"]): SyncResult {
  return { error, protocolType: null, protocolName: null, assignment: NO_BYTES };
}

/** All members, in the order in which they joined. */
export class MemberSet {
  /** "consumer", "connect" …: the first member's, and then everybody's. */
  protocolType = "";
  private readonly byId = new Map<string, Member>();
  /** Group instance id → member id. */
  private readonly statics = new Map<string, string>();

  get size(): number {
    return this.byId.size;
  }

  get(memberId: string): Member | undefined {
    return this.byId.get(memberId);
  }

  values(): MapIterator<Member> {
    return this.byId.values();
  }

  add(member: Member): void {
    this.byId.set(member.memberId, member);
    if (member.groupInstanceId !== null) this.statics.set(member.groupInstanceId, member.memberId);
  }

  delete({ memberId, groupInstanceId }: Member): void {
    this.byId.delete(memberId);
    if (groupInstanceId !== null && this.statics.get(groupInstanceId) === memberId) {
      this.statics.delete(groupInstanceId);
    }
  }

  /** Who holds this instance id now. */
  static(groupInstanceId: string | null): Member | undefined {
    return groupInstanceId === null ? undefined : this.byId.get(this.statics.get(groupInstanceId) ?? "");
  }

  identityError({ memberId, groupInstanceId }: MemberIdentity): GroupError {
    if (groupInstanceId === null) return this.byId.has(memberId) ? "NONE" : "UNKNOWN_MEMBER_ID";
    const current = this.statics.get(groupInstanceId);
    if (current === undefined) return "UNKNOWN_MEMBER_ID";
    return current === memberId ? "NONE" : "FENCED_INSTANCE_ID";
  }

  /** Whether the others could go on with this one: the same type, and a protocol that all of them know. */
  supports({ memberId, groupInstanceId, protocolType, protocols }: JoinRequest): boolean {
    if (this.size > 0 && protocolType !== this.protocolType) return false;
    const former = this.byId.get(memberId) ?? this.static(groupInstanceId);
    const others = [...this.byId.values()].filter((member) => member !== former);
    return protocols.some(({ name }) => others.every((member) => member.supports(name)));
  }

  /** Each member votes for the first of its protocols that all know; a tie goes to the earliest member's. */
  selectProtocol(): string | null {
    const members = [...this.byId.values()];
    const votes = new Map<string, number>();
    for (const { terms } of members) {
      const vote = terms.protocols.find(({ name }) => members.every((member) => member.supports(name)));
      if (vote !== undefined) votes.set(vote.name, (votes.get(vote.name) ?? 0) + 1);
    }
    let best: string | null = null;
    for (const [name, count] of votes) if (best === null || count > (votes.get(best) ?? 0)) best = name;
    return best;
  }

  /** Everybody's metadata of every protocol. */
  subscriptions(): Buffer[] {
    return [...this.byId.values()].flatMap(({ terms }) => terms.protocols.map(({ metadata }) => metadata));
  }

  /** What the leader is told of everybody. */
  metadataFor(protocolName: string | null): JoinResult["members"] {
    return Array.from(this.byId.values(), (member) => ({
      memberId: member.memberId,
      groupInstanceId: member.groupInstanceId,
      metadata: member.metadataFor(protocolName),
    }));
  }

  describe(protocolName: string | null): GroupDescription["members"] {
    return Array.from(this.byId.values(), (member) => ({
      ...member.terms,
      memberId: member.memberId,
      groupInstanceId: member.groupInstanceId,
      metadata: member.metadataFor(protocolName),
      assignment: member.assignment,
    }));
  }

  longestRebalanceMs(): number {
    let longest = 0;
    for (const { terms } of this.byId.values()) longest = Math.max(longest, terms.rebalanceTimeoutMs);
    return longest;
  }
}
