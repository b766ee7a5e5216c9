import { describe, expect, it } from "vitest";
import { MUTATIONS, withMutation } from "../mutations.ts";
import { simulate } from "../simulate.ts";

/** Within these a bug must be found: many cuts in few histories, then few in many. */
const BUDGETS = [
  { seed: 1, points: 1500, share: 0.01 },
  { seed: 1, points: 6000, share: 0 },
];

describe("the simulator catches a log that would", () => {
  it.each(MUTATIONS)("$name", async (mutation) => {
    const failure = await withMutation(mutation, async (Log) => {
      for (const budget of BUDGETS) {
        const result = await simulate({ ...budget, Log });
        if (result.failure !== undefined) return result.failure;
      }
      return undefined;
    });
    expect(failure).toBeDefined();
  });
});
