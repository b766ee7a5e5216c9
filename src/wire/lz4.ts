/**
 * LZ4 frames (lz4_Frame_format.md 1.6.2, lz4_Block_format.md), decoded only, and bounded: the packages that
 * install without a compiler either trust lengths or cannot be told where to stop.
 *
 * Checksums are not looked at (a record batch has its own), dictionaries are not there in Kafka.
 */
import { ProtocolError } from "../errors.ts";
import { Unpacked } from "./unpacked.ts";

const MAGIC = 0x184d2204;
const VERSION = 0b01;
const BLOCK_CHECKSUM = 0x10;
const CONTENT_SIZE = 0x08;
const CONTENT_CHECKSUM = 0x04;
const DICTIONARY = 0x01;
const UNCOMPRESSED = 0x8000_0000;
const MIN_MATCH = 4;

/** Throws ProtocolError on what is no frame, and on more than `maxBytes`. */
export function decompressLz4(source: Buffer, maxBytes: number): Buffer {
  const output = new Unpacked("an LZ4 frame", maxBytes, source.length * 4);
  let at = 0;
  try {
    while (at < source.length) at = readFrame(source, at, output);
  } catch (error) {
    // Reading behind the end.
    if (error instanceof RangeError) throw new ProtocolError("an LZ4 frame that is cut short");
    throw error;
  }
  return output.content;
}

/** Returns where the frame ends. */
function readFrame(source: Buffer, start: number, output: Unpacked): number {
  const flags = source.readUInt8(start + 4);
  if (source.readUInt32LE(start) !== MAGIC || flags >> 6 !== VERSION || (flags & DICTIONARY) !== 0) {
    throw new ProtocolError("no LZ4 frame");
  }
  // Magic, flags, block size, perhaps the content's size, and the header's checksum.
  let at = start + 7 + ((flags & CONTENT_SIZE) === 0 ? 0 : 8);
  for (;;) {
    const size = source.readUInt32LE(at);
    at += 4;
    if (size === 0) return at + ((flags & CONTENT_CHECKSUM) === 0 ? 0 : 4);
    const end = at + (size % UNCOMPRESSED);
    if (end > source.length) throw new RangeError("cut");
    if (size >= UNCOMPRESSED) output.literals(source, at, end);
    else readBlock(source, at, end, output);
    at = end + ((flags & BLOCK_CHECKSUM) === 0 ? 0 : 4);
  }
}

function readBlock(source: Buffer, start: number, end: number, output: Unpacked): void {
  let at = start;
  /** The rest of a length of which 15 are known: bytes that add up, as long as they are 255. */
  const more = (length: number): number => {
    let sum = length;
    for (let byte = 255; byte === 255 && sum <= output.maxBytes; ) {
      if (at >= end) throw new RangeError("cut");
      byte = source[at++] as number;
      sum += byte;
    }
    return sum;
  };
  while (at < end) {
    const token = source[at++] as number;
    const literals = token >> 4 === 15 ? more(15) : token >> 4;
    if (literals > end - at) throw new RangeError("cut");
    output.literals(source, at, at + literals);
    at += literals;
    if (at === end) return;
    if (at + 2 > end) throw new RangeError("cut");
    const distance = source.readUInt16LE(at);
    at += 2;
    output.match(distance, MIN_MATCH + ((token & 15) === 15 ? more(15) : token & 15));
  }
}
