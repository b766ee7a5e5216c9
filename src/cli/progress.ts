/** How far a verb is: a line on a terminal, below the output, that is written over and gone at the end. */
import { Screen } from "../demo/terminal.ts";

const EVERY_MS = 100;

export class Progress {
  private readonly screen = new Screen(process.stderr);
  private next: number;
  private isShown = false;

  /** Nothing is shown of what takes no longer than `afterMs`. */
  constructor(afterMs = 0) {
    this.next = performance.now() + afterMs;
  }

  show(text: string): void {
    const now = performance.now();
    if (now < this.next) return;
    this.next = now + EVERY_MS;
    this.isShown = true;
    this.screen.paint([text]);
  }

  /** Before anything else is printed. */
  end(): void {
    if (this.isShown) this.screen.print([]);
  }
}
