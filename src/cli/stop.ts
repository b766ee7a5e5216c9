/**
 * How a verb that runs until Ctrl-C ends: the first SIGINT or SIGTERM stops in order, a second one, or the
 * end of the grace period, ends at once.
 */
import { messageOf } from "../errors.ts";

/** systemd and `docker stop` allow ten seconds and more; a person at a terminal does not. */
const STOP_GRACE_MS = 5_000;

const SIGNALS = ["SIGINT", "SIGTERM"] as const;

export type StopSignal = (typeof SIGNALS)[number];

/**
 * Resolves when the first signal has come and `close` is through. After that the process ends on its own
 * once nothing is open; it is ended with 128 + the signal's number by a second signal, with 1 when `close`
 * takes longer than `graceMs`.
 */
export async function runUntilStopped(
  close: (signal: StopSignal) => Promise<void>,
  graceMs = STOP_GRACE_MS,
): Promise<void> {
  const signal = await new Promise<StopSignal>((resolve) => {
    for (const name of SIGNALS) process.once(name, () => resolve(name));
  });
  for (const name of SIGNALS) {
    process.removeAllListeners(name);
    process.once(name, () => process.exit(name === "SIGINT" ? 130 : 143));
  }
  const late = setTimeout(() => {
    console.error(`not stopped within ${graceMs / 1_000} s; ending now (what was acknowledged is on disk)`);
    process.exit(1);
  }, graceMs);
  try {
    await close(signal);
  } catch (error) {
    console.error(`stopping failed: ${messageOf(error)}`);
    process.exitCode = 1;
  }
  clearTimeout(late);
}
