/** A share of the fuzzer's frames in every run; a million of them: `npm run fuzz:kafka -- --frames 1000000`. */
import { expect, test } from "vitest";
import { besiege } from "../fuzz/besieged.ts";

const FRAMES = 40_000;
/** Always the same frames, so that a failure is that of a change; the script goes elsewhere. */
const SEED = 1;

test(`${FRAMES} mutated frames of seed ${SEED} do no harm`, { timeout: 240_000 }, async () => {
  const { report, complaints } = await besiege({ seed: SEED, from: 0, to: FRAMES });
  console.log(`seed ${SEED}: ${JSON.stringify(report)}`);
  expect(complaints, `npm run fuzz:kafka -- --frames ${FRAMES} --seed ${SEED}`).toEqual([]);
  expect(report.sent).toBe(FRAMES);
  // Most of them must have got somewhere, or this tries nothing.
  expect(report.answered).toBeGreaterThan(FRAMES / 4);
  expect(report.honestRequests).toBeGreaterThan(100);
});
