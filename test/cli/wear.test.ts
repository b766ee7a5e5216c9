import { expect, test } from "vitest";
import { wearBetween, wearText } from "../../src/cli/wear.ts";

const stats = {
  commits: 1,
  records: 1,
  readOnly: false,
  diskFull: false,
  droppedBytes: 0,
  droppedRecords: 0,
};

test("wear is what was written for what was taken, since the last look", () => {
  const before = { ...stats, committedBytes: 1_000, writtenBytes: 8_192, syncs: 2, deviceBytes: 10_000 };
  const after = { ...stats, committedBytes: 3_000, writtenBytes: 16_384, syncs: 12, deviceBytes: 30_480 };
  const wear = wearBetween(before, after, 30_000);
  expect(wear).toEqual({
    takenBytes: 2_000,
    writtenBytes: 8_192,
    deviceBytes: 20_480,
    syncs: 10,
    syncsPerMinute: 20,
    amplification: 4.1,
  });
  expect(wearText(wear)).toBe(
    "2.0 KiB taken, 8.0 KiB written, 4.1× (20.0 KiB on the device, by everybody), 20 syncs/min",
  );
});

test("what the system does not tell, and what nothing came of, is left out", () => {
  const idle = { ...stats, committedBytes: 0, writtenBytes: 4_096, syncs: 1 };
  expect(wearText(wearBetween(undefined, idle, 60_000))).toBe("0 B taken, 4.0 KiB written, 1 syncs/min");
});
