import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Histogram } from "../src/histogram.ts";

const durations = fc.array(fc.double({ min: 0.002, max: 1_000_000, noNaN: true }), { minLength: 1 });

function histogramOf(values: readonly number[]): Histogram {
  const histogram = new Histogram();
  for (const value of values) histogram.record(value);
  return histogram;
}

describe("Histogram", () => {
  it("gives every percentile within 2.2% of the exact nearest rank", () => {
    fc.assert(
      fc.property(durations, fc.integer({ min: 0, max: 100 }), (values, p) => {
        const sorted = [...values].sort((a, b) => a - b);
        const rank = Math.max(1, Math.ceil((p / 100) * sorted.length));
        const exact = sorted[rank - 1] as number;
        const ratio = histogramOf(values).percentile(p) / exact;
        expect(ratio).toBeGreaterThan(1 / 1.0221);
        expect(ratio).toBeLessThan(1.0221);
      }),
    );
  });

  it("merges to what one histogram of everything would say", () => {
    fc.assert(
      fc.property(durations, durations, fc.integer({ min: 0, max: 100 }), (left, right, p) => {
        const merged = histogramOf(left);
        merged.merge(histogramOf(right));
        const whole = histogramOf([...left, ...right]);
        expect(merged.count).toBe(whole.count);
        expect(merged.minMs).toBe(whole.minMs);
        expect(merged.maxMs).toBe(whole.maxMs);
        expect(merged.percentile(p)).toBe(whole.percentile(p));
      }),
    );
  });

  it("says NaN of nothing, and counts what lies outside its range at the edge", () => {
    const histogram = new Histogram();
    expect(histogram.percentile(50)).toBeNaN();
    for (const extreme of [-5, 0, 1e12]) histogram.record(extreme);
    expect(histogram.count).toBe(3);
    expect(histogram.minMs).toBe(0);
    expect(histogram.percentile(100)).toBe(1e12);
    expect(histogram.percentile(1)).toBeLessThan(0.0011);
  });
});
