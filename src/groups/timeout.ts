/**
 * Deadlines of the coordinator, on monotonic time only: nobody loses a session to a wall clock that is set.
 */
import type { Clock } from "../clock.ts";

/** A timer that fires this late says that the whole process stood still. */
const STALLED_MS = 250;
/** What everybody gets after a stall, so that the heartbeats waiting in the sockets are read first. */
const AFTER_STALL_MS = 1_000;

/**
 * A deadline that is cheap to move: a heartbeat only writes a number, and the one timer, when it fires,
 * looks whether the deadline has meanwhile moved on.
 */
export class Timeout {
  private readonly clock: Clock;
  private readonly onDue: () => void;
  private deadline = Number.POSITIVE_INFINITY;
  private firesAt = Number.POSITIVE_INFINITY;
  private cancel: (() => void) | undefined;

  constructor(clock: Clock, onDue: () => void) {
    this.clock = clock;
    this.onDue = onDue;
  }

  /** Due `ms` from now, whatever was set before. */
  set(ms: number): void {
    this.deadline = this.clock.now() + ms;
    if (this.firesAt > this.deadline) this.arm(ms);
  }

  clear(): void {
    this.cancel?.();
    this.cancel = undefined;
    this.deadline = Number.POSITIVE_INFINITY;
    this.firesAt = Number.POSITIVE_INFINITY;
  }

  private arm(ms: number): void {
    this.cancel?.();
    this.firesAt = this.clock.now() + ms;
    this.cancel = this.clock.schedule(() => this.fire(), ms);
  }

  private fire(): void {
    const now = this.clock.now();
    const left = this.deadline - now;
    // Node's timers round to whole milliseconds, so a timer may fire a fraction early.
    if (left >= 1) this.arm(left);
    else if (now - this.firesAt > STALLED_MS) this.arm(AFTER_STALL_MS);
    else {
      this.clear();
      this.onDue();
    }
  }
}
