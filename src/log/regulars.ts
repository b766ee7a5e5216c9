/**
 * Those who send again as soon as they are answered: Kafka's producer keeps five requests in flight, an MQTT client as
 * many messages as its window has. While some of them are in a commit the others queue for the next; one that begins
 * as soon as the last has ended finds about half of them, for good: twice the syncs, each for half.
 *
 * So a window waits until as many are in it as were under way when the last commit ended, for half the time that this
 * one took at most. Where that is in vain (they have gone, or the disk is faster than they are) it is tried again
 * more and more rarely.
 */

/** Timers are no finer; and on a disk that syncs within 2 ms, commits that overlap with what clients do take more. */
const MIN_WAIT_MS = 1;
/** In vain so often, a wait is tried with each 64th commit. */
const MAX_VAIN = 6;

export class Regulars {
  private readonly maxWaitMs: number;
  /** How many appends are enough. */
  expected = 0;
  /** Until when they are waited for, in the time of `answered`. */
  until = Number.NEGATIVE_INFINITY;
  /** Waits in vain, one after another. */
  private vain = 0;
  /** Commits to come without a wait. */
  private left = 0;

  /** With 0 nobody is ever waited for. */
  constructor(maxWaitMs: number) {
    this.maxWaitMs = maxWaitMs;
  }

  /** A commit that took so long has ended at `now`; `underWay`: the appends in it, and those that wait behind it. */
  answered(now: number, tookMs: number, underWay: number): void {
    this.expected = underWay;
    const waitMs = Math.min(tookMs / 2, this.maxWaitMs);
    this.until = this.left > 0 || waitMs < MIN_WAIT_MS ? Number.NEGATIVE_INFINITY : now + waitMs;
    if (this.left > 0) this.left--;
  }

  /** A wait has ended, with all that were expected or without. */
  waited(isWhole: boolean): void {
    this.vain = isWhole ? 0 : Math.min(this.vain + 1, MAX_VAIN);
    this.left = isWhole ? 0 : 2 ** this.vain - 1;
  }
}
