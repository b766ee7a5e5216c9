import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ProtocolError } from "../../src/errors.ts";
import { apis } from "../../src/kafka/apis/index.ts";
import { parseRequest } from "../../src/kafka/request.ts";
import { Reader, Writer, ZERO_UUID } from "../../src/wire/buffer.ts";
import {
  decode,
  encode,
  type Field,
  type Fields,
  inVersions,
  type MessageSchema,
} from "../../src/wire/schema.ts";
import { document } from "./api-table.ts";

const KINDS: Record<string, fc.Arbitrary<unknown>> = {
  int8: fc.integer({ min: -128, max: 127 }),
  int16: fc.integer({ min: -32768, max: 32767 }),
  uint16: fc.nat(65535),
  int32: fc.integer(),
  int64: fc.maxSafeInteger(),
  bool: fc.boolean(),
  uuid: fc.uint8Array({ minLength: 16, maxLength: 16 }).map((b) => Buffer.from(b).toString("base64url")),
  string: fc.string({ maxLength: 12, unit: "binary" }).map((text) => Buffer.from(text).toString()),
  bytes: fc.uint8Array({ maxLength: 12 }).map((bytes) => Buffer.from(bytes)),
  records: fc.uint8Array({ maxLength: 12 }).map((bytes) => [Buffer.from(bytes)]),
};

const ZEROS: Record<string, unknown> = { bool: false, uuid: ZERO_UUID, string: "", array: [], records: [] };

/** What a version that lacks the field reads. */
function zeroOf(field: Field): unknown {
  if ("default" in field.options) return field.options.default;
  if (field.kind === "struct") {
    return Object.fromEntries(Object.entries(field.fields as Fields).map(([name, f]) => [name, zeroOf(f)]));
  }
  return field.kind in ZEROS ? ZEROS[field.kind] : 0;
}

function arbitraryField(field: Field, version: number, flexible: boolean): fc.Arbitrary<unknown> {
  const { versions, nullable, tag } = field.options;
  if (!inVersions(versions, version) || (tag !== undefined && !flexible)) return fc.constant(zeroOf(field));
  const value =
    field.kind === "array"
      ? fc.array(arbitraryField(field.of as Field, version, flexible), { maxLength: 3 })
      : field.kind === "struct"
        ? arbitraryFields(field.fields as Fields, version, flexible)
        : (KINDS[field.kind] as fc.Arbitrary<unknown>);
  return nullable !== undefined && inVersions(nullable, version) ? fc.option(value, { nil: null }) : value;
}

function arbitraryFields(fields: Fields, version: number, flexible: boolean): fc.Arbitrary<object> {
  return fc.record(
    Object.fromEntries(
      Object.entries(fields).map(([name, field]) => [name, arbitraryField(field, version, flexible)]),
    ),
    { noNullPrototype: true },
  );
}

const cases = apis.flatMap((api) => {
  const { min, max } = api.advertised ?? api.versions;
  return Array.from({ length: max - min + 1 }, (_, index) => ({ api, name: api.name, version: min + index }));
});

function roundTrip(schema: MessageSchema, version: number, value: object): unknown {
  const writer = new Writer();
  encode(schema, version, value, writer);
  const reader = new Reader(writer.toBuffer());
  const read = decode(schema, version, reader);
  expect(reader.remaining).toBe(0);
  return read;
}

describe("every registered message in every version", () => {
  it.each(cases)("$name $version reads back what it wrote, in both directions", ({ api, version }) => {
    for (const schema of [api.request, api.response]) {
      const values = arbitraryFields(schema.fields, version, version >= schema.flexibleFrom);
      fc.assert(
        fc.property(values, (value) => {
          expect(roundTrip(schema, version, value)).toEqual(value);
        }),
        { numRuns: 25 },
      );
    }
  });

  it.each(cases)(
    "$name $version answers random bytes with nothing but a ProtocolError",
    ({ api, version }) => {
      const bytes = fc.uint8Array({ maxLength: 200 });
      fc.assert(
        fc.property(bytes, (body) => {
          for (const schema of [api.request, api.response]) {
            const inside = Buffer.concat([Buffer.from(body), Buffer.alloc(64, 0xff)]).subarray(
              0,
              body.length,
            );
            const reader = new Reader(inside);
            expectDecodedOrProtocolError(() => decode(schema, version, reader));
            // What lies behind the frame is somebody else's.
            expect(reader.position).toBeLessThanOrEqual(body.length);
          }
        }),
        { numRuns: 50 },
      );
    },
  );

  it.each(cases)("$name $version survives a request of which some bytes were changed", ({ api, version }) => {
    const flexible = version >= api.request.flexibleFrom;
    const served = new Map([[api.key, api]]);
    fc.assert(
      fc.property(
        arbitraryFields(api.request.fields, version, flexible),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.nat(),
        (value, changes, cut) => {
          const writer = new Writer();
          writer.int16(api.key);
          writer.int16(version);
          writer.int32(1);
          writer.string(false, "c");
          if (flexible) writer.uvarint(0);
          encode(api.request, version, value, writer);
          const frame = writer.toBuffer();
          for (const [at, byte] of changes) frame[at % frame.length] = byte;
          const end = cut % 3 === 0 ? cut % frame.length : frame.length;
          expectDecodedOrProtocolError(() => parseRequest(frame.subarray(0, end), served, 1000));
        },
      ),
      { numRuns: 50 },
    );
  });
});

function expectDecodedOrProtocolError(act: () => unknown): void {
  try {
    expect(act()).toBeDefined();
  } catch (error) {
    expect(error).toBeInstanceOf(ProtocolError);
  }
}

describe("arrays of a request", () => {
  it("are refused when they hold more elements than one request may, before anything is read", () => {
    const fetch = apis.find(({ key }) => key === 1) as (typeof apis)[number];
    const request = {
      topics: Array.from({ length: 4 }, () => ({
        topic: "t",
        partitions: [{ partition: 0 }, { partition: 1 }],
      })),
    };
    const writer = new Writer();
    encode(fetch.request, 4, request, writer);
    const bounded = new Reader(writer.toBuffer());
    bounded.elementsLeft = 11;
    expect(() => decode(fetch.request, 4, bounded)).toThrow(/2 elements where 1 are allowed/);
    bounded.position = 0;
    bounded.elementsLeft = 12;
    expect(decode(fetch.request, 4, bounded)).toMatchObject({ topics: [{}, {}, {}, {}] });
  });
});

it("serves what docs/kafka.md says: npm run docs writes its table anew", () => {
  const { is, should } = document();
  expect(is).toBe(should);
});
