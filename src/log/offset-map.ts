/**
 * Keys and their latest offsets, for compaction: 32 bytes a key, free slots included, in two flat arrays.
 *
 * A key is known by 128 bits of its SHA-256, so that nobody can make two keys that are taken for one.
 */
import { hash } from "node:crypto";

const WORDS = 4;
const WORD_BYTES = 4;
/** Slots for each key: linear probing stays short. */
const SPACE = 4 / 3;

export class OffsetMap {
  private readonly maxKeys: number;
  private readonly slots: number;
  private readonly words: Uint32Array;
  /** -1 in a free slot. */
  private readonly offsets: Float64Array;
  size = 0;

  constructor(maxKeys: number) {
    this.maxKeys = maxKeys;
    this.slots = Math.ceil(maxKeys * SPACE) + 1;
    this.words = new Uint32Array(this.slots * WORDS);
    this.offsets = new Float64Array(this.slots).fill(-1);
  }

  /** False when the key is new and there is no room for it. */
  set(key: Buffer, offset: number): boolean {
    const digest = digestOf(key);
    const slot = this.slotOf(digest);
    if (this.offsets[slot] === -1) {
      if (this.size === this.maxKeys) return false;
      this.size++;
      for (let word = 0; word < WORDS; word++) {
        this.words[slot * WORDS + word] = wordOf(digest, word);
      }
    }
    this.offsets[slot] = offset;
    return true;
  }

  /** The latest offset of a key; -1 for one that is not there. */
  get(key: Buffer): number {
    return this.offsets[this.slotOf(digestOf(key))] as number;
  }

  /** Where a key is, or the free slot where it would be. */
  private slotOf(digest: string): number {
    let slot = wordOf(digest, 0) % this.slots;
    while (this.offsets[slot] !== -1 && !this.isAt(slot, digest)) slot = (slot + 1) % this.slots;
    return slot;
  }

  private isAt(slot: number, digest: string): boolean {
    for (let word = 0; word < WORDS; word++) {
      if (this.words[slot * WORDS + word] !== wordOf(digest, word)) return false;
    }
    return true;
  }
}

/** A character for each byte: a Buffer of its own for each record would take four times as long. */
function digestOf(key: Buffer): string {
  return hash("sha256", key, "binary");
}

function wordOf(digest: string, word: number): number {
  const at = word * WORD_BYTES;
  const low = digest.charCodeAt(at) | (digest.charCodeAt(at + 1) << 8);
  return (low | (digest.charCodeAt(at + 2) << 16) | (digest.charCodeAt(at + 3) << 24)) >>> 0;
}
