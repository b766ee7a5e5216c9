/**
 * The waiting of a Fetch: no polling, one timer and one callback per partition, woken by the commit itself.
 *
 * A commit calls every waiter of the partition once; the usual one (`min_bytes` 1) is done with that, and
 * one that wants more looks only at how much this partition has gained.
 */
import type { Partition } from "../log/log.ts";

export interface Position {
  readonly partition: Partition;
  readonly offset: number;
}

/**
 * Resolves as soon as `minBytes` can be read from the positions together, `maxWaitMs` have passed, or
 * `signal` is aborted; at once where that is so already.
 */
export function untilReadable(
  positions: readonly Position[],
  minBytes: number,
  maxWaitMs: number,
  signal: AbortSignal,
): Promise<void> {
  const readable = positions.map(({ partition, offset }) => partition.bytesFrom(offset));
  let total = readable.reduce((sum, bytes) => sum + bytes, 0);
  if (total >= minBytes || signal.aborted || positions.length === 0) return Promise.resolve();
  return new Promise((resolve) => {
    const stops: (() => void)[] = [];
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      for (const stop of stops) stop();
      resolve();
    };
    const timer = setTimeout(end, maxWaitMs);
    signal.addEventListener("abort", end);
    positions.forEach(({ partition, offset }, index) => {
      stops.push(
        partition.onCommit(() => {
          if (minBytes > 1) {
            const now = partition.bytesFrom(offset);
            total += now - (readable[index] as number);
            readable[index] = now;
            if (total < minBytes) return;
          }
          end();
        }),
      );
    });
  });
}
