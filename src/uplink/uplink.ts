/**
 * An uplink: streams of the gateway's into topics of a Kafka cluster, through any outage.
 *
 * The queue is the log; the place is kept by the cluster itself, in the same transaction as the records
 * (producer.ts says why that is exactly once). Whatever fails but a single partition ends the session; a new
 * one begins after a while, for ever, and reads the places anew.
 */
import { randomBytes } from "node:crypto";
import { SluiceError } from "../errors.ts";
import type { GroupCoordinator } from "../groups/coordinator.ts";
import type { CommittedOffset } from "../groups/types.ts";
import type { Log, Partition } from "../log/log.ts";
import type { Logger } from "../logger.ts";
import { encodeHeaders, recordsOf } from "../wire/record-batch.ts";
import type { Lane, LaneHost } from "./lane.ts";
import type { Load } from "./load.ts";
import type { Gap, Notes } from "./notes.ts";
import { identityOf, matcherOf, remoteTopicOf, type UplinkOptions } from "./options.ts";
import { Pace } from "./pace.ts";
import { decide, markOf, readMark } from "./places.ts";
import { Problem } from "./problem.ts";
import { type Place, type PlaceKey, placeName } from "./producer.ts";
import { streamReports, sum, type UplinkReport } from "./report.ts";
import { RunwayMarks, RunwayMeter } from "./runway.ts";
import { clusterOf, compressorOf, MAIN_LANES, placesReader, Session } from "./session.ts";
import { Source } from "./source.ts";
import { KafkaError, NamedError } from "./words.ts";

const FIRST_BACKOFF_MS = 250;
/** New streams and partitions are looked for. */
const SCAN_MS = 2_000;
const MEASURE_MS = 10_000;
/** The gateway's own group follows the cluster; a commit each time would double the writes to the disk. */
const LOCAL_SAVE_MS = 1_000;
/** Kafka forgets the offsets of a group that is silent for a week (`offsets.retention.minutes`). */
const RENEW_MS = 6 * 3_600_000;

export interface UplinkServices {
  readonly log: Log;
  /** The data folder's identity. */
  readonly logId: string;
  readonly groups: GroupCoordinator;
  readonly notes: Notes;
  readonly logger: Logger;
  /** What the data folder's disk still takes. */
  readonly freeBytes: () => Promise<number | undefined>;
}

export type UplinkState = "connecting" | "running" | "down" | "paused" | "fenced" | "stopped";

export interface UplinkCounts {
  deliveries: number;
  records: number;
  bytes: number;
  sessions: number;
}

export class Uplink implements LaneHost {
  readonly options: UplinkOptions;
  readonly logger: Logger;
  readonly problem: Problem;
  readonly counts: UplinkCounts = { deliveries: 0, records: 0, bytes: 0, sessions: 0 };
  readonly sources = new Map<string, Source>();
  state: UplinkState = "stopped";
  /** Milliseconds since the epoch. */
  since = Date.now();
  clusterId: string | undefined;
  private readonly services: UplinkServices;
  private readonly run = randomBytes(8).toString("hex");
  private readonly rules: readonly { matcher: RegExp; to: string; isShared: boolean }[];
  private readonly pace: Pace;
  private readonly seenRuns = new Set<string>([this.run]);
  private readonly resets = new Map<string, { offset: number; why: Gap["why"] }>();
  private readonly taken = new Map<string, Source>();
  private readonly listening = new Map<string, () => void>();
  private readonly unsaved = new Set<Source>();
  private session: Session | undefined;
  private running: Promise<void> | undefined;
  private isClosed = false;
  private wakeUp: (() => void) | undefined;
  private timers: NodeJS.Timeout[] = [];
  private saving: Promise<unknown> = Promise.resolve();
  private renewedAt = performance.now();
  private readonly meter = new RunwayMeter();
  private readonly marks: RunwayMarks;
  private freeBytes: number | undefined;

  constructor(options: UplinkOptions, services: UplinkServices) {
    this.options = options;
    this.services = services;
    this.logger = services.logger;
    this.pace = new Pace(options.rate);
    this.marks = new RunwayMarks(options.warnAtMs);
    const { name, streams } = options;
    this.problem = new Problem(({ message, mend }) => {
      this.logger.warn({ uplink: name, mend }, `uplink ${name}: ${message}`);
    });
    this.rules = streams.map(({ pattern, to }, index) => ({
      matcher: matcherOf(pattern),
      to,
      isShared:
        !to.includes("${stream}") &&
        (pattern.includes("*") || streams.some((other, at) => at !== index && other.to === to)),
    }));
  }

  get name(): string {
    return this.options.name;
  }

  /** Of the gateway: its lag is what ordinary tools show. */
  get localGroup(): string {
    return `uplink-${this.name}`;
  }

  start(): void {
    this.scan();
    void this.measure();
    this.timers = [
      setInterval(() => this.scan(), SCAN_MS),
      setInterval(() => void this.measure(), MEASURE_MS),
      setInterval(() => this.saveLocal(), LOCAL_SAVE_MS),
    ];
    for (const timer of this.timers) timer.unref();
    this.running = this.live();
  }

  /** Deliveries under way are let through, within bounds. Idempotent. */
  async close(): Promise<void> {
    this.isClosed = true;
    for (const timer of this.timers) clearInterval(timer);
    this.session?.stop();
    this.wakeUp?.();
    await this.running;
    for (const stop of this.listening.values()) stop();
    for (const { partition } of this.sources.values()) partition.hold(this.name, undefined);
    this.listening.clear();
    this.saveLocal();
    await this.saving;
    this.become("stopped");
  }

  // ── the life ───────────────────────────────────────────────────────────────────────────────────────────

  private async live(): Promise<void> {
    for (let failures = 0; !this.isClosed; ) {
      const { resting } = this.services.notes.state(this.name);
      if (resting !== undefined) {
        this.become(resting);
        await this.rest(Number.POSITIVE_INFINITY);
        continue;
      }
      const before = this.counts.deliveries;
      const session = new Session(this, compressorOf(this.options));
      this.session = session;
      if (this.state !== "down") this.become("connecting");
      try {
        for (const source of this.sources.values()) source.restart();
        await session.open();
        this.connected(session.clusterId);
        await session.run();
      } catch (error) {
        if (this.counts.deliveries > before) failures = 0;
        if (!isAbort(error) && !this.isClosed) await this.broken(error);
      } finally {
        session.close();
        this.session = undefined;
      }
      if (this.isClosed || this.problem.report === undefined) continue;
      const most = Math.min(FIRST_BACKOFF_MS * 2 ** failures, this.options.maxBackoffMs);
      failures = Math.min(failures + 1, 20);
      await this.rest(most * (0.5 + Math.random() / 2));
    }
  }

  private connected(clusterId: string | undefined): void {
    this.clusterId = clusterId;
    this.counts.sessions++;
    const was = this.problem.clear();
    const downMs = was === undefined ? 0 : Date.now() - was.since;
    if (was !== undefined) {
      this.logger.info(
        { uplink: this.name, downMs, tries: was.count },
        `uplink ${this.name}: connected again`,
      );
    } else if (this.counts.sessions === 1) {
      this.logger.info({ uplink: this.name, clusterId }, `uplink ${this.name}: connected`);
    }
    this.become("running");
  }

  private async broken(error: unknown): Promise<void> {
    if (error instanceof KafkaError && error.isFenced) {
      const other = await this.whoElse().catch(() => undefined);
      if (other !== undefined) {
        this.problem.note(
          new NamedError(
            "FENCED",
            `another gateway with the name "${this.options.gateway}" and an uplink "${this.name}" has taken over (run ${other})`,
            `Stop one of them, or give it another name; then: sluice uplink resume ${this.name}`,
          ),
        );
        await this.services.notes.setState(this.name, { resting: "fenced" });
        return;
      }
    }
    this.become("down");
    this.problem.note(error);
  }

  /** A transaction that timed out is fenced, too; only another one's place says that there is another. */
  private async whoElse(): Promise<string | undefined> {
    const places = await this.askPlaces([...this.sources.values()]);
    for (const { metadata } of places.values()) {
      const { run } = readMark(metadata);
      if (run !== undefined && !this.seenRuns.has(run)) return run;
    }
    return undefined;
  }

  /** Over a connection of its own: no producer is begun for it, so nobody is fenced. */
  private async askPlaces(sources: readonly Source[]): Promise<Map<string, Place>> {
    const cluster = clusterOf(this.options);
    try {
      await cluster.refresh([]);
      return await placesReader(cluster, this.options).places(sources.map(({ place }) => place));
    } finally {
      cluster.close();
    }
  }

  private become(state: UplinkState): void {
    if (this.state === state) return;
    this.state = state;
    this.since = Date.now();
  }

  private rest(ms: number): Promise<void> {
    if (this.isClosed) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = Number.isFinite(ms) ? setTimeout(() => this.wakeUp?.(), ms) : undefined;
      this.wakeUp = () => {
        clearTimeout(timer);
        this.wakeUp = undefined;
        resolve();
      };
    });
  }

  // ── by hand ────────────────────────────────────────────────────────────────────────────────────────────

  async setResting(resting: "paused" | undefined): Promise<void> {
    await this.services.notes.setState(this.name, { resting });
    if (resting === undefined) this.problem.clear();
    this.again();
  }

  /** The session begins anew, at once. */
  again(): void {
    this.session?.stop();
    this.wakeUp?.();
  }

  /** Sets where sources go on; taken at the begin of the next session, and written into the cluster. */
  reset(offsets: ReadonlyMap<Source, number>, why: Gap["why"]): void {
    for (const [source, offset] of offsets) {
      this.resets.set(source.name, { offset, why });
      source.state = "new";
      source.recovered();
      source.state = "new";
    }
    this.again();
  }

  /** What the cluster holds now. */
  async remotePlaces(sources: readonly Source[]): Promise<Map<Source, number>> {
    const places = await this.askPlaces(sources);
    return new Map(
      sources.flatMap((source) => {
        const place = places.get(placeName(source.place));
        return place === undefined ? [] : [[source, place.offset] as const];
      }),
    );
  }

  /** How far it was by the gateway's own group. */
  localPlace(name: string): number | undefined {
    return this.services.groups
      .committedOffsets(this.localGroup)
      .find(({ stream, partition }) => `${stream}/${partition}` === name)?.offset;
  }

  // ── sources ────────────────────────────────────────────────────────────────────────────────────────────

  private scan(): void {
    for (const stream of this.services.log.streams) {
      if (stream.internal) continue;
      const rank = this.rules.findIndex(({ matcher }) => matcher.test(stream.name));
      if (rank < 0) continue;
      for (const partition of stream.partitions) this.add(partition, rank);
    }
    for (const [name, source] of this.sources) {
      if (this.services.log.stream(source.stream)?.partitions[source.index] !== source.partition)
        this.remove(name);
    }
    if (performance.now() - this.renewedAt > RENEW_MS) this.renew();
  }

  private add(partition: Partition, rank: number): void {
    const name = `${partition.stream.name}/${partition.index}`;
    if (this.sources.has(name)) return;
    const { to, isShared } = this.rules[rank] as (typeof this.rules)[number];
    const topic = remoteTopicOf(to, this.options.gateway, partition.stream.name);
    const place = this.placeKey(topic, partition, isShared);
    const source = new Source({ partition, topic, place, rank }, this.options, this.logger);
    const other = this.taken.get(placeName(place));
    if (other !== undefined) {
      const words = `it would go to ${topic}, where ${other.stream} goes`;
      source.ask(new NamedError("SAME_TOPIC", words, "Put ${stream} into `to`."));
    } else this.taken.set(placeName(place), source);
    this.sources.set(name, source);
    this.listening.set(
      name,
      partition.onCommit(() => this.laneOf(source)?.wake()),
    );
    this.laneOf(source)?.wake();
    this.hold(source);
  }

  /**
   * Under the very partition that the records go to, where no other source can be meant by it. Otherwise a topic
   * of its own, which stays empty, has a partition for each of the stream's.
   */
  private placeKey(topic: string, partition: Partition, isShared: boolean): PlaceKey {
    if (this.options.partitioning === "same" && !isShared) return { topic, partition: partition.index };
    const { gateway, name } = this.options;
    return { topic: `${identityOf(gateway, name)}.${partition.stream.name}`, partition: partition.index };
  }

  private remove(name: string): void {
    const source = this.sources.get(name);
    if (source !== undefined && this.taken.get(placeName(source.place)) === source) {
      this.taken.delete(placeName(source.place));
    }
    this.sources.delete(name);
    this.listening.get(name)?.();
    this.listening.delete(name);
  }

  // ── what retention leaves ──────────────────────────────────────────────────────────────────────────────

  /** Until the place is known, what was known of it here: never ahead of the cluster. */
  private hold(source: Source): void {
    const { options } = this;
    const isWanted = options.waitFor.includes(source.stream) && !this.isClosed;
    const from =
      source.next >= 0 ? source.next : (this.localPlace(source.name) ?? source.partition.logStartOffset);
    source.partition.hold(this.name, isWanted ? from : undefined);
  }

  private renew(): void {
    this.renewedAt = performance.now();
    for (const source of this.sources.values()) {
      if (source.state === "ready" && source.next > 0) source.mustWritePlace = true;
      this.unsaved.add(source);
    }
    for (const lane of this.session?.lanes ?? []) lane.wake();
  }

  // ── what the lanes ask ─────────────────────────────────────────────────────────────────────────────────

  private laneOf(source: Source): Lane | undefined {
    const { session } = this;
    if (session === undefined) return undefined;
    return source.state === "failing" ? session.side : session.lanes[mainLaneOf(source)];
  }

  sourcesOf(lane: Lane): readonly Source[] {
    const all = [...this.sources.values()];
    if (lane.isSide) return all.filter(({ state }) => state === "failing");
    const index = this.session?.lanes.indexOf(lane);
    return all.filter((source) => source.state !== "failing" && mainLaneOf(source) === index);
  }

  placeOf({ place }: Source, offset: number): Place {
    const { run } = this;
    return { ...place, offset, metadata: markOf({ log: this.services.logId, run, offset }) };
  }

  async settle(sources: readonly Source[], places: ReadonlyMap<string, Place>): Promise<void> {
    const local = new Map<string, CommittedOffset>(
      this.services.groups
        .committedOffsets(this.localGroup)
        .map((one) => [`${one.stream}/${one.partition}`, one] as const),
    );
    for (const source of sources) {
      const remote = places.get(placeName(source.place));
      const { run } = readMark(remote?.metadata ?? "");
      if (run !== undefined && source.next < 0) this.seenRuns.add(run);
      const known = local.get(source.name);
      await this.place(
        source,
        remote,
        known && { offset: known.offset, clusterId: clusterIn(known.metadata) },
      );
    }
  }

  private async place(
    source: Source,
    remote: Place | undefined,
    local: { offset: number; clusterId: string | undefined } | undefined,
  ): Promise<void> {
    const { logStartOffset: logStart, highWatermark: logEnd } = source.partition;
    const reset = this.resets.get(source.name);
    if (reset !== undefined) {
      const before = Math.max(remote?.offset ?? 0, source.next, 0);
      source.next = Math.min(Math.max(reset.offset, logStart), logEnd);
      source.mustWritePlace = true;
      await this.gap(source, before, source.next, reset.why);
      this.resets.delete(source.name);
      return;
    }
    const { logId } = this.services;
    const { from, onPlaceLost } = this.options;
    const { clusterId } = this;
    const decision = decide({ remote, local, logStart, logEnd, logId, clusterId, from, onPlaceLost });
    if ("ask" in decision) {
      source.next = -1;
      return source.ask(decision.ask);
    }
    source.next = decision.next;
    source.mustWritePlace ||= decision.writePlace;
    if (source.next < logStart) {
      await this.gap(source, source.next, logStart, "retention");
      source.next = logStart;
      source.mustWritePlace = true;
    }
  }

  /** Says, counts and keeps that records will never be in the cluster. */
  private async gap(source: Source, from: number, to: number, why: Gap["why"]): Promise<void> {
    if (to <= from) return;
    const { stream, index: partition } = source;
    source.gapRecords += to - from;
    this.logger.warn(
      { uplink: this.name, stream, partition, from, to, why },
      `uplink ${this.name}: ${to - from} records of ${source.name} will not be in the cluster (${why})`,
    );
    await this.services.notes.addGap(this.name, { stream, partition, from, to, why, at: Date.now() });
  }

  delivered({ parts, bytes, records, isFull }: Load, tookMs: number): void {
    if (isFull) this.meter.noteDelivery(records, bytes, tookMs, MAIN_LANES);
    this.counts.deliveries++;
    this.counts.records += records;
    this.counts.bytes += bytes;
    for (const { source, records: own } of parts) {
      source.sentRecords += own;
      this.hold(source);
      this.unsaved.add(source);
    }
  }

  /** It has changed lanes, in one direction or the other. */
  failed(source: Source): void {
    if (source.state !== "failing") this.session?.lanes[mainLaneOf(source)]?.expireMetadata();
    this.laneOf(source)?.wake();
  }

  async onPoison(source: Source): Promise<void> {
    const { onPoison } = this.options;
    if (source.poison === undefined || onPoison === "stop") return;
    await this.skip(source, onPoison);
  }

  /** Leaves out the record that is to blame; `dead-letter` keeps it on a stream of the gateway's first. */
  async skip(source: Source, how: "skip" | "dead-letter"): Promise<{ from: number; to: number }> {
    const { poison } = source;
    if (poison === undefined) {
      throw new SluiceError("NOT_POISONED", `${source.name} is not held up by a single record`, {
        exitCode: 64,
      });
    }
    if (how === "dead-letter") await this.bury(source, poison);
    source.poison = undefined;
    await this.gap(source, poison.offset, poison.end, how === "skip" ? "skipped" : "dead-letter");
    this.resets.set(source.name, { offset: poison.end, why: "skipped" });
    source.next = poison.end;
    source.retryNow();
    this.session?.side.wake();
    return { from: poison.offset, to: poison.end };
  }

  /** At least once: a crash between this and the place would bring it again. */
  private async bury(source: Source, { offset, end }: { offset: number; end: number }): Promise<void> {
    const { deadLetters } = this.options;
    const target = deadLetters === undefined ? undefined : this.services.log.stream(deadLetters);
    if (target === undefined) {
      throw new SluiceError("NO_DEAD_LETTERS", `uplink ${this.name} has no deadLetters stream`, {
        mend: "Set deadLetters of the uplink to a stream of the gateway.",
        exitCode: 64,
      });
    }
    const buffers = await source.partition.read(offset, 1);
    const partition = target.keylessPartition();
    const why = source.problem.report?.message ?? "";
    const entries = [...recordsOf(buffers)]
      .filter((record) => record.offset >= offset && record.offset < end)
      .map(({ key, value, headers, timestamp, offset: at }) => ({
        partition,
        key: key ?? Buffer.from(source.name),
        value,
        headers: encodeHeaders([
          ...headers,
          { key: "sluice.stream", value: Buffer.from(source.stream) },
          { key: "sluice.partition", value: Buffer.from(String(source.index)) },
          { key: "sluice.offset", value: Buffer.from(String(at)) },
          { key: "sluice.error", value: Buffer.from(why) },
        ]),
        timestamp,
      }));
    await new Promise<void>((resolve, reject) => {
      this.services.log.append(entries, (error) => (error === null ? resolve() : reject(error)));
    });
  }

  restMs({ bytes, records }: Load, tookMs: number): number {
    return this.pace.restMs({ bytes, records }, tookMs, performance.now(), new Date());
  }

  mostNow(): { bytes: number; records: number } {
    return this.pace.mostAt(new Date());
  }

  /** The gateway's own group follows, about once a second; it may be behind, never ahead. */
  private saveLocal(): void {
    if (this.unsaved.size === 0) return;
    const metadata = JSON.stringify({ cluster: this.clusterId });
    const offsets = [...this.unsaved]
      .filter(({ next }) => next >= 0)
      .map(({ stream, index: partition, next: offset }) => ({
        stream,
        partition,
        offset,
        leaderEpoch: -1,
        metadata,
      }));
    this.unsaved.clear();
    const identity = { memberId: "", groupInstanceId: null, generationId: -1 };
    this.saving = this.services.groups.commit(this.localGroup, identity, offsets);
  }

  // ── the meter ──────────────────────────────────────────────────────────────────────────────────────────

  private async measure(): Promise<void> {
    this.freeBytes = await this.services.freeBytes().catch(() => undefined);
    for (const source of this.sources.values()) this.hold(source);
    const all = [...this.sources.values()];
    const records = sum(all, ({ partition }) => partition.highWatermark);
    this.meter.note(
      performance.now(),
      records,
      sum(all, ({ bytesSinceBegin }) => bytesSinceBegin),
    );
    const { diskMs, drainMs } = this.meter.forecast(this.freeBytes, this.waitingRecords);
    if (this.state === "running") return this.marks.clear();
    const mark = this.marks.pass(diskMs);
    if (mark === undefined) return;
    this.logger.warn(
      { uplink: this.name, diskMs, drainMs, waitingRecords: this.waitingRecords },
      `uplink ${this.name}: the cluster is away, and at today's rate the disk lasts ${Math.round((diskMs as number) / 3_600_000)} h`,
    );
  }

  private get waitingRecords(): number {
    return sum([...this.sources.values()], ({ waitingRecords }) => waitingRecords);
  }

  get report(): UplinkReport {
    const { name, options, state, since, clusterId, localGroup: group, counts: sent } = this;
    const { brokers, delivery } = options;
    const gaps = this.services.notes.gapsOf(name);
    const streams = streamReports(this.sources.values());
    return {
      name,
      state,
      since,
      brokers: brokers.map(({ host, port }) => `${host}:${port}`),
      clusterId,
      delivery,
      group,
      problem: this.problem.report,
      waitingRecords: this.waitingRecords,
      waitingBytes: sum(streams, ({ waitingBytes }) => waitingBytes),
      sent,
      runway: this.meter.forecast(this.freeBytes, this.waitingRecords),
      streams,
      unmatched: this.options.streams
        .map(({ pattern }) => pattern)
        .filter((_, rank) => ![...this.sources.values()].some((source) => source.rank === rank)),
      gaps: gaps.slice(-20),
      gapRecords: sum(gaps, ({ from, to }) => to - from),
    };
  }
}

function mainLaneOf({ index, stream }: Source): number {
  return (index + stream.length) % MAIN_LANES;
}

function clusterIn(metadata: string): string | undefined {
  try {
    return JSON.parse(metadata).cluster;
  } catch {
    return undefined;
  }
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}
