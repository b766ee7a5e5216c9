/** Where an uplink goes on: settled where everybody agrees, asked where not. */
import { describe, expect, test } from "vitest";
import { decide, type Known, markOf } from "../../src/uplink/places.ts";

const known = (change: Partial<Known> = {}): Known => ({
  remote: { offset: 50, metadata: markOf({ log: "L", run: "R", offset: 50 }) },
  local: { offset: 48, clusterId: "C" },
  logStart: 0,
  logEnd: 100,
  logId: "L",
  clusterId: "C",
  from: "beginning",
  onPlaceLost: "ask",
  ...change,
});
const at = (offset: number, log = "L") => ({ offset, metadata: markOf({ log, run: "R", offset }) });

describe("the place", () => {
  test("is the cluster's, which may be ahead of what is remembered here", () => {
    expect(decide(known())).toEqual({ next: 50, writePlace: false });
  });

  test("of what was never forwarded is the beginning, or the end if that was asked for", () => {
    const fresh = { remote: undefined, local: undefined, logStart: 7 };
    expect(decide(known(fresh))).toEqual({ next: 7, writePlace: false });
    expect(decide(known({ ...fresh, from: "latest" }))).toEqual({ next: 100, writePlace: true });
  });

  test.each<[string, Partial<Known>, string, RegExp, number]>([
    ["the cluster has forgotten it", { remote: undefined }, "PLACE_GONE", /forgotten.* it was 48/, 48],
    ["it is beyond our log", { remote: at(101) }, "PLACE_BEYOND", /up to 101.* ends at 100/, 48],
    ["it is behind what was acknowledged", { remote: at(40) }, "PLACE_BEHIND", /up to 40 only.* 48/, 40],
    ["another gateway wrote it", { remote: at(50, "X") }, "PLACE_FOREIGN", /another gateway.* X/, 48],
    [
      "the log has other records there",
      { isOtherLog: true },
      "PLACE_DIVERGED",
      /up to 50.* restored from a backup/,
      48,
    ],
    ["it is damaged", { remote: { ...at(50), offset: 51 } }, "PLACE_DAMAGED", /51 and 50/, 48],
    ["the cluster is another one", { clusterId: "D" }, "CLUSTER_CHANGED", /another one \(D, it was C\)/, 48],
    [
      "it is gone with its cluster",
      { remote: undefined, clusterId: "D" },
      "PLACE_GONE",
      /\(D, it was C\): .*forgotten/,
      48,
    ],
  ])("is asked for when %s", (_what, change, code, words, resume) => {
    const decision = decide(known(change));
    expect(decision).toMatchObject({ ask: { code }, resume });
    expect("ask" in decision && decision.ask.message).toMatch(words);
    expect("ask" in decision && decision.ask.mend).toMatch(/sluice uplink reset --to/);
  });

  test("is decided by the rule that a person wrote, but another gateway's never is", () => {
    expect(decide(known({ remote: undefined, onPlaceLost: "resume" }))).toEqual({
      next: 48,
      writePlace: true,
    });
    expect(decide(known({ remote: undefined, onPlaceLost: "restart" }))).toEqual({
      next: 0,
      writePlace: true,
    });
    expect(decide(known({ remote: at(50, "X"), onPlaceLost: "resume" }))).toHaveProperty("ask");
  });

  test("without a mark of ours, as a person may have set it, is taken", () => {
    expect(decide(known({ remote: { offset: 60, metadata: "" } }))).toEqual({ next: 60, writePlace: false });
  });
});
