import { describe, expect, it } from "vitest";
import { MUTATIONS, withMutation } from "../mutations.ts";
import { simulate } from "../simulate.ts";

/** Within these a bug must be found. */
const BUDGET = { seed: 1, points: 10_000, share: 0.01 };

describe("the simulator catches a log that would", () => {
  it.each(MUTATIONS)("$name", async (mutation) => {
    const { failure } = await withMutation(mutation, (Log) => simulate({ ...BUDGET, Log }));
    expect(failure).toBeDefined();
  });
});
