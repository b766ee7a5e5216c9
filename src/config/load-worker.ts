/** The thread that `load-aside.ts` starts: loads, answers once, ends. */
import { parentPort, workerData } from "node:worker_threads";
import { loadConfig } from "./load.ts";
import type { LoadAnswer, LoadQuestion } from "./load-aside.ts";
import { ConfigError } from "./problems.ts";

async function answer({ file, inputs }: LoadQuestion): Promise<LoadAnswer> {
  try {
    return { loaded: await loadConfig(file, inputs) };
  } catch (error) {
    if (error instanceof ConfigError) return { problems: error.problems };
    throw error;
  }
}

parentPort?.postMessage(await answer(workerData as LoadQuestion));
