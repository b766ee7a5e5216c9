import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { compressSync } from "snappy";
import { describe, expect, it } from "vitest";
import { ProtocolError } from "../../src/errors.ts";
import { Codec, decompress, decompressLater } from "../../src/wire/compression.ts";

/** What `lz4` 1.9.4 and `zstd` 1.5.4 make of `TEXT`, and of eight megabytes of zeros. */
const BY_OTHERS = {
  lz4WithIndependentBlocks:
    "BCJNGGxAzAoBAAAAAACy2wEAAPMCc2Vuc29yIDAgcmVhZHMgMAoRABMxEQAUMREAEzIRABQyEQATMxEAFDMRABM0EQArNApV" +
    "ABw1VQAcNlUAHDdVABw4VQAcMFUAHDFVABwyVQAcM1UAHDRVABw1VQAcNlUAHDdVABw4VQAcMFUAHDFVABwyVQAcM1UAHDRV" +
    "ABw1VQAcNlUAHDdVABw4VQAcMFUAHDFVABwyVQAcM1UAHDRVABw1VQAcNlUAHDdVABw4VQAcMFUAHDFVABwyVQAcM1UAHDRV" +
    "ABw1VQAcNlUAHDdVAC84Cv0C////////////////////////////////////////////////////////////////////////" +
    "////////////////////////////////////////////////////////////////////////////////////////////////" +
    "////////////////////////////////////////////////////////////////////////////////////////////////" +
    "/////////////////////////////////////////////////////////////////////////+hQcyAyCnPsAAAA8gJlbnNv" +
    "ciAwIHJlYWRzIDMKcxEAEzERABQ0EQATMhEAFDURABMzEQAUNhEAEzQRADo3CnNVABw4VQAcMFUAHDFVABwyVQAcM1UAHDRV" +
    "ABw1VQAcNlUAHDdVABw4VQAcMFUAHDFVABwyVQAcM1UAHDRVABw1VQAcNlUAHDdVABw4VQAcMFUAHDFVABwyVQAcM1UAHDRV" +
    "ABw1VQAcNlUAHDdVABw4VQAcMFUAHDFVABwyVQAcM1UAHDRVABw1VQAcNlUAHDdVABw4VQAcMFUAHDFVAAWZAA/9Av//////" +
    "/5AfQQEA/xRQQUFBQUEAAAAA0n4qMQ==",
  lz4WithLinkedBlocks:
    "BCJNGFRArtsBAADzAnNlbnNvciAwIHJlYWRzIDAKEQATMREAFDERABMyEQAUMhEAEzMRABQzEQATNBEAKzQKVQAcNVUAHDZV" +
    "ABw3VQAcOFUAHDBVABwxVQAcMlUAHDNVABw0VQAcNVUAHDZVABw3VQAcOFUAHDBVABwxVQAcMlUAHDNVABw0VQAcNVUAHDZV" +
    "ABw3VQAcOFUAHDBVABwxVQAcMlUAHDNVABw0VQAcNVUAHDZVABw3VQAcOFUAHDBVABwxVQAcMlUAHDNVABw0VQAcNVUAHDZV" +
    "ABw3VQAvOAr9Av//////////////////////////////////////////////////////////////////////////////////" +
    "////////////////////////////////////////////////////////////////////////////////////////////////" +
    "////////////////////////////////////////////////////////////////////////////////////////////////" +
    "///////////////////////////////////////////////////////////////oUHMgMgpzSbvtORkAAAAP/QL/////////" +
    "//+WH0EBAP8UUEFBQUFBkkTXcAAAAADSfiox",
  zstd:
    "KLUv/aTMCgEAHQMAgoQNELC5ASDU9KGKbHd391nTA4AChNXEs3pYTTyrh9XEs3pYTTyrh9W8EX1nM1eBO5FRkG90kikpM6gR" +
    "oF//DNBDYVgDEUwTvr7//7VnKBAVoAYA94qIhGO3Ws5i5SKagl0Fd21pLA==",
  zstdOfEightMegabytes:
    "KLUv/aQAEnoATAAACAABAPz/ORACAgAQAAIAEAACABAAAgAQAAIAEAACABAAAgAQAAIAEAACABAAAgAQAAIAEAACABAAAgAQ" +
    "AAIAEAACABAAAgAQAAIAEAACABAAAgAQAAIAEAACABAAAgAQAAIAEAACABAAAgAQAAIAEAACABAAAgAQAAIAEAACABAAAgAQ" +
    "AAIAEAACABAAAgAQAAIAEAACABAAAgAQAAIAEAACABAAAgAQAAIAEAACABAAAgAQAAIAEAACABAAAgAQAAIAEAACABAAAgAQ" +
    "AAIAEAACABAAAgAQAAIAEAACABAAAgAQAAIAEAACABAAAgAQAAIAEAACABAAA5AAAFE1iG4=",
};
const TEXT =
  Array.from({ length: 4000 }, (_, at) => `sensor ${at % 5} reads ${at % 9}\n`).join("") + "A".repeat(300);

const bytes = (base64: string): Buffer => Buffer.from(base64, "base64");
const compress = (text: Buffer): Buffer => Buffer.from(compressSync(text));

/** snappy-java's framing, in blocks of 32 KiB as Kafka's clients write it. */
function snappyJava(text: Buffer): Buffer {
  const pieces: Buffer[] = [Buffer.from("\x82SNAPPY\0\0\0\0\x01\0\0\0\x01", "latin1")];
  for (let at = 0; at < text.length; at += 32 << 10) {
    const block = compress(Buffer.from(text.subarray(at, at + (32 << 10))));
    const length = Buffer.alloc(4);
    length.writeUInt32BE(block.length);
    pieces.push(length, block);
  }
  return Buffer.concat(pieces);
}

const BODIES: [name: string, codec: number, body: Buffer][] = [
  ["nothing", Codec.NONE, Buffer.from(TEXT)],
  ["gzip", Codec.GZIP, gzipSync(TEXT)],
  ["raw snappy", Codec.SNAPPY, compress(Buffer.from(TEXT))],
  ["snappy as Java frames it", Codec.SNAPPY, snappyJava(Buffer.from(TEXT))],
  ["lz4 in independent blocks", Codec.LZ4, bytes(BY_OTHERS.lz4WithIndependentBlocks)],
  ["lz4 in linked blocks", Codec.LZ4, bytes(BY_OTHERS.lz4WithLinkedBlocks)],
  ["zstd", Codec.ZSTD, bytes(BY_OTHERS.zstd)],
];
const COMPRESSED = BODIES.slice(1);

describe("a compressed body", () => {
  it.each(BODIES)("is read from %s", async (_, codec, body) => {
    expect(decompress(codec, body, TEXT.length).toString()).toBe(TEXT);
    expect((await decompressLater(codec, body, TEXT.length)).toString()).toBe(TEXT);
  });

  it.each(COMPRESSED)("is refused from %s where it holds more than is allowed", async (_, codec, body) => {
    for (const most of [TEXT.length - 1, 1000, 1]) {
      expect(() => decompress(codec, body, most)).toThrow(ProtocolError);
      await expect(decompressLater(codec, body, most)).rejects.toThrow(ProtocolError);
    }
  });

  it.each([
    ["zstd", Codec.ZSTD, bytes(BY_OTHERS.zstdOfEightMegabytes)],
    ["gzip", Codec.GZIP, gzipSync(Buffer.alloc(8_000_000))],
    ["snappy", Codec.SNAPPY, compress(Buffer.alloc(8_000_000))],
  ])("of %s that is a bomb costs no more than what is allowed", (_, codec, body) => {
    const before = process.memoryUsage().arrayBuffers;
    expect(() => decompress(codec, body, 100_000)).toThrow(ProtocolError);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1_500_000);
  });

  it.each(COMPRESSED)("cut or changed anywhere in %s gives text or a ProtocolError", (_, codec, body) => {
    const damage = fc.array(fc.tuple(fc.nat(body.length - 1), fc.nat(255)), { maxLength: 4 });
    fc.assert(
      fc.property(damage, fc.option(fc.nat(body.length)), (changes, cut) => {
        const damaged = Buffer.from(body.subarray(0, cut ?? body.length));
        for (const [at, byte] of changes) if (at < damaged.length) damaged[at] = byte;
        try {
          expect(decompress(codec, damaged, 200_000).length).toBeLessThanOrEqual(200_000);
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
      }),
      { numRuns: 300 },
    );
  });

  it("of zstd that claims a window of a gigabyte, in its second frame too, is not believed", () => {
    const frame = bytes(BY_OTHERS.zstd);
    const header = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 20 << 3, 1, 0, 0]);
    expect(decompress(Codec.ZSTD, Buffer.concat([frame, frame]), 200_000).length).toBe(TEXT.length * 2);
    for (const body of [header, Buffer.concat([frame, header])]) {
      expect(() => decompress(Codec.ZSTD, body, 200_000)).toThrow(/window of 1073741824/);
    }
  });

  it("of snappy with a literal of 2^32 bytes is refused at once, wherever it stands", () => {
    const endless = Buffer.from([63 << 2, 0xff, 0xff, 0xff, 0xff]);
    for (const before of [[], [4 << 2, 1, 2, 3, 4, 5]]) {
      const body = Buffer.concat([Buffer.from([94, ...before]), endless, Buffer.alloc(70)]);
      expect(() => decompress(Codec.SNAPPY, body, 1 << 20)).toThrow(/cut short/);
    }
  });

  it("of snappy that copies from before its beginning, or says another length than it has, is refused", () => {
    for (const body of [
      [4, 0b01, 1],
      [4, 0b10, 1, 0],
      [4, 0b11, 0, 0, 0, 0x80],
      [4, 0, 65, 0b01, 0],
    ]) {
      expect(() => decompress(Codec.SNAPPY, Buffer.from(body), 100)).toThrow(/from nowhere/);
    }
    for (const body of [[], [0x80], [2, 0, 65], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff], [2, 60 << 2, 5]]) {
      expect(() => decompress(Codec.SNAPPY, Buffer.from(body), 100)).toThrow(ProtocolError);
    }
    expect(decompress(Codec.SNAPPY, Buffer.from([0]), 100)).toHaveLength(0);
  });

  it("of snappy gives back whatever was compressed", () => {
    const piece = fc.tuple(fc.uint8Array({ maxLength: 200 }), fc.integer({ min: 1, max: 400 }));
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 6 }), (pieces) => {
        const text = Buffer.concat(pieces.flatMap(([bytes, times]) => Array<Uint8Array>(times).fill(bytes)));
        expect(decompress(Codec.SNAPPY, compress(text), text.length).equals(text)).toBe(true);
      }),
      { numRuns: 100 },
    );
  });

  it("of a codec that there is not is refused", () => {
    expect(() => decompress(5, Buffer.alloc(10), 100)).toThrow(/no codec 5/);
  });
});
