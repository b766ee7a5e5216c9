import { describe, expect, it } from "vitest";
import { describeFailure, simulate } from "../simulate.ts";
import type { Level } from "../workload.ts";

// Every step of some histories, a share of the steps of many, and many histories with their own cuts only: 7,200
// points of the log, half of them with compacted streams, and 3,000 of a whole gateway.
const PARTS: { level: Level; points: number; seeds: number[]; share: number }[] = [
  ...[1, 0.02, 0].map((share) => ({ level: "log" as const, points: 600, seeds: [1, 2], share })),
  ...[1, 0.02, 0].map((share) => ({ level: "compaction" as const, points: 600, seeds: [3, 4], share })),
  ...[0.3, 0.05, 0].map((share) => ({ level: "gateway" as const, points: 500, seeds: [5, 6], share })),
];

describe.each(PARTS)("a power cut of the $level, at $share of a history's steps,", (part) => {
  const { level, points, seeds, share } = part;
  it.each(seeds)(`breaks no promise (${points} points from seed %i000 on)`, async (thousand) => {
    const result = await simulate({ level, seed: thousand * 1000, points, share });
    if (result.failure !== undefined) expect.fail(describeFailure(result.failure));
    expect(result.points).toBeGreaterThanOrEqual(points);
  });
});
