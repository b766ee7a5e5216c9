/**
 * The group commit: appends gather in a window; one journal entry makes the whole window durable, and while
 * it is being written the next window gathers.
 *
 * Records of one partition that come one after another share a batch, encoded straight into the entry. A
 * window begins to be written at the end of the turn of the event loop in which its first append came, so
 * that everything that was read from the sockets together is in it; or a moment later, see regulars.ts.
 */
import { LogError, messageOf } from "../errors.ts";
import {
  BATCH_HEADER_BYTES,
  baseOffsetOf,
  encodeBatch,
  placeBatch,
  recordBytesBound,
  recordCountOf,
  stampAppendTime,
} from "../wire/record-batch.ts";
import { checkEntries, MAX_WINDOW_BYTES } from "./append-checks.ts";
import type { Journal, JournalBatch } from "./journal.ts";
import type { Append, BatchAppend, RecordAppend } from "./log.ts";
import type { PartitionLog } from "./partition-log.ts";
import type { BatchPlace } from "./producer-state.ts";
import { Regulars } from "./regulars.ts";
import { commitMemory, SMALL_BYTES } from "./reused-memory.ts";

/** A run of records becomes one batch up to this size: what a consumer takes in one piece. */
const MAX_RUN_BYTES = 256 << 10;
/**
 * A larger window lies in several buffers of at most this size (or of one batch): of few sizes nearly every one can be
 * used again. In one buffer each, a fourth had to be new, and V8 marked its heap every 100 ms for them.
 */
const PIECE_BYTES = 256 << 10;

/** Records that become one batch. */
interface Run {
  readonly records: RecordAppend[];
  bytes: number;
}

interface QueuedBatch {
  readonly append: BatchAppend;
  readonly place: BatchPlace;
}

/** What one window holds for one partition, in order. */
type Bucket = (Run | QueuedBatch)[];

type Done = (error: LogError | null) => void;

class Window {
  readonly number: number;
  readonly buckets = new Map<PartitionLog, Bucket>();
  /** Who is told of its end, in order. */
  readonly waiting: Done[] = [];
  bytes = 0;
  /** When the first append came, by `performance.now`. */
  openedAt = 0;
  isUrgent = false;

  constructor(number: number) {
    this.number = number;
  }
}

/** One partition's committed batches, for the tail. */
export interface CommittedBatches {
  readonly partition: PartitionLog;
  readonly batches: readonly Buffer[];
}

export interface CommitterOptions {
  readonly journal: Journal;
  /** Wall clock, milliseconds: what `message.timestamp.type=LogAppendTime` writes. */
  readonly now: () => number;
  /** Called when a commit is durable and before anybody is told; what it does is visible at once. */
  readonly onCommitted: (committed: readonly CommittedBatches[], bytes: number) => void;
  /** Called when the journal refused (READ_ONLY), before those who wait are told. */
  readonly onFailed: (error: LogError) => void;
  /** How long a window waits at most for those whom the commit before it answered; 0: not at all. */
  readonly maxWaitMs: number;
}

export class Committer {
  private readonly options: CommitterOptions;
  /** Windows that gather or wait, the last one open. */
  private windows: Window[] = [new Window(0)];
  private running = false;
  private scheduled = false;
  private idle: (() => void) | undefined;
  /** How long a window gathers from its first append on, for fewer syncs; a full one does not. */
  lingerMs = 0;
  private readonly regulars: Regulars;
  /** While the first window waits for more: looks whether it still should. */
  private look: (() => void) | undefined;
  /** Set while appends are refused. */
  private refusal: LogError | undefined;
  /** Set while public streams take nothing. */
  publicRefusal: LogError | undefined;
  commits = 0;
  records = 0;

  constructor(options: CommitterOptions) {
    this.options = options;
    this.regulars = new Regulars(options.maxWaitMs);
  }

  /** The number of the window that an append would go into now. */
  get windowNumber(): number {
    return (this.windows.at(-1) as Window).number;
  }

  /** Somebody waits for a sync. */
  get isCommitting(): boolean {
    return this.running || this.scheduled;
  }

  get isRefusing(): boolean {
    return this.refusal !== undefined;
  }

  append(entries: readonly Append[], done: Done): void {
    if (this.refusal !== undefined) {
      const error = this.refusal;
      queueMicrotask(() => done(error));
      return;
    }
    try {
      if (this.publicRefusal !== undefined && entries.some(({ partition }) => !partition.stream.internal)) {
        throw this.publicRefusal;
      }
      const bytes = checkEntries(entries);
      const window = this.windowFor(bytes);
      const queued = this.enqueue(window, entries);
      if (window.waiting.length === 0) window.openedAt = performance.now();
      window.bytes += bytes;
      window.waiting.push(queued === undefined ? done : withOffset(queued, done));
    } catch (error) {
      if (!(error instanceof LogError)) throw error;
      queueMicrotask(() => done(error));
      return;
    }
    this.look?.();
    this.schedule();
  }

  private windowFor(bytes: number): Window {
    const last = this.windows.at(-1) as Window;
    if (last.bytes === 0 || last.bytes + bytes <= MAX_WINDOW_BYTES) return last;
    this.hurry();
    const window = new Window(last.number + 1);
    this.windows.push(window);
    return window;
  }

  private enqueue(window: Window, entries: readonly Append[]): QueuedBatch | undefined {
    for (const entry of entries) {
      const partition = entry.partition as PartitionLog;
      if ("batch" in entry) {
        const { place, isDuplicate } = partition.producers.check(entry.batch);
        const queued = { append: entry, place };
        if (!isDuplicate) bucketOf(window, partition).push(queued);
        return queued;
      }
      const items = bucketOf(window, partition);
      const bytes = recordBytesBound(entry);
      const last = items.at(-1);
      if (last !== undefined && "records" in last && last.bytes + bytes <= MAX_RUN_BYTES) {
        last.records.push(entry);
        last.bytes += bytes;
      } else {
        items.push({ records: [entry], bytes: BATCH_HEADER_BYTES + bytes });
      }
    }
    return undefined;
  }

  private schedule(): void {
    if (this.running || this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      void this.run();
    });
  }

  private async run(): Promise<void> {
    this.running = true;
    while ((this.windows[0] as Window).waiting.length > 0) {
      await this.gather();
      const window = this.windows.shift() as Window;
      if (this.windows.length === 0) this.windows.push(new Window(window.number + 1));
      await this.commit(window);
    }
    this.running = false;
    this.idle?.();
    this.idle = undefined;
  }

  /** Lets the first window wait for more: as long as it lingers, or else for those who were just answered. */
  private async gather(): Promise<void> {
    const window = this.windows[0] as Window;
    const { lingerMs, regulars } = this;
    const enough = lingerMs > 0 ? Number.POSITIVE_INFINITY : regulars.expected;
    const until = lingerMs > 0 ? window.openedAt + lingerMs : regulars.until;
    const isWhole = () => window.waiting.length >= enough;
    const isDue = () => isWhole() || window.isUrgent || this.windows.length > 1 || performance.now() >= until;
    if (isDue()) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, until - performance.now());
      this.look = () => {
        if (!isDue()) return;
        clearTimeout(timer);
        resolve();
      };
    });
    this.look = undefined;
    if (lingerMs === 0) regulars.waited(isWhole());
  }

  /** What has been queued so far is committed without waiting for more. */
  hurry(): void {
    (this.windows.at(-1) as Window).isUrgent = true;
    this.look?.();
  }

  private async commit(window: Window): Promise<void> {
    const committed = encodeWindow(window, this.options.now());
    const batches: JournalBatch[] = [];
    let bytes = 0;
    for (const { partition, batches: own } of committed) {
      for (const batch of own) {
        batches.push({ streamId: partition.stream.idBytes, partition: partition.index, batch });
        bytes += batch.length;
      }
    }
    const beganAt = performance.now();
    try {
      // A window of nothing but duplicates has nothing to write: what they repeat is durable already.
      if (batches.length > 0) await this.options.journal.write(batches);
    } catch (error) {
      this.fail(window, error);
      return;
    }
    const now = performance.now();
    const behind = this.windows.reduce((sum, { waiting }) => sum + waiting.length, 0);
    this.regulars.answered(now, now - beganAt, window.waiting.length + behind);
    this.commits++;
    for (const bucket of window.buckets.values()) this.records += settle(bucket);
    this.options.onCommitted(committed, bytes);
    for (const done of window.waiting) done(null);
    for (const { partition } of committed) partition.notify();
  }

  /** Nothing of this window, and nothing that was queued behind it, may be taken for written. */
  private fail(window: Window, cause: unknown): void {
    const error =
      cause instanceof LogError && cause.code === "TOO_LARGE"
        ? cause
        : new LogError("READ_ONLY", `the journal could not be written: ${messageOf(cause)}`, { cause });
    if (error.code === "READ_ONLY") this.options.onFailed(error);
    const failed = [window, ...this.windows];
    this.windows = [new Window((this.windows.at(-1) as Window).number + 1)];
    for (const { buckets } of failed) {
      for (const partition of buckets.keys()) partition.producers.forgetUncommitted();
    }
    for (const { waiting } of failed) for (const done of waiting) done(error);
  }

  /** Refuses appends from now on: CLOSED for good, anything else until `admit`. */
  refuse(error: LogError): void {
    if (this.refusal?.code !== "CLOSED") this.refusal = error;
    this.hurry();
  }

  /** Takes appends again. */
  admit(): void {
    if (this.refusal?.code !== "CLOSED") this.refusal = undefined;
  }

  /** Resolves when everything that was queued has been written. */
  drain(): Promise<void> {
    if (!this.running && (this.windows[0] as Window).waiting.length === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const before = this.idle;
      this.idle = () => {
        before?.();
        resolve();
      };
    });
  }
}

/** A producer's batch is told its offset, which may turn out to be that of the same batch sent before. */
const withOffset =
  ({ append, place }: QueuedBatch, done: Done): Done =>
  (error) => {
    if (error === null) append.offset = place.offset as number;
    done(error);
  };

function bucketOf(window: Window, partition: PartitionLog): Bucket {
  let bucket = window.buckets.get(partition);
  if (bucket === undefined) {
    bucket = [];
    window.buckets.set(partition, bucket);
  }
  return bucket;
}

const boundOf = (item: Run | QueuedBatch) => ("records" in item ? item.bytes : item.append.batch.length);

/** Where a window is encoded: as tail all of it is kept, and then let go, together. */
class Room {
  /** What each item takes at most, in order. */
  private readonly bounds: number[];
  private index = 0;
  private target: Buffer = Buffer.alloc(0);
  private at = 0;

  constructor(window: Window) {
    this.bounds = [...window.buckets.values()].flatMap((items) => items.map(boundOf));
  }

  /** Has `write` write the next item, and gives what it wrote; it returns where that ends. */
  next(write: (target: Buffer, at: number) => number): Buffer {
    if (this.at + (this.bounds[this.index] as number) > this.target.length) this.more();
    this.index++;
    const from = this.at;
    this.at = write(this.target, from);
    return this.target.subarray(from, this.at);
  }

  /** Just so much as whole items take: what is left over would be kept as well, and not be counted. */
  private more(): void {
    let bytes = this.bounds[this.index] as number;
    for (let index = this.index + 1; index < this.bounds.length; index++) {
      if (bytes + (this.bounds[index] as number) > PIECE_BYTES) break;
      bytes += this.bounds[index] as number;
    }
    // Never from the shared pool: it would keep all of its slab.
    this.target = bytes < SMALL_BYTES ? Buffer.allocUnsafeSlow(bytes) : commitMemory.take(bytes);
    this.at = 0;
  }
}

/** Encodes a window; base offsets follow each partition's last committed one. */
function encodeWindow(window: Window, nowMs: number): CommittedBatches[] {
  const room = new Room(window);
  // What is kept as tail has no room to grow: V8 would give an array that is pushed to seventeen places.
  const committed = new Array<CommittedBatches>(window.buckets.size);
  let index = 0;
  for (const [partition, items] of window.buckets) {
    const hasAppendTime = partition.stream.settings.timestampType === "LogAppendTime";
    let next = partition.highWatermark;
    const batches = items.map((item) =>
      room.next((target, from) => {
        if ("records" in item) {
          const end = encodeBatch(target, from, item.records, next, partition.leaderEpoch);
          if (hasAppendTime) stampAppendTime(target, from, nowMs);
          for (const record of item.records) record.offset = next++;
          return end;
        }
        const { batch } = item.append;
        placeBatch(batch, 0, next, partition.leaderEpoch);
        if (hasAppendTime) stampAppendTime(batch, 0, nowMs);
        next += recordCountOf(batch);
        // A copy: what it came with is not kept in memory for as long as the tail.
        return from + batch.copy(target, from);
      }),
    );
    committed[index++] = { partition, batches };
  }
  return committed;
}

/** Tells idempotent producers' state where their batches lie, now that they do; returns the records in all. */
function settle(items: Bucket): number {
  let records = 0;
  for (const item of items) {
    if ("records" in item) {
      records += item.records.length;
    } else {
      item.place.offset = baseOffsetOf(item.append.batch);
      records += recordCountOf(item.append.batch);
    }
  }
  return records;
}
