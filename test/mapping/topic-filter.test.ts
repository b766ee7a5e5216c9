import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FilterTrie } from "../../src/mapping/filter-trie.ts";
import { MappingSyntaxError } from "../../src/mapping/syntax-error.ts";
import { TopicFilter } from "../../src/mapping/topic-filter.ts";

function problem(text: string): MappingSyntaxError {
  try {
    TopicFilter.parse(text);
  } catch (error) {
    if (error instanceof MappingSyntaxError) return error;
  }
  throw new Error(`${text} was accepted`);
}

describe("a topic filter", () => {
  it("names what its wildcards match, many levels and none included", () => {
    const filter = TopicFilter.parse("sensors/+site/+/#rest");
    expect(filter.names).toEqual(["site", "rest"]);
    expect(filter.capture("sensors/north/t1/a/b")).toEqual(["north", "a/b"]);
    expect(filter.capture("sensors/north/t1")).toEqual(["north", ""]);
  });

  it.each([
    ["sport/tennis/player1/#", "sport/tennis/player1", true],
    ["sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true],
    ["sport/#", "sport", true],
    ["#", "a/b", true],
    ["sport/tennis/+", "sport/tennis/player1", true],
    ["sport/tennis/+", "sport/tennis/player1/ranking", false],
    ["sport/+", "sport", false],
    ["sport/+", "sport/", true],
    ["+/+", "/finance", true],
    ["/+", "/finance", true],
    ["+", "/finance", false],
    ["#", "$SYS/broker", false],
    ["+/broker", "$SYS/broker", false],
    ["$SYS/#", "$SYS/broker", true],
    ["a/+", "a/$b", true],
    ["a", "A", false],
  ])("%s against %s: %s, as section 4.7 has it", (filter, mqttTopic, expected) => {
    expect(TopicFilter.parse(filter).matches(mqttTopic)).toBe(expected);
  });

  it.each([
    ["", 0, /empty/],
    ["a/#/b", 2, /last/],
    ["a/#rest/b", 2, /last/],
    ["a/a+b", 3, /begin its level/],
    ["a/b#", 3, /begin its level/],
    ["a/++", 3, /cannot name/],
    ["+1a", 1, /cannot name/],
    ["+a/+a", 3, /twice/],
    ["a\0b", 1, /U\+0000/],
    ["x".repeat(65_536), 0, /65535 bytes/],
  ])("%j is refused, with the place", (text, position, words) => {
    const error = problem(text);
    expect(error.position).toBe(position);
    expect(error.message).toMatch(words);
    expect(error.exitCode).toBe(78);
  });
});

describe("the trie of filters", () => {
  const level = fc.constantFrom("a", "b", "", "$x", "__proto__");
  const mqttTopics = fc.array(level, { minLength: 1, maxLength: 4 }).map((levels) => levels.join("/"));
  const filters = fc
    .tuple(
      fc.array(fc.oneof(level, fc.constant("+")), { minLength: 1, maxLength: 4 }),
      fc.constantFrom("", "/#"),
    )
    .map(([levels, rest]) => levels.join("/") + rest)
    .filter((text) => text !== "");

  it("finds exactly the filters that match, also after some were removed", () => {
    fc.assert(
      fc.property(
        fc.array(filters, { maxLength: 12 }),
        fc.array(fc.nat(11)),
        mqttTopics.filter((text) => text !== ""),
        (texts, removed, mqttTopic) => {
          const trie = new FilterTrie<number>();
          const parsed = texts.map((text) => TopicFilter.parse(text));
          for (const [index, filter] of parsed.entries()) trie.add(filter.levels, index);
          for (const index of removed) {
            if (index < parsed.length) trie.remove((parsed[index] as TopicFilter).levels, index);
          }
          const found: number[] = [];
          trie.match(mqttTopic, (index) => found.push(index));
          const expected = [...parsed.keys()].filter(
            (index) => !removed.includes(index) && (parsed[index] as TopicFilter).matches(mqttTopic),
          );
          expect(found.sort((a, b) => a - b)).toEqual(expected);
        },
      ),
      { numRuns: 500 },
    );
  });
});
