/** What the log does by itself from time to time: retention, then compaction, one partition after another. */
import { LogError, messageOf } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { Turns } from "../turns.ts";
import { checkInBackground } from "./background-check.ts";
import { compact } from "./compaction.ts";
import type { PartitionLog } from "./partition-log.ts";
import type { StreamState } from "./stream-state.ts";
import type { Timekeeper } from "./timekeeper.ts";

/** Keys that one pass of compaction knows at a time: 32 MiB, while it runs. */
const MAX_KEYS = 1 << 20;

/** A tenth of what an SD card reads: 10 GB take a quarter of an hour. */
const CHECK_BYTES_PER_SECOND = 10 << 20;

export interface UpkeepOptions {
  readonly logger: Logger;
  readonly time: Timekeeper;
  /** Writes down what time it is. */
  readonly saveTime: () => Promise<void>;
  readonly streams: () => Iterable<StreamState>;
  /** Infinity: what is to be done is said by calls. */
  readonly checkMs: number;
  readonly maxCompactionKeys?: number | undefined;
  readonly turns: Turns;
}

export class Upkeep {
  private readonly options: UpkeepOptions;
  private readonly stopping = new AbortController();
  private timer: NodeJS.Timeout | undefined;
  private compacting: Promise<void> | undefined;
  private checking: Promise<unknown> = Promise.resolve();

  constructor(options: UpkeepOptions) {
    this.options = options;
  }

  /**
   * The first round comes at once: what is killed again and again, within less than a round, would otherwise never
   * compact what it reads at each start, and start slower each time.
   */
  start(): void {
    const { checkMs } = this.options;
    if (!Number.isFinite(checkMs)) return;
    void this.round();
    this.timer = setInterval(() => void this.round(), checkMs);
    this.timer.unref();
  }

  private async round(): Promise<void> {
    const { time, saveTime, logger } = this.options;
    await this.retain();
    await this.compact();
    if (!time.isSaveDue) return;
    await saveTime().catch((error) => logger.error({ error: messageOf(error) }, "the time cannot be kept"));
  }

  /** Stops what is under way; idempotent. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    this.stopping.abort();
    await this.compacting;
    await this.checking;
  }

  /** Reads all that is stored, slowly, and says what is damaged; resolves when it is done. */
  check(bytesPerSecond = CHECK_BYTES_PER_SECOND): Promise<void> {
    const { logger, streams } = this.options;
    const partitions = [...streams()].flatMap((stream) => stream.partitions);
    const done = checkInBackground(partitions, { logger, bytesPerSecond, signal: this.stopping.signal });
    this.checking = done.catch((error) => logger.error({ error: messageOf(error) }, "the check failed"));
    return this.checking.then(() => {});
  }

  /** Deletes what retention no longer wants, in all streams. */
  retain(): Promise<void> {
    return this.each("delete", "retention", async (partition, place) => {
      const freedBytes = await partition.retain();
      if (freedBytes > 0) this.options.logger.info({ ...place, freedBytes }, "retention");
    });
  }

  /** What was deleted by request: its segments need not wait for the next round. */
  retainSoon(partition: PartitionLog): void {
    partition.retain().catch((error: unknown) => {
      const place = { stream: partition.stream.name, partition: partition.index };
      this.options.logger.error({ ...place, error: messageOf(error) }, "retention failed");
    });
  }

  /** Compacts the streams that ask for it, where enough has come since the last time. */
  compact(): Promise<void> {
    const { time, logger, turns, maxCompactionKeys: maxKeys = MAX_KEYS } = this.options;
    const now = (): number => Math.round(time.logTime);
    const { signal } = this.stopping;
    this.compacting ??= this.each("compact", "compaction", async (partition, place) => {
      const result = await compact(partition, { now, maxKeys, turns, signal });
      if (result !== undefined) logger.info({ ...place, ...result }, "compaction");
    }).finally(() => {
      this.compacting = undefined;
    });
    return this.compacting;
  }

  private async each(
    cleanup: "delete" | "compact",
    name: string,
    work: (partition: PartitionLog, place: { stream: string; partition: number }) => Promise<void>,
  ): Promise<void> {
    for (const stream of this.options.streams()) {
      if (!stream.settings.cleanup.includes(cleanup)) continue;
      for (const partition of stream.partitions) {
        const place = { stream: stream.name, partition: partition.index };
        try {
          await work(partition, place);
        } catch (error) {
          if (error instanceof LogError && error.code === "CLOSED") continue;
          this.options.logger.error({ ...place, error: messageOf(error) }, `${name} failed`);
        }
      }
    }
  }
}
