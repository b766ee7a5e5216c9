/**
 * What is due when, for a whole fleet. Node's own timers are a heap already; what is added here is a clock that
 * does not drift (times are due times, milliseconds of `performance.now()`) and an end.
 *
 * Invariants: what is due at the same time runs in the order it was added; nothing runs after `close()`.
 */
export class Schedule {
  private readonly timers = new Set<NodeJS.Timeout>();
  private closed = false;

  at(dueMs: number, run: () => void): void {
    if (this.closed) return;
    const delayMs = dueMs - performance.now();
    // setTimeout takes no more than 31 bits; whoever is due later still waits again.
    const timer = setTimeout(
      () => {
        this.timers.delete(timer);
        if (delayMs > MAX_DELAY_MS) this.at(dueMs, run);
        else run();
      },
      Math.min(Math.ceil(Math.max(delayMs, 0)), MAX_DELAY_MS),
    );
    this.timers.add(timer);
  }

  close(): void {
    this.closed = true;
    for (const timer of this.timers) clearTimeout(timer);
    this.timers.clear();
  }
}

const MAX_DELAY_MS = 0x7fff_ffff;
