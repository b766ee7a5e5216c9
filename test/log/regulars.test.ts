import { describe, expect, it } from "vitest";
import { Regulars } from "../../src/log/regulars.ts";

describe("those who send again as soon as they are answered", () => {
  it("are as many as were under way, and are waited for half as long as the commit took", () => {
    const regulars = new Regulars(10);
    regulars.answered(100, 8, 5);
    expect([regulars.expected, regulars.until]).toEqual([5, 104]);
    regulars.answered(200, 1_000, 7);
    expect([regulars.expected, regulars.until]).toEqual([7, 210]);
  });

  it("are waited for more and more rarely where it is in vain, and with each commit again when they come", () => {
    const regulars = new Regulars(10);
    const waits: number[] = [];
    const commits = (count: number, come: boolean) => {
      for (let at = 0; at < count; at++) {
        regulars.answered(0, 8, 5);
        if (regulars.until < 0) continue;
        waits.push(at);
        regulars.waited(come);
      }
    };
    commits(260, false);
    expect(waits).toEqual([0, 2, 6, 14, 30, 62, 126, 190, 254]);
    waits.length = 0;
    commits(64, true);
    expect(waits.length).toBeGreaterThan(5);
    commits(3, true);
    expect(waits.slice(-3)).toEqual([0, 1, 2]);
  });

  it.each([
    ["where nobody may be waited for", 0, 8],
    ["on a fast disk", 10, 1.9],
  ])("are not waited for %s", (_, maxWaitMs, tookMs) => {
    const regulars = new Regulars(maxWaitMs);
    regulars.answered(100, tookMs, 5);
    expect(regulars.until).toBeLessThan(100);
  });
});
