import { describe, expect, it } from "vitest";
import { describeFailure, simulate } from "../simulate.ts";

const POINTS = 1000;

// Every step of some histories, a share of the steps of many, and many histories with their own cuts only.
describe.each([{ share: 1 }, { share: 0.02 }, { share: 0 }])(
  "a power cut, at $share of a history's steps,",
  ({ share }) => {
    it.each([1, 2, 3, 4])(`breaks no promise (${POINTS} points from seed %i000 on)`, async (thousand) => {
      const result = await simulate({ seed: thousand * 1000, points: POINTS, share });
      if (result.failure !== undefined) expect.fail(describeFailure(result.failure));
      expect(result.points).toBeGreaterThanOrEqual(POINTS);
    });
  },
);
