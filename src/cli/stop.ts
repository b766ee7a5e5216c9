/**
 * How a verb that runs until Ctrl-C ends: by SIGINT, by SIGTERM (systemd, `docker stop`), or because nobody reads
 * its output any more (`| head`).
 */
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

/** A person at a terminal waits no longer. */
const STOP_GRACE_MS = 5_000;
const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

/**
 * Aborted by the first of them, with the signal's name as the reason: then the verb stops in order. A second signal
 * ends the process at once (128 + the signal's number, as shells say), the end of the grace period with 1.
 */
export function stopSignal(graceMs = STOP_GRACE_MS): AbortSignal {
  const controller = new AbortController();
  const late = (): void => {
    console.error(`not stopped within ${graceMs / 1_000} s; ending now`);
    process.exit(1);
  };
  const stop = (reason: string): void => {
    controller.abort(reason);
    // Alone it keeps nothing running.
    setTimeout(late, graceMs).unref();
  };
  for (const [name, exitCode] of Object.entries(SIGNALS)) {
    process.on(name, () => (controller.signal.aborted ? process.exit(exitCode) : stop(name)));
  }
  // What is wrong with it is for main.ts to say.
  process.stdout.once("error", () => stop("the output was closed"));
  return controller.signal;
}

/** Resolves when the signal is aborted, or after `ms`. */
export async function aborted(signal: AbortSignal, ms?: number): Promise<void> {
  if (ms !== undefined) await sleep(ms, undefined, { signal }).catch(() => {});
  else if (!signal.aborted) await once(signal, "abort");
}
