/** Time that moves only when told to; timers fire in their order, at their exact time. */
import type { Clock } from "../../src/clock.ts";

export class FakeClock implements Clock {
  private monotonic: number;
  private wall: number;
  private readonly timers = new Set<{ at: number; callback: () => void }>();

  constructor(wallMs = 1_800_000_000_000, monotonicMs = 1_000) {
    this.wall = wallMs;
    this.monotonic = monotonicMs;
  }

  now(): number {
    return this.monotonic;
  }

  wallTime(): number {
    return this.wall;
  }

  schedule(callback: () => void, ms: number): () => void {
    const timer = { at: this.monotonic + ms, callback };
    this.timers.add(timer);
    return () => this.timers.delete(timer);
  }

  get timerCount(): number {
    return this.timers.size;
  }

  advance(ms: number): void {
    const end = this.monotonic + ms;
    for (;;) {
      const next = [...this.timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.timers.delete(next);
      this.wall += Math.max(0, next.at - this.monotonic);
      this.monotonic = Math.max(this.monotonic, next.at);
      next.callback();
    }
    this.wall += end - this.monotonic;
    this.monotonic = end;
  }

  /** The whole process stands still: time passes, and only then the timers that are due fire, late. */
  stall(ms: number): void {
    this.monotonic += ms;
    this.wall += ms;
    const due = [...this.timers].filter(({ at }) => at <= this.monotonic);
    for (const timer of due.sort((a, b) => a.at - b.at)) if (this.timers.delete(timer)) timer.callback();
  }

  /** Somebody sets the wall clock. */
  jump(ms: number): void {
    this.wall += ms;
  }
}
