import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TopicCensus } from "../../src/mapping/topic-census.ts";
import { TopicFilter } from "../../src/mapping/topic-filter.ts";

const counted = (topics: Iterable<string>, maxNodes?: number): TopicCensus => {
  const census = new TopicCensus(maxNodes);
  for (const topic of topics) census.add(topic);
  return census;
};
const numbered = (count: number, name: (n: number) => string) =>
  Array.from({ length: count }, (_, n) => name(n));

test("few topics are counted by name, the most frequent first", () => {
  const census = counted(["a/b", "c", "a/b", "a"]);
  expect(census.top(10)).toEqual([
    { pattern: "a/b", count: 2, example: "a/b" },
    { pattern: "a", count: 1, example: "a" },
    { pattern: "c", count: 1, example: "c" },
  ]);
  expect(census.top(1)).toHaveLength(1);
});

test("where many differ in a level, it is a +", () => {
  const census = counted([
    ...numbered(300, (n) => `zigbee2mqtt/d${n}/availability`),
    ...numbered(200, (n) => `zigbee2mqtt/d${n}`),
    "zigbee2mqtt/bridge/state",
  ]);
  expect(census.top(3)).toEqual([
    { pattern: "zigbee2mqtt/+/availability", count: 300, example: "zigbee2mqtt/d299/availability" },
    { pattern: "zigbee2mqtt/+", count: 200, example: "zigbee2mqtt/d199" },
    { pattern: "zigbee2mqtt/+/state", count: 1, example: "zigbee2mqtt/bridge/state" },
  ]);
});

test("what goes deep ends in a #", () => {
  expect(counted([`${"a/".repeat(50)}b`]).top(1)[0]?.pattern).toBe(`${"a/".repeat(10)}#`);
});

describe("whatever comes", () => {
  const topic = fc
    .array(fc.oneof(fc.constantFrom("a", "b", "", "$x"), fc.string({ maxLength: 6 })), {
      minLength: 1,
      maxLength: 14,
    })
    .map((levels) => levels.map((level) => level.replace(/[+#/\0]/g, "")).join("/"))
    .filter((text) => text !== "");

  test("nothing is counted twice or left out, every pattern matches its example, and the room is bounded", () => {
    fc.assert(
      fc.property(
        fc.array(topic, { maxLength: 400 }),
        fc.integer({ min: 2, max: 60 }),
        (topics, maxNodes) => {
          const census = counted(topics, maxNodes);
          const counts = census.top(Number.MAX_SAFE_INTEGER);
          expect(counts.reduce((sum, { count }) => sum + count, 0)).toBe(topics.length);
          expect(counts.length).toBeLessThanOrEqual(2 * maxNodes);
          for (const { pattern, example } of counts) {
            // [MQTT-4.7.2-1] is about what subscriptions get.
            const matches = TopicFilter.parse(`x/${pattern}`).matches(`x/${example}`);
            expect(matches, `${pattern} for ${example}`).toBe(true);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test("two hundred thousand topics take no more than their patterns", () => {
    const census = counted(numbered(200_000, (n) => `${n % 977}/${n % 313}/${n}`));
    expect(census.top(5)).toEqual([{ pattern: "+/+/+", count: 200_000, example: expect.any(String) }]);
  });
});
