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
  /** Of tables that need not be handed over: a large one takes 100 ms to get from thread to thread. */
  readonly tableVersions: LoadedConfig["tableVersions"];
}

export type LoadAnswer =
  /** Without the tables that are as they were. */
  | { readonly loaded: LoadedConfig }
  | { readonly problems: readonly Problem[] }
  | { readonly failure: Pick<SluiceError, "code" | "message" | "mend" | "exitCode"> };

/** Threads know no TypeScript: from the sources, the built one is used. */
const WORKER = new URL(
  import.meta.url.endsWith(".ts") ? "../../dist/config/load-worker.js" : "load-worker.js",
  import.meta.url,
);

/** As `loadTested`; tables that are as they were are taken from `current`. */
export async function loadConfigAside(
  file: string,
  inputs: ConfigInputs,
  current?: LoadedConfig,
): Promise<LoadedConfig> {
  const question: LoadQuestion = { file, inputs, tableVersions: current?.tableVersions ?? {} };
  const worker = new Worker(WORKER, { workerData: question, execArgv: [] });
  const answer = await new Promise<LoadAnswer>((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
    worker.once("exit", (code) => reject(new Error(`the thread that loads ended with ${code}`)));
  });
  if ("problems" in answer) throw new ConfigError(answer.problems);
  if (!("failure" in answer)) return withTables(answer.loaded, current);
  const { code, message, mend, exitCode } = answer.failure;
  throw new SluiceError(code, message, { exitCode, ...(mend === undefined ? {} : { mend }) });
}

function withTables(loaded: LoadedConfig, current: LoadedConfig | undefined): LoadedConfig {
  const { config, tableVersions } = loaded;
  const tables = Object.keys(tableVersions).map((name) => {
    const table = config.tables.get(name) ?? current?.config.tables.get(name);
    if (table === undefined) throw new Error(`the table ${name} is nowhere`);
    return [name, table] as const;
  });
  return { ...loaded, config: { ...config, tables: new Map(tables) } };
}
