/** A queue that is read from anywhere and dropped from the front, both in constant time. */
export class Deque<T> {
  private items: T[] = [];
  private head = 0;

  get length(): number {
    return this.items.length - this.head;
  }

  push(item: T): void {
    this.items.push(item);
  }

  /** The item at an index from the front. */
  at(index: number): T | undefined {
    return this.items[this.head + index];
  }

  drop(count: number): void {
    this.head += Math.min(count, this.length);
    // Copies at most once what was pushed once.
    if (this.head < 64 || this.head * 2 < this.items.length) return;
    this.items = this.items.slice(this.head);
    this.head = 0;
  }
}
