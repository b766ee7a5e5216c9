import { describe, expect, it } from "vitest";
import { MUTATIONS, MUTATIONS_ABOVE_THE_LOG, type Mutation, withMutation } from "../mutations.ts";
import { type Failure, type SimulationOptions, simulate } from "../simulate.ts";

/** Within these a bug must be found: many cuts in few histories, then few in many. */
const BUDGETS = [
  { level: "log", seed: 1, points: 1500, share: 0.01 },
  { level: "log", seed: 1, points: 6000, share: 0 },
] as const;
const BUDGETS_ABOVE_THE_LOG = [
  { seed: 1, points: 100, share: 0, level: "gateway" },
  { seed: 1, points: 2000, share: 0.1, level: "gateway" },
] as const;

async function failureOf(
  mutation: Mutation,
  budgets: readonly SimulationOptions[],
): Promise<Failure | undefined> {
  return withMutation(mutation, async (program) => {
    for (const budget of budgets) {
      const { failure } = await simulate({ ...budget, program });
      if (failure !== undefined) return failure;
    }
    return undefined;
  });
}

describe("the simulator catches a log that would", () => {
  it.each(MUTATIONS)("$name", async (mutation) => {
    expect(await failureOf(mutation, BUDGETS)).toBeDefined();
  });
});

describe("the simulator catches a gateway that would", () => {
  it.each(MUTATIONS_ABOVE_THE_LOG)("$name", async (mutation) => {
    expect(await failureOf(mutation, BUDGETS_ABOVE_THE_LOG)).toBeDefined();
  });
});
