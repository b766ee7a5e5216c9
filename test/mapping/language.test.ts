/** What a rule can say, through the mapper. */
import { describe, expect, it } from "vitest";
import { compileSchema } from "../../src/mapping/json-schema.ts";
import { compileInSlices, Mapper } from "../../src/mapping/mapper.ts";
import type { Mapping, Trace } from "../../src/mapping/outcome.ts";
import type { RuleDefinition } from "../../src/mapping/rule.ts";
import { KEYLESS, type MappedRecord, type PublishPacket } from "../../src/record.ts";
import { batchOf, decodeRecords } from "../../src/wire/record-batch.ts";

type Rule = Partial<RuleDefinition>;

const AT = 1_767_225_600_000;

function mapping(
  rules: Rule | readonly Rule[],
  mqttTopic: string,
  payload: string | Buffer = "{}",
  more: Partial<PublishPacket> = {},
  trace?: Trace,
): Mapping {
  const all = (Array.isArray(rules) ? rules : [rules]) as readonly Rule[];
  const whole = all.map((rule, index) => ({ name: `r${index}`, from: "#", to: "s", ...rule }));
  const tables = new Map([["rooms", new Map([["t1", "hall"]])]]);
  const mapper = new Mapper(whole, (stream) => (stream.startsWith("missing") ? 0 : 4), { tables });
  const packet: PublishPacket = {
    mqttTopic,
    payload: Buffer.from(payload as string),
    qos: 1,
    retain: false,
    clientId: "c1",
    username: undefined,
    receivedAt: AT,
    ...more,
  };
  const result = mapper.map(packet, trace);
  // The second time from the cache.
  if (trace === undefined) expect(mapper.map(packet)).toEqual(result);
  return result;
}

function shown({ stream, key, value, partition, timestamp }: MappedRecord): string {
  return [
    stream,
    key === null ? "-" : key,
    value === null ? "null" : value,
    ...(key !== null || partition === KEYLESS ? [] : [`p${partition}`]),
    ...(timestamp === AT ? [] : [`@${timestamp}`]),
  ].join(" ");
}

function records(...given: Parameters<typeof mapping>): string[] {
  const result = mapping(...given);
  if (result.outcome !== "mapped") throw new Error(JSON.stringify(result));
  return result.records.map(shown);
}

function headers(...given: Parameters<typeof mapping>): Record<string, string> {
  const result = mapping(...given);
  if (result.outcome !== "mapped") throw new Error(JSON.stringify(result));
  const [record] = decodeRecords(batchOf([result.records[0] as MappedRecord]));
  return Object.fromEntries((record?.headers ?? []).map(({ key, value }) => [key, String(value)]));
}

describe("when", () => {
  const rules: Rule[] = [
    { to: "hot", when: "payload.t > 30" },
    { to: "cold", when: "payload.t < 0" },
    { to: "rest", from: "#" },
  ];

  it("lets the next rule have what does not meet the condition", () => {
    expect(records(rules, "x", '{"t":31}')).toEqual(['hot - {"t":31}']);
    expect(records(rules, "x", '{"t":-1}')).toEqual(['cold - {"t":-1}']);
    expect(records(rules, "x", '{"t":20}')).toEqual(['rest - {"t":20}']);
  });

  it("does not hold of a field that is not there", () => {
    expect(records(rules, "x", "{}")).toEqual(["rest - {}"]);
    expect(mapping(rules.slice(0, 2), "x", "{}")).toEqual({ outcome: "unmatched" });
  });

  it("that cannot be decided lets the next rule have the message, and is its error where none wants it", () => {
    expect(records(rules, "x", '{"t":"warm"}')).toEqual(['rest - {"t":"warm"}']);
    expect(mapping(rules.slice(0, 2), "x", '{"t":"warm"}')).toEqual({
      outcome: "failed",
      rule: "r0",
      error: {
        rule: "r0",
        field: "when",
        position: 0,
        message: "payload.t > 30 cannot compare text with a number",
      },
      onError: "deadLetter",
    });
    expect(mapping(rules.slice(0, 2), "x", "[")).toMatchObject({
      outcome: "failed",
      error: { field: "when", message: expect.stringContaining("not JSON") },
    });
    expect(mapping({ when: "payload.t" }, "x", '{"t":1}')).toMatchObject({
      error: { message: "comes to 1, which is neither true nor false" },
    });
  });

  it("sees what is known of the message beside its payload", () => {
    const rule = {
      from: "a/+b/#rest",
      when: 'clientId == "c1" && qos == 1 && !retain && b == "x" && rest == "y/z"',
    };
    expect(records(rule, "a/x/y/z")).toHaveLength(1);
    expect(mapping(rule, "a/x/y")).toEqual({ outcome: "unmatched" });
    expect(mapping({ when: 'username == "u"' }, "a")).toEqual({ outcome: "unmatched" });
    expect(records({ when: 'username == "u"' }, "a", "", { username: "u" })).toHaveLength(1);
  });
});

describe("value", () => {
  it.each<[string, string | Buffer, string]>([
    ['{"t": payload.t * 2, "site": topic}', '{"t":21.5}', '{"t":43,"site":"x"}'],
    ["payload.list.map(i, i + 1)", '{"list":[1,2]}', "[2,3]"],
    ["upper(payload)", "on", "ON"],
    ["payload.t", '{"t":21.50}', "21.5"],
    ["payload.id", '{"id":12345678901234567890}', "12345678901234567890"],
    ["payload.t > 3", '{"t":4}', "true"],
    ["payload == '' ? null : payload", "", "null"],
    ['merge(payload, {"room": lookup("rooms", "t1")})', '{"a":1}', '{"a":1,"room":"hall"}'],
  ])("%s", (value, payload, expected) => {
    expect(records({ value }, "x", payload)).toEqual([`s - ${expected}`]);
  });

  it("gives bytes as they are, and leaves the payload untouched without it", () => {
    const result = mapping({ payload: "bytes", value: "payload" }, "x", Buffer.from([0, 255]));
    expect(result).toMatchObject({ records: [{ value: Buffer.from([0, 255]) }] });
    expect(mapping({}, "x", Buffer.from([0, 255]))).toMatchObject({
      records: [{ value: Buffer.from([0, 255]) }],
    });
  });

  it("keeps the original in a header where that is wished", () => {
    const rule = { value: "payload.t", headers: { a: "1" } };
    expect(headers({ ...rule, keepOriginal: true }, "x", '{"t":1}')).toEqual({
      "mqtt.topic": "x",
      a: "1",
      "mqtt.payload": '{"t":1}',
    });
    expect(headers(rule, "x", '{"t":1}')).toEqual({ "mqtt.topic": "x", a: "1" });
    expect(headers({ keepOriginal: true }, "x", '{"t":1}')).toEqual({ "mqtt.topic": "x" });
  });
});

describe("from", () => {
  it("may be several filters, whose common names are usable, in whatever place they stand", () => {
    const rule = { from: ["zigbee/+device", "zigbee/+device/+kind", "+/x/+device/+/+"], key: "${device}" };
    expect(records(rule, "zigbee/t1", "1")).toEqual(["s t1 1"]);
    expect(records(rule, "zigbee/t2/state", "2")).toEqual(["s t2 2"]);
    expect(records(rule, "any/x/t3/a/b", "3")).toEqual(["s t3 3"]);
    expect(mapping(rule, "other")).toEqual({ outcome: "unmatched" });
    expect(() => mapping({ ...rule, key: "${kind}" }, "x")).toThrow('"kind" is not known here');
  });

  it("gives a message that two filters match once", () => {
    expect(records({ from: ["a/+", "a/b"] }, "a/b", "1")).toEqual(["s - 1"]);
  });
});

describe("partition", () => {
  it("is taken instead of the key's, and must be there", () => {
    expect(mapping({ key: "k", partition: 2 }, "x")).toMatchObject({ records: [{ partition: 2 }] });
    expect(mapping({ partition: "${payload.n % 4}" }, "x", '{"n":7}')).toMatchObject({
      records: [{ partition: 3, key: null }],
    });
    expect(mapping({ from: "+n", partition: "${n}" }, "1")).toMatchObject({ records: [{ partition: 1 }] });
    for (const n of ["4", "-1", "1.5", '"a"']) {
      expect(mapping({ partition: "${payload.n}" }, "x", `{"n":${n}}`)).toMatchObject({
        outcome: "failed",
        error: { field: "partition", message: expect.stringMatching(/partitions 0 to 3/) },
      });
    }
  });
});

describe("retained: skip", () => {
  it("takes retained messages and makes no records of them", () => {
    const rules: Rule[] = [{ retained: "skip" }, {}];
    expect(mapping(rules, "x", "1", { retain: true })).toMatchObject({ outcome: "skipped", rule: "r0" });
    expect(records(rules, "x", "1")).toEqual(["s - 1"]);
    expect(records({ retained: "keep" }, "x", "1", { retain: true })).toEqual(["s - 1"]);
  });
});

describe("split", () => {
  it("makes a record of each element", () => {
    const rule: Rule = {
      from: "m/+machine",
      split: "payload.readings",
      key: "${machine}/${item.id}",
      headers: { index: "${index}" },
      timestamp: "${item.ts}",
      value: "item.v",
    };
    expect(
      records(rule, "m/1", `{"readings":[{"id":1,"v":5,"ts":${AT + 1}},{"id":2,"v":6,"ts":${AT + 2}}]}`),
    ).toEqual([`s 1/1 5 p0 @${AT + 1}`.replace(" p0", " ").replace("  ", " "), `s 1/2 6 @${AT + 2}`]);
    expect(mapping(rule, "m/1", '{"readings":[]}')).toMatchObject({ outcome: "skipped" });
  });

  it("of something else than a list, or of a list with a bad element, makes no record at all", () => {
    const rule: Rule = { split: "payload", value: "item.v" };
    expect(mapping(rule, "x", "{}")).toMatchObject({
      error: { field: "split", message: "needs a list, not a map" },
    });
    expect(mapping(rule, "x", '[{"v":1},{"w":1}]')).toMatchObject({
      outcome: "failed",
      error: { field: "value" },
    });
    expect(mapping({ split: "payload.x" }, "x", "{}")).toMatchObject({
      error: { field: "split", message: "payload.x has no value" },
    });
  });

  it("is bounded in number and in bytes", () => {
    expect(mapping({ split: "payload" }, "x", JSON.stringify(Array(10_001).fill(1)))).toMatchObject({
      error: { field: "split", message: "gives 10001 records, and a message may become 10000" },
    });
    const padding = "x".repeat(1_000);
    expect(mapping({ split: "payload" }, "x", JSON.stringify(Array(3_000).fill(padding)))).toMatchObject({
      error: { message: expect.stringMatching(/more than 2097152 bytes together|steps/) },
    });
  });

  it("knows item and index only where there is one, and not in the rule's own condition", () => {
    expect(() => mapping({ value: "item" }, "x")).toThrow('"item" is known in a mapping with split only');
    expect(() => mapping({ split: "payload", when: "item == 1" }, "x")).toThrow(
      '"item" is known in a mapping with split only',
    );
    expect(() => mapping({ split: "payload", from: "+item" }, "x")).toThrow("cannot name a wildcard");
  });
});

describe("also", () => {
  it("writes further records, what one leaves out being the rule's", () => {
    const rule: Rule = {
      from: "d/+device",
      key: "${device}",
      headers: { device: "${device}" },
      timestamp: "${payload.ts}",
      also: [
        { to: "latest" },
        { to: "alarms", when: "payload.v > 10", value: '"high: " + string(payload.v)', key: "alarm" },
      ],
    };
    expect(records(rule, "d/1", `{"v":1,"ts":${AT}}`)).toEqual([
      `s 1 {"v":1,"ts":${AT}}`,
      `latest 1 {"v":1,"ts":${AT}}`,
    ]);
    expect(records(rule, "d/1", `{"v":11,"ts":${AT}}`)[2]).toBe("alarms alarm high: 11");
  });

  it("is one with the rule: what fails in it fails the message", () => {
    const rule: Rule = { also: [{ to: "b", key: "${payload.k}" }] };
    expect(mapping(rule, "x", "{}")).toMatchObject({
      outcome: "failed",
      error: { field: "also[0].key", message: "payload.k has no value" },
    });
    expect(mapping({ also: [{ to: "missing-x" }] }, "x")).toMatchObject({
      outcome: "unknown stream",
      stream: "missing-x",
    });
  });
});

describe("to with expressions", () => {
  it("gives the streams that are allowed only", () => {
    const rule: Rule = { from: "+site/#", to: "site-${site}", allow: ["site-north", "site-s*"] };
    expect(records(rule, "north/1", "1")).toEqual(["site-north - 1"]);
    expect(records(rule, "south/1", "1")).toEqual(["site-south - 1"]);
    expect(mapping(rule, "west/1")).toMatchObject({
      outcome: "failed",
      error: { field: "to", message: 'stream "site-west" is not among those that allow names' },
    });
  });

  it("says which limit holds for one that is not there", () => {
    const result = mapping({ from: "+site/#", to: "missing-${site}.x", limit: 5 }, "a/b");
    expect(result).toMatchObject({ outcome: "unknown stream", stream: "missing-a.x", limit: { streams: 5 } });
    const { pattern } = (result as { limit: { pattern: RegExp } }).limit;
    expect(["missing-b.x", "missing-bxx", "other"].map((name) => pattern.test(name))).toEqual([
      true,
      false,
      false,
    ]);
  });
});

describe("schema", () => {
  const document = {
    type: "object",
    required: ["t"],
    additionalProperties: false,
    properties: { t: { type: "number", minimum: -50 }, id: { type: "string", pattern: "^(a+)+$" } },
  };
  const rule: Rule = { schema: { file: "t.json", document } };

  it("lets through what fits", () => {
    expect(records(rule, "x", '{"t":1}')).toHaveLength(1);
  });

  it.each([
    ['{"t":"1"}', "payload.t must be number (t.json)"],
    ["{}", "payload must have required property 't' (t.json)"],
    ['{"t":-51}', "payload.t must be >= -50 (t.json)"],
    ["21.5", "payload must be object (t.json)"],
    ["[", "the payload is not JSON: Unexpected end of JSON input"],
  ])("has an error for %s", (payload, message) => {
    expect(mapping(rule, "x", payload)).toMatchObject({
      outcome: "failed",
      error: { field: "schema", message },
    });
  });

  it("has patterns that cannot stall", () => {
    const started = performance.now();
    expect(mapping(rule, "x", `{"t":1,"id":"${"a".repeat(5_000)}!"}`)).toMatchObject({ outcome: "failed" });
    expect(performance.now() - started).toBeLessThan(5_000);
  });

  it("may be compiled in slices, as at a reload", async () => {
    const definition = { name: "r", from: "a/#", to: "s", ...rule };
    const [compiled] = await compileInSlices([definition], {});
    expect(() => compiled?.schema?.({ t: 1 })).not.toThrow();
    expect(() => compiled?.schema?.({})).toThrow("must have required property 't'");
    await expect(compileInSlices([definition, { ...definition, to: "" }], {})).rejects.toThrow("no name");
  });

  it("finds items that are there twice, and is not stalled by many that are not", () => {
    const validate = compileSchema({ file: "f", document: { type: "array", uniqueItems: true } });
    for (const twice of [
      "[1,1.0]",
      '[[{"a":1,"b":[2]}],[{"b":[2],"a":1}]]',
      '["x","y","x"]',
      "[null,null]",
    ]) {
      expect(() => validate(JSON.parse(twice)), twice).toThrow("payload must NOT have duplicate items (f)");
    }
    validate(JSON.parse('[1,"1",[1],{"1":1},true,"true",null,"null",{},[],[[]],"[]"]'));
    const started = performance.now();
    validate(Array.from({ length: 60_000 }, (_, at) => [at]));
    // Ajv's own takes a minute.
    expect(performance.now() - started).toBeLessThan(5_000);
  });

  it("that refers to itself in each branch of a choice cannot stall", () => {
    for (const $schema of [
      "http://json-schema.org/draft-07/schema#",
      "https://json-schema.org/draft/2020-12/schema",
    ]) {
      const branch = (kind: number) => ({
        properties: { in: { $ref: "#/$defs/node" }, kind: { const: kind } },
      });
      const $defs = { node: { anyOf: [branch(1), branch(2), branch(3)] } };
      const validate = compileSchema({ file: "f", document: { $schema, $defs, $ref: "#/$defs/node" } });
      const nested = (depth: number): object => (depth === 0 ? {} : { in: nested(depth - 1), kind: 3 });
      validate(nested(8));
      expect(() => validate(nested(60))).toThrow(
        "the payload cannot be checked by f: takes more than 250000 steps",
      );
      validate(Array.from({ length: 10_000 }, () => nested(3)));
    }
  });

  it("of draft 2020-12 is read as such, and what is no schema is refused", () => {
    const tuple = {
      $schema: "https://json-schema.org/draft/2020-12/schema",
      prefixItems: [{ type: "number" }],
    };
    const validate = compileSchema({ file: "f", document: tuple });
    expect(() => validate(["x"])).toThrow("payload.0 must be number (f)");
    expect(() => compileSchema({ file: "f", document: { typ: "object" } })).toThrow(
      'f is no JSON Schema: strict mode: unknown keyword: "typ"',
    );
    expect(() => compileSchema({ file: "f", document: { type: "objekt" } })).toThrow("f is no JSON Schema");
    expect(() => compileSchema({ file: "f", document: 5 })).toThrow("f is no JSON Schema");
  });
});

describe("onError", () => {
  const rule: Rule = {
    key: "${payload.id}",
    value: "payload.v * 2",
    timestamp: "${payload.ts}",
    headers: { unit: "${payload.unit}", site: "north" },
  };

  it("is said with the outcome; the first thing that is wrong is the error", () => {
    for (const onError of ["deadLetter", "drop"] as const) {
      expect(mapping({ ...rule, onError }, "x", '{"id":1,"v":"a"}')).toMatchObject({
        outcome: "failed",
        onError,
        error: { rule: "r0", field: "timestamp", position: 2, message: "payload.ts has no value" },
      });
    }
  });

  it("pass: stores the payload, without what could not be made, and says why", () => {
    const passing: Rule = { ...rule, onError: "pass" };
    expect(records(passing, "x", '{"v":"a"}')).toEqual(['s - {"v":"a"}']);
    expect(headers(passing, "x", '{"v":"a"}')).toEqual({
      "mqtt.topic": "x",
      site: "north",
      "sluice.mapping.error":
        "key: payload.id has no value; timestamp: payload.ts has no value; value: payload.v * 2 needs two numbers, not text and a number; headers.unit: payload.unit has no value",
    });
  });

  it("pass: has no stream to pass a message on to without a to", () => {
    expect(mapping({ to: "${payload.s}", onError: "pass" }, "x", "{}")).toMatchObject({
      outcome: "failed",
      error: { field: "to" },
    });
  });

  it("holds for an empty key too", () => {
    expect(mapping({ from: "a/+d", key: "${d}" }, "a/")).toMatchObject({
      error: { field: "key", message: "comes to an empty text" },
    });
  });

  it("holds for a rule that spends more than a message may cost", () => {
    const list = JSON.stringify(Array.from({ length: 3_000 }, (_, n) => n));
    expect(mapping({ when: "payload.all(x, payload.all(y, x + y >= 0))" }, "x", list)).toMatchObject({
      outcome: "failed",
      error: { field: "when", message: "takes more than the 250000 steps that a message may cost" },
    });
  });
});

describe("a trace", () => {
  it("says what each rule before said, and what the fields of the one that took it came to", () => {
    const rules: Rule[] = [
      { from: "b/+x" },
      { from: ["a/+x/c", "d/#"] },
      { from: "a/+x", when: "payload.t > 30" },
      { from: "a/+x", when: "payload.u > 30" },
      {
        from: "a/+x",
        to: "s-${x}",
        key: "${x}-${payload.t}",
        headers: { h: "${qos}" },
        value: "payload.t * 2",
      },
      { from: "#" },
    ];
    const trace: Trace = { rules: [], fields: [] };
    const result = mapping(rules, "a/1", '{"t":21.5}', {}, trace);
    expect(result).toMatchObject({ outcome: "mapped", rule: "r4" });
    expect(trace).toEqual({
      rules: [
        { rule: "r0", took: false, why: 'b/+x: level 1 is "a", not "b"' },
        {
          rule: "r1",
          took: false,
          why: 'a/+x/c: the topic ends after level 2; d/#: level 1 is "a", not "d"',
        },
        { rule: "r2", took: false, why: "when: does not hold" },
        { rule: "r3", took: false, why: "when: payload.u has no value" },
        { rule: "r4", took: true, why: "it matches" },
      ],
      fields: [
        { field: "to", text: "s-${x}", value: "s-1" },
        { field: "key", text: "${x}-${payload.t}", value: "1-21.5" },
        { field: "value", text: "payload.t * 2", value: Buffer.from("43") },
        { field: "headers.h", text: "${qos}", value: "1" },
      ],
    });
  });

  it("is of the same outcome as without it", () => {
    const rules: Rule[] = [
      { from: "+a/x", key: "${a}" },
      { from: "+/y", when: "payload.t > 1" },
      { from: "$sys/+b" },
    ];
    for (const [mqttTopic, payload] of [
      ["1/x", "1"],
      ["1/y", '{"t":2}'],
      ["1/y", '{"t":"x"}'],
      ["z", ""],
      ["$sys/1", "1"],
    ] as const) {
      const trace: Trace = { rules: [], fields: [] };
      expect(mapping(rules, mqttTopic, payload, {}, trace)).toEqual(mapping(rules, mqttTopic, payload));
    }
  });
});
