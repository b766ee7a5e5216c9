/**
 * One pino logger for the process: pretty on a terminal, JSON elsewhere. Lifecycle is info, what was
 * recovered is warn, what needs a person is error; nothing per record, never a payload or a secret.
 */
import { type Logger, pino } from "pino";
import { PinoPretty } from "pino-pretty";

export type { Logger } from "pino";

export type LogLevel = "trace" | "debug" | "info" | "warn" | "error" | "silent";

/** Writes to standard error, so that a verb's standard output stays its own. */
export function createLogger(level: LogLevel): Logger {
  const options = { level, base: null };
  if (!process.stderr.isTTY) return pino(options, pino.destination(2));
  // In this thread, not as a pino transport: a worker would cost an idle gateway more memory than the rest
  // of its logging together.
  return pino(
    options,
    PinoPretty({
      destination: 2,
      sync: true,
      singleLine: true,
      translateTime: "SYS:HH:MM:ss.l",
      ignore: "pid,hostname",
      colorize: process.env.NO_COLOR === undefined,
    }),
  );
}

/** Says a repeated thing once per interval, with how often it was held back since. */
export class RateLimitedLog {
  private readonly intervalMs: number;
  private readonly last = new Map<string, { at: number; held: number }>();
  private readonly maxKeys = 256;

  constructor(intervalMs = 10_000) {
    this.intervalMs = intervalMs;
  }

  /** Calls `say` with the count of messages under this key that were held back since the last one. */
  say(key: string, say: (heldBack: number) => void): void {
    const now = performance.now();
    const entry = this.last.get(key);
    if (entry !== undefined && now - entry.at < this.intervalMs) {
      entry.held++;
      return;
    }
    if (entry === undefined && this.last.size >= this.maxKeys) {
      const oldest = this.last.keys().next().value;
      if (oldest !== undefined) this.last.delete(oldest);
    }
    this.last.delete(key);
    this.last.set(key, { at: now, held: 0 });
    say(entry?.held ?? 0);
  }
}
