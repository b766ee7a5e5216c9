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
        now += pace.restMs({ bytes, records: 1 }, 0, now, NOON);
        expect(sent).toBeLessThanOrEqual(1_000 + (now / 1000) * 1_000 + 1e-6);
      }
    }),
  );
});

test("the cap that holds is that of the hour, and a window may go over midnight", () => {
  const window = { from: 22 * 60, to: 6 * 60, records: 5 };
  const pace = new Pace({ bytes: 1_000, share: 1, schedule: [window] });
  expect(pace.mostAt(NOON)).toEqual({ bytes: 1_000, records: Number.POSITIVE_INFINITY });
  expect(pace.mostAt(NIGHT)).toEqual({ bytes: Number.POSITIVE_INFINITY, records: 5 });
  expect(pace.mostAt(new Date(2026, 5, 1, 6, 0)).bytes).toBe(1_000);
});

test("with a share of a quarter the link rests three times as long as it was busy", () => {
  expect(new Pace({ share: 0.25, schedule: [] }).restMs({ bytes: 9, records: 1 }, 100, 0, NOON)).toBe(300);
});
