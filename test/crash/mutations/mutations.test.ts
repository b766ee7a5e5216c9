import { describe, expect, it } from "vitest";
import {
  MUTATIONS,
  MUTATIONS_ABOVE_THE_LOG,
  MUTATIONS_OF_COMPACTION,
  type Mutation,
  withMutation,
} from "../mutations.ts";
import { simulate } from "../simulate.ts";
import type { Level } from "../workload.ts";

/** Within these a bug must be found: many cuts in few histories, then few in many. */
const BUDGETS = [
  { seed: 1, points: 3000, share: 0.01 },
  { seed: 1, points: 6000, share: 0 },
];
const LISTS: [Level, readonly Mutation[]][] = [
  ["log", MUTATIONS],
  ["compaction", MUTATIONS_OF_COMPACTION],
  ["gateway", MUTATIONS_ABOVE_THE_LOG],
];

describe.each(LISTS)("at the level %s the simulator catches one that would", (level, mutations) => {
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
