import { expect, it } from "vitest";
import { SegmentIndex } from "../../src/log/segment-index.ts";
import { Random } from "../crash/random.ts";

const BATCH_BYTES = 1500;
const BASE = 100;

it("leads to the first batch that is as new, whatever of its files a power cut has left, once the gap is read", () => {
  for (let seed = 0; seed < 300; seed++) {
    const random = new Random(seed);
    const most = random.pick([2, 10, 1000]);
    const count = 1 + random.int(60);
    const times = Array.from({ length: count }, (_, at) => random.int(most) + (random.chance(0.3) ? at : 0));
    const whole = new SegmentIndex(BASE);
    const written = random.int(count + 1);
    const add = (index: SegmentIndex, at: number): void =>
      index.add(at * BATCH_BYTES, BATCH_BYTES, BASE + at, times[at] as number);
    for (let at = 0; at < written; at++) add(whole, at);
    const files = whole.encode();
    for (let at = written; at < count; at++) add(whole, at);

    const offsets = files.offsets.subarray(0, files.offsets.length - 8 * random.int(3));
    const kept = Math.max(0, files.times.length - 12 * random.int(4));
    const found = SegmentIndex.decode(
      ...([BASE, offsets, files.times.subarray(0, kept), written * BATCH_BYTES, BASE + written] as const),
    );
    const last = found.lastEntry();
    for (let at = last === undefined ? 0 : last.offset - BASE + 1; at < count; at++) add(found, at);
    const gap = found.timeGap;
    if (gap !== undefined) {
      expect(found.counts.times * 12).toBeLessThanOrEqual(kept);
      const batches = times.map((maxTimestamp, at) => ({ lastOffset: BASE + at, maxTimestamp }));
      found.fillTimeGap(batches.filter(({ lastOffset }) => lastOffset > gap.after && lastOffset <= gap.last));
    }
    expect(found.timeGap).toBeUndefined();
    const newest = Math.max(...times);
    expect(found.maxTimestamp).toBe(newest);
    expect(found.offsetOfMaxTimestamp).toBe(BASE + times.indexOf(newest));
    for (let wanted = -1; wanted <= newest; wanted++) {
      const before = found.entryBefore(wanted);
      const first = times.findIndex((time) => time >= wanted);
      if (before === undefined) continue;
      expect(before.offset).toBeLessThan(BASE + first);
      expect(times[before.offset - BASE]).toBe(before.timestamp);
    }
  }
});
