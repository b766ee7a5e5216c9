/** Ctrl-C (or SIGTERM) as an AbortSignal, for verbs that end in order. */
export interface Interrupt {
  readonly signal: AbortSignal;
  /** Gives the signals back. */
  dispose(): void;
}

/** Until disposed, the first signal aborts; a second one ends the process at once (130, as shells say). */
export function onInterrupt(): Interrupt {
  const controller = new AbortController();
  const handle = (): void => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort();
  };
  process.on("SIGINT", handle);
  process.on("SIGTERM", handle);
  return {
    signal: controller.signal,
    dispose() {
      process.off("SIGINT", handle);
      process.off("SIGTERM", handle);
    },
  };
}
