/**
 * Snappy (google/snappy, format_description.txt; snappy-java's framing), decoded only, and bounded: the package that
 * needs no compiler takes a length of 2^31 for a negative one and walks backwards for minutes.
 */
import { ProtocolError } from "../errors.ts";
import { Unpacked } from "./unpacked.ts";

/** snappy-java's framing: magic, two i32 versions, then i32 length and a block, again and again. */
const SNAPPY_JAVA = Buffer.from("\x82SNAPPY\0", "latin1");
const SNAPPY_JAVA_HEADER_BYTES = 16;
const MAX_LENGTH_BYTES = 5;

/**
 * Java's clients and kafkajs frame it as snappy-java does, librdkafka may send one raw block. Throws ProtocolError on
 * what is neither, and on more than `maxBytes`.
 */
export function decompressSnappy(source: Buffer, maxBytes: number): Buffer {
  try {
    if (!source.subarray(0, SNAPPY_JAVA.length).equals(SNAPPY_JAVA)) return readBlock(source, maxBytes);
    const blocks: Buffer[] = [];
    let bytes = 0;
    for (let at = SNAPPY_JAVA_HEADER_BYTES; at < source.length; ) {
      const end = at + 4 + source.readUInt32BE(at);
      if (end > source.length) throw new RangeError("cut");
      const block = readBlock(source.subarray(at + 4, end), maxBytes - bytes);
      bytes += block.length;
      blocks.push(block);
      at = end;
    }
    return Buffer.concat(blocks, bytes);
  } catch (error) {
    // Reading behind the end.
    if (error instanceof RangeError) throw new ProtocolError("a snappy block that is cut short");
    throw error;
  }
}

function readBlock(source: Buffer, maxBytes: number): Buffer {
  let at = 0;
  let length = 0;
  for (let byte = 0x80; byte >= 0x80; at++) {
    byte = source.readUInt8(at);
    length += (byte & 0x7f) * 128 ** at;
    if (at === MAX_LENGTH_BYTES) throw new ProtocolError("a snappy block without a length");
  }
  if (length > maxBytes) throw new ProtocolError(`more than ${maxBytes} bytes in a snappy block`);
  const output = new Unpacked("a snappy block", length, length);
  while (at < source.length) {
    const tag = source[at++] as number;
    const six = tag >> 2;
    switch (tag & 3) {
      case 0: {
        // Up to 60 bytes, or the length behind it in 1 to 4 bytes.
        const more = Math.max(0, six - 59);
        const literals = 1 + (more === 0 ? six : source.readUIntLE(at, more));
        at += more;
        if (literals > source.length - at) throw new RangeError("cut");
        output.literals(source, at, at + literals);
        at += literals;
        break;
      }
      case 1:
        output.match(((tag >> 5) << 8) | source.readUInt8(at), 4 + (six & 7));
        at += 1;
        break;
      case 2:
        output.match(source.readUInt16LE(at), 1 + six);
        at += 2;
        break;
      default:
        output.match(source.readUInt32LE(at), 1 + six);
        at += 4;
    }
  }
  if (output.length !== length) throw new ProtocolError("a snappy block that is cut short");
  return output.content;
}
