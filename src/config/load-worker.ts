/** The thread that `load-aside.ts` starts: loads, runs the tests, answers once, ends. */
import { readlinkSync } from "node:fs";
import { constants, setPriority } from "node:os";
import { basename } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { SluiceError } from "../errors.ts";
import type { LoadAnswer, LoadQuestion } from "./load-aside.ts";
import { ConfigError } from "./problems.ts";

async function answer({ file, inputs, tableVersions }: LoadQuestion): Promise<LoadAnswer> {
  try {
    const { loadTested } = await import("./tests.ts");
    const loaded = await loadTested(file, inputs);
    const isNew = ([name]: readonly [string, unknown]) => loaded.tableVersions[name] !== tableVersions[name];
    const tables = new Map([...loaded.config.tables].filter(isNew));
    return { loaded: { ...loaded, config: { ...loaded.config, tables } } };
  } catch (error) {
    if (error instanceof ConfigError) return { problems: error.problems };
    if (!(error instanceof SluiceError)) throw error;
    const { code, message, mend, exitCode } = error;
    return { failure: { code, message, mend, exitCode } };
  }
}

/** The gateway's own thread comes first: on Linux each thread has its priority, elsewhere it stays as it is. */
function stepBack(): void {
  try {
    setPriority(Number(basename(readlinkSync("/proc/thread-self"))), constants.priority.PRIORITY_LOW);
  } catch {
    // Then it shares the processor as it comes.
  }
}

// Before anything else: what reads configurations takes a good tenth of a second to load.
stepBack();
parentPort?.postMessage(await answer(workerData as LoadQuestion));
