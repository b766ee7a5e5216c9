/** Puts one bug after the other into the program; the simulator must find each. */
import { beforeAll, describe, expect, it } from "vitest";
import { type Mutation, withMutation } from "../mutations.ts";
import { simulate } from "../simulate.ts";
import type { Level } from "../workload.ts";

/**
 * Within these a bug must be found: some histories with the cuts that are in them anyway, then many cuts in few, few in
 * many, and twice more in others.
 */
const BUDGETS = [
  { seed: 1, points: 150, share: 0 },
  { seed: 1, points: 3000, share: 0.01 },
  { seed: 1, points: 6000, share: 0 },
  { seed: 700, points: 9000, share: 0.001 },
  { seed: 2000, points: 18000, share: 0.001 },
];

export function catchesEachOf(level: Level, mutations: readonly Mutation[]): void {
  describe(`at the level ${level} the simulator catches one that would`, () => {
    // A bug that does not wait for the disk does not hear what that refuses, either. Without bugs it counts: elsewhere.
    beforeAll(() => {
      process.removeAllListeners("unhandledRejection");
      process.on("unhandledRejection", () => {});
    });

    it.each(mutations)("$name", async (mutation) => {
      const failure = await withMutation(mutation, async (program) => {
        for (const budget of BUDGETS) {
          const result = await simulate({ ...budget, level, program });
          if (result.failure !== undefined) return result.failure;
        }
        return undefined;
      });
      expect(failure).toBeDefined();
    });
  });
}
