import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  formatAddress,
  formatDuration,
  formatSize,
  parseAddress,
  parseDuration,
  parseSize,
  roughSize,
} from "../../src/config/units.ts";

const whole = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });

describe("sizes and times", () => {
  test("parse what they format, for every whole number", () => {
    fc.assert(fc.property(whole, (n) => void expect(parseSize(formatSize(n))).toEqual({ value: n })));
    fc.assert(fc.property(whole, (n) => void expect(parseDuration(formatDuration(n))).toEqual({ value: n })));
  });

  test("round numbers of any unit come back in that unit", () => {
    const sizes = ["1B", "7KiB", "256MiB", "3GiB", "1023TiB"];
    const times = ["1ms", "500ms", "10s", "5m", "23h", "7d"];
    for (const text of sizes) expect(formatted(parseSize(text), formatSize)).toBe(text);
    for (const text of times) expect(formatted(parseDuration(text), formatDuration)).toBe(text);
  });

  test.each([
    ["256KiB", 262_144],
    ["1.5 GiB", 1_610_612_736],
    ["0", 0],
    [0, 0],
  ])("%s is a size", (text, value) => {
    expect(parseSize(text)).toEqual({ value });
  });

  test.each([
    ["7d", 604_800_000],
    ["1.1d", 95_040_000],
    ["0.5s", 500],
  ])("%s is a time", (text, value) => {
    expect(parseDuration(text)).toEqual({ value });
  });

  test("a bare number asks for a unit", () => {
    expect(parseSize(4096)).toEqual({ problem: "needs a unit", mend: "as bytes that is 4KiB" });
    expect(parseDuration("10")).toEqual({ problem: "needs a unit", mend: "for example 10s" });
  });

  test("a unit that is nearly one is mended, not guessed", () => {
    expect(parseSize("256kb")).toEqual({ problem: 'has an unknown unit "kb"', mend: "write 256KiB" });
    expect(parseSize("1G")).toEqual({ problem: 'has an unknown unit "G"', mend: "write 1GiB" });
    expect(parseDuration("10 min")).toEqual({ problem: 'has an unknown unit "min"', mend: "write 10m" });
    expect(parseDuration("3w")).toEqual({
      problem: 'has an unknown unit "w"',
      mend: "units are ms, s, m, h, d",
    });
  });

  test.each(["", "KiB", "-5s", "1e3s", "1,5s", "s10", "0x10B", "Infinityd", "99999999TiB", "0.3B"])(
    "%j is neither a size nor a time",
    (text) => {
      expect(parseSize(text)).toHaveProperty("problem");
      expect(parseDuration(text)).toHaveProperty("problem");
    },
  );

  test("a rough size has about three digits", () => {
    expect([0, 999, 1536, 5 * 2 ** 20, 1234 * 2 ** 20].map(roughSize)).toEqual([
      "0 B",
      "999 B",
      "1.5 KiB",
      "5.0 MiB",
      "1.2 GiB",
    ]);
  });
});

describe("addresses", () => {
  test("parse what they format", () => {
    const host = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain());
    const port = fc.integer({ min: 0, max: 65_535 });
    fc.assert(
      fc.property(host, port, (host, port) => {
        expect(parseAddress(formatAddress({ host, port }))).toEqual({ value: { host, port } });
      }),
    );
  });

  test("a port alone is asked for its host", () => {
    expect(parseAddress("1883")).toEqual({
      problem: "needs a host before the port",
      mend: '"127.0.0.1:1883" for this machine only, "0.0.0.0:1883" for the network',
    });
    expect(parseAddress(":1883")).toEqual(parseAddress("1883"));
  });

  test.each(["localhost", "localhost:", "a b:1", "::1:1883", "h:65536", "h:-1", "mqtt://h:1883"])(
    "%j is no address",
    (text) => {
      expect(parseAddress(text)).toHaveProperty("problem");
    },
  );
});

function formatted(parsed: { value: number } | { problem: string }, format: (n: number) => string): string {
  return "value" in parsed ? format(parsed.value) : parsed.problem;
}
