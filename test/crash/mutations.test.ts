import { describe, expect, it } from "vitest";
import { MUTATIONS_OF_COMPACTION } from "./mutations/compaction.ts";
import { MUTATIONS_ABOVE_THE_LOG } from "./mutations/gateway.ts";
import { MUTATIONS } from "./mutations/log.ts";
import { mutated } from "./mutations.ts";

const ALL = [...MUTATIONS, ...MUTATIONS_OF_COMPACTION, ...MUTATIONS_ABOVE_THE_LOG];

describe("a bug put in on purpose", () => {
  it.each(ALL)("has its place in the sources: $name", async (mutation) => {
    const files = await mutated(mutation);
    expect(files.size).toBeGreaterThan(0);
  });

  it("has a name of its own", () => {
    expect(new Set(ALL.map(({ name }) => name)).size).toBe(ALL.length);
  });
});
