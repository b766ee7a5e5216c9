/**
 * The catalogue of wrong configurations, each with the exact words that a person gets: catalogue/catalogue.txt, to be
 * read. A case begins with `== title`, `--` stands between the configuration and what is said of it.
 * `UPDATE=1 npx vitest run test/config/catalogue.test.ts` writes what is said now; read the difference with kind eyes.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parseConfig } from "../../src/config/load.ts";
import { ConfigError } from "../../src/config/problems.ts";

const FILE = "test/config/catalogue/catalogue.txt";

const cases = readFileSync(FILE, "utf8")
  .split(/^== /m)
  .slice(1)
  .map((text) => {
    const [head = "", says = ""] = text.split(/^--\n/m);
    const [title = "", ...lines] = head.split("\n");
    return { title, yaml: lines.join("\n"), says: says.trimEnd() };
  });

function complaint(yaml: string): string {
  try {
    parseConfig(yaml, "gateway.yaml");
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).exitCode).toBe(78);
    return (error as ConfigError).message;
  }
  throw new Error("the configuration was taken");
}

if (process.env.UPDATE !== undefined) {
  const written = cases.map(({ title, yaml }) => `== ${title}\n${yaml}--\n${complaint(yaml)}\n`);
  writeFileSync(FILE, written.join("\n"));
}

describe("a wrong configuration", () => {
  test.each(cases)("$title", ({ yaml, says }) => {
    expect(complaint(yaml)).toBe(says);
  });

  test("is one of at least a hundred here, each of its own kind", () => {
    expect(new Set(cases.map(({ title }) => title)).size).toBe(cases.length);
    expect(cases.length).toBeGreaterThanOrEqual(100);
  });

  test("has in every complaint a place, the line, and a mark under it", () => {
    for (const { title, says } of cases) {
      expect(says, title).toMatch(/^gateway\.yaml:\d+:\d+ {2,}\S.*\n {2}\d+ \| .*\n {2} +\| \s*\^+/);
    }
  });
});
