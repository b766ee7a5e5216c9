import { stripVTControlCharacters } from "node:util";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatJson, prettyFormatter, type ReceivedRecord } from "../../src/subscriber/format.ts";

const RECORD: ReceivedRecord = {
  stream: "telemetry",
  partition: 2,
  offset: 1042,
  timestamp: new Date(2020, 0, 2, 3, 4, 5, 67).getTime(),
  key: Buffer.from("t1"),
  value: Buffer.from('{"v":21.5,"on":true}'),
  headers: [{ key: "mqtt.topic", value: Buffer.from("sensors/north/t1/temperature") }],
};

const plain = prettyFormatter({ colour: false });
const bytes = fc.option(fc.uint8Array().map((array) => Buffer.from(array)));
const records = fc.record({
  stream: fc.string(),
  partition: fc.nat(),
  offset: fc.nat(),
  timestamp: fc.integer({ min: 0, max: 4e12 }),
  key: bytes,
  value: bytes,
  headers: fc.array(fc.record({ key: fc.string(), value: bytes })),
});

describe("--json", () => {
  it("is one object on one line", () => {
    expect(JSON.parse(formatJson(RECORD))).toEqual({
      stream: "telemetry",
      partition: 2,
      offset: 1042,
      timestamp: RECORD.timestamp,
      key: "t1",
      value: '{"v":21.5,"on":true}',
      headers: { "mqtt.topic": "sensors/north/t1/temperature" },
    });
  });

  it("gives back the very bytes of every key and value, and says which of them are base64", () => {
    fc.assert(
      fc.property(records, (record) => {
        const line = formatJson(record);
        expect(line).not.toContain("\n");
        const json = JSON.parse(line);
        for (const field of ["key", "value"] as const) {
          const text: string | null = json[field];
          const encoding = json.encoding?.[field] === "base64" ? "base64" : "utf8";
          expect(text === null ? null : Buffer.from(text, encoding)).toEqual(record[field]);
        }
        expect(Object.keys(json.headers).sort()).toEqual(
          [...new Set(record.headers.map(({ key }) => key))].sort(),
        );
      }),
    );
  });

  it("keeps a header that repeats, and null apart from empty", () => {
    const headers = [
      { key: "a", value: Buffer.from("1") },
      { key: "a", value: null },
      { key: "b", value: Buffer.alloc(0) },
      { key: "__proto__", value: Buffer.from([0xff]) },
    ];
    const json = formatJson({ ...RECORD, key: null, value: Buffer.alloc(0), headers });
    expect(json).toContain('"key":null,"value":"","headers":{"a":["1",null],"b":"","__proto__":"/w=="}');
    expect(json).toContain('"encoding":{"headers.__proto__":"base64"}');
  });
});

describe("--pretty", () => {
  it("shows time, place, key, headers and value on one line", () => {
    expect(plain(RECORD)).toBe(
      "2020-01-02 03:04:05.067  telemetry/2@1042  t1  mqtt.topic=sensors/north/t1/temperature  " +
        '{"v":21.5,"on":true}',
    );
  });

  it("shows binary as hex, shortened, with its length", () => {
    const line = plain({ ...RECORD, key: null, headers: [], value: Buffer.alloc(30, 0xab) });
    expect(line.endsWith(`${"ab ".repeat(24)}… (30 bytes)`)).toBe(true);
    expect(plain({ ...RECORD, value: null }).endsWith("  null")).toBe(true);
  });

  it("never lets a control character through to the terminal", () => {
    fc.assert(
      fc.property(records, (record) => {
        expect(plain({ ...record, stream: "s" })).not.toMatch(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/u);
      }),
    );
    const attack = plain({ ...RECORD, value: Buffer.from("\u001b]0;title\u0007\r\n{") });
    expect(attack.endsWith("\\u001b]0;title\\u0007\\r\\n{")).toBe(true);
  });

  it("colours JSON without changing a character of it", () => {
    const coloured = prettyFormatter({ colour: true });
    fc.assert(
      fc.property(fc.object(), (object) => {
        const value = Buffer.from(JSON.stringify(object));
        const record = { ...RECORD, value };
        expect(stripVTControlCharacters(coloured(record))).toBe(plain(record));
      }),
    );
    expect(coloured(RECORD)).toContain("\u001b[33m21.5\u001b[39m");
  });
});
