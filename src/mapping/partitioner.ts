/**
 * Kafka's partition for a key: murmur2 as in its Java client (`org.apache.kafka.common.utils.Utils.murmur2`
 * and `toPositive`), so that a key lands in the same partition whoever produces it.
 */

const SEED = 0x9747b28c | 0;
const M = 0x5bd1e995;

/** A signed 32-bit hash. */
export function murmur2(data: Uint8Array): number {
  const length = data.length;
  let h = SEED ^ length;
  let at = 0;
  for (; at + 4 <= length; at += 4) {
    let k =
      (data[at] as number) |
      ((data[at + 1] as number) << 8) |
      ((data[at + 2] as number) << 16) |
      ((data[at + 3] as number) << 24);
    k = Math.imul(k, M);
    k ^= k >>> 24;
    h = Math.imul(h, M) ^ Math.imul(k, M);
  }
  if (at < length) {
    const left = length - at;
    if (left === 3) h ^= (data[at + 2] as number) << 16;
    if (left >= 2) h ^= (data[at + 1] as number) << 8;
    h = Math.imul(h ^ (data[at] as number), M);
  }
  h = Math.imul(h ^ (h >>> 13), M);
  return h ^ (h >>> 15);
}

/** The partition of a key's hash; `partitions` is at least 1. */
export function partitionOf(hash: number, partitions: number): number {
  return (hash & 0x7fffffff) % partitions;
}
