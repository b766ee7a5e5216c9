import { ProtocolError } from "../errors.ts";
import type { GroupCoordinator } from "../groups/coordinator.ts";
import type { Log } from "../log/log.ts";
import type { Logger } from "../logger.ts";
import { compressorFor } from "./compressors.ts";
import type { Lane, LaneHost } from "./lane.ts";
import type { Load } from "./load.ts";
import type { Gap, Notes } from "./notes.ts";
import type { UplinkOptions } from "./options.ts";
import { Pace, type Spent } from "./pace.ts";
import { Placement } from "./placement.ts";
import { readMark } from "./places.ts";
import { Problem } from "./problem.ts";
import { type Place, placeName } from "./producer.ts";
import { streamReports, sum, type UplinkReport } from "./report.ts";
import { type Runway, RunwayMarks, RunwayMeter } from "./runway.ts";
import { clusterOf, MAIN_LANES, producerOf, Session } from "./session.ts";
import type { Source } from "./source.ts";
import { Sources } from "./sources.ts";
import { KafkaError, NamedError } from "./words.ts";

const FIRST_BACKOFF_MS = 250;
/** New streams and partitions are looked for. */
const SCAN_MS = 2_000;
const MEASURE_MS = 10_000;
/** The gateway's own group follows the cluster; a commit each time would double the writes to the disk. */
const LOCAL_SAVE_MS = 1_000;
/** Kafka forgets the offsets of a group that is silent for a week (`offsets.retention.minutes`). */
const RENEW_MS = 6 * 3_600_000;

/** Sensors that publish are there until they have been silent for so long. */
const COMPANY_MS = 1_000;

export interface UplinkServices {
  readonly log: Log;
  /** The data folder's identity. */
  readonly logId: string;
  readonly groups: GroupCoordinator;
  readonly notes: Notes;
  readonly logger: Logger;
  readonly isCommitting: () => boolean;
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
  private readonly found: Sources;
  state: UplinkState = "stopped";
  /** Monotonic. */
  private becameAt = performance.now();
  clusterId: string | undefined;
  readonly placement: Placement;
  private readonly services: UplinkServices;
  private readonly pace: Pace;
  private session: Session | undefined;
  private running: Promise<void> | undefined;
  private isClosed = false;
  private wakeUp: (() => void) | undefined;
  private timers: NodeJS.Timeout[] = [];
  private renewedAt = performance.now();
  private readonly meter = new RunwayMeter();
  /** When something came in last. */
  private newsAt = Number.NEGATIVE_INFINITY;
  private readonly marks: RunwayMarks;
  private freeBytes: number | undefined;

  constructor(options: UplinkOptions, services: UplinkServices) {
    this.options = options;
    this.services = services;
    this.logger = services.logger;
    this.placement = new Placement(options, services);
    this.pace = new Pace(options.rate);
    this.marks = new RunwayMarks(options.warnAtMs);
    const { name } = options;
    this.found = new Sources(options, services, (source) => {
      this.newsAt = performance.now();
      this.laneOf(source)?.wake();
    });
    this.problem = new Problem(({ message, mend }) => {
      this.logger.warn({ uplink: name, mend }, `uplink ${name}: ${message}`);
    });
  }

  get sources(): readonly Source[] {
    return this.found.all;
  }

  get name(): string {
    return this.options.name;
  }

  start(): void {
    this.scan();
    void this.measure();
    this.timers = [
      setInterval(() => this.scan(), SCAN_MS),
      setInterval(() => void this.measure(), MEASURE_MS),
      setInterval(() => this.placement.saveLocal(), LOCAL_SAVE_MS),
    ];
    for (const timer of this.timers) timer.unref();
    this.running = this.live();
  }

  /** Deliveries under way are let through, within bounds. Idempotent. */
  async close(): Promise<void> {
    this.isClosed = true;
    this.placement.isClosed = true;
    for (const timer of this.timers) clearInterval(timer);
    this.session?.stop();
    this.wakeUp?.();
    await this.running;
    this.found.close();
    this.placement.saveLocal();
    await this.placement.saving;
    this.become("stopped");
  }

  /** It is gone from the configuration, or another one has taken its place. */
  release(successor: Uplink | undefined): void {
    this.found.release(successor?.found);
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
      if (this.state !== "down") this.become("connecting");
      let session: Session | undefined;
      try {
        session = new Session(this, await compressorFor(this.options.compression));
        this.session = session;
        for (const source of this.sources) source.restart();
        await session.open();
        this.connected(session.clusterId);
        await session.run();
      } catch (error) {
        if (this.counts.deliveries > before) failures = 0;
        if (!isAbort(error) && !this.isClosed) await this.broken(error);
      } finally {
        session?.close();
        this.session = undefined;
      }
      if (this.isClosed || this.state === "fenced" || this.problem.report === undefined) continue;
      const most = Math.min(FIRST_BACKOFF_MS * 2 ** failures, this.options.maxBackoffMs);
      failures = Math.min(failures + 1, 20);
      await this.rest(most * (0.5 + Math.random() / 2));
    }
  }

  private connected(clusterId: string | undefined): void {
    this.clusterId = clusterId;
    this.placement.clusterId = clusterId;
    this.counts.sessions++;
    const downMs = Math.round(this.problem.forMs);
    const was = this.problem.clear();
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
        this.become("fenced");
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
    const places = await this.askPlaces(this.sources);
    for (const { metadata } of places.values()) {
      const { run } = readMark(metadata);
      if (run !== undefined && !this.placement.seenRuns.has(run)) return run;
    }
    return undefined;
  }

  /** Over a connection of its own: no producer is begun for it, so nobody is fenced. */
  private async askPlaces(sources: readonly Source[]): Promise<Map<string, Place>> {
    const cluster = clusterOf(this.options);
    try {
      await cluster.refresh([]);
      return await producerOf(cluster, this.options).places(sources.map(({ place }) => place));
    } finally {
      cluster.close();
    }
  }

  private become(state: UplinkState): void {
    if (this.state === state) return;
    this.state = state;
    this.becameAt = performance.now();
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
    const wasFenced = this.services.notes.state(this.name).resting === "fenced";
    await this.services.notes.setState(this.name, { resting });
    if (resting === undefined) this.problem.clear();
    // What the other one wrote meanwhile is taken as it is.
    if (wasFenced) for (const source of this.sources) source.next = -1;
    this.again();
  }

  /** The session begins anew, at once. */
  again(): void {
    this.session?.stop();
    this.wakeUp?.();
  }

  /** Sets where sources go on; written into the cluster by the next session. */
  reset(offsets: ReadonlyMap<Source, number>, why: Gap["why"]): void {
    for (const [source, offset] of offsets) {
      this.placement.reset(source, offset, why);
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

  // ── sources ────────────────────────────────────────────────────────────────────────────────────────────

  private scan(): void {
    this.found.scan();
    for (const source of this.sources) this.placement.hold(source);
    if (performance.now() - this.renewedAt > RENEW_MS) this.renew();
  }

  private renew(): void {
    this.renewedAt = performance.now();
    for (const source of this.sources) {
      if (source.state === "ready" && source.next > 0) source.mustWritePlace = true;
      this.placement.unsaved.add(source);
    }
    for (const lane of this.session?.lanes ?? []) lane.wake();
  }

  // ── what the lanes ask ─────────────────────────────────────────────────────────────────────────────────

  private laneOf(source: Source): Lane | undefined {
    const { session } = this;
    if (session === undefined) return undefined;
    return source.state === "failing" ? session.side : session.lanes[mainLaneOf(source)];
  }

  get isCommitting(): boolean {
    return this.services.isCommitting();
  }

  sourcesOf(lane: Lane): readonly Source[] {
    const all = this.sources;
    if (lane.isSide) return all.filter(({ state }) => state === "failing");
    const index = this.session?.lanes.indexOf(lane);
    return all.filter((source) => source.state !== "failing" && mainLaneOf(source) === index);
  }

  delivered({ parts, bytes, records, isFull }: Load, tookMs: number): void {
    if (isFull) this.meter.noteDelivery(records, bytes, tookMs, MAIN_LANES);
    this.counts.deliveries++;
    this.counts.records += records;
    this.counts.bytes += bytes;
    for (const { source, records: own } of parts) {
      source.sentRecords += own;
      this.placement.delivered(source);
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
    try {
      await this.skip(source, onPoison);
    } catch (error) {
      // It stays held up, and the others go on. Of what cannot be unpacked that has been said.
      if (!(error instanceof ProtocolError)) source.problem.note(error);
    }
  }

  /** Leaves out the record that is to blame; `dead-letter` keeps it on a stream of the gateway's first. */
  async skip(source: Source, how: "skip" | "dead-letter"): Promise<{ from: number; to: number }> {
    const skipped = await this.placement.skip(source, how);
    this.session?.side.wake();
    return skipped;
  }

  restMs(load: Load, spent: Spent): number {
    return this.pace.restMs(load, spent, performance.now(), new Date(), load.isFull && this.isBesideSensors);
  }

  private get isBesideSensors(): boolean {
    return performance.now() - this.newsAt < COMPANY_MS;
  }

  mostNow(): { bytes: number; records: number } {
    return this.pace.mostAt(new Date(), this.isBesideSensors);
  }

  // ── the meter ──────────────────────────────────────────────────────────────────────────────────────────

  private async measure(): Promise<void> {
    this.freeBytes = await this.services.freeBytes().catch(() => undefined);
    for (const source of this.sources) this.placement.hold(source);
    const all = this.sources;
    const records = sum(all, ({ partition }) => partition.highWatermark);
    this.meter.note(
      performance.now(),
      records,
      sum(all, ({ bytesSinceBegin }) => bytesSinceBegin),
    );
    const { diskMs, drainMs } = this.forecast;
    if (this.state === "running") return this.marks.clear();
    const mark = this.marks.pass(diskMs);
    if (mark === undefined) return;
    this.logger.warn(
      { uplink: this.name, diskMs, drainMs, waitingRecords: this.waitingRecords },
      `uplink ${this.name}: the cluster is away, and at today's rate the disk lasts ${Math.round((diskMs as number) / 3_600_000)} h`,
    );
  }

  private get forecast(): Runway {
    return this.meter.forecast(performance.now(), this.freeBytes, this.waitingRecords);
  }

  private get waitingRecords(): number {
    return sum(this.sources, ({ waitingRecords }) => waitingRecords);
  }

  get report(): UplinkReport {
    const { name, options, state, clusterId, counts: sent } = this;
    const { brokers, delivery } = options;
    const gaps = this.services.notes.gapsOf(name);
    const streams = streamReports(this.sources);
    return {
      name,
      state,
      since: Math.round(Date.now() - (performance.now() - this.becameAt)),
      brokers: brokers.map(({ host, port }) => `${host}:${port}`),
      clusterId,
      delivery,
      group: this.placement.localGroup,
      problem: this.problem.report,
      waitingRecords: this.waitingRecords,
      waitingBytes: sum(streams, ({ waitingBytes }) => waitingBytes),
      sent,
      runway: this.forecast,
      streams,
      unmatched: this.found.unmatched,
      gaps: gaps.slice(-20),
      gapRecords: sum(gaps, ({ from, to }) => to - from),
    };
  }
}

function mainLaneOf({ index, stream }: Source): number {
  return (index + stream.length) % MAIN_LANES;
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}
