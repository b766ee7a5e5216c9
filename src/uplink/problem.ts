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
  private current: ProblemReport | undefined;
  private readonly say: (report: ProblemReport) => void;

  /** `say` is called when it begins, and whenever it becomes another one. */
  constructor(say: (report: ProblemReport) => void) {
    this.say = say;
  }

  get report(): ProblemReport | undefined {
    return this.current;
  }

  note(error: unknown): void {
    const message = messageOf(error);
    const { code, mend } = error instanceof SluiceError ? error : { code: "INTERNAL", mend: undefined };
    const before = this.current;
    if (before !== undefined && before.code === code && before.message === message) {
      this.current = { ...before, count: before.count + 1 };
      return;
    }
    this.current = { code, message, mend, since: Date.now(), count: 1 };
    this.say(this.current);
  }

  clear(): ProblemReport | undefined {
    const { current } = this;
    this.current = undefined;
    return current;
  }
}
