/** One partition of the gateway on its way to the cluster: where it stands, and why it does not move. */
import type { Partition } from "../log/log.ts";
import type { Logger } from "../logger.ts";
import type { UplinkOptions } from "./options.ts";
import type { Witness } from "./places.ts";
import { Problem } from "./problem.ts";
import type { PlaceKey } from "./producer.ts";
import { Origin } from "./remote-batch.ts";

/**
 * - `new`: topic and place are not known yet
 * - `ready`: in its lane
 * - `failing`: in the side lane, tried by itself from time to time
 * - `asking`: a person has to say where it goes on
 */
export type SourceState = "new" | "ready" | "failing" | "asking";

export interface SourceSetup {
  readonly partition: Partition;
  readonly topic: string;
  readonly place: PlaceKey;
  /** Of its rule: the lower goes first. */
  readonly rank: number;
}

const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 30_000;
/** Where the same would be refused again and a person may have mended it meanwhile. */
const MAX_POISON_RETRY_MS = 300_000;

export class Source {
  readonly partition: Partition;
  readonly stream: string;
  readonly index: number;
  readonly topic: string;
  readonly place: PlaceKey;
  readonly rank: number;
  readonly origin: Origin;
  readonly problem: Problem;
  state: SourceState = "new";
  /** The offset that is sent next; what is below is in the cluster for good. */
  next = -1;
  /** What the cluster has acknowledged, or said that it holds; never ahead of it. */
  confirmed = -1;
  /** The last record that is in the cluster; undefined before the first that this process knows of. */
  last: Witness | undefined;
  /** A place that is to be written though nothing is sent: after a reset, a skip, a first start. */
  mustWritePlace = false;
  /** Both shrink while a refused batch is searched for the record that is to blame. */
  maxRecords = Number.POSITIVE_INFINITY;
  maxBatchBytes: number;
  /** Up to here the search goes. */
  suspectUntil = 0;
  /** The record to blame, once it is found; or a batch that cannot be looked into. */
  poison: { readonly offset: number; readonly end: number } | undefined;
  /** Its broker keeps the others waiting: in the side lane while that is so, and tried when there is something. */
  isSlow = false;
  sentRecords = 0;
  private failures = 0;
  private retryAt = 0;

  constructor(setup: SourceSetup, options: UplinkOptions, logger: Logger) {
    const { partition, topic, place, rank } = setup;
    this.partition = partition;
    this.stream = partition.stream.name;
    this.index = partition.index;
    this.topic = topic;
    this.place = place;
    this.rank = rank;
    this.maxBatchBytes = options.maxBatchBytes;
    const { gateway, name } = options;
    this.origin = new Origin(
      options.headers ? { gateway, stream: this.stream, partition: this.index } : undefined,
    );
    this.problem = new Problem(({ message, mend }) => {
      const words = `uplink ${name}, ${this.stream}/${this.index}: ${message}`;
      logger.warn({ uplink: name, stream: this.stream, partition: this.index, mend }, words);
    });
  }

  get name(): string {
    return `${this.stream}/${this.index}`;
  }

  /** Whether there is something to do, once it is `ready` or due. */
  get hasWork(): boolean {
    return this.mustWritePlace || this.next < this.partition.highWatermark;
  }

  get waitingRecords(): number {
    const from = this.next < 0 ? this.partition.logStartOffset : this.next;
    return Math.max(0, this.partition.highWatermark - Math.max(from, this.partition.logStartOffset));
  }

  /** By the partition's mean: the log does not know where in it a byte lies without reading. */
  get waitingBytes(): number {
    const { highWatermark, logStartOffset, sizeBytes } = this.partition;
    const all = highWatermark - logStartOffset;
    return all === 0 ? 0 : Math.round((sizeBytes * this.waitingRecords) / all);
  }

  /** What the partition has ever taken, by its present mean. */
  get bytesSinceBegin(): number {
    const { highWatermark, logStartOffset, sizeBytes } = this.partition;
    const all = highWatermark - logStartOffset;
    return all === 0 ? 0 : (sizeBytes * highWatermark) / all;
  }

  /** Monotonic; when the side lane tries it. */
  get dueAt(): number {
    const isTried = (this.state === "failing" && (!this.isSlow || this.hasWork)) || this.state === "new";
    return isTried ? this.retryAt : Number.POSITIVE_INFINITY;
  }

  fail(error: unknown, until: number): void {
    this.state = "failing";
    this.suspectUntil = Math.max(this.suspectUntil, until);
    const most = this.poison === undefined ? MAX_RETRY_MS : MAX_POISON_RETRY_MS;
    const waitMs = Math.min(FIRST_RETRY_MS * 2 ** this.failures, most) * (0.5 + Math.random() / 2);
    this.failures = Math.min(this.failures + 1, 20);
    this.retryAt = performance.now() + waitMs;
    this.problem.note(error);
  }

  ask(error: unknown): void {
    this.state = "asking";
    this.problem.note(error);
  }

  /** Tried again at once, behind those that have waited for longer. */
  retryNow(): void {
    this.retryAt = performance.now();
  }

  recovered(): void {
    this.state = "ready";
    this.failures = 0;
    this.retryAt = 0;
    this.suspectUntil = 0;
    this.maxRecords = Number.POSITIVE_INFINITY;
    this.poison = undefined;
    this.isSlow = false;
    this.problem.clear();
  }

  /** A new session: everything is looked up again. */
  restart(): void {
    if (this.state === "asking") return;
    this.state = "new";
    this.retryAt = 0;
  }
}
