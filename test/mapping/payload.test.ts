import { encode } from "cborg";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodePayload, type PayloadKind } from "../../src/mapping/payload.ts";
import { RenderError, writeJson } from "../../src/mapping/values.ts";

const decode = (kind: PayloadKind, text: string | Uint8Array) =>
  decodePayload(kind, Buffer.from(text as string));

function problem(kind: PayloadKind, text: string | Uint8Array): string {
  try {
    decode(kind, text);
  } catch (error) {
    expect(error).toBeInstanceOf(RenderError);
    return (error as Error).message;
  }
  throw new Error("it was taken");
}

describe("a payload", () => {
  it.each<[PayloadKind, string | Uint8Array, unknown]>([
    ["json", ' {"a": [1, 2.5, true, null, "x"]} ', { a: [1, 2.5, true, null, "x"] }],
    [
      "json",
      '{"id": 12345678901234567890, "s": "12345678901234567890", "f": 21.299999999999997}',
      { id: 12345678901234567890n, s: "12345678901234567890", f: 21.299999999999997 },
    ],
    [
      "json",
      "[1767225600000000000, -9007199254740993, 9007199254740991]",
      [1767225600000000000n, -9007199254740993n, 9007199254740991],
    ],
    ["json", '{"a:b": ":", "c": {"a:b": 1}}', { "a:b": ":", c: { "a:b": 1 } }],
    ["json", '"\\u0041"', "A"],
    ["text", '{"a":1}', '{"a":1}'],
    ["text", "", ""],
    ["number", " 21.5\n", 21.5],
    ["number", "-1e3", -1000],
    ["number", ".5", 0.5],
    ["number", "12345678901234567890", 12345678901234567890n],
    ["bytes", Uint8Array.of(1, 255), Buffer.from([1, 255])],
    [
      "cbor",
      encode({ t: 21.5, n: [1, null], b: Uint8Array.of(1) }),
      { t: 21.5, n: [1, null], b: Uint8Array.of(1) },
    ],
    ["cbor", encode(new Map([[1, "x"]])), { 1: "x" }],
    ["cbor", Buffer.from("c11a6955b900", "hex"), 1767225600000],
    ["cbor", Buffer.from("1bffffffffffffffff", "hex"), 18446744073709551615n],
    ["auto", '{"a":1}', { a: 1 }],
    ["auto", "21.5", 21.5],
    ["auto", "ON", "ON"],
    ["auto", "21.5 °C", "21.5 °C"],
    ["auto", "", ""],
    ["auto", Uint8Array.of(0xff, 0), Buffer.from([0xff, 0])],
  ])("as %s: %j", (kind, bytes, expected) => {
    expect(decode(kind, bytes)).toEqual(expected);
  });

  it.each<[PayloadKind, string | Uint8Array, string]>([
    [
      "json",
      "21.5 °C",
      "the payload is not JSON: Unexpected non-whitespace character after JSON at position 5",
    ],
    ["json", "", "the payload is not JSON: it is empty"],
    ["json", '{"v": NaN}', "the payload is not JSON: NaN is not a JSON value"],
    ["json", '{"v": -Infinity, "s": "NaN"}', "the payload is not JSON: -Infinity is not a JSON value"],
    ["json", '{"v": nan}', "the payload is not JSON: nan is not a JSON value"],
    ["json", "{'v': 1}", "the payload is not JSON: Expected property name or '}' in JSON at position 1"],
    [
      "json",
      '{"v": 1,}',
      "the payload is not JSON: Expected double-quoted property name in JSON at position 8",
    ],
    [
      "json",
      '{"v": 1',
      "the payload is not JSON: Expected ',' or '}' after property value in JSON at position 7",
    ],
    ["json", '{"t": 1, "t": 2}', 'the payload has the field "t" twice, and which is meant is open'],
    [
      "json",
      '[{"a": {"x": 1, "y": {}, "x": 2}}]',
      'the payload has the field "x" twice, and which is meant is open',
    ],
    ["json", '{"\\u0061": 1, "a": 2}', 'the payload has the field "a" twice, and which is meant is open'],
    ["json", `[${"9".repeat(200)}]`, "the payload has a number of 200 digits"],
    ["json", Uint8Array.of(0x22, 0xff, 0x22), "the payload is not text: its bytes are no UTF-8"],
    ["json", "[".repeat(10 << 20), "the payload nests more than 64 deep"],
    ["json", `${'{"a":'.repeat(65)}1${"}".repeat(65)}`, "the payload nests more than 64 deep"],
    ["auto", '{"v": NaN}', "the payload is not JSON: NaN is not a JSON value"],
    ["auto", "[".repeat(1_000), "the payload nests more than 64 deep"],
    ["text", Uint8Array.of(0xc3, 0x28), "the payload is not text: its bytes are no UTF-8"],
    ["number", "21,5", 'the payload is no number: "21,5"'],
    ["number", "0x10", 'the payload is no number: "0x10"'],
    ["number", "NaN", 'the payload is no number: "NaN"'],
    ["number", "1e999", 'the payload\'s number is too large: "1e999"'],
    ["number", "x".repeat(100), `the payload is no number: "${"x".repeat(40)}…"`],
    ["cbor", Buffer.from("81".repeat(100_000), "hex"), "the payload is not CBOR: it nests too deep"],
    ["cbor", Buffer.from(`${"81".repeat(70)}01`, "hex"), "the payload nests more than 64 deep"],
    [
      "cbor",
      Buffer.from("9affffffff01", "hex"),
      "the payload is not CBOR: found array but not enough entries (got 1, expected 4294967295)",
    ],
    ["cbor", Buffer.from("a2616101616102", "hex"), 'the payload is not CBOR: found repeat map key "a"'],
    ["cbor", Buffer.from("d9012c00", "hex"), "the payload is not CBOR: tag not supported (300)"],
    [
      "cbor",
      Buffer.from("a1810102", "hex"),
      "the payload has a map whose names are neither text nor numbers",
    ],
    ["cbor", "", "the payload is not CBOR: did not find any content to decode"],
  ])("as %s, wrong: %.40j", (kind, bytes, expected) => {
    // From Node 22 on JSON.parse says line and column as well.
    expect(problem(kind, bytes).replace(/ \(line \d+ column \d+\)$/, "")).toBe(expected);
  });

  it("has names from prototypes as ordinary fields, in JSON and in CBOR", () => {
    const json = decode("json", '{"__proto__": {"x": 1}, "constructor": 2}') as object;
    expect(Object.keys(json)).toEqual(["__proto__", "constructor"]);
    expect("x" in json).toBe(false);
    const cbor = decode("cbor", Buffer.from("a1695f5f70726f746f5f5fa1617801", "hex")) as object;
    expect(Object.keys(cbor)).toEqual(["__proto__"]);
    expect("x" in cbor).toBe(false);
  });

  it("that is JSON is written back the same", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 8 }), (value) => {
        const text = JSON.stringify(value);
        expect(writeJson(decode("json", text))).toBe(text);
      }),
    );
  });

  it("of any bytes whatever never breaks more than itself", () => {
    const kinds = fc.constantFrom<PayloadKind>("auto", "json", "text", "number", "cbor", "bytes");
    fc.assert(
      fc.property(kinds, fc.uint8Array({ maxLength: 60 }), (kind, bytes) => {
        try {
          decode(kind, bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(RenderError);
        }
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("JSON that is written", () => {
  it("has bytes as base64 and large whole numbers as they are", () => {
    expect(writeJson({ id: 12345678901234567890n, b: Buffer.from("hi"), n: null })).toBe(
      '{"id":12345678901234567890,"b":"aGk=","n":null}',
    );
  });

  it.each<[unknown, RegExp]>([
    [{ v: Number.NaN }, /comes to NaN/],
    [[Number.POSITIVE_INFINITY], /comes to Infinity/],
    ["x".repeat(2 << 20), /more than 1048576 characters/],
  ])("refuses what JSON cannot say or nobody could store: %#", (value, message) => {
    expect(() => writeJson([value])).toThrow(message);
  });

  it("refuses what nests without end", () => {
    const loop: unknown[] = [];
    loop.push(loop);
    expect(() => writeJson(loop)).toThrow(/more than 64 deep/);
  });
});
