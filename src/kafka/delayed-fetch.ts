/**
 * The waiting of a Fetch: no polling, one timer and one callback per partition, woken by the commit itself.
 *
 * A commit calls every waiter of the partition once; the usual one (`min_bytes` 1) is done with that, and
 * one that wants more looks only at how much this partition has gained.
 */
import type { EndSignal } from "../end-signal.ts";
import type { Partition } from "../log/log.ts";

export interface Position {
  /** What could be answered with now; infinite where there is nothing to wait for. */
  readableBytes(): number;
  /** Undefined only where `readableBytes` is infinite. */
  readonly partition: Partition | undefined;
}

/**
 * Resolves as soon as `minBytes` can be read from the positions together, `maxWaitMs` have passed, or
 * `signal` has ended; undefined where that is so already.
 */
export function untilReadable(
  positions: readonly Position[],
  minBytes: number,
  maxWaitMs: number,
  signal: EndSignal,
): Promise<void> | undefined {
  if (maxWaitMs <= 0 || signal.hasEnded || positions.length === 0) return undefined;
  const readable = positions.map((position) => position.readableBytes());
  const total = readable.reduce((sum, bytes) => sum + bytes, 0);
  if (total >= minBytes) return undefined;
  // There may be ten thousand of those who are content with anything: they keep nothing but their place.
  const isEnough = minBytes === 1 ? undefined : counting(positions, readable, total, minBytes);
  return waiting(positions, isEnough, maxWaitMs, signal);
}

/** Whether there is enough, now that a partition has gained. */
function counting(positions: readonly Position[], readable: number[], before: number, minBytes: number) {
  let total = before;
  return (index: number): boolean => {
    const now = (positions[index] as Position).readableBytes();
    total += now - (readable[index] as number);
    readable[index] = now;
    return total >= minBytes;
  };
}

function waiting(
  positions: readonly Position[],
  isEnough: ((index: number) => boolean) | undefined,
  maxWaitMs: number,
  signal: EndSignal,
): Promise<void> {
  return new Promise<void>((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.remove(end);
      for (const stop of stops) stop?.();
      resolve();
    };
    const timer = setTimeout(end, maxWaitMs);
    signal.add(end);
    const stops = positions.map(({ partition }, index) =>
      partition?.onCommit(isEnough === undefined ? end : () => isEnough(index) && end()),
    );
  });
}
