/** Every message in every version: what is encoded is read back, to the last byte. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { groupApis } from "../../src/kafka/apis/groups.ts";
import { Reader, Writer } from "../../src/wire/buffer.ts";
import {
  decode,
  encode,
  type Field,
  type Fields,
  inVersions,
  type MessageSchema,
} from "../../src/wire/schema.ts";

function anyValueOf(field: Field, version: number): fc.Arbitrary<unknown> {
  const value = plainValueOf(field, version);
  const nullable = field.options.nullable !== undefined && inVersions(field.options.nullable, version);
  return nullable ? fc.option(value) : value;
}

function plainValueOf(field: Field, version: number): fc.Arbitrary<unknown> {
  switch (field.kind) {
    case "int8":
      return fc.integer({ min: -128, max: 127 });
    case "int16":
      return fc.integer({ min: -32_768, max: 32_767 });
    case "int32":
      return fc.integer();
    case "int64":
      return fc.maxSafeInteger();
    case "bool":
      return fc.boolean();
    case "string":
      return fc.string({ unit: "grapheme", maxLength: 20 });
    case "bytes":
      return fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes));
    case "array":
      return fc.array(anyValueOf(field.of as Field, version), { maxLength: 3 });
    case "struct":
      return messageOf(field.fields as Fields, version);
    default:
      throw new Error(`no values for ${field.kind}`);
  }
}

function messageOf(fields: Fields, version: number): fc.Arbitrary<Record<string, unknown>> {
  const carried = Object.entries(fields).filter(([, { options }]) => inVersions(options.versions, version));
  return fc.record(Object.fromEntries(carried.map(([name, field]) => [name, anyValueOf(field, version)])));
}

/** Only what the version carries. */
function carriedOf(fields: Fields, version: number, value: unknown): unknown {
  const read = value as Record<string, unknown>;
  return Object.fromEntries(
    Object.entries(fields)
      .filter(([, { options }]) => inVersions(options.versions, version))
      .map(([name, field]) => [name, carriedValue(field, version, read[name])]),
  );
}

function carriedValue(field: Field, version: number, value: unknown): unknown {
  if (value === null) return null;
  if (field.kind === "struct") return carriedOf(field.fields as Fields, version, value);
  if (field.kind !== "array") return value;
  return (value as unknown[]).map((item) => carriedValue(field.of as Field, version, item));
}

function checkRoundTrip(schema: MessageSchema, version: number): void {
  fc.assert(
    fc.property(messageOf(schema.fields, version), (value) => {
      const writer = new Writer();
      encode(schema, version, value, writer);
      const reader = new Reader(writer.toBuffer());
      const read = decode(schema, version, reader);
      expect(reader.remaining).toBe(0);
      expect(carriedOf(schema.fields, version, read)).toEqual(value);
    }),
    { numRuns: 20 },
  );
}

describe.each(groupApis.map((api) => [api.name, api] as const))("%s", (_name, api) => {
  const { min, max } = api.versions;
  const versions = Array.from({ length: max - min + 1 }, (_, index) => min + index);
  it.each(versions)("version %d reads back what it writes", (version) => {
    checkRoundTrip(api.request, version);
    checkRoundTrip(api.response, version);
  });
});

it("serves exactly the versions it says", () => {
  const served = Object.fromEntries(
    groupApis.map(({ key, versions }) => [key, [versions.min, versions.max]]),
  );
  expect(served).toEqual({
    8: [2, 8],
    9: [1, 8],
    10: [0, 4],
    11: [0, 9],
    12: [0, 4],
    13: [0, 5],
    14: [0, 5],
    15: [0, 6],
    16: [0, 5],
    42: [0, 2],
    47: [0, 0],
  });
});
