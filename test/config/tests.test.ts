/** The `tests:` of a configuration. */
import { describe, expect, test } from "vitest";
import { parseConfig } from "../../src/config/load.ts";
import { requireTests, resultText, runTests } from "../../src/config/tests.ts";

const CONFIG = `version: 1
streams: { telemetry: { partitions: 4 }, alarms: {} }
mappings:
  - name: temperatures
    from: sensors/+site/+device/temperature
    to: telemetry
    key: \${device}
    headers: { site: "\${site}" }
    timestamp: \${payload.ts}
  - name: lists
    from: lists/+device
    to: alarms
    split: payload
    value: item
  - { name: quiet, from: quiet, to: alarms, retained: skip }
`;
const load = (tests: string) => parseConfig(`${CONFIG}tests:\n${tests}`, "g.yaml");
const results = (tests: string) => runTests(load(tests)).map(({ differences }) => differences);
const TEMPERATURE = `publish: { topic: sensors/north/t1/temperature, payload: { ts: 1767225600000, v: 21.5 } }`;

describe("what is expected and happens passes", () => {
  test.each([
    [
      "a record, whole",
      `{ ${TEMPERATURE}, expect: { rule: temperatures, stream: telemetry, key: t1, partition: 3, headers: { site: north, mqtt.topic: sensors/north/t1/temperature, other: null }, value: { v: 21.5, ts: 1767225600000 }, timestamp: 2026-01-01T00:00:00Z } }`,
    ],
    [
      "several records",
      `{ publish: { topic: lists/a, payload: [1, 2] }, expect: [{ value: 1, key: null }, { value: "2" }] }`,
    ],
    [
      "an error, by a part of its words",
      `{ publish: { topic: sensors/a/b/temperature, payload: "{}" }, expect: { error: "payload.ts has no value", rule: temperatures } }`,
    ],
    ["no mapping", `{ publish: { topic: elsewhere }, expect: unmatched }`],
    ["a mapping that wants none", `{ publish: { topic: quiet, retain: true }, expect: skipped }`],
    ["bytes", `{ publish: { topic: quiet, payloadBase64: AAEC }, expect: { value: "\\0\\x01\\x02" } }`],
  ])("%s", (_, yaml) => {
    expect(results(`  - ${yaml}\n`)).toEqual([[]]);
  });
});

describe("what is not so is a difference", () => {
  test("of fields, each by its name", () => {
    const expected = `{ stream: alarms, key: t2, partition: 1, headers: { site: south }, value: { v: 22 } }`;
    const [differences] = results(`  - { ${TEMPERATURE}, expect: ${expected} }\n`);
    expect(differences).toEqual([
      { what: "stream", expected: "alarms", actual: "telemetry" },
      { what: "key", expected: "t2", actual: "t1" },
      { what: "partition", expected: "1", actual: "3" },
      { what: "value", expected: '{"v":22}', actual: '{"ts":1767225600000,"v":21.5}' },
      { what: "headers.site", expected: "south", actual: "north" },
    ]);
  });

  test.each([
    [`{ publish: { topic: elsewhere }, expect: { stream: telemetry } }`, "a record", "unmatched"],
    [
      `{ publish: { topic: lists/a, payload: [1] }, expect: [{}, {}] }`,
      "2 records",
      'a record on alarms (rule "lists")',
    ],
    [`{ publish: { topic: quiet }, expect: unmatched }`, "unmatched", 'a record on alarms (rule "quiet")'],
    [
      `{ publish: { topic: sensors/a/b/temperature, payload: x }, expect: { key: b } }`,
      "a record",
      /^an error: timestamp: /,
    ],
    [
      `{ publish: { topic: quiet }, expect: { error: wrong } }`,
      "an error: wrong",
      'a record on alarms (rule "quiet")',
    ],
  ])("of outcomes: %s", (yaml, expected, actual) => {
    expect(results(`  - ${yaml}\n`)).toEqual([
      [
        {
          what: "outcome",
          expected,
          actual: actual instanceof RegExp ? expect.stringMatching(actual) : actual,
        },
      ],
    ]);
  });

  test("and reads with its place", () => {
    const loaded = load(`  - name: north is north
    ${TEMPERATURE}
    expect: { key: t1, headers: { site: south } }
`);
    expect(runTests(loaded).map(resultText)).toEqual([
      `g.yaml:17:5  north is north
    headers.site  expected  south
                  was       north`,
    ]);
    expect(() => requireTests(loaded)).toThrow("1 of 1 tests failed");
  });
});

test("what is wrong in a test itself is a problem of the configuration", () => {
  const wrong = `  - { publish: { topic: a, payloud: x }, expect: { straem: a } }\n  - { publish: { topic: a }, expect: nothing }\n`;
  let text = "";
  try {
    load(wrong);
  } catch (error) {
    text = (error as Error).message;
  }
  expect(text).toContain('unknown option "payloud" in tests[0].publish; did you mean "payload"?');
  expect(text).toContain('unknown option "straem" in tests[0].expect; did you mean "stream"?');
  expect(text).toContain("tests[1].expect must be unmatched, skipped, a record such as");
});
