/**
 * Room on the disk, looked after in the background: below `minFreeBytes` public streams take nothing more, or
 * give up their oldest segments (`whenFull`).
 *
 * What is kept free is for the gateway's own streams, whose appends go on, so that subscribers can commit their
 * offsets; for checkpoints; and for whoever else uses the disk. A disk that is really full is an outage.
 *
 * Segments go from the partition that takes most, one after another, so that a stream that floods the disk
 * pays for it and quiet ones keep what they have. Internal and compacted streams never give up anything.
 */
import { LogError, messageOf } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { FileSystem } from "./file-system.ts";
import type { PartitionLog } from "./partition-log.ts";

export interface StorageRules {
  /** 0: the disk is not looked at. */
  readonly minFreeBytes: number;
  readonly whenFull: "refuse" | "dropOldest";
}

export interface DiskSpaceOptions {
  readonly dataDir: string;
  readonly fileSystem: FileSystem;
  readonly logger: Logger;
  readonly checkMs: number;
  readonly partitions: () => Iterable<PartitionLog>;
  /** What retention would take goes first. */
  readonly retain: () => Promise<void>;
  /** What is not in the segments for good cannot be given up. */
  readonly checkpoint: () => Promise<void>;
  /** Public streams take nothing while there is an error. */
  readonly onChange: (refusal: LogError | undefined) => void;
}

export class DiskSpace {
  rules: StorageRules = { minFreeBytes: 0, whenFull: "refuse" };
  /** Before `start` it is only looked whether there is room. */
  private mayFree = false;
  private readonly options: DiskSpaceOptions;
  private timer: NodeJS.Timeout | undefined;
  private checking: Promise<void> | undefined;
  private isFull = false;
  private problem = "";
  /** Given up since the start for want of room. */
  droppedBytes = 0;
  droppedRecords = 0;

  constructor(options: DiskSpaceOptions) {
    this.options = options;
  }

  async start(): Promise<void> {
    this.mayFree = true;
    await this.check();
    this.timer = setInterval(() => void this.check(), this.options.checkMs);
    this.timer.unref();
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    await this.checking;
  }

  /** Never rejects. */
  check(): Promise<void> {
    this.checking ??= this.checkNow()
      .then(() => {
        this.problem = "";
      })
      .catch((error) => this.say(messageOf(error)))
      .finally(() => {
        this.checking = undefined;
      });
    return this.checking;
  }

  private say(problem: string): void {
    if (problem === this.problem) return;
    this.problem = problem;
    this.options.logger.error({ error: problem }, "the room on the disk cannot be looked after");
  }

  private async checkNow(): Promise<void> {
    const { fileSystem, dataDir, logger, onChange } = this.options;
    const { minFreeBytes, whenFull } = this.rules;
    const free = minFreeBytes === 0 ? Number.POSITIVE_INFINITY : await fileSystem.freeBytes(dataDir);
    // Once full, a little more than enough: not to and fro with each segment.
    const wanted = minFreeBytes * (this.isFull ? 1.05 : 1);
    let missing = wanted - free;
    if (missing > 0 && this.mayFree)
      missing -= await (whenFull === "dropOldest" ? this.makeRoom(missing) : this.expire(missing));
    const isFull = missing > 0;
    if (isFull === this.isFull) return;
    this.isFull = isFull;
    const room = { free, minFree: minFreeBytes };
    if (isFull) {
      logger.error(
        room,
        "the disk is full: publishers are refused until there is room, subscribers go on reading",
      );
      onChange(
        new LogError("DISK_FULL", `the disk has ${free} bytes left, and ${minFreeBytes} are to stay free`),
      );
    } else {
      logger.warn(room, "there is room on the disk again");
      onChange(undefined);
    }
  }

  private get mayGo(): PartitionLog[] {
    return [...this.options.partitions()].filter(
      ({ stream: { internal, settings } }) => !internal && settings.cleanup === "delete",
    );
  }

  /**
   * Has retention take what it wants. A checkpoint, without which it may not take the newest segments, comes by
   * itself with more records only, and there are none while publishers are refused. Returns how much that freed.
   */
  private async expire(wanted: number): Promise<number> {
    const { retain, checkpoint } = this.options;
    const { mayGo } = this;
    const sizeOf = (): number => mayGo.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const before = sizeOf();
    await retain();
    if (before - sizeOf() < wanted && mayGo.some(({ isDirty }) => isDirty)) {
      await checkpoint().catch(() => {});
      await retain();
    }
    return before - sizeOf();
  }

  /** Returns how much it could free. */
  private async makeRoom(wanted: number): Promise<number> {
    const { logger } = this.options;
    const { mayGo } = this;
    let freed = await this.expire(wanted);
    const spent = new Set<PartitionLog>();
    while (freed < wanted) {
      // The newest segment of a partition only where nobody has another one.
      const [largest] = mayGo
        .filter((partition) => !spent.has(partition))
        .sort(
          (a, b) => Number(b.hasClosedSegments) - Number(a.hasClosedSegments) || b.sizeBytes - a.sizeBytes,
        );
      if (largest === undefined) break;
      const from = largest.logStartOffset;
      const bytes = await largest.dropOldest();
      if (bytes === undefined) {
        spent.add(largest);
        continue;
      }
      freed += bytes;
      const records = largest.logStartOffset - from;
      this.droppedBytes += bytes;
      this.droppedRecords += records;
      const place = {
        stream: largest.stream.name,
        partition: largest.index,
        from,
        to: largest.logStartOffset,
      };
      logger.warn({ ...place, bytes }, "the disk is full: the oldest records were dropped");
    }
    return freed;
  }
}
