/**
 * Loads and tests a configuration in a thread of its own: reading a thousand rules takes a good part of a second, in
 * which a gateway that runs has acknowledgements to send.
 */
import { Worker } from "node:worker_threads";
import { SluiceError } from "../errors.ts";
import type { ConfigInputs, LoadedConfig } from "./load.ts";
import { ConfigError, type Problem } from "./problems.ts";

export interface LoadQuestion {
  readonly file: string;
  readonly inputs: ConfigInputs;
}

export type LoadAnswer =
  | { readonly loaded: LoadedConfig }
  | { readonly problems: readonly Problem[] }
  | { readonly failure: Pick<SluiceError, "code" | "message" | "mend" | "exitCode"> };

/** Threads know no TypeScript: from the sources, the built one is used. */
const WORKER = new URL(
  import.meta.url.endsWith(".ts") ? "../../dist/config/load-worker.js" : "load-worker.js",
  import.meta.url,
);

/** As `loadTested`. */
export async function loadConfigAside(file: string, inputs: ConfigInputs): Promise<LoadedConfig> {
  const question: LoadQuestion = { file, inputs };
  const worker = new Worker(WORKER, { workerData: question, execArgv: [] });
  const answer = await new Promise<LoadAnswer>((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
    worker.once("exit", (code) => reject(new Error(`the thread that loads ended with ${code}`)));
  });
  if ("problems" in answer) throw new ConfigError(answer.problems);
  if (!("failure" in answer)) return answer.loaded;
  const { code, message, mend, exitCode } = answer.failure;
  throw new SluiceError(code, message, { exitCode, ...(mend === undefined ? {} : { mend }) });
}
