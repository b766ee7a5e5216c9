/**
 * Suites that need other people's software. On a developer's machine a suite whose tool is missing skips and
 * says how to get it; in CI it fails, for there nothing may go unjudged.
 */
import { describe, test } from "vitest";
import { has, TOOLS, type Tool } from "./tools.ts";

/** `describe`, for what needs outside tools. */
export function suite(title: string, needs: readonly Tool[], body: () => void): void {
  const missing = needs.filter((name) => !has(name));
  if (missing.length === 0) return void describe(title, body);
  const why = missing.map((name) => `${name} is missing (${TOOLS[name].get})`).join(", ");
  if (process.env.CI === undefined) return void describe.skip(`${title}: ${why}`, body);
  describe(title, () => {
    test("has its tools", () => {
      throw new Error(why);
    });
  });
}
