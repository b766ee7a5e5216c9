/** The runway meter against simulated weeks: its forecast against what then happens. */
import { describe, expect, test } from "vitest";
import { RunwayMarks, RunwayMeter } from "../../src/uplink/runway.ts";

const HOUR = 3_600_000;
const RECORD_BYTES = 200;

describe("the runway meter", () => {
  test("a simulated week of outage, day and night: the disk's end is forecast within a tenth a day before", () => {
    const meter = new RunwayMeter();
    // Twice as much by day as by night; 33 records a second are 20 million in a week.
    const perSecond = (ms: number) => ((ms / HOUR) % 24 < 12 ? 44 : 22);
    const diskBytes = 20_000_000 * RECORD_BYTES;
    let records = 0;
    let forecastEnd: number | undefined;
    let end: number | undefined;
    for (let now = 0; end === undefined; now += 10_000) {
      meter.note(now, records, records * RECORD_BYTES);
      const { diskMs } = meter.forecast(now, diskBytes - records * RECORD_BYTES, records);
      if (forecastEnd === undefined && now >= 24 * HOUR && diskMs !== undefined) forecastEnd = now + diskMs;
      records += perSecond(now) * 10;
      if (records * RECORD_BYTES >= diskBytes) end = now;
    }
    expect(end / HOUR / 24).toBeGreaterThan(6);
    expect(Math.abs((forecastEnd as number) - end) / end).toBeLessThan(0.1);
  });

  test("the drain is what waits, at the link's rate less what comes in meanwhile", () => {
    const meter = new RunwayMeter();
    for (let now = 0; now <= 600_000; now += 10_000) meter.note(now, now / 10, 0);
    for (let round = 0; round < 50; round++) meter.noteDelivery(1_000, 200_000, 1_000, 1);
    const { in: rate, out, drainMs } = meter.forecast(600_000, undefined, 9_000);
    expect(rate?.records).toBeCloseTo(100);
    expect(out?.records).toBeCloseTo(1_000);
    expect(drainMs).toBeCloseTo(10_000);
  });

  test("what comes in during a drain is what came in within the last minute, not what the whole day brought", () => {
    const meter = new RunwayMeter();
    let records = 0;
    for (let now = 0; now <= 3_600_000; now += 10_000) {
      meter.note(now, records, 0);
      records += now < 3_500_000 ? 9_000 : 1_000;
    }
    for (let round = 0; round < 50; round++) meter.noteDelivery(1_000, 200_000, 1_000, 1);
    const { in: rate, drainMs } = meter.forecast(3_600_000, undefined, 9_000);
    expect(rate?.records).toBeGreaterThan(850);
    expect(drainMs).toBeCloseTo(10_000);
  });

  test("between two measurements the disk's end does not move away", () => {
    const meter = new RunwayMeter();
    for (let now = 0; now <= 60_000; now += 10_000) meter.note(now, now, now);
    expect(meter.forecast(60_000, 20_000, 0).diskMs).toBeCloseTo(20_000);
    expect(meter.forecast(69_000, 20_000, 0).diskMs).toBeCloseTo(11_000);
  });

  test("the link's rate is a mean over ten seconds, whatever single deliveries take", () => {
    const meter = new RunwayMeter();
    for (let round = 0; round < 400; round++) meter.noteDelivery(1_000, 1_000, round % 2 === 0 ? 10 : 90, 2);
    // 1,000 in 50 ms on the average, twice at a time.
    expect(Math.abs((meter.forecast(0, undefined, 1).out?.records ?? 0) / 40_000 - 1)).toBeLessThan(0.1);
  });

  test("more coming in than going out is said as never, and nothing known as nothing", () => {
    const meter = new RunwayMeter();
    expect(meter.forecast(60_000, 1_000, 5)).toEqual({
      in: undefined,
      out: undefined,
      diskMs: undefined,
      drainMs: undefined,
    });
    expect(meter.forecast(60_000, 1_000, 0).drainMs).toBe(0);
    for (let now = 0; now <= 60_000; now += 10_000) meter.note(now, now, now);
    meter.noteDelivery(10, 10, 1_000, 1);
    expect(meter.forecast(60_000, 1_000, 5).drainMs).toBe(Number.POSITIVE_INFINITY);
  });

  test("each mark is said once, until the cluster is back", () => {
    const marks = new RunwayMarks([24 * HOUR, 4 * HOUR]);
    expect([30, 20, 19, 3, 2].map((hours) => marks.pass(hours * HOUR))).toEqual([
      undefined,
      24 * HOUR,
      undefined,
      4 * HOUR,
      undefined,
    ]);
    marks.clear();
    expect(marks.pass(1 * HOUR)).toBe(4 * HOUR);
    expect(marks.pass(undefined)).toBeUndefined();
  });
});
