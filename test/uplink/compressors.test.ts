/** What goes out packed is what every reader unpacks. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { compressorFor } from "../../src/uplink/compressors.ts";
import { CODECS, type Codec } from "../../src/uplink/remote-batch.ts";
import { decompress } from "../../src/wire/compression.ts";

const hasZstd = "zstdCompress" in (await import("node:zlib"));

test.each<Codec>(["gzip", "snappy", "lz4", ...(hasZstd ? (["zstd"] as const) : [])])(
  "%s: whatever is packed comes out again",
  async (codec) => {
    const compress = await compressorFor(codec);
    const body = fc.oneof(
      fc.uint8Array({ maxLength: 2_000 }),
      // What repeats itself, over several of lz4's blocks.
      fc
        .tuple(fc.uint8Array({ minLength: 1, maxLength: 50 }), fc.integer({ min: 1, max: 5_000 }))
        .map(([piece, times]) => Buffer.concat(new Array(times).fill(piece))),
    );
    await fc.assert(
      fc.asyncProperty(body, async (bytes) => {
        const packed = await compress?.(Buffer.from(bytes));
        const unpacked = decompress(CODECS[codec], packed as Buffer, 1 << 20);
        expect(unpacked?.equals(Buffer.from(bytes))).toBe(true);
      }),
      { numRuns: 50 },
    );
  },
);

test("lz4 frames have independent blocks and no dictionary: Kafka reads no others", async () => {
  const packed = (await (await compressorFor("lz4"))?.(Buffer.alloc(300_000, "abcdefgh"))) as Buffer;
  expect(packed.readUInt32LE(0)).toBe(0x184d2204);
  const flags = packed.readUInt8(4);
  expect(flags >> 6).toBe(1);
  expect(flags & 0x20).toBe(0x20);
  expect(flags & 0x01).toBe(0);
});

test("zstd is there with Node 22.15; before, it is said that it is not, with what there is instead", async () => {
  const compressor = compressorFor("zstd");
  if (hasZstd) return void expect(await compressor).toBeTypeOf("function");
  await expect(compressor).rejects.toMatchObject({
    message: expect.stringMatching(
      /compression zstd is not to be had here: it came with Node 22.15, and this is v2/,
    ),
    mend: expect.stringMatching(/gzip/),
  });
});
