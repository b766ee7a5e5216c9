import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type From, parseFrom, startOffset } from "../../src/subscriber/from.ts";

const NOW = Date.UTC(2026, 5, 1, 12);

describe("--from", () => {
  it.each<[string, From]>([
    ["beginning", { kind: "beginning" }],
    ["earliest", { kind: "beginning" }],
    ["latest", { kind: "latest" }],
    ["0", { kind: "offset", offset: 0 }],
    ["1042", { kind: "offset", offset: 1042 }],
    ["15m", { kind: "time", timestampMs: NOW - 900_000 }],
    ["2h", { kind: "time", timestampMs: NOW - 7_200_000 }],
    ["2026-06-01T08:00:00Z", { kind: "time", timestampMs: Date.UTC(2026, 5, 1, 8) }],
    ["2026-06-01T08:00+02:00", { kind: "time", timestampMs: Date.UTC(2026, 5, 1, 6) }],
    ["2026-06-01 08:00", { kind: "time", timestampMs: new Date(2026, 5, 1, 8).getTime() }],
    ["2026-06-01", { kind: "time", timestampMs: new Date(2026, 5, 1).getTime() }],
  ])("%s", (text, from) => {
    expect(parseFrom(text, NOW)).toEqual(from);
  });

  it.each([
    "",
    "yesterday",
    "-5",
    "1.5",
    "5 parsecs",
    "2026-13-01",
    "2026-06-01T25:00",
    "99999999999999999999",
  ])("refuses %j with what may be said instead", (text) => {
    expect(() => parseFrom(text, NOW)).toThrow(
      expect.objectContaining({ exitCode: 64, mend: expect.stringContaining("beginning, latest") }),
    );
  });

  it("never comes to an offset outside of the partition", () => {
    const froms = fc.oneof(
      fc.constant<From>({ kind: "beginning" }),
      fc.constant<From>({ kind: "latest" }),
      fc.nat().map((offset): From => ({ kind: "offset", offset })),
      fc.nat().map((timestampMs): From => ({ kind: "time", timestampMs })),
    );
    fc.assert(
      fc.property(
        froms,
        fc.nat(),
        fc.nat(),
        fc.option(fc.nat(), { nil: undefined }),
        (from, low, size, atTime) => {
          const range = { low, high: low + size };
          const offset = startOffset(from, range, atTime);
          expect(offset).toBeGreaterThanOrEqual(range.low);
          expect(offset).toBeLessThanOrEqual(range.high);
        },
      ),
    );
  });

  it("starts where it says: at an offset that is there, at a time's offset, at the end if nothing is as new", () => {
    const range = { low: 10, high: 20 };
    expect(startOffset({ kind: "beginning" }, range, undefined)).toBe(10);
    expect(startOffset({ kind: "latest" }, range, undefined)).toBe(20);
    expect(startOffset({ kind: "offset", offset: 15 }, range, undefined)).toBe(15);
    expect(startOffset({ kind: "offset", offset: 3 }, range, undefined)).toBe(10);
    expect(startOffset({ kind: "time", timestampMs: 1 }, range, 12)).toBe(12);
    expect(startOffset({ kind: "time", timestampMs: 1 }, range, undefined)).toBe(20);
  });
});
