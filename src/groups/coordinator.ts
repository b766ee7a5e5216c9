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
import { type LogError, messageOf } from "../errors.ts";
import type { Log } from "../log/log.ts";
import { type Logger, RateLimitedLog } from "../logger.ts";
import { type Clock, systemClock, Timeout } from "./clock.ts";
import { Group, type GroupHost } from "./group.ts";
import { refusedJoin, refusedSync } from "./member.ts";
import { CommittedOffsets } from "./offsets.ts";
import { groupRecord, type KeyedRecord, offsetRecord, readRecord } from "./records.ts";
import { descriptionOf, listingOf, storedFormOf } from "./snapshot.ts";
import { GroupStore } from "./store.ts";
import { subscribedStreams } from "./subscription.ts";
import {
  type CommittedOffset,
  DEFAULT_GROUP_OPTIONS,
  type GenerationIdentity,
  type GroupDescription,
  type GroupError,
  type GroupListing,
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
/** How long an empty group without offsets is still shown, as in Kafka. */
const KEEP_EMPTY_MS = 600_000;
const MAX_GROUP_ID_LENGTH = 1_024;

interface Held {
  readonly group: Group;
  readonly offsets: CommittedOffsets;
  /** Monotonic: when it last had a member or a commit. */
  usedAt: number;
  /** Whether the stream has a metadata record of it, which a deletion must take away. */
  stored: boolean;
}

export class GroupCoordinator implements GroupHost {
  readonly options: GroupOptions;
  readonly clock: Clock;
  private readonly log: Log;
  private readonly logger: Logger;
  private readonly limited = new RateLimitedLog();
  private readonly records: GroupStore;
  private readonly groups = new Map<string, Held>();
  private readonly sweeper: Timeout;
  private phase: "new" | "running" | "closed" = "new";

  constructor(log: Log, options: Partial<GroupOptions>, logger: Logger, clock: Clock = systemClock) {
    this.log = log;
    this.options = { ...DEFAULT_GROUP_OPTIONS, ...options };
    this.logger = logger;
    this.clock = clock;
    this.records = new GroupStore(log);
    this.sweeper = new Timeout(clock, () => this.sweep());
  }

  /** Reads what the groups were; until then everything is answered COORDINATOR_LOAD_IN_PROGRESS. */
  async start(): Promise<void> {
    const values = new Map<string, Parameters<Group["restore"]>[0]>();
    let unreadable = 0;
    await this.records.start((key, value) => {
      try {
        const fact = readRecord(key, value);
        if (fact?.kind === "offset") this.hold(fact.group).offsets.restore(fact.at, fact.committed);
        else if (fact?.value) values.set(fact.group, fact.value);
        else if (fact !== undefined) values.delete(fact.group);
      } catch {
        unreadable++;
      }
    });
    for (const [id, held] of this.groups) if (held.offsets.empty && !values.has(id)) this.groups.delete(id);
    for (const [id, value] of values) {
      const held = this.hold(id);
      held.stored = true;
      held.group.restore(value);
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
    for (const { group } of this.groups.values()) group.kill();
    this.groups.clear();
  }

  // ── membership ─────────────────────────────────────────────────────────────────────────────────────────

  /** Resolves when the join phase ends; `signal` is aborted when nobody waits for the answer any more. */
  join(request: JoinRequest, signal?: AbortSignal): Promise<JoinResult> {
    const error = this.joinError(request);
    const held = error === "NONE" ? this.forJoin(request) : error;
    if (typeof held === "string") return Promise.resolve(refusedJoin(held, request.memberId));
    return this.waiting(held, signal, (answer) => held.group.join(request, answer));
  }

  /** Resolves when the leader's assignments are stored, or with an error when the next rebalance begins. */
  sync(request: SyncRequest, signal?: AbortSignal): Promise<SyncResult> {
    const tooLarge = request.assignments.some(
      ({ assignment }) => assignment.length > this.options.maxMetadataBytes,
    );
    const held = tooLarge ? "INVALID_REQUEST" : this.existing(request.groupId, "UNKNOWN_MEMBER_ID");
    if (typeof held === "string") return Promise.resolve(refusedSync(held));
    return this.waiting(held, signal, (answer) => held.group.sync(request, answer));
  }

  heartbeat(groupId: string, identity: GenerationIdentity): GroupError {
    const held = this.existing(groupId, "UNKNOWN_MEMBER_ID");
    return typeof held === "string" ? held : held.group.heartbeat(identity);
  }

  /** One result for each member. */
  leave(groupId: string, members: readonly MemberIdentity[]): GroupError[] {
    const held = this.existing(groupId, "UNKNOWN_MEMBER_ID");
    if (typeof held === "string") return members.map(() => held);
    held.usedAt = this.clock.now();
    return members.map((member) => held.group.leave(member));
  }

  private waiting<R>(
    { group }: Held,
    signal: AbortSignal | undefined,
    ask: (answer: (result: R) => void) => void,
  ): Promise<R> {
    return new Promise((resolve) => {
      const abandoned = () => group.abandon(answer as never);
      const answer = (result: R) => {
        signal?.removeEventListener("abort", abandoned);
        resolve(result);
      };
      signal?.addEventListener("abort", abandoned, { once: true });
      ask(answer);
      if (signal?.aborted) abandoned();
    });
  }

  private joinError(request: JoinRequest): GroupError {
    const { minSessionTimeoutMs, maxSessionTimeoutMs, maxMetadataBytes } = this.options;
    const { sessionTimeoutMs, protocolType, protocols, clientId, groupInstanceId } = request;
    if (sessionTimeoutMs < minSessionTimeoutMs || sessionTimeoutMs > maxSessionTimeoutMs) {
      return "INVALID_SESSION_TIMEOUT";
    }
    if (protocolType === "" || protocols.length === 0) return "INCONSISTENT_GROUP_PROTOCOL";
    let bytes = clientId.length + (groupInstanceId?.length ?? 0);
    for (const { name, metadata } of protocols) bytes += name.length + metadata.length;
    return bytes > maxMetadataBytes ? "INVALID_REQUEST" : "NONE";
  }

  private forJoin({ groupId, memberId }: JoinRequest): Held | GroupError {
    const held = this.existing(groupId, "GROUP_ID_NOT_FOUND");
    if (held !== "GROUP_ID_NOT_FOUND") return held;
    return memberId === "" ? this.create(groupId) : "UNKNOWN_MEMBER_ID";
  }

  // ── committed offsets ──────────────────────────────────────────────────────────────────────────────────

  /** Resolves with one result for each offset, when those that were taken are on disk. */
  async commit(
    groupId: string,
    identity: GenerationIdentity,
    offsets: readonly OffsetToCommit[],
  ): Promise<GroupError[]> {
    const held = this.forCommit(groupId, identity);
    if (typeof held === "string") return offsets.map(() => held);
    held.usedAt = this.clock.now();
    const committedAt = this.clock.wallTime();
    const errors = offsets.map((offset) => this.offsetError(offset));
    const taken = offsets.flatMap(({ metadata, ...offset }, index) =>
      errors[index] === "NONE" ? [{ ...offset, metadata: metadata ?? "", committedAt }] : [],
    );
    const failed = await this.write(held, taken, taken, []);
    return failed === "NONE" ? errors : errors.map((error) => (error === "NONE" ? failed : error));
  }

  private forCommit(groupId: string, identity: GenerationIdentity): Held | GroupError {
    const held = this.existing(groupId, "GROUP_ID_NOT_FOUND");
    if (held === "GROUP_ID_NOT_FOUND") {
      return identity.generationId < 0 ? this.create(groupId) : "ILLEGAL_GENERATION";
    }
    if (typeof held === "string") return held;
    const error = held.group.commitError(identity);
    return error === "NONE" ? held : error;
  }

  private offsetError({ stream, partition, metadata }: OffsetToCommit): GroupError {
    if (this.log.stream(stream)?.partitions[partition] === undefined) return "UNKNOWN_TOPIC_OR_PARTITION";
    const bytes = metadata === null ? 0 : Buffer.byteLength(metadata);
    return bytes > MAX_OFFSET_METADATA_BYTES ? "OFFSET_METADATA_TOO_LARGE" : "NONE";
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

  list(): GroupListing[] {
    return Array.from(this.groups.values(), ({ group }) => listingOf(group));
  }

  /** Undefined when there is no such group. */
  describe(groupId: string): GroupDescription | undefined {
    const held = this.groups.get(groupId);
    return held && descriptionOf(held.group);
  }

  /** Only a group without members can be deleted; resolves when that is on disk. */
  async delete(groupId: string): Promise<GroupError> {
    const held = this.existing(groupId, "GROUP_ID_NOT_FOUND");
    if (typeof held === "string") return held;
    return held.group.size > 0 ? "NON_EMPTY_GROUP" : this.remove(held);
  }

  /** Forgets offsets; those of streams that a living consumer group is subscribed to are refused. */
  async deleteOffsets(
    groupId: string,
    partitions: readonly StreamPartition[],
  ): Promise<GroupError | GroupError[]> {
    const held = this.existing(groupId, "GROUP_ID_NOT_FOUND");
    if (typeof held === "string") return held;
    const { state, members } = held.group;
    let subscribed: ReadonlySet<string> = new Set();
    if (state !== "Empty") {
      if (members.protocolType !== "consumer") return "NON_EMPTY_GROUP";
      subscribed = subscribedStreams(members.subscriptions());
    }
    const errors = partitions.map((at): GroupError => {
      if (subscribed.has(at.stream)) return "GROUP_SUBSCRIBED_TO_TOPIC";
      return this.log.stream(at.stream)?.partitions[at.partition] ? "NONE" : "UNKNOWN_TOPIC_OR_PARTITION";
    });
    const gone = partitions.filter((at, index) => errors[index] === "NONE" && held.offsets.get(at));
    const failed = await this.write(held, gone, null, []);
    return failed === "NONE" ? errors : errors.map((error) => (error === "NONE" ? failed : error));
  }

  /** A deleted stream takes its offsets along, lest a new one of the same name be read from the middle. */
  async forgetStream(stream: string): Promise<void> {
    const writes = Array.from(this.groups.values(), (held) => {
      const gone = held.offsets.keys().filter((at) => at.stream === stream);
      return gone.length > 0 ? this.write(held, gone, null, []) : undefined;
    });
    await Promise.all(writes);
  }

  // ── keeping ────────────────────────────────────────────────────────────────────────────────────────────

  /** `GroupHost`: a group's members and assignments, as Kafka keeps them. */
  store(group: Group, done: () => void): void {
    const held = this.groups.get(group.id);
    if (held === undefined) {
      done();
      return;
    }
    const now = this.clock.wallTime();
    held.stored = true;
    held.usedAt = this.clock.now();
    this.records.append([groupRecord(group.id, storedFormOf(group, now))], now, (error) => {
      if (error !== null) this.complain(group.id, error);
      done();
    });
  }

  /** Writes offsets (null: their deletion), and `more` in the same commit. */
  private write(
    { group, offsets }: Held,
    places: readonly StreamPartition[],
    committed: readonly CommittedOffset[] | null,
    more: readonly KeyedRecord[],
  ): Promise<GroupError> {
    const records = [
      ...places.map((at, index) => offsetRecord(group.id, at, committed?.[index] ?? null)),
      ...more,
    ];
    if (records.length === 0) return Promise.resolve("NONE");
    for (const at of places) offsets.begin(at);
    return new Promise((resolve) => {
      this.records.append(records, this.clock.wallTime(), (error) => {
        places.forEach((at, index) => {
          offsets.end(at, error === null ? (committed?.[index] ?? null) : undefined);
        });
        if (error !== null) this.complain(group.id, error);
        resolve(error === null ? "NONE" : writeError(error));
      });
    });
  }

  private complain(groupId: string, error: LogError): void {
    if (error.code === "CLOSED") return;
    this.limited.say(error.code, (heldBack) => {
      this.logger.error(
        { groupId, heldBack, error: messageOf(error) },
        "a consumer group could not be stored",
      );
    });
  }

  private async remove(held: Held): Promise<GroupError> {
    const { group, offsets, stored } = held;
    const error = await this.write(held, offsets.keys(), null, stored ? [groupRecord(group.id, null)] : []);
    // Somebody may have joined or committed meanwhile: then it lives on, with what it has now.
    const unused = group.size === 0 && offsets.empty && this.groups.get(group.id) === held;
    if (error === "NONE" && unused) {
      group.kill();
      this.groups.delete(group.id);
    }
    return error;
  }

  private existing(groupId: string, otherwise: GroupError): Held | GroupError {
    if (this.availability !== "NONE") return this.availability;
    if (groupId === "" || groupId.length > MAX_GROUP_ID_LENGTH) return "INVALID_GROUP_ID";
    return this.groups.get(groupId) ?? otherwise;
  }

  private create(groupId: string): Held | GroupError {
    if (this.groups.size >= this.options.maxGroups) this.dropUnused(0);
    if (this.groups.size < this.options.maxGroups) return this.hold(groupId);
    this.limited.say("maxGroups", () => {
      this.logger.warn({ maxGroups: this.options.maxGroups }, "a new consumer group was refused: too many");
    });
    return "GROUP_MAX_SIZE_REACHED";
  }

  private hold(groupId: string): Held {
    let held = this.groups.get(groupId);
    if (held === undefined) {
      const group = new Group(groupId, this);
      held = { group, offsets: new CommittedOffsets(), usedAt: this.clock.now(), stored: false };
      this.groups.set(groupId, held);
    }
    return held;
  }

  private sweep(): void {
    this.sweeper.set(SWEEP_EVERY_MS);
    const now = this.clock.now();
    for (const held of this.groups.values()) if (held.group.size > 0) held.usedAt = now;
    this.dropUnused(KEEP_EMPTY_MS);
    for (const held of this.groups.values()) {
      if (now - held.usedAt >= this.options.offsetRetentionMs) void this.remove(held);
    }
  }

  /** Groups with neither members nor offsets. */
  private dropUnused(afterMs: number): void {
    const now = this.clock.now();
    for (const [id, held] of this.groups) {
      if (held.group.size > 0 || !held.offsets.empty || now - held.usedAt < afterMs) continue;
      held.group.kill();
      this.groups.delete(id);
      if (held.stored) this.records.append([groupRecord(id, null)], this.clock.wallTime(), () => {});
    }
  }
}

function writeError(error: LogError): GroupError {
  // As Kafka maps them: the client asks for the coordinator again, and tries once more.
  return error.code === "TOO_LARGE" ? "INVALID_COMMIT_OFFSET_SIZE" : "COORDINATOR_NOT_AVAILABLE";
}
