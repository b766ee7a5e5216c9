/**
 * The waiting of a Fetch: no polling, one timer and one callback per partition, woken by the commit itself.
 *
 * A commit calls every waiter of the partition once; the usual one (`min_bytes` 1) is done with that, and
 * one that wants more looks only at how much this partition has gained.
 */
import type { Partition } from "../log/log.ts";

export interface Position {
  /** What could be answered with now; infinite where there is nothing to wait for. */
  readableBytes(): number;
  /** Undefined only where `readableBytes` is infinite. */
  readonly partition: Partition | undefined;
}

/**
 * Resolves as soon as `minBytes` can be read from the positions together, `maxWaitMs` have passed, or
 * `signal` is aborted; at once where that is so already.
 */
export async function untilReadable(
  positions: readonly Position[],
  minBytes: number,
  maxWaitMs: number,
  signal: AbortSignal,
): Promise<void> {
  if (maxWaitMs <= 0 || signal.aborted || positions.length === 0) return;
  const readable = positions.map((position) => position.readableBytes());
  let total = readable.reduce((sum, bytes) => sum + bytes, 0);
  if (total >= minBytes) return;
  await new Promise<void>((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      for (const stop of stops) stop?.();
      resolve();
    };
    const gained = (index: number): void => {
      if (minBytes > 1) {
        const now = (positions[index] as Position).readableBytes();
        total += now - (readable[index] as number);
        readable[index] = now;
        if (total < minBytes) return;
      }
      end();
    };
    const timer = setTimeout(end, maxWaitMs);
    signal.addEventListener("abort", end);
    const stops = positions.map(({ partition }, index) => partition?.onCommit(() => gained(index)));
  });
}
