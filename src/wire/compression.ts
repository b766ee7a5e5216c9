/**
 * The codecs of record batches: what is compressed passes through as it is, and is only ever looked into by
 * compaction, by look-ups by time, and by our own readers. So they are decoded, bounded against bombs, and
 * never made: what is written anew goes out in gzip, which Node has.
 */
import { promisify } from "node:util";
import { gunzip, gunzipSync } from "node:zlib";
import { Decompress } from "fzstd";
import { messageOf, ProtocolError } from "../errors.ts";
import { decompressLz4 } from "./lz4.ts";
import { decompressSnappy } from "./snappy.ts";

/** `attributes`, bits 0–2. */
export const Codec = { NONE: 0, GZIP: 1, SNAPPY: 2, LZ4: 3, ZSTD: 4 } as const;

/** In this thread: a body of this much takes some 20 ms, and nobody else has a turn. */
const MAX_BYTES_AT_ONCE = 4 << 20;

const gunzipLater = promisify(gunzip);

/** The bytes that `body` holds. Throws ProtocolError on what is none of these codecs, and on more than `maxBytes`. */
export function decompress(codec: number, body: Buffer, maxBytes: number): Buffer {
  try {
    switch (codec) {
      case Codec.NONE:
        return body;
      case Codec.GZIP:
        return gunzipSync(body, { maxOutputLength: maxBytes });
      case Codec.SNAPPY:
        return decompressSnappy(body, maxBytes);
      case Codec.LZ4:
        return decompressLz4(body, maxBytes);
      case Codec.ZSTD:
        return decompressZstd(body, maxBytes);
    }
  } catch (error) {
    if (error instanceof ProtocolError) throw error;
    throw new ProtocolError(`a body that cannot be decompressed: ${messageOf(error)}`);
  }
  throw new ProtocolError(`there is no codec ${codec}`);
}

/** The same, gzip in another thread; the others only up to what does not hold everybody up. */
export async function decompressLater(codec: number, body: Buffer, maxBytes: number): Promise<Buffer> {
  if (codec !== Codec.GZIP) return decompress(codec, body, Math.min(maxBytes, MAX_BYTES_AT_ONCE));
  try {
    return await gunzipLater(body, { maxOutputLength: maxBytes });
  } catch (error) {
    throw new ProtocolError(`a body that cannot be decompressed: ${messageOf(error)}`);
  }
}

const ZSTD_MAGIC = 0xfd2fb528;
/** What RFC 8878 asks every decoder to support, 3.1.1.1.2. */
const MAX_ZSTD_WINDOW_BYTES = 8 << 20;

/**
 * Walks the frames and their blocks (RFC 8878, 3.1.1): fzstd reserves what a header claims as its window, so
 * that is held against the bounds before.
 */
function checkZstd(body: Buffer, maxBytes: number): void {
  for (let at = 0; at < body.length; ) {
    const flags = body.readUInt8(at + 4);
    if (body.readUInt32LE(at) !== ZSTD_MAGIC) throw new ProtocolError("no zstd frame");
    const isSingle = (flags & 0x20) !== 0;
    const sizeBytes = flags >> 6 === 0 ? Number(isSingle) : 1 << (flags >> 6);
    const dictionaryBytes = [0, 1, 2, 4][flags & 3] as number;
    const sizeAt = at + (isSingle ? 5 : 6) + dictionaryBytes;
    const size =
      sizeBytes === 8
        ? Number(body.readBigUInt64LE(sizeAt))
        : sizeBytes && body.readUIntLE(sizeAt, sizeBytes);
    const descriptor = body.readUInt8(at + 5);
    const windowBytes = isSingle ? 0 : (1 + (descriptor & 7) / 8) * 2 ** (10 + (descriptor >> 3));
    if (size > maxBytes || windowBytes > MAX_ZSTD_WINDOW_BYTES) {
      throw new ProtocolError(`a zstd frame of ${size} bytes with a window of ${windowBytes}`);
    }
    at = sizeAt + sizeBytes;
    for (let isLast = false; !isLast; ) {
      const header = body.readUIntLE(at, 3);
      isLast = (header & 1) === 1;
      // A block of one repeated byte has that only.
      at += 3 + ((header & 6) === 2 ? 1 : header >> 3);
    }
    at += (flags & 4) === 0 ? 0 : 4;
    if (at > body.length) throw new ProtocolError("a zstd frame that is cut short");
  }
}

function decompressZstd(body: Buffer, maxBytes: number): Buffer {
  checkZstd(body, maxBytes);
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  const stream = new Decompress((chunk) => {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new ProtocolError(`more than ${maxBytes} bytes in a zstd frame`);
    chunks.push(chunk);
  });
  stream.push(body, true);
  return Buffer.concat(chunks, bytes);
}
