/**
 * How many bytes of requests and replies the whole server may hold.
 *
 * Not a hard wall but a gate: nothing new is begun while the budget is spent, and what was begun goes on, so
 * it can be overdrawn by what was under way but never blocks itself.
 */
export class ByteBudget {
  maxBytes: number;
  private held = 0;
  private readonly waiting = new Set<() => void>();

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  get heldBytes(): number {
    return this.held;
  }

  get isSpent(): boolean {
    return this.held >= this.maxBytes;
  }

  /**
   * Bytes left for what may as well be small. The last quarter is not among them: whoever freezes with large
   * answers unread shall not close the gate for everybody.
   */
  get roomBytes(): number {
    return Math.max(0, this.maxBytes * 0.75 - this.held);
  }

  /** Twice spent: nothing is begun for anybody. */
  get isOverdrawn(): boolean {
    return this.held >= 2 * this.maxBytes;
  }

  hold(bytes: number): void {
    this.held += bytes;
  }

  release(bytes: number): void {
    this.held -= bytes;
    if (this.waiting.size === 0) return;
    // In the order in which they came; one that finds the gate closed again queues itself anew.
    for (const go of this.waiting) {
      if (this.isSpent) return;
      this.waiting.delete(go);
      go();
    }
  }

  /** Calls `go` once when there is room again. */
  whenRoom(go: () => void): void {
    this.waiting.add(go);
  }

  forget(go: () => void): void {
    this.waiting.delete(go);
  }
}
