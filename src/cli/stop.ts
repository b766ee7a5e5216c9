/** How a verb that runs until Ctrl-C (or SIGTERM, as systemd and `docker stop` send it) ends. */

/** A person at a terminal waits no longer. */
const STOP_GRACE_MS = 5_000;
const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

/**
 * Aborted by the first signal, with its name as the reason: then the verb stops in order. A second signal ends the
 * process at once (128 + the signal's number, as shells say), and so does the end of the grace period, with 1.
 */
export function stopSignal(graceMs = STOP_GRACE_MS): AbortSignal {
  const controller = new AbortController();
  const late = (): void => {
    console.error(`not stopped within ${graceMs / 1_000} s; ending now (what was acknowledged is on disk)`);
    process.exit(1);
  };
  for (const [name, exitCode] of Object.entries(SIGNALS)) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(exitCode);
      controller.abort(name);
      // Alone it keeps nothing running.
      setTimeout(late, graceMs).unref();
    });
  }
  return controller.signal;
}

/** Resolves when the signal is aborted, or after `ms`. */
export function aborted(signal: AbortSignal, ms?: number): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = ms === undefined ? undefined : setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
