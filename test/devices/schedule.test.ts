import { describe, expect, it } from "vitest";
import { Schedule } from "../../src/devices/schedule.ts";

describe("Schedule", () => {
  it("runs what is due in order of time, and of being added where the time is the same", async () => {
    const schedule = new Schedule();
    const ran: string[] = [];
    const now = performance.now();
    await new Promise<void>((resolve) => {
      schedule.at(now + 30, resolve);
      for (const [name, after] of [
        ["c", 20],
        ["a", 5],
        ["d", 20],
        ["b", 10],
        ["e", 20],
      ] as const) {
        schedule.at(now + after, () => ran.push(name));
      }
    });
    expect(ran).toEqual(["a", "b", "c", "d", "e"]);
    schedule.close();
  });

  it("runs hundreds that reschedule themselves, each as often as it asked", async () => {
    const schedule = new Schedule();
    const counts = new Array<number>(300).fill(0);
    await new Promise<void>((resolve) => {
      let done = 0;
      counts.forEach((_, index) => {
        let dueMs = performance.now();
        const run = (): void => {
          (counts[index] as number)++;
          dueMs += 1;
          if (counts[index] === 20) {
            if (++done === counts.length) resolve();
          } else schedule.at(dueMs, run);
        };
        schedule.at(dueMs, run);
      });
    });
    expect(counts.every((count) => count === 20)).toBe(true);
    schedule.close();
  });

  it("runs nothing after it was closed, not even from within", async () => {
    const schedule = new Schedule();
    const ran: string[] = [];
    const now = performance.now();
    schedule.at(now, () => {
      ran.push("first");
      schedule.close();
      schedule.at(now, () => ran.push("added after closing"));
    });
    schedule.at(now, () => ran.push("second"));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(ran).toEqual(["first"]);
  });
});
