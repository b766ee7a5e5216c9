/** An uplink in the words that a person is told. */
import { describe, expect, test } from "vitest";
import { resetTo } from "../../src/cli/uplink.ts";
import { lastsText, runwayText } from "../../src/cli/uplink-text.ts";
import type { UplinkReport } from "../../src/uplink/report.ts";

const HOUR = 3_600_000;

test.each([
  [41 * HOUR, "41 h"],
  [18 * 60_000, "18 min"],
  [72 * HOUR, "3 d"],
  [1.5 * HOUR, "90 min"],
  [5_500, "5.5 s"],
])("%d ms are told as %s", (ms, text) => {
  expect(lastsText(ms)).toBe(text);
});

describe("the runway", () => {
  const told = (runway: object, waitingRecords = 1_234) =>
    runwayText({ waitingRecords, waitingBytes: 4_096, runway } as unknown as UplinkReport);

  test("says what waits, how long the disk lasts, how long the drain takes", () => {
    expect(told({ diskMs: 41 * HOUR, drainMs: 18 * 60_000 })).toBe(
      "1,234 records wait, 4.0 KiB; at today's rate the disk lasts 41 h; the drain takes 18 min",
    );
  });

  test("says nothing of what is not known, and that a drain never ends", () => {
    expect(told({})).toBe("1,234 records wait, 4.0 KiB");
    expect(told({ drainMs: null })).toBe("1,234 records wait, 4.0 KiB; more comes in than goes out");
    expect(told({ drainMs: 0 }, 0)).toBe("nothing waits");
  });
});

test("--to takes places, offsets and times, and says what it takes", () => {
  expect(resetTo("remote", 0)).toEqual({ kind: "remote" });
  expect(resetTo("end", 0)).toEqual({ kind: "end" });
  expect(resetTo("42", 0)).toEqual({ kind: "offset", offset: 42 });
  expect(resetTo("2h", 3 * HOUR)).toEqual({ kind: "time", timestampMs: HOUR });
  expect(() => resetTo("somewhere", 0)).toThrow(/--to cannot be "somewhere"/);
});
