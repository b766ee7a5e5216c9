import { describe, expect, it } from "vitest";
import { withMutation } from "./mutations.ts";
import { Random, withRepeatableIds } from "./random.ts";
import { describeFailure, simulate } from "./simulate.ts";
import { runHistory } from "./workload.ts";

// Thousands more, and a whole list of mutations, are run by .ci/run; see ci/.
describe("the simulator of power cuts", () => {
  it("finds no broken promise in a few hundred cuts", async () => {
    const result = await simulate({ seed: 7, points: 400, share: 0.05 });
    if (result.failure !== undefined) expect.fail(describeFailure(result.failure));
    expect(result.points).toBeGreaterThanOrEqual(400);
  });

  it("makes the same history from the same seed", async () => {
    const make = () => withRepeatableIds(new Random(3), () => runHistory(3));
    const [one, other] = [await make(), await make()];
    expect(one.failure).toBeUndefined();
    expect(one.moments.map(({ step }) => step)).toEqual(other.moments.map(({ step }) => step));
    expect(one.moments.length).toBeGreaterThan(100);
  });

  it("catches an acknowledgement before the sync, and finds it again at the point that it names", async () => {
    const mutation = {
      name: "acknowledge before the journal is synced",
      edits: [{ file: "journal.ts", find: ".writeDurably(", replace: ".write(" }],
    };
    await withMutation(mutation, async (Log) => {
      const { failure } = await simulate({ seed: 1, points: 2000, Log });
      expect(failure?.point).toBeDefined();
      const { seed, point } = failure as { seed: number; point: number };
      const again = await simulate({ seed, points: 1, only: point, Log });
      expect(again.failure?.error.message).toBe(failure?.error.message);
    });
  });
});
