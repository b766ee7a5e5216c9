/**
 * The consumer group coordinator: owner and only writer of all groups and their committed offsets.
 *
 * It holds what is there, checks who may ask, and routes: rebalances to `Group`, offsets to `CommittedOffsets`,
 * both to the store. Invariants:
 *  - a commit is answered without an error only after it is on disk, and is not shown before;
 *  - every group, member, timer and byte of metadata counts against a limit of `GroupOptions`;
 *  - a group that failed to be stored still works in memory: who reads must not stop for a full disk. Only a
 *    restart would find it as it was stored last, and its members would join anew.
 */

import { type Clock, systemClock } from "../clock.ts";
import type { EndSignal } from "../end-signal.ts";
import { type LogError, messageOf } from "../errors.ts";
import type { Log, RecordAppend } from "../log/log.ts";
import { type Logger, RateLimitedLog } from "../logger.ts";
import { Group, type GroupHost } from "./group.ts";
import { refusedJoin, refusedSync, termsError } from "./member.ts";
import { CommittedOffsets } from "./offsets.ts";
import { groupRecord, type KeyedRecord, offsetRecord, readRecord, type StoredGroup } from "./records.ts";
import { GroupStore } from "./store.ts";
import { subscribedStreams } from "./subscription.ts";
import { Timeout } from "./timeout.ts";
import {
  type CommittedOffset,
  DEFAULT_GROUP_OPTIONS,
  type GenerationIdentity,
  type GroupDescription,
  type GroupError,
  type GroupOptions,
  type JoinRequest,
  type JoinResult,
  MAX_OFFSET_METADATA_BYTES,
  type MemberIdentity,
  type OffsetToCommit,
  type StreamPartition,
  type SyncRequest,
  type SyncResult,
} from "./types.ts";

const SWEEP_EVERY_MS = 60_000;
const LOOK_FOR_ROOM_EVERY_MS = 1_000;
/** How long an empty group without offsets is still shown, as in Kafka. */
const KEEP_EMPTY_MS = 600_000;
const MAX_GROUP_ID_LENGTH = 1_024;

class HeldGroup extends Group {
  readonly offsets = new CommittedOffsets();
  /** Monotonic: when it last had a member or a commit. */
  usedAt = 0;
  /** Whether the stream has a metadata record of it, which a deletion must take away. */
  isStored = false;
  /** The gateway's own places: they do not expire. */
  isOwn = false;

  get isUnused(): boolean {
    return this.size === 0 && this.offsets.empty;
  }
}

/** An offset to write; null deletes it. */
type OffsetChange = readonly [at: StreamPartition, committed: CommittedOffset | null];

export class GroupCoordinator implements GroupHost {
  readonly options: GroupOptions;
  readonly clock: Clock;
  private readonly log: Log;
  private readonly logger: Logger;
  private readonly limited = new RateLimitedLog();
  private readonly records: GroupStore;
  private readonly groups = new Map<string, HeldGroup>();
  private readonly sweeper: Timeout;
  private lookedForRoomAt = Number.NEGATIVE_INFINITY;
  private phase: "new" | "running" | "closed" = "new";

  constructor(log: Log, options: Partial<GroupOptions>, logger: Logger, clock: Clock = systemClock) {
    this.log = log;
    this.options = { ...DEFAULT_GROUP_OPTIONS, ...options };
    this.logger = logger;
    this.clock = clock;
    this.records = new GroupStore(log);
    this.sweeper = new Timeout(clock, () => this.sweep());
  }

  /** From now on. */
  use(options: Partial<GroupOptions>): void {
    Object.assign(this.options, options);
  }

  /** Reads what the groups were; until then everything is answered COORDINATOR_LOAD_IN_PROGRESS. */
  async start(): Promise<void> {
    const stored = new Map<string, StoredGroup | null>();
    let unreadable = 0;
    await this.records.start((key, value) => {
      try {
        const fact = readRecord(key, value);
        if (fact?.at !== undefined) this.hold(fact.group).offsets.set(fact.at, fact.committed);
        else if (fact !== undefined) stored.set(fact.group, fact.value);
      } catch {
        unreadable++;
      }
    });
    for (const [id, group] of this.groups) if (group.isUnused) this.groups.delete(id);
    for (const [id, value] of stored) {
      if (value === null) continue;
      const group = this.hold(id);
      group.isStored = true;
      group.restore(value);
    }
    if (unreadable > 0) this.logger.error({ unreadable }, "records of consumer groups could not be read");
    if (this.groups.size > 0) this.logger.info({ groups: this.groups.size }, "consumer groups loaded");
    this.phase = "running";
    this.sweeper.set(SWEEP_EVERY_MS);
  }

  /** Answers everybody who waits; commits under way are answered by the log. */
  async close(): Promise<void> {
    this.phase = "closed";
    this.sweeper.clear();
    for (const group of this.groups.values()) group.kill();
    this.groups.clear();
  }

  // ── membership ─────────────────────────────────────────────────────────────────────────────────────────

  /** Resolves when the join phase ends; `signal` ends when nobody waits for the answer any more. */
  join(request: JoinRequest, signal?: EndSignal): Promise<JoinResult> {
    const error = termsError(request, this.options);
    const group = error === "NONE" ? this.forJoin(request) : error;
    if (typeof group === "string") return Promise.resolve(refusedJoin(group, request.memberId));
    return waiting(group, signal, (answer) => group.join(request, answer));
  }

  /** Resolves when the leader's assignments are stored, or with an error when the next rebalance begins. */
  sync(request: SyncRequest, signal?: EndSignal): Promise<SyncResult> {
    const { maxMetadataBytes } = this.options;
    const tooLarge = request.assignments.some(({ assignment }) => assignment.length > maxMetadataBytes);
    const group = tooLarge ? "INVALID_REQUEST" : this.named(request.groupId, "UNKNOWN_MEMBER_ID");
    if (typeof group === "string") return Promise.resolve(refusedSync(group));
    return waiting(group, signal, (answer) => group.sync(request, answer));
  }

  heartbeat(groupId: string, identity: GenerationIdentity): GroupError {
    const group = this.named(groupId, "UNKNOWN_MEMBER_ID");
    return typeof group === "string" ? group : group.heartbeat(identity);
  }

  /** One result for each member. */
  leave(groupId: string, members: readonly MemberIdentity[]): GroupError[] {
    const group = this.named(groupId, "UNKNOWN_MEMBER_ID");
    if (typeof group === "string") return members.map(() => group);
    group.usedAt = this.clock.now();
    return members.map((member) => group.leave(member));
  }

  private forJoin({ groupId, memberId }: JoinRequest): HeldGroup | GroupError {
    const group = this.named(groupId, "GROUP_ID_NOT_FOUND");
    if (group !== "GROUP_ID_NOT_FOUND") return group;
    return memberId === "" ? this.create(groupId) : "UNKNOWN_MEMBER_ID";
  }

  // ── committed offsets ──────────────────────────────────────────────────────────────────────────────────

  /**
   * Resolves with one result for each offset, when those that were taken are on disk; with `unknownGroup` for all
   * where a member commits for a group that there is not.
   */
  async commit(
    groupId: string,
    identity: GenerationIdentity,
    offsets: readonly OffsetToCommit[],
    unknownGroup: GroupError = "ILLEGAL_GENERATION",
  ): Promise<GroupError[]> {
    const group = this.forCommit(groupId, identity, unknownGroup);
    if (typeof group === "string") return offsets.map(() => group);
    group.usedAt = this.clock.now();
    const committedAt = this.clock.wallTime();
    const errors = offsets.map((offset) => this.offsetError(offset));
    const changes = offsets.flatMap((offset, index): OffsetChange[] =>
      errors[index] === "NONE" ? [[offset, { ...offset, metadata: offset.metadata ?? "", committedAt }]] : [],
    );
    return this.writeOffsets(group, changes, errors);
  }

  private forCommit(
    groupId: string,
    identity: GenerationIdentity,
    unknownGroup: GroupError,
  ): HeldGroup | GroupError {
    const group = this.existing(groupId, "GROUP_ID_NOT_FOUND");
    if (group === "GROUP_ID_NOT_FOUND") {
      return identity.generationId < 0 ? this.create(groupId) : unknownGroup;
    }
    const error = typeof group === "string" ? group : group.commitError(identity);
    return error === "NONE" ? group : error;
  }

  private offsetError({ stream, partition, metadata }: OffsetToCommit): GroupError {
    if (this.log.stream(stream)?.partitions[partition] === undefined) return "UNKNOWN_TOPIC_OR_PARTITION";
    const bytes = metadata === null ? 0 : Buffer.byteLength(metadata);
    return bytes > MAX_OFFSET_METADATA_BYTES ? "OFFSET_METADATA_TOO_LARGE" : "NONE";
  }

  /** From now on the group is the gateway's own: its offsets do not expire, however long nothing comes. */
  own(groupId: string): HeldGroup {
    const group = this.hold(groupId);
    group.isOwn = true;
    return group;
  }

  /**
   * Offsets of a group of the gateway's own, to be committed along with what they stand for: `entries` go into
   * that append, `settle` is told its outcome in the order of the log.
   */
  placing(
    groupId: string,
    offsets: readonly Omit<OffsetToCommit, "metadata">[],
  ): { entries(): RecordAppend[]; settle(error: LogError | null): void } {
    const group = this.own(groupId);
    const committedAt = this.clock.wallTime();
    const placed = offsets.map((offset): CommittedOffset => ({ ...offset, metadata: "", committedAt }));
    return {
      entries: () => {
        for (const at of placed) group.offsets.begin(at);
        return this.records.entries(
          placed.map((at) => offsetRecord(groupId, at, at)),
          committedAt,
        );
      },
      settle: (error) => {
        for (const at of placed) group.offsets.end(at, error === null ? at : undefined);
      },
    };
  }

  /** What a group has committed for a partition; undefined when nothing. */
  committedOffset(groupId: string, at: StreamPartition): CommittedOffset | undefined {
    return this.groups.get(groupId)?.offsets.get(at);
  }

  /** All that a group has committed; empty for an unknown group. */
  committedOffsets(groupId: string): CommittedOffset[] {
    return this.groups.get(groupId)?.offsets.list() ?? [];
  }

  /** COORDINATOR_LOAD_IN_PROGRESS or COORDINATOR_NOT_AVAILABLE while offsets cannot be asked for. */
  get availability(): GroupError {
    if (this.phase === "running") return "NONE";
    return this.phase === "new" ? "COORDINATOR_LOAD_IN_PROGRESS" : "COORDINATOR_NOT_AVAILABLE";
  }

  // ── administration ─────────────────────────────────────────────────────────────────────────────────────

  list(): Pick<GroupDescription, "groupId" | "state" | "protocolType">[] {
    return Array.from(this.groups.values(), ({ id: groupId, state, members: { protocolType } }) => ({
      groupId,
      state,
      protocolType,
    }));
  }

  /** Undefined when there is no such group. */
  describe(groupId: string): GroupDescription | undefined {
    return this.groups.get(groupId)?.describe();
  }

  /** Only a group without members can be deleted; resolves when that is on disk. */
  async delete(groupId: string): Promise<GroupError> {
    const group = this.existing(groupId, "GROUP_ID_NOT_FOUND");
    if (typeof group === "string") return group;
    return group.size > 0 ? "NON_EMPTY_GROUP" : this.remove(group);
  }

  /** Forgets offsets; those of streams that a living consumer group is subscribed to are refused. */
  async deleteOffsets(
    groupId: string,
    partitions: readonly StreamPartition[],
  ): Promise<GroupError | GroupError[]> {
    const group = this.named(groupId, "GROUP_ID_NOT_FOUND");
    if (typeof group === "string") return group;
    const { state, members, offsets } = group;
    if (state !== "Empty" && members.protocolType !== "consumer") return "NON_EMPTY_GROUP";
    const subscribed = subscribedStreams(members.subscriptions());
    const errors = partitions.map((at): GroupError => {
      if (subscribed.has(at.stream)) return "GROUP_SUBSCRIBED_TO_TOPIC";
      return this.log.stream(at.stream)?.partitions[at.partition] ? "NONE" : "UNKNOWN_TOPIC_OR_PARTITION";
    });
    const gone = partitions.filter((at, index) => errors[index] === "NONE" && offsets.get(at));
    return this.writeOffsets(group, deletionsOf(gone), errors);
  }

  /** A deleted stream takes its offsets along, lest a new one of the same name be read from the middle. */
  async forgetStream(stream: string): Promise<void> {
    const writes = Array.from(this.groups.values(), (group) => {
      const gone = group.offsets.keys().filter((at) => at.stream === stream);
      return this.write(group, deletionsOf(gone));
    });
    await Promise.all(writes);
  }

  // ── keeping ────────────────────────────────────────────────────────────────────────────────────────────

  /** `GroupHost`: a group's members and assignments, as Kafka keeps them. */
  store(group: Group, done: () => void): void {
    const held = group as HeldGroup;
    held.isStored = true;
    held.usedAt = this.clock.now();
    const record = groupRecord(held.id, held.describe(), this.clock.wallTime());
    void this.write(held, [], [record]).then(done);
  }

  /** Writes offsets, and `more` in the same commit. */
  private write(
    { id, offsets }: HeldGroup,
    changes: readonly OffsetChange[],
    more: readonly KeyedRecord[] = [],
  ): Promise<GroupError> {
    const records = [...changes.map(([at, committed]) => offsetRecord(id, at, committed)), ...more];
    if (records.length === 0) return Promise.resolve("NONE");
    for (const [at] of changes) offsets.begin(at);
    return new Promise((resolve) => {
      this.records.append(records, this.clock.wallTime(), (error) => {
        for (const [at, committed] of changes) offsets.end(at, error === null ? committed : undefined);
        if (error !== null) this.complain(id, error);
        resolve(error === null ? "NONE" : writeError(error));
      });
    });
  }

  /** `errors` are those of the offsets that are not written; a failed write is the others' error. */
  private async writeOffsets(
    group: HeldGroup,
    changes: readonly OffsetChange[],
    errors: readonly GroupError[],
  ): Promise<GroupError[]> {
    const failed = await this.write(group, changes);
    return errors.map((error) => (error === "NONE" ? failed : error));
  }

  private complain(groupId: string, error: LogError): void {
    if (error.code === "CLOSED") return;
    this.limited.say(error.code, (heldBack) => {
      const details = { groupId, heldBack, error: messageOf(error) };
      this.logger.error(details, "a consumer group could not be stored");
    });
  }

  private async remove(group: HeldGroup): Promise<GroupError> {
    const more = group.isStored ? [groupRecord(group.id, null, 0)] : [];
    const error = await this.write(group, deletionsOf(group.offsets.keys()), more);
    // Somebody may have joined or committed meanwhile: then it lives on, with what it has now.
    if (error === "NONE" && group.isUnused && this.groups.get(group.id) === group) this.drop(group);
    return error;
  }

  private drop(group: HeldGroup): void {
    group.kill();
    this.groups.delete(group.id);
  }

  private existing(groupId: string, otherwise: GroupError): HeldGroup | GroupError {
    if (this.availability !== "NONE") return this.availability;
    if (groupId.length > MAX_GROUP_ID_LENGTH) return "INVALID_GROUP_ID";
    return this.groups.get(groupId) ?? otherwise;
  }

  /** As `existing`, but for the empty id: under that offsets can be kept, as in Kafka, and nothing else. */
  private named(groupId: string, otherwise: GroupError): HeldGroup | GroupError {
    if (groupId === "" && this.availability === "NONE") return "INVALID_GROUP_ID";
    return this.existing(groupId, otherwise);
  }

  private create(groupId: string): HeldGroup | GroupError {
    const { maxGroups } = this.options;
    // Looking for room costs a look at every group: not for each of a million that somebody makes up.
    if (this.groups.size >= maxGroups && this.clock.now() - this.lookedForRoomAt >= LOOK_FOR_ROOM_EVERY_MS) {
      this.lookedForRoomAt = this.clock.now();
      this.dropUnused(0);
    }
    if (this.groups.size < maxGroups) return this.hold(groupId);
    this.limited.say("maxGroups", () => {
      this.logger.warn({ maxGroups }, "a new consumer group was refused: too many");
    });
    return "GROUP_MAX_SIZE_REACHED";
  }

  private hold(groupId: string): HeldGroup {
    let group = this.groups.get(groupId);
    if (group === undefined) {
      group = new HeldGroup(groupId, this);
      group.usedAt = this.clock.now();
      this.groups.set(groupId, group);
    }
    return group;
  }

  private sweep(): void {
    this.sweeper.set(SWEEP_EVERY_MS);
    const now = this.clock.now();
    for (const group of this.groups.values()) if (group.size > 0) group.usedAt = now;
    this.dropUnused(KEEP_EMPTY_MS);
    for (const group of this.groups.values()) {
      if (!group.isOwn && now - group.usedAt >= this.options.offsetRetentionMs) void this.remove(group);
    }
  }

  private dropUnused(afterMs: number): void {
    const before = this.clock.now() - afterMs;
    for (const group of this.groups.values()) {
      if (!group.isUnused || group.usedAt > before) continue;
      void this.remove(group);
      this.drop(group);
    }
  }
}

/** Asks for an answer that may come later, and is not waited for when `signal` has ended. */
function waiting<R>(
  group: Group,
  signal: EndSignal | undefined,
  ask: (answer: (result: R) => void) => void,
): Promise<R> {
  return new Promise((resolve) => {
    const abandoned = () => group.abandon(answer as never);
    const answer = (result: R) => {
      signal?.remove(abandoned);
      resolve(result);
    };
    signal?.add(abandoned);
    ask(answer);
    if (signal?.hasEnded) abandoned();
  });
}

function deletionsOf(places: readonly StreamPartition[]): OffsetChange[] {
  return places.map((at) => [at, null]);
}

function writeError(error: LogError): GroupError {
  // As Kafka maps them: the client asks for the coordinator again, and tries once more.
  return error.code === "TOO_LARGE" ? "INVALID_COMMIT_OFFSET_SIZE" : "COORDINATOR_NOT_AVAILABLE";
}
