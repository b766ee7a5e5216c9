/** Histories, and power cuts at every point of them. */
import { Cut } from "./cut.ts";
import { Oracle } from "./oracle.ts";
import { PROGRAM, type Program } from "./program.ts";
import { Random, withRepeatableIds } from "./random.ts";
import { Violation } from "./violation.ts";
import { LEVELS, type Level, type Moment, runHistory } from "./workload.ts";

export interface Failure {
  readonly level: Level;
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
  /** Of each history's points this share is checked, drawn by its seed; 0: only those that are in it anyway. */
  readonly share?: number;
  /** Looks at this point of the first history only. */
  readonly only?: number | undefined;
  /** Left out: by turns. */
  readonly level?: Level | undefined;
  readonly program?: Program;
  readonly onHistory?: (progress: { seed: number; points: number }) => void;
}

export interface SimulationResult {
  readonly points: number;
  readonly histories: number;
  readonly failure: Failure | undefined;
}

/** Cuts the power again and again, until a promise is broken or all points have been checked. */
export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const { program = PROGRAM, only, share = 1 } = options;
  let points = 0;
  for (let seed = options.seed; ; seed++) {
    const histories = seed - options.seed + 1;
    const level = options.level ?? (LEVELS[seed % LEVELS.length] as Level);
    const history = await withRepeatableIds(new Random(seed, 2), () => runHistory(seed, level, program));
    if (only === undefined) points += history.lives - 1;
    if (history.failure !== undefined && only === undefined) {
      const step = history.moments.at(-1)?.step ?? "at the start";
      const failure = { level, seed, point: undefined, step, error: history.failure as Error };
      return { points, histories, failure };
    }
    const oracle = new Oracle();
    const wanted =
      only === undefined ? drawPoints(history.moments, share, new Random(seed, 1)) : new Set([only]);
    let told = 0;
    for (const [index, moment] of history.moments.entries()) {
      for (; told < moment.events; told++) history.chronicle.events[told]?.(oracle);
      if (!wanted.has(index)) continue;
      points++;
      try {
        const cut = new Cut(history, index, oracle, seed, program);
        await withRepeatableIds(new Random(seed, index, 2), () => cut.check());
      } catch (error) {
        const failure = { level, seed, point: index, step: moment.step, error: error as Error };
        return { points, histories, failure };
      }
      if (points >= options.points) return { points, histories, failure: undefined };
    }
    options.onHistory?.({ seed, points });
    if (only !== undefined || points >= options.points) return { points, histories, failure: undefined };
  }
}

/** A share of all moments, and at least one of each kind: what happens seldom is looked at as well. */
function drawPoints(moments: readonly Moment[], share: number, random: Random): Set<number> {
  const kinds = new Map<string, number[]>();
  for (const [index, { step }] of moments.entries()) {
    const kind = step.replace(/streams\/[^_][^/]*/, "streams/s").replaceAll(/\d+/g, "");
    const known = kinds.get(kind);
    if (known === undefined) kinds.set(kind, [index]);
    else known.push(index);
  }
  const drawn = new Set<number>();
  if (share === 0) return drawn;
  for (const indexes of kinds.values()) {
    for (let left = Math.ceil(indexes.length * share); left > 0; left--) {
      const [index] = indexes.splice(random.int(indexes.length), 1);
      if (index !== undefined) drawn.add(index);
    }
  }
  return drawn;
}

export function describeFailure({ level, seed, point, step, error }: Failure): string {
  const place = point === undefined ? "" : ` --point ${point}`;
  const what = error instanceof Violation ? error.message : (error.stack ?? error.message);
  return (
    `${what}\n  the power went ${step}\n` +
    `  again: npm run test:crash -- --level ${level} --seed ${seed}${place}${point === undefined ? " --points 1" : ""}`
  );
}
