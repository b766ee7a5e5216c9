/**
 * Standard output (or error) with a live region at its end, which is repainted on a terminal and left out
 * elsewhere. Invariant: whenever the process ends, the cursor is to be seen.
 */
export class Screen {
  private readonly stream: NodeJS.WriteStream | undefined;
  readonly isLive: boolean;
  private painted = 0;
  private hides = false;

  /** Without a stream nothing is shown at all. */
  constructor(stream: NodeJS.WriteStream | undefined) {
    this.stream = stream;
    this.isLive = stream?.isTTY === true;
  }

  /** Replaces the live region; nothing where there is no terminal. */
  paint(lines: readonly string[]): void {
    if (!this.isLive || this.stream === undefined) return;
    if (!this.hides) process.once("exit", () => this.print([]));
    this.hides = true;
    const shown = lines.slice(0, Math.max(1, (this.stream.rows || 24) - 1));
    // Without wrapping (DECAWM off) a line is a row, whatever the terminal's width.
    const body = shown.map((line) => `\x1b[2K${line}\n`).join("");
    this.stream.write(`${this.up()}\x1b[?25l\x1b[?7l${body}\x1b[0J\x1b[?7h`);
    this.painted = shown.length;
  }

  /** Prints lines for good, in place of the live region. */
  print(lines: readonly string[]): void {
    const head = this.isLive ? `${this.up()}\x1b[0J\x1b[?25h` : "";
    this.painted = 0;
    this.stream?.write(`${head}${lines.map((line) => `${line}\n`).join("")}`);
  }

  private up(): string {
    return this.painted === 0 ? "" : `\x1b[${this.painted}A\r`;
  }
}
