import { describe, expect, it } from "vitest";
import { withMutation } from "./mutations.ts";
import { Random, withRepeatableIds } from "./random.ts";
import { describeFailure, type Failure, simulate } from "./simulate.ts";
import { LEVELS, runHistory } from "./workload.ts";

// Thousands more, and a whole list of mutations, are run by .ci/run; see ci/.
describe("the simulator of power cuts", () => {
  it.each([
    { level: "log", points: 150 },
    { level: "gateway", points: 50 },
  ] as const)("finds no broken promise in $points cuts of the $level", async ({ level, points }) => {
    const result = await simulate({ level, seed: 7, points, share: 0.05 });
    if (result.failure !== undefined) expect.fail(describeFailure(result.failure));
    expect(result.points).toBeGreaterThanOrEqual(points);
  });

  it.each(LEVELS)("makes the same history of the %s from the same seed", async (level) => {
    const make = () => withRepeatableIds(new Random(3), () => runHistory(3, level));
    const [one, other] = [await make(), await make()];
    expect(one.failure).toBeUndefined();
    expect(one.moments.map(({ step }) => step)).toEqual(other.moments.map(({ step }) => step));
    expect(one.moments.length).toBeGreaterThan(100);
  });

  it("catches an acknowledgement before the sync, and finds it again by what it names", async () => {
    const mutation = {
      name: "acknowledge before the journal is synced",
      edits: [{ file: "log/journal.ts", find: ".writeDurably(", replace: ".write(" }],
    };
    await withMutation(mutation, async (program) => {
      const { failure } = await simulate({ level: "log", seed: 1, points: 2000, program });
      const { seed, point } = failure as Failure;
      const again = await simulate({ level: "log", seed, points: 1, only: point, program });
      expect(again.failure?.error.message).toBe(failure?.error.message);
    });
  });
});
