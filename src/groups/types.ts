/** What goes in and out of the coordinator: Kafka's words, without a wire format. */

export const DEFAULT_GROUP_OPTIONS = {
  /**
   * How long the first rebalance of an empty group waits for more members (`group.initial.rebalance.delay.ms`).
   * Kafka's 3 s is made for a fleet that is deployed over minutes; here a person types `sluice subscribe` and
   * looks. Half a second still gathers what one script starts, and coming late costs one more rebalance.
   */
  initialRebalanceDelayMs: 500,
  /** Below Kafka's default of 6 s: at an edge a dead subscriber is to be noticed soon. */
  minSessionTimeoutMs: 1_000,
  maxSessionTimeoutMs: 30 * 60_000,
  /** Longer rebalance timeouts (Java's `max.poll.interval.ms`) count as this. */
  maxRebalanceTimeoutMs: 24 * 3_600_000,
  maxGroups: 10_000,
  /** Members and those who were just given a member id. */
  maxMembersPerGroup: 2_000,
  /** Of one member's protocols and names together, and of its assignment. */
  maxMetadataBytes: 256 << 10,
  /**
   * Committed offsets are forgotten when a group had no member and no commit for so long. Counted while the
   * gateway runs, not by the calendar: see clock.ts.
   */
  offsetRetentionMs: 7 * 24 * 3_600_000,
};

export type GroupOptions = Readonly<typeof DEFAULT_GROUP_OPTIONS>;

/** Kafka's `offset.metadata.max.bytes`. */
export const MAX_OFFSET_METADATA_BYTES = 4096;

export type GroupState = "Empty" | "PreparingRebalance" | "CompletingRebalance" | "Stable" | "Dead";

/** Kafka's error names: this folder knows no numbers of the wire. */
export type GroupError =
  | "NONE"
  | "COORDINATOR_NOT_AVAILABLE"
  | "COORDINATOR_LOAD_IN_PROGRESS"
  | "FENCED_INSTANCE_ID"
  | "GROUP_ID_NOT_FOUND"
  | "GROUP_MAX_SIZE_REACHED"
  | "GROUP_SUBSCRIBED_TO_TOPIC"
  | "ILLEGAL_GENERATION"
  | "INCONSISTENT_GROUP_PROTOCOL"
  | "INVALID_COMMIT_OFFSET_SIZE"
  | "INVALID_GROUP_ID"
  | "INVALID_REQUEST"
  | "INVALID_SESSION_TIMEOUT"
  | "MEMBER_ID_REQUIRED"
  | "NON_EMPTY_GROUP"
  | "OFFSET_METADATA_TOO_LARGE"
  | "REBALANCE_IN_PROGRESS"
  | "UNKNOWN_MEMBER_ID"
  | "UNKNOWN_TOPIC_OR_PARTITION";

/** Who speaks. `groupInstanceId` is null for a dynamic member. */
export interface MemberIdentity {
  readonly memberId: string;
  readonly groupInstanceId: string | null;
}

/** `generationId` -1 and an empty member id: a simple consumer, or an administration tool. */
export interface GenerationIdentity extends MemberIdentity {
  readonly generationId: number;
}

export interface MemberProtocol {
  readonly name: string;
  /** Opaque: only the members themselves know what is in it. */
  readonly metadata: Buffer;
}

export interface JoinRequest extends MemberIdentity {
  readonly groupId: string;
  readonly clientId: string;
  readonly clientHost: string;
  readonly sessionTimeoutMs: number;
  /** -1: the session timeout, as before JoinGroup 1. */
  readonly rebalanceTimeoutMs: number;
  readonly protocolType: string;
  /** In the order of preference. */
  readonly protocols: readonly MemberProtocol[];
  /** JoinGroup 4+: the client knows MEMBER_ID_REQUIRED (KIP-394); older ones hang on it. */
  readonly knowsMemberIdRequired: boolean;
  /** JoinGroup 9+: the client knows `skipAssignment` (KIP-814). */
  readonly knowsSkipAssignment: boolean;
}

export interface JoinResult {
  readonly error: GroupError;
  readonly generationId: number;
  readonly protocolType: string | null;
  readonly protocolName: string | null;
  readonly leader: string;
  readonly skipAssignment: boolean;
  readonly memberId: string;
  /** Filled for the leader only. */
  readonly members: readonly (MemberIdentity & { readonly metadata: Buffer })[];
}

export interface SyncRequest extends GenerationIdentity {
  readonly groupId: string;
  /** Null before SyncGroup 5. */
  readonly protocolType: string | null;
  readonly protocolName: string | null;
  /** The leader's; empty from everybody else. */
  readonly assignments: readonly { readonly memberId: string; readonly assignment: Buffer }[];
}

export interface SyncResult {
  readonly error: GroupError;
  readonly protocolType: string | null;
  readonly protocolName: string | null;
  readonly assignment: Buffer;
}

export interface StreamPartition {
  readonly stream: string;
  readonly partition: number;
}

export interface OffsetToCommit extends StreamPartition {
  readonly offset: number;
  /** -1 when the client does not say. */
  readonly leaderEpoch: number;
  /** The client's own note; null counts as empty. */
  readonly metadata: string | null;
}

export interface CommittedOffset extends StreamPartition {
  readonly offset: number;
  readonly leaderEpoch: number;
  readonly metadata: string;
  /** Milliseconds since the epoch. */
  readonly committedAt: number;
}

/** A group as it is now: for a screen, and for the disk. */
export interface GroupDescription {
  readonly groupId: string;
  readonly state: GroupState;
  readonly generationId: number;
  /** "consumer", "connect" …; empty for a group that only holds offsets. */
  readonly protocolType: string;
  /** The assignor that was chosen. */
  readonly protocolName: string | null;
  readonly leader: string | null;
  readonly members: readonly MemberDescription[];
}

export interface MemberDescription extends MemberIdentity {
  readonly clientId: string;
  readonly clientHost: string;
  readonly sessionTimeoutMs: number;
  readonly rebalanceTimeoutMs: number;
  /** Of the chosen protocol. */
  readonly metadata: Buffer;
  readonly assignment: Buffer;
}
