/**
 * Standard output (or error) with a live region at its end, which is repainted on a terminal and left out
 * elsewhere. Invariant: whenever the process ends, the cursor is to be seen.
 */
const SHOW_CURSOR = "\x1b[?25h";
const HIDE_CURSOR = "\x1b[?25l";
const CLEAR_BELOW = "\x1b[0J";

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
    if (!this.hides) process.once("exit", () => this.stream?.write(SHOW_CURSOR));
    this.hides = true;
    const { rows = 24, columns = 80 } = this.stream;
    const shown = lines.slice(0, Math.max(1, rows - 1));
    const body = shown.map((line) => `\x1b[2K${cut(line, columns)}\n`).join("");
    this.stream.write(`${this.up()}${HIDE_CURSOR}${body}${CLEAR_BELOW}`);
    this.painted = shown.length;
  }

  /** Prints lines for good, in place of the live region; none just clears it. */
  print(lines: readonly string[]): void {
    const head = this.isLive ? `${this.up()}${CLEAR_BELOW}${SHOW_CURSOR}` : "";
    this.painted = 0;
    this.stream?.write(`${head}${lines.map((line) => `${line}\n`).join("")}`);
  }

  private up(): string {
    return this.painted === 0 ? "" : `\x1b[${this.painted}A\r`;
  }
}

/** A line's first `columns` characters, and all of its colours: one that wrapped would be two rows to move over. */
export function cut(line: string, columns: number): string {
  let left = columns;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: ESC is what a colour begins with.
  return line.replace(/(\x1b\[[\d;]*m)|./gu, (all, colour) =>
    colour !== undefined || left-- > 0 ? all : "",
  );
}
