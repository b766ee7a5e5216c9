/**
 * The two clocks of a machine, as everybody here sees them. Whatever may expire, wait or be counted goes by
 * the monotonic one: a machine without a battery-backed clock jumps years when it first hears of the network's
 * time. The wall clock only stamps records; log/timekeeper.ts says when it is to be believed.
 */
import { setTimeout as sleep } from "node:timers/promises";

export interface Clock {
  /** Monotonic milliseconds; on one boot of the machine they go on from process to process. */
  now(): number;
  /** Milliseconds since the epoch, as the machine has them. */
  wallTime(): number;
  /** Calls back after `ms` of monotonic time; returns what cancels it. */
  schedule(callback: () => void, ms: number): () => void;
}

/** What `process.hrtime` counts from is the machine's start; `performance.now` is cheaper to ask. */
const processStartMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();

export const systemClock: Clock = {
  now: () => processStartMs + performance.now(),
  wallTime: () => Date.now(),
  schedule: (callback, ms) => {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
};

/** Waits for the end of `work`, whatever it is, but no longer than `ms`. */
export async function within(work: Promise<unknown>, ms: number): Promise<void> {
  const timer = new AbortController();
  await Promise.race([work, sleep(Math.max(0, ms), undefined, timer)]).catch(() => undefined);
  timer.abort();
}
