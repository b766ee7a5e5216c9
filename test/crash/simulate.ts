/** Histories, and power cuts at every point of them. */
import { StreamStore } from "../../src/log/stream-store.ts";
import { Cut } from "./cut.ts";
import { Oracle, Violation } from "./oracle.ts";
import { runHistory, type Store } from "./workload.ts";

export interface Failure {
  readonly seed: number;
  /** Undefined: it went wrong while the history was made. */
  readonly point: number | undefined;
  readonly step: string;
  readonly error: Error;
}

export interface SimulationOptions {
  /** The first history's; the next ones follow. */
  readonly seed: number;
  /** Ends after so many power cuts. */
  readonly points: number;
  /** Looks at this point of the first history only. */
  readonly only?: number | undefined;
  readonly Log?: Store;
  readonly onHistory?: (progress: { seed: number; points: number }) => void;
}

export interface SimulationResult {
  readonly points: number;
  readonly histories: number;
  readonly failure: Failure | undefined;
}

/** Cuts the power again and again, until a promise is broken or all points have been checked. */
export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const { Log = StreamStore, only } = options;
  let points = 0;
  for (let seed = options.seed; ; seed++) {
    const histories = seed - options.seed + 1;
    const history = await runHistory(seed, Log);
    const oracle = new Oracle();
    let told = 0;
    for (const [index, moment] of history.moments.entries()) {
      for (; told < moment.events; told++) history.chronicle.events[told]?.(oracle);
      if (only !== undefined && index !== only) continue;
      points++;
      try {
        await new Cut(history, index, oracle, seed, Log).check();
      } catch (error) {
        const failure = { seed, point: index, step: moment.step, error: error as Error };
        return { points, histories, failure };
      }
      if (points >= options.points) return { points, histories, failure: undefined };
    }
    if (history.failure !== undefined && only === undefined) {
      const step = history.moments.at(-1)?.step ?? "at the start";
      const failure = { seed, point: undefined, step, error: history.failure as Error };
      return { points, histories, failure };
    }
    options.onHistory?.({ seed, points });
    if (only !== undefined) return { points, histories, failure: undefined };
  }
}

export function describeFailure({ seed, point, step, error }: Failure): string {
  const place = point === undefined ? "" : ` --point ${point}`;
  const what = error instanceof Violation ? error.message : (error.stack ?? error.message);
  return (
    `${what}\n  the power went ${step}\n` +
    `  again: npm run test:crash -- --seed ${seed}${place}${point === undefined ? " --points 1" : ""}`
  );
}
