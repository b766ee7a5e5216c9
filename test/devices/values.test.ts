import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { exponential, noise, randomOf } from "../../src/devices/random.ts";
import type { ValueSpec } from "../../src/devices/schema.ts";
import { modelOf, type Position, type Value } from "../../src/devices/values.ts";

const DAY_MS = 86_400_000;

/** `readings` values, one every `everyMs` from `clockMs` on. */
function run(spec: ValueSpec, seed: number, readings: number, everyMs = 60_000, clockMs = 0): Value[] {
  const model = modelOf(spec, randomOf(seed, "device", "value"));
  return Array.from({ length: readings }, (_, index) =>
    model({
      clockMs: clockMs + index * everyMs,
      elapsedMs: index === 0 ? 0 : everyMs,
      values: { power: 500 },
    }),
  );
}

const seeds = fc.integer({ min: 0, max: 2 ** 31 });
const WAYPOINTS: [number, number][] = [
  [52.51, 13.37],
  [52.5, 13.39],
  [52.49, 13.36],
];
const daily: ValueSpec = { model: "daily", mean: 20, swing: 5, peakAt: 54_000_000, noise: 0.5, decimals: 2 };
const walk: ValueSpec = { model: "walk", start: 5, step: 3, drift: 0.1, min: 0, max: 10, decimals: 2 };
const steps: ValueSpec = { model: "steps", levels: [4, 60, 900], hold: 300_000, noise: 2, decimals: 1 };
const bursts: ValueSpec = {
  model: "bursts",
  base: 10,
  height: 100,
  every: 600_000,
  lasts: 120_000,
  noise: 3,
  decimals: 1,
};
const events: ValueSpec = { model: "events", every: 120_000 };
const track: ValueSpec = { model: "track", waypoints: WAYPOINTS, speed: 40, noise: 5 };
const total: ValueSpec = { model: "total", of: "power", per: 3_600_000, start: 7, decimals: 3 };
const constant: ValueSpec = { model: "constant", value: "C" };

describe("chance", () => {
  it("is the same for the same labels, and another for any other label", () => {
    fc.assert(
      fc.property(seeds, fc.string(), fc.string(), (seed, left, right) => {
        const draw = (label: string): number[] => Array.from({ length: 4 }, randomOf(seed, label));
        expect(draw(left)).toEqual(draw(left));
        if (left !== right) expect(draw(left)).not.toEqual(draw(right));
      }),
    );
  });

  it("is uniform, keeps noise within ±1 and gives exponential gaps of the mean asked for", () => {
    const random = randomOf(42, "check");
    const draws = Array.from({ length: 20_000 }, random);
    const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(mean(draws)).toBeCloseTo(0.5, 1);
    for (let tenth = 0; tenth < 10; tenth++) {
      const share = draws.filter((draw) => Math.floor(draw * 10) === tenth).length / draws.length;
      expect(Math.abs(share - 0.1)).toBeLessThan(0.01);
    }
    const noises = Array.from({ length: 20_000 }, () => noise(random));
    expect(Math.max(...noises.map(Math.abs))).toBeLessThan(1);
    expect(Math.abs(mean(noises))).toBeLessThan(0.02);
    const gaps = Array.from({ length: 20_000 }, () => exponential(random, 250));
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(0);
    expect(Math.abs(mean(gaps) - 250)).toBeLessThan(10);
  });
});

describe("value models", () => {
  it.each([daily, walk, steps, bursts, events, track, total, constant])(
    "$model gives the same values for the same seed",
    (spec) => {
      fc.assert(
        fc.property(seeds, (seed) => {
          expect(run(spec, seed, 50)).toEqual(run(spec, seed, 50));
        }),
        { numRuns: 20 },
      );
    },
  );

  it("daily stays within mean ± swing ± noise, highest at peakAt", () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 0, max: DAY_MS }), (seed, clockMs) => {
        for (const value of run(daily, seed, 20, 600_000, clockMs) as number[]) {
          expect(Math.abs(value - 20)).toBeLessThanOrEqual(5.51);
        }
      }),
    );
    expect((run(daily, 1, 1, 0, 54_000_000) as [number])[0]).toBeGreaterThanOrEqual(24.5);
    expect((run(daily, 1, 1, 0, 54_000_000 - DAY_MS / 2) as [number])[0]).toBeLessThanOrEqual(15.5);
  });

  it("walk stays between min and max, however long its steps, and moves by no more than one step", () => {
    const specs = fc.record({
      step: fc.double({ min: 0, max: 50, noNaN: true }),
      drift: fc.double({ min: -5, max: 5, noNaN: true }),
      min: fc.integer({ min: -20, max: 0 }),
      max: fc.integer({ min: 1, max: 20 }),
    });
    fc.assert(
      fc.property(seeds, specs, (seed, bounds) => {
        const spec: ValueSpec = { model: "walk", start: 0.5, decimals: 6, ...bounds };
        let before = 0.5;
        for (const value of run(spec, seed, 100) as number[]) {
          expect(value).toBeGreaterThanOrEqual(bounds.min);
          expect(value).toBeLessThanOrEqual(bounds.max);
          expect(Math.abs(value - before)).toBeLessThanOrEqual(bounds.step + Math.abs(bounds.drift) + 1e-5);
          before = value;
        }
      }),
    );
  });

  it("steps stays within noise of its levels, and visits each of them", () => {
    const values = run(steps, 3, 2_000) as number[];
    const near = (level: number): number => values.filter((value) => Math.abs(value - level) <= 2.05).length;
    expect(near(4) + near(60) + near(900)).toBe(values.length);
    for (const level of [4, 60, 900]) expect(near(level)).toBeGreaterThan(200);
  });

  it("bursts is at its base or its height, about as long as stated", () => {
    const values = run(bursts, 5, 5_000) as number[];
    const high = values.filter((value) => Math.abs(value - 100) <= 3.05).length;
    expect(high + values.filter((value) => Math.abs(value - 10) <= 3.05).length).toBe(values.length);
    // 2 minutes of every 12.
    expect(Math.abs(high / values.length - 1 / 6)).toBeLessThan(0.05);
  });

  it("events counts a Poisson process: its rate is as stated, and it never goes back", () => {
    const values = run(events, 9, 5_000) as number[];
    values.slice(1).forEach((value, index) => {
      expect(value).toBeGreaterThanOrEqual(values[index] as number);
    });
    // One every two minutes, over 5,000 minutes.
    expect(Math.abs((values.at(-1) as number) / 2_500 - 1)).toBeLessThan(0.1);
  });

  it("events without a rate takes the next of its states at every reading", () => {
    expect(run({ model: "events", between: ["closed", "open"] }, 1, 4)).toEqual([
      "open",
      "closed",
      "open",
      "closed",
    ]);
  });

  it("total integrates what it is of: 500 W for an hour are 500 Wh more", () => {
    const values = run(total, 1, 61) as number[];
    expect(values[0]).toBe(7);
    expect(values.at(-1)).toBeCloseTo(507, 3);
  });

  it("track stays on its tour, at its speed", () => {
    const positions = run(track, 11, 500, 10_000) as Position[];
    for (const { lat, lon, speed, heading } of positions) {
      expect(lat).toBeGreaterThan(52.4899);
      expect(lat).toBeLessThan(52.5101);
      expect(lon).toBeGreaterThan(13.3599);
      expect(lon).toBeLessThan(13.3901);
      expect(Math.abs(speed - 40)).toBeLessThanOrEqual(4.05);
      expect(heading).toBeGreaterThanOrEqual(0);
      expect(heading).toBeLessThan(360);
    }
    const metres = positions.slice(1).map(({ lat, lon }, index) => {
      const from = positions[index] as Position;
      return Math.hypot(
        (lat - from.lat) * 111_320,
        (lon - from.lon) * 111_320 * Math.cos(52.5 * (Math.PI / 180)),
      );
    });
    // 40 km/h for ten seconds, less around a corner, and the noise of both ends.
    for (const distance of metres) expect(distance).toBeLessThan(111.2 + 30);
    expect(metres.filter((distance) => distance > 80).length).toBeGreaterThan(450);
  });
});
