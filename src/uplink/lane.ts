/**
 * One producer with connections of its own, and the sources that it carries one delivery after another.
 *
 * The main lanes share the healthy sources among them, so that one of them gathers while another waits for the
 * cluster. The side lane has those that failed, one at a time: what holds up one partition holds up no other.
 * A source is in one lane at a time, and changes it only when the lane that had it is settled (`begin`).
 */
import { ErrorCode } from "../kafka/error-code.ts";
import type { Logger } from "../logger.ts";
import type { Cluster } from "./cluster.ts";
import { gather, type Load } from "./load.ts";
import type { UplinkOptions } from "./options.ts";
import type { Spent } from "./pace.ts";
import type { Placement } from "./placement.ts";
import { PartitionsError, type Producer, SLOW_BROKER_MS } from "./producer.ts";
import type { Source } from "./source.ts";
import { prepare } from "./topics.ts";
import { KafkaError, NamedError } from "./words.ts";

/** Deliveries shrink and grow so that one takes about this long: a slow link is not held by one for minutes. */
const SLOW_MS = 2_000;
const QUICK_MS = 500;
const MIN_BYTES = 32 << 10;
const FIRST_BYTES = 512 << 10;
/** As Kafka's clients do (`metadata.max.age.ms`). */
const METADATA_AGE_MS = 300_000;

/** What a lane asks of the uplink that it belongs to. */
export interface LaneHost {
  readonly options: UplinkOptions;
  readonly logger: Logger;
  /** Somebody of the gateway's own waits for a sync. */
  readonly isCommitting: boolean;
  /** Decides where sources begin, and says what is written into the cluster. */
  readonly placement: Pick<Placement, "placeOf" | "settle">;
  /** In the order of priority. */
  sourcesOf(lane: Lane): readonly Source[];
  /** `tookMs` is from the end of the delivery before, where more was waiting by then. */
  delivered(load: Load, tookMs: number): void;
  failed(source: Source): void;
  /** A record that will never go: by the rule, or nothing. */
  onPoison(source: Source): Promise<void>;
  restMs(load: Load, spent: Spent): number;
  mostNow(): { bytes: number; records: number };
}

export class Lane {
  readonly isSide: boolean;
  readonly cluster: Cluster;
  readonly producer: Producer;
  private readonly host: LaneHost;
  private readonly signal: AbortSignal;
  private wakeUp: (() => void) | undefined;
  private awake = false;
  private targetBytes = FIRST_BYTES;
  private startedAt = Number.NEGATIVE_INFINITY;
  private refreshedAt = Number.NEGATIVE_INFINITY;
  private turn = 0;
  /** What the last load took to be gathered. */
  private gatherMs = 0;
  /** When the last delivery was through, if more was waiting then. */
  private busySince: number | undefined;

  constructor(
    host: LaneHost,
    { isSide, cluster, producer }: { isSide: boolean; cluster: Cluster; producer: Producer },
    signal: AbortSignal,
  ) {
    this.host = host;
    this.isSide = isSide;
    this.cluster = cluster;
    this.producer = producer;
    this.signal = signal;
  }

  /** There may be something to do. */
  wake(): void {
    this.awake = true;
    this.wakeUp?.();
  }

  /** Ends only by an error, the signal's reason included. */
  async run(): Promise<never> {
    for (;;) {
      this.signal.throwIfAborted();
      this.awake = false;
      const source = this.isSide ? this.nextFailing() : undefined;
      if (this.isSide && source === undefined) await this.idle();
      else if (source !== undefined) await this.tryAlone(source);
      else await this.carry();
    }
  }

  // ── the main lanes ─────────────────────────────────────────────────────────────────────────────────────

  private async carry(): Promise<void> {
    const sources = this.host.sourcesOf(this);
    const fresh = sources.filter(({ state }) => state === "new");
    if (fresh.length > 0) await this.prepare(fresh);
    const ready = sources.filter(({ state }) => state === "ready");
    await this.refreshIfOld(ready);
    const load = await this.gather(this.inTurn(ready.filter(({ hasWork }) => hasWork)));
    for (const source of ready) if (source.state === "failing") this.host.failed(source);
    if (load.isEmpty) return this.idle();
    await this.deliver(load);
    // A full load says that more waits; otherwise more is let to gather.
    if (!load.isFull) await this.pause(this.host.options.intervalMs - (performance.now() - this.startedAt));
  }

  /** By priority; those of the same one take turns in being first. */
  private inTurn(sources: readonly Source[]): readonly Source[] {
    this.turn++;
    const at = (index: number): number => (index + this.turn) % Math.max(1, sources.length);
    return sources
      .map((source, index) => ({ source, at: at(index) }))
      .sort((a, b) => a.source.rank - b.source.rank || a.at - b.at)
      .map(({ source }) => source);
  }

  private async refreshIfOld(sources: readonly Source[]): Promise<void> {
    if (sources.length === 0 || performance.now() - this.refreshedAt < METADATA_AGE_MS) return;
    await this.cluster.refresh([...new Set(sources.map(({ topic }) => topic))]);
    this.refreshedAt = performance.now();
  }

  /** The leaders may have moved meanwhile. */
  expireMetadata(): void {
    this.refreshedAt = Number.NEGATIVE_INFINITY;
  }

  // ── the side lane ──────────────────────────────────────────────────────────────────────────────────────

  private nextFailing(): Source | undefined {
    const now = performance.now();
    return this.host
      .sourcesOf(this)
      .filter((source) => source.dueAt <= now)
      .sort((a, b) => a.dueAt - b.dueAt)[0];
  }

  private async tryAlone(source: Source): Promise<void> {
    if (!(await this.prepare([source]))) return;
    const load = await this.gather([source]);
    // A gather that failed has said so, and when to come again.
    if (load.isEmpty && source.hasWork) return this.host.onPoison(source);
    const startedAt = performance.now();
    if (!load.isEmpty && !(await this.deliver(load))) return;
    const isSlow = source.isSlow && performance.now() - startedAt > SLOW_BROKER_MS;
    if (!isSlow && (source.next >= source.suspectUntil || !source.hasWork)) {
      source.recovered();
      this.host.failed(source);
    } else source.retryNow();
  }

  // ── both ───────────────────────────────────────────────────────────────────────────────────────────────

  /** Whether all of them may be sent now. */
  private async prepare(sources: readonly Source[]): Promise<boolean> {
    const { options, logger } = this.host;
    const sound = await prepare(sources, this.cluster, options, logger);
    const places =
      sound.length === 0 ? new Map() : await this.producer.places(sound.map(({ place }) => place));
    await this.host.placement.settle(sound, places);
    for (const source of sources) {
      if (source.state === "new") source.recovered();
      if (source.state === "failing") this.host.failed(source);
    }
    return sound.length === sources.length && sources.every(({ state }) => state !== "asking");
  }

  private async gather(sources: readonly Source[]): Promise<Load> {
    const { partitioning, maxTransactionBytes } = this.host.options;
    const most = this.host.mostNow();
    const startedAt = performance.now();
    const load = await gather(sources, {
      partitioning,
      maxBytes: Math.min(this.targetBytes, maxTransactionBytes, most.bytes),
      maxRecords: most.records,
      isCommitting: () => this.host.isCommitting,
      remotePartitions: (topic) => this.cluster.topic(topic)?.leaders.length ?? 0,
    });
    this.gatherMs = performance.now() - startedAt;
    return load;
  }

  /** Whether it is in the cluster. Rejects where the session has to begin anew. */
  private async deliver(load: Load): Promise<boolean> {
    this.startedAt = performance.now();
    const places = load.parts.map((part) => this.host.placement.placeOf(part));
    let slow: ReadonlySet<string>;
    try {
      slow = await this.producer.deliver([...load.batches.values()], places);
    } catch (error) {
      if (!(error instanceof PartitionsError)) throw error;
      await this.takeBack(load, error);
      return false;
    }
    const now = performance.now();
    const tookMs = now - this.startedAt;
    const cycleMs = now - (this.busySince ?? this.startedAt);
    this.busySince = load.isFull ? now : undefined;
    this.adapt(load, tookMs);
    for (const { source, next, last } of load.parts) {
      source.next = next;
      source.last = last;
      source.confirmed = next;
      source.mustWritePlace = false;
    }
    load.release();
    this.host.delivered(load, cycleMs);
    for (const place of slow) this.setAside(load.sourcesOf.get(place) ?? [], place, tookMs);
    await this.pause(this.host.restMs(load, { tookMs, gatherMs: this.gatherMs }));
    return true;
  }

  /** What a slow broker leads goes at its pace, in the side lane, until that is quick again. */
  private setAside(sources: Iterable<Source>, place: string, tookMs: number): void {
    // By key every source has records for every partition: none can be spared.
    if (this.host.options.partitioning === "key") return;
    for (const source of sources) {
      const words = `${place}: its broker took ${(tookMs / 1000).toFixed(1)} s, several times as long as the others`;
      source.fail(new NamedError("SLOW_BROKER", words, "It is carried by itself meanwhile."), source.next);
      source.isSlow = true;
      source.retryNow();
      this.host.failed(source);
    }
  }

  private adapt({ isFull, bytes }: Load, tookMs: number): void {
    const { maxTransactionBytes } = this.host.options;
    if (tookMs > SLOW_MS) this.targetBytes = Math.max(MIN_BYTES, Math.floor(bytes / 2));
    else if (tookMs < QUICK_MS && isFull) {
      this.targetBytes = Math.min(maxTransactionBytes, this.targetBytes * 2);
    }
  }

  /** Nothing of the load counts until the cluster has said what it holds. */
  private async takeBack(load: Load, { culprits }: PartitionsError): Promise<void> {
    this.busySince = undefined;
    await this.producer.begin();
    const sources = load.parts.map(({ source }) => source);
    const places = await this.producer.places(sources.map(({ place }) => place));
    await this.host.placement.settle(sources, places);
    for (const [place, error] of culprits) {
      for (const source of load.sourcesOf.get(place) ?? []) {
        const part = load.parts.find((one) => one.source === source);
        if (part === undefined || source.state === "asking") continue;
        if (error.isPoison) await this.narrow(source, part, error, load.batches.get(place)?.bytes ?? 0);
        else source.fail(error, part.next);
        this.host.failed(source);
      }
    }
  }

  /** Halves until the one record that the cluster does not take is alone. */
  private async narrow(
    source: Source,
    { from, next, records }: { from: number; next: number; records: number },
    error: KafkaError,
    bytes: number,
  ): Promise<void> {
    if (records <= 1) {
      source.poison = { offset: from, end: next };
      source.fail(new KafkaError(error.kafkaCode, `${source.name} at offset ${from}`, error.message), next);
      return this.host.onPoison(source);
    }
    source.fail(error, next);
    source.maxRecords = Math.ceil(records / 2);
    if (error.kafkaCode === ErrorCode.MESSAGE_TOO_LARGE) {
      source.maxBatchBytes = Math.max(1, Math.floor(bytes / 2));
    }
    source.retryNow();
  }

  /** Until something is to be done, or something failing is due. */
  private async idle(): Promise<void> {
    const now = performance.now();
    const due = this.isSide
      ? Math.min(...this.host.sourcesOf(this).map(({ dueAt }) => dueAt))
      : Number.POSITIVE_INFINITY;
    await this.pause(Math.max(1, due - now), true);
  }

  private pause(ms: number, untilWoken = false): Promise<void> {
    if (!(ms > 0) || (untilWoken && this.awake)) return Promise.resolve();
    this.signal.throwIfAborted();
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.signal.removeEventListener("abort", done);
        this.wakeUp = undefined;
        resolve();
      };
      const timer = Number.isFinite(ms) ? setTimeout(done, Math.min(ms, 0x7fff_ffff)) : undefined;
      this.signal.addEventListener("abort", done);
      if (untilWoken) this.wakeUp = done;
    });
  }
}
