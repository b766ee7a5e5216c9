/**
 * What is due when, for a whole fleet: a binary heap and one timer, whatever the number of devices.
 *
 * Invariants: entries run in the order of their due time, equal ones in the order they were added; nothing
 * runs after `close()`. Times are milliseconds of `performance.now()`.
 */
interface Entry {
  readonly dueMs: number;
  readonly order: number;
  readonly run: () => void;
}

function before(a: Entry, b: Entry): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
}

/** Longest stretch of due entries in one go, so that sockets are read and written in between. */
const SLICE_MS = 10;

export class Schedule {
  private readonly heap: Entry[] = [];
  private order = 0;
  private timer: NodeJS.Timeout | undefined;
  private timerDueMs = Number.POSITIVE_INFINITY;
  private closed = false;

  at(dueMs: number, run: () => void): void {
    if (this.closed) return;
    this.push({ dueMs, order: this.order++, run });
    if (dueMs < this.timerDueMs) this.arm();
  }

  close(): void {
    this.closed = true;
    this.heap.length = 0;
    clearTimeout(this.timer);
  }

  private arm(): void {
    clearTimeout(this.timer);
    const first = this.heap[0];
    this.timerDueMs = first === undefined ? Number.POSITIVE_INFINITY : first.dueMs;
    if (first === undefined) return;
    // setTimeout takes no more than 31 bits of delay; waking up early only means arming again.
    const delayMs = Math.min(Math.max(first.dueMs - performance.now(), 0), 0x7fff_ffff);
    this.timer = setTimeout(() => this.runDue(), delayMs);
  }

  private runDue(): void {
    const startedMs = performance.now();
    let nowMs = startedMs;
    // Held down until the end, so that entries added on the way do not arm a timer each.
    this.timerDueMs = Number.NEGATIVE_INFINITY;
    try {
      while (this.heap.length > 0 && (this.heap[0] as Entry).dueMs <= nowMs && nowMs - startedMs < SLICE_MS) {
        this.pop().run();
        nowMs = performance.now();
      }
    } finally {
      if (!this.closed) this.arm();
    }
  }

  private push(entry: Entry): void {
    const { heap } = this;
    let at = heap.length;
    heap.push(entry);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(entry, heap[parent] as Entry)) break;
      heap[at] = heap[parent] as Entry;
      at = parent;
    }
    heap[at] = entry;
  }

  private pop(): Entry {
    const { heap } = this;
    const top = heap[0] as Entry;
    const last = heap.pop() as Entry;
    if (heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Entry, heap[child] as Entry)) child++;
      if (!before(heap[child] as Entry, last)) break;
      heap[at] = heap[child] as Entry;
      at = child;
    }
    heap[at] = last;
    return top;
  }
}
