/**
 * Processes that do one kind of work together: the sensors of a phase, its subscribers, its gateway.
 *
 * A worker is this program's own entry `worker.js`, forked; its methods are called over the IPC channel. It
 * stands in a process group of its own, so that a terminal's Ctrl-C reaches the parent alone, which ends
 * everything in order; and it ends by itself when the channel closes, even if the parent was killed.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { SluiceError } from "../errors.ts";

/** Always the built one: tests run from the sources beside it. */
const WORKER = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? "../../dist/demo/worker.js" : "worker.js", import.meta.url),
);

export interface Call {
  readonly id: number;
  readonly method: string;
  readonly args: readonly unknown[];
}
export interface Reply {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

/** Where a worker stands among its like: it takes every number that is `worker` modulo `workers`. */
export interface Share {
  readonly worker: number;
  readonly workers: number;
}

/** The numbers of a share below `count`. */
export function shareOf({ worker, workers }: Share, count: number): number[] {
  return Array.from({ length: count }, (_, number) => number).filter((number) => number % workers === worker);
}

/** Has every item handled, so many at a time; rejects with the first failure. */
export async function each<T>(
  items: readonly T[],
  atOnce: number,
  handle: (item: T) => Promise<void>,
): Promise<void> {
  const left = items.values();
  const run = async (): Promise<void> => {
    for (const item of left) await handle(item);
  };
  await Promise.all(Array.from({ length: atOnce }, run));
}

const KILL_AFTER_MS = 5_000;

type Method<R, K extends keyof R> = R[K] extends (...args: infer A) => infer T
  ? { args: A; result: Awaited<T> }
  : never;

export class Crew<R extends object> {
  private readonly children: ChildProcess[];
  private readonly pending = new Map<number, { child: ChildProcess; settle: (reply: Reply) => void }>();
  private nextId = 1;
  private closing: Promise<void> | undefined;

  /** Starts `workers` processes in `role`, each with `options` and its share. */
  constructor(role: string, workers: number, options: object) {
    this.children = Array.from({ length: workers }, (_, worker) => {
      const share: Share = { worker, workers };
      const child = fork(WORKER, [role, JSON.stringify({ ...options, ...share })], {
        detached: true,
        serialization: "advanced",
        stdio: ["ignore", "ignore", "inherit", "ipc"],
        execArgv: [],
      });
      child.on("message", (reply: Reply) => this.pending.get(reply.id)?.settle(reply));
      child.on("error", (error) => this.lost(child, error.message));
      child.on("exit", (code, signal) => this.lost(child, `a process of ${role} ended (${signal ?? code})`));
      return child;
    });
  }

  get size(): number {
    return this.children.length;
  }

  private lost(child: ChildProcess, error: string): void {
    for (const [id, call] of this.pending) if (call.child === child) call.settle({ id, error });
  }

  /** Calls a method in every worker; rejects with the first one's failure. */
  all<K extends keyof R & string>(
    method: K,
    ...args: Method<R, K>["args"]
  ): Promise<Method<R, K>["result"][]> {
    return Promise.all(this.children.map((child) => this.call(child, method, args)));
  }

  private call<T>(child: ChildProcess, method: string, args: readonly unknown[]): Promise<T> {
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      const settle = (reply: Reply): void => {
        this.pending.delete(id);
        if (reply.error === undefined) resolve(reply.result as T);
        else reject(new SluiceError("DEMO_WORKER", reply.error));
      };
      this.pending.set(id, { child, settle });
      // Fails through the callback also where the process is gone.
      child.send({ id, method, args } satisfies Call, (error) => {
        if (error !== null) settle({ id, error: `a worker process is gone: ${error.message}` });
      });
    });
  }

  /** Ends the processes; their connections are reset. */
  close(): Promise<void> {
    this.closing ??= Promise.all(this.children.map(endChild)).then(() => undefined);
    return this.closing;
  }
}

async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const exited = once(child, "exit");
  const timer = setTimeout(() => child.kill("SIGKILL"), KILL_AFTER_MS);
  if (child.connected) child.disconnect();
  await exited;
  clearTimeout(timer);
}
