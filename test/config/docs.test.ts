/**
 * docs/mapping.md says what is so: its configurations run their tests, its functions give what it says. What other pages
 * show of a configuration is taken.
 */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parseConfig } from "../../src/config/load.ts";
import type { ConfigError } from "../../src/config/problems.ts";
import { resultText, runTests } from "../../src/config/tests.ts";
import { Expression } from "../../src/mapping/expression.ts";
import { functionNames } from "../../src/mapping/functions.ts";
import { Budget, writeJson } from "../../src/mapping/values.ts";

const text = readFileSync("docs/mapping.md", "utf8");
const snippets = [...text.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, yaml = ""], index) => {
  const line = text.slice(0, text.indexOf(yaml)).split("\n").length;
  return { index, line, yaml };
});
const rows = [...text.matchAll(/^\| `(.+?)`\s*\| `(.+?)`\s*\|$/gm)].map(([, expression, value]) => ({
  expression: expression as string,
  value: value as string,
}));

describe("docs/mapping.md", () => {
  test.each(snippets)("the configuration in line $line passes its tests", ({ yaml }) => {
    // Beside the files that it names.
    const loaded = parseConfig(`version: 1\n${yaml}`, "config/examples/snippet.yaml");
    const results = runTests(loaded);
    expect(results.length).toBeGreaterThan(0);
    expect(results.filter(({ differences }) => differences.length > 0).map(resultText)).toEqual([]);
  });

  test.each(rows)("$expression is $value", ({ expression, value }) => {
    const scope = { get: () => undefined, budget: new Budget() };
    expect(writeJson(Expression.parse(expression, { names: [] }).evaluate(scope))).toBe(value);
  });

  test("has them all", () => {
    expect(snippets.length).toBeGreaterThan(10);
    expect(rows.length).toBeGreaterThan(40);
    for (const name of functionNames()) {
      if (/Ascii$|^(double|timestamp|bytes)$/.test(name)) continue;
      expect(text, name).toMatch(new RegExp(`\\b${name}\\b`));
    }
  });
});

describe.each(["README.md", "docs/downlink.md", "docs/trying.md", "docs/uplink.md"])("%s", (page) => {
  const snippets = [...readFileSync(page, "utf8").matchAll(/^```yaml\n(.*?)^```$/gms)].map(
    ([, yaml = ""]) => yaml,
  );

  test("has nothing in its configurations but streams that stand elsewhere", () => {
    for (const yaml of snippets) {
      const complaints: string[] = [];
      try {
        parseConfig(yaml.startsWith("version:") ? yaml : `version: 1\n${yaml}`, page);
      } catch (error) {
        complaints.push(...(error as ConfigError).problems.map(({ message }) => message));
      }
      expect(
        complaints.filter((message) => !/is not declared under streams/.test(message)),
        yaml,
      ).toEqual([]);
    }
  });
});
