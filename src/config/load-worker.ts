/** The thread that `load-aside.ts` starts: loads, runs the tests, answers once, ends. */
import { parentPort, workerData } from "node:worker_threads";
import { SluiceError } from "../errors.ts";
import type { LoadAnswer, LoadQuestion } from "./load-aside.ts";
import { ConfigError } from "./problems.ts";
import { loadTested } from "./tests.ts";

async function answer({ file, inputs }: LoadQuestion): Promise<LoadAnswer> {
  try {
    return { loaded: await loadTested(file, inputs) };
  } catch (error) {
    if (error instanceof ConfigError) return { problems: error.problems };
    if (!(error instanceof SluiceError)) throw error;
    const { code, message, mend, exitCode } = error;
    return { failure: { code, message, mend, exitCode } };
  }
}

parentPort?.postMessage(await answer(workerData as LoadQuestion));
