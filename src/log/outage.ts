/**
 * A journal that cannot be written, from the first refusal to the first entry that is on disk again.
 *
 * A failed write is never tried again as if it were whole: what waited on it is told so, and the journal moves
 * on to another file. While it cannot, appends are refused and readers go on; that is said once, and tried
 * again and again, less and less often, until the disk takes writes.
 */
import type { Clock } from "../clock.ts";
import { type LogError, messageOf } from "../errors.ts";
import type { Logger } from "../logger.ts";

/** Times the first wait. */
const LONGEST_WAIT = 100;

export interface OutageOptions {
  readonly logger: Logger;
  readonly clock: Clock;
  readonly retryMs: number;
  /** Resolves when the journal has an entry on disk again. */
  readonly moveOn: () => Promise<void>;
  /** Appends are refused from here on… */
  readonly onBegin: (error: LogError) => void;
  /** … to here. */
  readonly onEnd: () => void;
}

export class Outage {
  private readonly options: OutageOptions;
  private running: Promise<void> | undefined;
  private isClosed = false;
  private wake: (() => void) | undefined;

  constructor(options: OutageOptions) {
    this.options = options;
  }

  /** The journal has refused a commit. */
  begin(error: LogError): void {
    this.options.onBegin(error);
    this.running ??= this.run(error).finally(() => {
      this.running = undefined;
    });
  }

  private async run(first: LogError): Promise<void> {
    const { logger, moveOn, onEnd, retryMs } = this.options;
    const longest = retryMs * LONGEST_WAIT;
    const beganAt = performance.now();
    let problem = "";
    for (let waitMs = retryMs; !this.isClosed; waitMs = Math.min(waitMs * 2, longest)) {
      try {
        await moveOn();
      } catch (error) {
        if (problem !== messageOf(error)) {
          problem = messageOf(error);
          logger.error(
            { error: first.message, now: problem },
            "the disk takes no commits: publishers are refused and will send again, subscribers go on reading; trying again until it does",
          );
        }
        await this.pause(waitMs);
        continue;
      }
      onEnd();
      const ms = Math.round(performance.now() - beganAt);
      if (problem !== "") logger.warn({ ms }, "the disk takes commits again");
      else
        logger.error(
          { error: first.message },
          "a commit failed and was not acknowledged; the journal went on in another file",
        );
      return;
    }
  }

  private pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.options.clock.schedule(resolve, ms);
      this.wake = () => {
        cancel();
        resolve();
      };
    });
  }

  /** Resolves when nothing is tried any more. Idempotent. */
  async close(): Promise<void> {
    this.isClosed = true;
    this.wake?.();
    await this.running;
  }
}
