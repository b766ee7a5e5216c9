/**
 * What is committed but not yet in the segments, and how it gets there.
 *
 * The newest commits stay in memory, where their partitions read them from (the tail), until they have been
 * flushed and newer ones need the room. A *flush* writes segments without syncing; a *checkpoint* flushes,
 * syncs, writes down how far each partition has come, and so lets journal files be used again.
 */
import { join } from "node:path";
import { messageOf } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { encodeCheckpoint, partitionKey } from "./checkpoint-file.ts";
import type { CommittedBatches } from "./committer.ts";
import { Deque } from "./deque.ts";
import { eachOf } from "./each-of.ts";
import { type FileSystem, replaceFile } from "./file-system.ts";
import type { Journal } from "./journal.ts";
import type { PartitionLog } from "./partition-log.ts";
import { commitMemory } from "./reused-memory.ts";

/** What a batch in the tail takes besides its bytes: small ones are mostly this. */
const BATCH_OVERHEAD_BYTES = 512;
/** Segments that are worked on at a time: commits keep the rest of the thread pool. */
const CONCURRENCY = 2;

export interface WriteBehindOptions {
  readonly dataDir: string;
  readonly fileSystem: FileSystem;
  readonly logger: Logger;
  readonly maxTailBytes: number;
  readonly recoveryPoints: ReadonlyMap<string, number>;
  /** Every partition there is. */
  readonly partitions: () => Iterable<PartitionLog>;
}

export class WriteBehind {
  private readonly options: WriteBehindOptions;
  /** By `partitionKey`, as the checkpoint's file has them. */
  private readonly recoveryPoints: Map<string, number>;
  /** The newest commits, oldest first; their batches are in their partitions' tails. */
  private readonly tail = new Deque<{ bytes: number; committed: readonly CommittedBatches[] }>();
  private tailBytes = 0;
  private unflushedBytes = 0;
  private readonly unflushed = new Set<PartitionLog>();
  private flushing: Promise<void> | undefined;
  private checkpointing: Promise<void> | undefined;

  constructor(options: WriteBehindOptions) {
    this.options = options;
    this.recoveryPoints = new Map(options.recoveryPoints);
  }

  recoveryPointOf(streamId: string, partition: number): number {
    return this.recoveryPoints.get(partitionKey(streamId, partition)) ?? 0;
  }

  /** The partition has been deleted. */
  forget(streamId: string, partition: number): void {
    this.recoveryPoints.delete(partitionKey(streamId, partition));
  }

  /** Keeps a commit, which its partitions have, and makes room for it. */
  keep(committed: readonly CommittedBatches[], batchBytes: number): void {
    const batches = committed.reduce((sum, one) => sum + one.batches.length, 0);
    const bytes = batchBytes + batches * BATCH_OVERHEAD_BYTES;
    this.tail.push({ bytes, committed });
    this.tailBytes += bytes;
    this.unflushedBytes += bytes;
    for (const { partition } of committed) this.unflushed.add(partition);
    if (this.unflushedBytes > this.options.maxTailBytes / 4) this.flushing ??= this.flush();
    this.trim();
  }

  private trim(): void {
    while (this.tailBytes > this.options.maxTailBytes) {
      const oldest = this.tail.at(0);
      if (oldest === undefined) return;
      if (oldest.committed.some(({ partition, batches }) => !partition.hasFlushed(batches.length))) return;
      for (const { partition, batches } of oldest.committed) partition.dropFromTail(batches.length);
      // A buffer is one commit's, and all of its partitions'. One that is being deleted may still be at it.
      if (oldest.committed.every(({ partition }) => !partition.isGone)) {
        for (const { batches } of oldest.committed) for (const batch of batches) commitMemory.give(batch);
      }
      this.tailBytes -= oldest.bytes;
      this.tail.drop(1);
    }
  }

  private async flush(): Promise<void> {
    const partitions = [...this.unflushed];
    this.unflushed.clear();
    this.unflushedBytes = 0;
    try {
      await eachOf(partitions, CONCURRENCY, (partition) => partition.flush());
    } catch (error) {
      // Nothing is lost: the journal has it, and the next flush or checkpoint tries again.
      for (const partition of partitions) this.unflushed.add(partition);
      this.options.logger.error({ error: messageOf(error) }, "segments could not be written");
    } finally {
      this.flushing = undefined;
    }
    this.trim();
  }

  /**
   * Makes the segments hold everything that is committed, and sets the journal's older files free. Asked
   * while one is under way it gives that one.
   */
  checkpoint(journal: Journal, visibleSequence: number): Promise<void> {
    this.checkpointing ??= this.checkpointNow(journal, visibleSequence).finally(() => {
      this.checkpointing = undefined;
    });
    return this.checkpointing;
  }

  /** Resolves when nothing is being written, however it ended. */
  async settled(): Promise<void> {
    await this.flushing;
    await this.checkpointing?.catch(() => {});
  }

  /** `sequence`: the partitions have every journal entry up to it. */
  private async checkpointNow(journal: Journal, sequence: number): Promise<void> {
    const { dataDir, fileSystem, logger } = this.options;
    const generation = journal.lastGeneration;
    const dirty = [...this.options.partitions()].filter((partition) => partition.isDirty);
    const reached: { partition: PartitionLog; offset: number }[] = [];
    try {
      await eachOf(dirty, CONCURRENCY, async (partition) => {
        reached.push({ partition, offset: await partition.checkpoint() });
      });
      // The folder of one that no checkpoint has named was made since, by this one or by a flush before it.
      if (dirty.some(({ recoveryPoint }) => recoveryPoint === 0)) {
        await fileSystem.syncFolder(join(dataDir, "streams"));
      }
      for (const { partition, offset } of reached) {
        // One that is being deleted too: its stream is still there when the power goes before the tombstone.
        this.recoveryPoints.set(partitionKey(partition.stream.id, partition.index), offset);
      }
      const content = encodeCheckpoint({ sequence, generation, recoveryPoints: this.recoveryPoints });
      await replaceFile(fileSystem, dataDir, "checkpoint", content);
    } catch (error) {
      logger.error({ error: messageOf(error) }, "no checkpoint could be made; the journal keeps everything");
      throw error;
    }
    for (const { partition, offset } of reached) partition.recoveryPoint = offset;
    journal.release(sequence);
    this.trim();
  }
}
