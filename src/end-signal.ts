/**
 * Tells those who wait on somebody's behalf that he is gone. What an AbortSignal is for, at a tenth of its size: there
 * is one for each connection, and they may be ten thousand.
 */
export class EndSignal {
  private isOver = false;
  /** Few: what one connection waits for at a time. */
  private listeners: (() => void)[] = [];

  get hasEnded(): boolean {
    return this.isOver;
  }

  /** Calls every listener once; idempotent. */
  end(): void {
    this.isOver = true;
    const { listeners } = this;
    this.listeners = [];
    for (const listener of listeners) listener();
  }

  /** `listener` is called when it ends; never if it has ended. */
  add(listener: () => void): void {
    if (this.isOver) return;
    // A list that grows reserves room for sixteen more.
    if (this.listeners.length === 0) this.listeners = [listener];
    else this.listeners.push(listener);
  }

  remove(listener: () => void): void {
    const at = this.listeners.indexOf(listener);
    if (at >= 0) this.listeners.splice(at, 1);
  }
}
