/** Reading what people wrote: a bounded file of UTF-8 text. */
import { isUtf8 } from "node:buffer";
import { readFileSync, statSync } from "node:fs";

const MAX_BYTES = 16 << 20;

/** Throws an Error in words that go behind the file's name; with code ENOENT where there is none. */
export function readTextFile(path: string): string {
  const stats = statSync(path);
  if (stats.isDirectory()) throw new Error("is a folder");
  if (stats.size > MAX_BYTES) throw new Error(`has ${stats.size} bytes, and ${MAX_BYTES} are the most`);
  const bytes = readFileSync(path);
  if (isUtf8(bytes)) return bytes.toString();
  const utf16 = bytes[0] === 0xff || bytes[0] === 0xfe;
  throw new Error(
    utf16 ? "is UTF-16; save it as UTF-8" : `is no UTF-8 text: see line ${lineOfBadByte(bytes)}`,
  );
}

function lineOfBadByte(bytes: Buffer): number {
  let line = 1;
  for (let at = 0; ; line++) {
    const end = bytes.indexOf(0x0a, at);
    if (end < 0 || !isUtf8(bytes.subarray(at, end))) return line;
    at = end + 1;
  }
}
