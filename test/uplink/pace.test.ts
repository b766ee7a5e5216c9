/** A cap holds over any stretch of time, and at its hour. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Pace } from "../../src/uplink/pace.ts";

const NOON = new Date(2026, 5, 1, 12, 0);
const NIGHT = new Date(2026, 5, 1, 23, 30);

test("what is sent never exceeds the cap by more than a second's worth", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 5_000 }), { minLength: 1, maxLength: 50 }), (sizes) => {
      const pace = new Pace({ bytes: 1_000, share: 1, schedule: [] });
      let now = 0;
      let sent = 0;
      for (const bytes of sizes) {
        sent += bytes;
        now += pace.restMs({ bytes, records: 1 }, { gatherMs: 0, tookMs: 0 }, now, NOON, false);
        expect(sent).toBeLessThanOrEqual(1_000 + (now / 1000) * 1_000 + 1e-6);
      }
    }),
  );
});

test("the cap that holds is that of the hour, and a window may go over midnight", () => {
  const window = { from: 22 * 60, to: 6 * 60, records: 5 };
  const pace = new Pace({ bytes: 1_000, share: 1, schedule: [window] });
  expect(pace.mostAt(NOON, false)).toEqual({ bytes: 1_000, records: Number.POSITIVE_INFINITY });
  expect(pace.mostAt(NIGHT, false)).toEqual({ bytes: Number.POSITIVE_INFINITY, records: 5 });
  expect(pace.mostAt(new Date(2026, 5, 1, 6, 0), false).bytes).toBe(1_000);
});

test("with a share of a quarter the link rests three times as long as it was busy", () => {
  const pace = new Pace({ share: 0.25, schedule: [] });
  expect(pace.restMs({ bytes: 9, records: 1 }, { gatherMs: 1, tookMs: 100 }, 0, NOON, false)).toBe(300);
});

test("beside sensors a drain rests by what it cost here, not by what the link takes, and carries less at a time", () => {
  const pace = new Pace({ share: 1, schedule: [] });
  const sent = { bytes: 9, records: 1 };
  expect(pace.restMs(sent, { gatherMs: 5, tookMs: 2_000 }, 0, NOON, true)).toBe(10);
  expect(pace.restMs(sent, { gatherMs: 5, tookMs: 2_000 }, 0, NOON, false)).toBe(0);
  expect(pace.mostAt(NOON, true).bytes).toBe(1 << 20);
  expect(new Pace({ share: 1, bytes: 1_000, schedule: [] }).mostAt(NOON, true).bytes).toBe(1_000);
});
