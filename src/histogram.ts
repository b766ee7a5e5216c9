/**
 * A log-scaled histogram of durations: constant memory however many are recorded, and percentiles that are
 * off by at most 2.2% (sixteen buckets to each doubling, the middle of a bucket stands for it).
 *
 * Invariant: `count` is the sum of all buckets; what lies outside 1 µs … 71 min is counted at the edge, while
 * `minMs` and `maxMs` stay exact.
 */
const BUCKETS_PER_DOUBLING = 16;
const DOUBLINGS = 32;
const BUCKETS = BUCKETS_PER_DOUBLING * DOUBLINGS;
const SMALLEST_MS = 0.001;

export class Histogram {
  private readonly buckets = new Float64Array(BUCKETS);
  /** How many durations were recorded. */
  count = 0;
  minMs = Number.POSITIVE_INFINITY;
  maxMs = 0;

  /** Counts one duration in milliseconds; a negative one (a clock that stepped back) counts as 0. */
  record(ms: number): void {
    const value = Math.max(ms, 0);
    const bucket =
      value <= SMALLEST_MS ? 0 : Math.floor(Math.log2(value / SMALLEST_MS) * BUCKETS_PER_DOUBLING);
    (this.buckets[Math.min(bucket, BUCKETS - 1)] as number)++;
    this.count++;
    if (value < this.minMs) this.minMs = value;
    if (value > this.maxMs) this.maxMs = value;
  }

  /**
   * The duration in milliseconds that `p` percent (0–100) of the recorded ones do not exceed, by nearest rank;
   * NaN when nothing was recorded.
   */
  percentile(p: number): number {
    if (this.count === 0) return Number.NaN;
    const rank = Math.max(1, Math.ceil((Math.min(p, 100) / 100) * this.count));
    if (rank === this.count) return this.maxMs;
    let seen = 0;
    let bucket = 0;
    while (bucket < BUCKETS - 1) {
      seen += this.buckets[bucket] as number;
      if (seen >= rank) break;
      bucket++;
    }
    const middle = SMALLEST_MS * 2 ** ((bucket + 0.5) / BUCKETS_PER_DOUBLING);
    return Math.min(Math.max(middle, this.minMs), this.maxMs);
  }

  /** Adds what another histogram counted, as if it had been recorded here. */
  merge(other: Histogram): void {
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      (this.buckets[bucket] as number) += other.buckets[bucket] as number;
    }
    this.count += other.count;
    this.minMs = Math.min(this.minMs, other.minMs);
    this.maxMs = Math.max(this.maxMs, other.maxMs);
  }
}
