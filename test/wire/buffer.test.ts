import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ProtocolError } from "../../src/errors.ts";
import { Reader, Writer } from "../../src/wire/buffer.ts";

function written(write: (writer: Writer) => void): Reader {
  const writer = new Writer(8);
  write(writer);
  return new Reader(writer.toBuffer());
}

describe("the primitive types", () => {
  it("come back as they were written", () => {
    const safe = fc.maxSafeInteger();
    const half = fc.integer({ min: -(2 ** 51), max: 2 ** 51 });
    fc.assert(
      fc.property(
        safe,
        half,
        fc.integer(),
        fc.nat(),
        fc.string({ unit: "binary" }),
        (i64, long, i32, u, text) => {
          const reader = written((w) => {
            w.int64(i64);
            w.varlong(long);
            w.int32(i32);
            w.varint(i32);
            w.uvarint(u);
            w.string(true, text);
            w.string(false, text);
            w.string(true, null);
            w.bytes(false, null);
          });
          expect(reader.int64()).toBe(i64);
          expect(reader.varlong()).toBe(long);
          expect(reader.int32()).toBe(i32);
          expect(reader.varint()).toBe(i32);
          expect(reader.uvarint()).toBe(u);
          const utf8 = Buffer.from(text).toString();
          expect(reader.string(true)).toBe(utf8);
          expect(reader.string(false)).toBe(utf8);
          expect(reader.string(true)).toBeNull();
          expect(reader.bytes(false)).toBeNull();
          expect(reader.remaining).toBe(0);
        },
      ),
    );
  });

  it("never read beyond the buffer, and fail with a protocol error only", () => {
    const reads = ["int8", "int16", "int32", "int64", "uvarint", "varlong", "uuid", "taggedFields"] as const;
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.array(fc.constantFrom(...reads)), (bytes, calls) => {
        const reader = new Reader(Buffer.from(bytes));
        try {
          for (const call of calls) reader[call]();
          reader.string(true);
          reader.bytes(false);
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
        expect(reader.position).toBeLessThanOrEqual(bytes.length);
      }),
    );
  });

  it("refuse a length that is larger than what is left, before allocating for it", () => {
    const claim = Buffer.from([0x7f, 0xff, 0xff, 0xff, 1, 2, 3]);
    expect(() => new Reader(claim).bytes(false)).toThrow(ProtocolError);
    expect(() => new Reader(claim).length32(false)).toThrow(ProtocolError);
  });

  it("pass buffers through by reference", () => {
    const batch = Buffer.from("a record batch");
    const writer = new Writer();
    writer.int32(7);
    writer.reference([batch]);
    writer.int8(1);
    expect(writer.length).toBe(4 + batch.length + 1);
    expect(writer.finish()[1]).toBe(batch);
  });
});
