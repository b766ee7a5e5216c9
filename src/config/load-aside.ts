/**
 * Loads a configuration in a thread of its own: reading a thousand rules takes a good part of a second, in which a
 * gateway that runs has acknowledgements to send; and what reads them goes with the thread, some 4 of 90 MB.
 */
import { Worker } from "node:worker_threads";
import { SluiceError } from "../errors.ts";
import { keepHeapSmall } from "../heap.ts";
import type { ConfigInputs, LoadedConfig } from "./loaded.ts";
import { ConfigError, type Problem } from "./problems.ts";

export interface LoadQuestion {
  readonly file: string;
  readonly inputs: ConfigInputs;
  /** Undefined at the start; else its tests are run, and tables of these versions need not be handed over. */
  readonly tableVersions: LoadedConfig["tableVersions"] | undefined;
}

/** Some rows of a table that is new. The next ones come when these have been taken in, so that messages pass between. */
export interface TablePiece {
  readonly table: string;
  readonly rows: readonly (readonly [key: string, value: unknown])[];
}

export type LoadAnswer =
  /** Without its tables: those that are new came before it, in pieces. */
  | { readonly loaded: LoadedConfig }
  | { readonly problems: readonly Problem[] }
  | { readonly failure: Pick<SluiceError, "code" | "message" | "mend" | "exitCode"> };

/** Threads know no TypeScript: from the sources, the built one is used. */
const WORKER = new URL(
  import.meta.url.endsWith(".ts") ? "../../dist/config/load-worker.js" : "load-worker.js",
  import.meta.url,
);

/** As `loadConfig`; in the place of `current` as `loadTested`, with those of its tables that are as they were. */
export async function loadConfigAside(
  file: string,
  inputs: ConfigInputs,
  current?: LoadedConfig,
): Promise<LoadedConfig> {
  const question: LoadQuestion = { file, inputs, tableVersions: current?.tableVersions };
  const worker = new Worker(WORKER, { workerData: question, execArgv: [] });
  worker.once("online", keepHeapSmall);
  const tables = new Map<string, Map<string, unknown>>();
  const answer = await new Promise<LoadAnswer>((resolve, reject) => {
    worker.on("message", (message: LoadAnswer | TablePiece) => {
      if (!("rows" in message)) {
        resolve(message);
        return;
      }
      const table = tables.get(message.table) ?? new Map<string, unknown>();
      tables.set(message.table, table);
      for (const [key, value] of message.rows) table.set(key, value);
      worker.postMessage("taken in");
    });
    worker.once("error", reject);
    worker.once("exit", (code) => reject(new Error(`the thread that loads ended with ${code}`)));
  });
  if ("problems" in answer) throw new ConfigError(answer.problems);
  if (!("failure" in answer)) return withTables(answer.loaded, tables, current);
  const { code, message, mend, exitCode } = answer.failure;
  throw new SluiceError(code, message, { exitCode, mend });
}

function withTables(
  loaded: LoadedConfig,
  fresh: ReadonlyMap<string, ReadonlyMap<string, unknown>>,
  current: LoadedConfig | undefined,
): LoadedConfig {
  const { config, tableVersions } = loaded;
  const tables = Object.keys(tableVersions).map((name) => {
    const table = fresh.get(name) ?? current?.config.tables.get(name);
    if (table === undefined) throw new Error(`the table ${name} is nowhere`);
    return [name, table] as const;
  });
  return { ...loaded, config: { ...config, tables: new Map(tables) } };
}
