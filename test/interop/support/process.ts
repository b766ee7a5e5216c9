/**
 * Child processes of the judges: started without a shell, watched by what they print, never outliving us.
 * Every wait has an end, and says what was printed when it fails.
 */
import { type ChildProcess, spawn } from "node:child_process";

const alive = new Set<ChildProcess>();

/** Ends what still runs; for the end of a test file, whose process is itself ended by a signal. */
export function killAll(): void {
  for (const child of alive) child.kill("SIGKILL");
}
process.on("exit", killAll);

export interface RunOptions {
  readonly input?: string | Buffer;
  /** For a process that is written to later on, by `child.stdin`. */
  readonly keepInput?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly timeoutMs?: number;
  /** Exit codes that are fine; any other rejects. */
  readonly expect?: readonly number[];
}

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly elapsedMs: number;
}

/** A process that runs beside the test. */
export class Running {
  stdout = "";
  stderr = "";
  /** Takes what is printed instead of keeping it. */
  onStdout: ((text: string) => void) | undefined;
  readonly exited: Promise<number | null>;
  readonly child: ChildProcess;
  private readonly name: string;
  private wake = new Set<() => void>();
  private ended = false;

  constructor(
    command: string,
    args: readonly string[],
    options: Omit<RunOptions, "expect" | "timeoutMs"> = {},
  ) {
    this.name = `${command.split("/").at(-1)} ${args.join(" ")}`.slice(0, 200);
    this.child = spawn(command, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    alive.add(this.child);
    // A child that ends before it has read its input is its own affair.
    this.child.stdin?.on("error", () => {});
    if (options.keepInput !== true) this.child.stdin?.end(options.input);
    this.child.stdout?.setEncoding("utf8").on("data", (text: string) => this.took("stdout", text));
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => this.took("stderr", text));
    this.exited = new Promise((resolve) => {
      this.child.once("error", (error) => this.took("stderr", `${error.message}\n`));
      this.child.once("close", (code) => {
        alive.delete(this.child);
        this.ended = true;
        this.awaken();
        resolve(code);
      });
    });
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error(`${this.name} did not start`);
    return this.child.pid;
  }

  /** All that was printed, for conditions that do not care where. */
  get output(): string {
    return this.stdout + this.stderr;
  }

  private took(stream: "stdout" | "stderr", text: string): void {
    if (stream === "stdout" && this.onStdout !== undefined) this.onStdout(text);
    else this[stream] += text;
    this.awaken();
  }

  private awaken(): void {
    for (const wake of this.wake) wake();
  }

  /** Resolves when `condition` holds; it is asked again after every output. */
  async until(condition: (running: this) => boolean, what: string, timeoutMs = 20_000): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (!condition(this)) {
      const leftMs = deadline - performance.now();
      if (this.ended || leftMs <= 0) {
        const how = this.ended ? "ended" : `took over ${timeoutMs} ms`;
        throw new Error(`${this.name} ${how} before ${what}; it printed:\n${this.output.slice(-4_000)}`);
      }
      await new Promise<void>((resolve) => {
        const done = () => {
          clearTimeout(timer);
          this.wake.delete(done);
          resolve();
        };
        const timer = setTimeout(done, leftMs);
        this.wake.add(done);
      });
    }
  }

  /** Sends a signal and waits for the end; SIGKILL after `timeoutMs`. Resolves with the exit code. */
  async end(signal: NodeJS.Signals = "SIGTERM", timeoutMs = 10_000): Promise<number | null> {
    if (!this.ended) this.child.kill(signal);
    const timer = setTimeout(() => this.child.kill("SIGKILL"), timeoutMs);
    const code = await this.exited;
    clearTimeout(timer);
    return code;
  }
}

/** Runs a command to its end; rejects with its output on an unexpected exit code or after `timeoutMs`. */
export async function run(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Finished> {
  const timeoutMs = options.timeoutMs ?? 60_000;
  const startedAt = performance.now();
  const running = new Running(command, args, options);
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    running.child.kill("SIGKILL");
  }, timeoutMs);
  const code = await running.exited;
  clearTimeout(timer);
  if (late || !(options.expect ?? [0]).includes(code ?? -1)) {
    const how = late ? `was stopped after ${timeoutMs} ms` : `ended with ${code}`;
    throw new Error(`${command} ${args.join(" ")} ${how}:\n${running.output.slice(-4_000)}`);
  }
  return { code, stdout: running.stdout, stderr: running.stderr, elapsedMs: performance.now() - startedAt };
}

/** Asks `condition` again every few milliseconds until it holds; for what cannot be listened to. */
export async function eventually(
  condition: () => boolean | Promise<boolean>,
  what: string,
  timeoutMs = 20_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
