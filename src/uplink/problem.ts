/** What is wrong now, once, with a count: for the log and for the status. */
import { messageOf, SluiceError } from "../errors.ts";

export interface ProblemReport {
  readonly code: string;
  readonly message: string;
  readonly mend?: string | undefined;
  /** Milliseconds since the epoch. */
  readonly since: number;
  readonly count: number;
}

export class Problem {
  private current: Omit<ProblemReport, "since"> | undefined;
  /** Monotonic: the clock of a machine without a battery jumps when it first hears of the network's time. */
  private beganAt = 0;
  private readonly say: (problem: Pick<ProblemReport, "message" | "mend">) => void;

  /** `say` is called when it begins, and whenever it becomes another one. */
  constructor(say: (problem: Pick<ProblemReport, "message" | "mend">) => void) {
    this.say = say;
  }

  get report(): ProblemReport | undefined {
    return this.current && { ...this.current, since: Math.round(Date.now() - this.forMs) };
  }

  /** Since it began. */
  get forMs(): number {
    return performance.now() - this.beganAt;
  }

  note(error: unknown): void {
    const message = messageOf(error);
    const { code, mend } = error instanceof SluiceError ? error : { code: "INTERNAL", mend: undefined };
    const before = this.current;
    if (before !== undefined && before.code === code && before.message === message) {
      this.current = { ...before, count: before.count + 1 };
      return;
    }
    this.current = { code, message, mend, count: 1 };
    this.beganAt = performance.now();
    this.say(this.current);
  }

  /** The problem that there was. */
  clear(): ProblemReport | undefined {
    const { report } = this;
    this.current = undefined;
    return report;
  }
}
