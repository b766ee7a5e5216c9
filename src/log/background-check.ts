/**
 * After a stop that was no clean one a start looks only at the ends of segments; the rest is read here, in the
 * background, so slowly that nobody notices: a MiB at a time, `bytesPerSecond` in all. Damage is said with file
 * and byte. Nothing is changed.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { LogError, messageOf } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { endOffsetOf } from "../wire/record-batch.ts";
import type { PartitionLog } from "./partition-log.ts";

const PIECE_BYTES = 1 << 20;

export interface BackgroundCheckOptions {
  readonly logger: Logger;
  readonly bytesPerSecond: number;
  /** Read between two pauses. */
  readonly pieceBytes?: number;
  readonly signal: AbortSignal;
}

/**
 * Reads what the partitions hold on disk now. Resolves to the number of places with damage, or undefined when it
 * was stopped.
 */
export async function checkInBackground(
  partitions: readonly PartitionLog[],
  { logger, bytesPerSecond, pieceBytes = PIECE_BYTES, signal }: BackgroundCheckOptions,
): Promise<number | undefined> {
  const startedAt = performance.now();
  const found = { bytes: 0, damaged: 0 };
  let unpaced = 0;
  const took = async (bytes: number): Promise<void> => {
    found.bytes += bytes;
    unpaced += bytes;
    if (unpaced < pieceBytes) return;
    unpaced = 0;
    const aheadMs = (found.bytes / bytesPerSecond) * 1_000 - (performance.now() - startedAt);
    await sleep(Math.max(1, aheadMs), undefined, { signal, ref: false });
  };
  const attempt = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      if (signal.aborted) throw error;
      // Removed or replaced meanwhile: what has its place was checked when it was written.
      if (error instanceof LogError && ["SEGMENT_GONE", "OFFSET_OUT_OF_RANGE"].includes(error.code)) return;
      found.damaged++;
      logger.error({ error: messageOf(error) }, "damage in what is stored");
    }
  };
  try {
    for (const partition of partitions) {
      const closed = partition.settledSegments;
      const end = partition.recoveryPoint;
      for (const segment of closed) {
        await attempt(async () => {
          for await (const batch of segment.batches()) await took(batch.length);
        });
      }
      await attempt(async () => {
        let offset = closed.at(-1)?.end ?? partition.logStartOffset;
        while (offset < end && !partition.isGone) {
          const read = await partition.read(offset, PIECE_BYTES);
          offset = endOffsetOf(read);
          for (const batches of read) await took(batches.length);
        }
      });
    }
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
  const ms = Math.round(performance.now() - startedAt);
  if (found.damaged > 0)
    logger.error({ ...found, ms }, "all that is stored has been read: some of it is damaged");
  else logger.info({ ...found, ms }, "all that is stored has been read and is sound");
  return found.damaged;
}
