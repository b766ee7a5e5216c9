/**
 * Errors that a person is meant to read. Each says what happened and what mends it; `exitCode` is what the
 * process ends with when the error reaches main.ts (sysexits.h: 64 usage, 69 unavailable, 73 cannot create,
 * 78 configuration).
 */
export class SluiceError extends Error {
  readonly code: string;
  /** One sentence that says what to do about it; printed on a line of its own. */
  readonly mend: string | undefined;
  readonly exitCode: number;

  constructor(
    code: string,
    message: string,
    options: { mend?: string | undefined; exitCode?: number; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.mend = options.mend;
    this.exitCode = options.exitCode ?? 1;
  }
}

/** The log cannot take or give data: the disk refused, or what lies there is damaged. */
export class LogError extends SluiceError {}

/** A frame or message that breaks the Kafka protocol. It costs its connection and nothing else. */
export class ProtocolError extends SluiceError {
  constructor(message: string) {
    super("PROTOCOL", message);
  }
}

/** The words of any thrown value, for a log line or a screen. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
