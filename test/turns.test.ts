import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Turns } from "../src/turns.ts";

const flood = { name: "flood" };
const sensor = { name: "sensor" };

let turns: Turns;
/** Whether who ended its turn may go on. */
let goesOn: boolean;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "setImmediate", "performance"] });
  turns = new Turns();
  goesOn = false;
});
afterEach(() => {
  vi.useRealTimers();
});

const now = () => performance.now();

/** What it says of whether it goes on at once must be so. */
function end(client: object, tookMs: number, sinceMs: number): void {
  const goesOnAtOnce = turns.end(client, tookMs, sinceMs, () => {
    goesOn = true;
  });
  vi.advanceTimersByTime(0);
  expect(goesOn).toBe(goesOnAtOnce);
}

it("who is alone goes on in the next turn of the event loop, however much of the time it takes", () => {
  turns.present(flood, now());
  end(flood, 5, 5);
  vi.advanceTimersByTime(0);
  expect(goesOn).toBe(true);
});

it("so does who takes little of the time, however many others there are", () => {
  turns.present(sensor, now());
  turns.present(flood, now());
  end(flood, 1, 5);
  vi.advanceTimersByTime(0);
  expect(goesOn).toBe(true);
});

for (const [lastOne, first, second] of [
  ["it", sensor, flood],
  ["the other", flood, sensor],
] as const) {
  it(`who takes most of the time beside others pauses for twice as long, when ${lastOne} was read last`, () => {
    turns.present(first, now());
    turns.present(second, now());
    end(flood, 5, 6);
    vi.advanceTimersByTime(9);
    expect(goesOn).toBe(false);
    vi.advanceTimersByTime(1);
    expect(goesOn).toBe(true);
  });
}

it("a pause is a millisecond at least and twenty at most", () => {
  for (const [tookMs, pauseMs] of [
    [0.01, 1],
    [1_000, 20],
  ] as const) {
    goesOn = false;
    turns.present(sensor, now());
    end(flood, tookMs, tookMs);
    vi.advanceTimersByTime(pauseMs - 1);
    expect(goesOn).toBe(false);
    vi.advanceTimersByTime(1);
    expect(goesOn).toBe(true);
  }
});

it("others that have sent nothing for a while are not there", () => {
  turns.present(sensor, now());
  vi.advanceTimersByTime(100);
  turns.present(flood, now());
  end(flood, 5, 5);
  vi.advanceTimersByTime(0);
  expect(goesOn).toBe(true);
});

it("others are there for as long as they sent something of late, itself it is not", () => {
  expect(turns.hasOthers(flood)).toBe(false);
  turns.present(flood, now());
  expect(turns.hasOthers(flood)).toBe(false);
  turns.present(sensor, now());
  expect([turns.hasOthers(flood), turns.hasOthers(sensor), turns.hasOthers({})]).toEqual([true, true, true]);
  vi.advanceTimersByTime(101);
  expect([turns.hasOthers(flood), turns.hasOthers(sensor), turns.hasOthers({})]).toEqual([
    false,
    false,
    false,
  ]);
});
