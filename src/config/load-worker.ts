/** The thread that `load-aside.ts` starts: loads, runs the tests of a reload, answers once, ends. */
import { once } from "node:events";
import { readlinkSync } from "node:fs";
import { constants, setPriority } from "node:os";
import { basename } from "node:path";
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { SluiceError } from "../errors.ts";
import type { LoadAnswer, LoadQuestion, TablePiece } from "./load-aside.ts";
import { ConfigError } from "./problems.ts";

/** Some of a millisecond's work for the gateway's own thread. */
const PIECE_ROWS = 500;

const port = parentPort as MessagePort;

async function answer({ file, inputs, tableVersions }: LoadQuestion): Promise<LoadAnswer> {
  try {
    const isReload = tableVersions !== undefined;
    const load = isReload ? (await import("./tests.ts")).loadTested : (await import("./load.ts")).loadConfig;
    const loaded = await load(file, inputs);
    for (const [name, rows] of loaded.config.tables) {
      if (loaded.tableVersions[name] !== tableVersions?.[name]) await handOver(name, rows);
    }
    return { loaded: { ...loaded, config: { ...loaded.config, tables: new Map() } } };
  } catch (error) {
    if (error instanceof ConfigError) return { problems: error.problems };
    if (!(error instanceof SluiceError)) throw error;
    const { code, message, mend, exitCode } = error;
    return { failure: { code, message, mend, exitCode } };
  }
}

async function handOver(table: string, rows: ReadonlyMap<string, unknown>): Promise<void> {
  const all = [...rows];
  // Also of a table without rows there is a piece.
  for (let from = 0; from === 0 || from < all.length; from += PIECE_ROWS) {
    const takenIn = once(port, "message");
    port.postMessage({ table, rows: all.slice(from, from + PIECE_ROWS) } satisfies TablePiece);
    await takenIn;
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

const question = workerData as LoadQuestion;
// Before anything else: what reads configurations takes a good tenth of a second to load.
if (question.tableVersions !== undefined) stepBack();
port.postMessage(await answer(question));
