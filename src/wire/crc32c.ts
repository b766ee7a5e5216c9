/** CRC-32C (Castagnoli), the checksum of record batches and of the journal. */
import { crc32c as native } from "@node-rs/crc32";

/** The checksum of `data`, or of what `previous` covers followed by `data`. Unsigned. */
export function crc32c(data: Buffer, previous = 0): number {
  return native(data, previous);
}
