/** Chance that can be repeated: a small generator (mulberry32) with the few draws that the simulator needs. */
import crypto from "node:crypto";
import { syncBuiltinESMExports } from "node:module";

const WALL_CLOCK_MS = 1_700_000_000_000;

export class Random {
  private state: number;

  /** The same numbers give the same draws. */
  constructor(...seed: readonly number[]) {
    this.state = 0x9e3779b9;
    for (const part of seed) {
      this.state = (Math.imul(this.state ^ (part >>> 0), 0x85ebca6b) + 0x6d2b79f5) >>> 0;
      this.next();
    }
  }

  /** 0 ≤ x < 1 */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let mixed = this.state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from 0 up to, but not with, `bound`. */
  int(bound: number): number {
    return Math.floor(this.next() * bound);
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.int(items.length)] as T;
  }
}

/**
 * Runs `work` with Node's own chance (random bytes, of which streams' ids are made, and `Math.random`) drawn from
 * `random`, and with a wall clock that stands still.
 */
export async function withRepeatableIds<T>(random: Random, work: () => Promise<T>): Promise<T> {
  const { randomBytes } = crypto;
  const { random: anyNumber } = Math;
  const { now } = Date;
  const drawn = (bytes: number): Buffer => Buffer.from(Array.from({ length: bytes }, () => random.int(256)));
  const replace = (source: unknown): void => {
    Object.assign(crypto, { randomBytes: source });
    syncBuiltinESMExports();
  };
  replace(drawn);
  Math.random = () => random.next();
  Date.now = () => WALL_CLOCK_MS;
  try {
    return await work();
  } finally {
    replace(randomBytes);
    Math.random = anyNumber;
    Date.now = now;
  }
}
