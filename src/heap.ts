/**
 * The size of V8's heap, which by itself takes what there is rather than collect. Of a gateway little lives on: some
 * 35 MB and the tails of its partitions.
 *
 * The young generation doubles up to 16 MiB a half while much of it lives on, and an idle gateway never gives that
 * back: 12 of some 100 MB after a start. Under load it is worse: what a socket was read into lies outside of the heap
 * and is let go only by the next collection, so a young heap of twice the size leaves twice as much of that behind,
 * too. So it stays at its first size, and where there is work it grows once, to half of what V8 would take: some
 * 25 MB less beside a client that floods, for up to a tenth more processor time for each message.
 *
 * The old generation, with what hangs on it outside of the heap (old ends of tails), came to three times of what
 * lived on, 170 MB, before it was looked through. Now that is done when there is half as much again: some 50 MB less
 * after a few minutes of work, and no difference in throughput that could be told from noise.
 *
 * That looking through is done by V8's four threads beside the program's own, all at once, ten milliseconds and more
 * on each core; whoever wants one of them, a subscriber on the same machine above all, waits. With one such thread
 * those are served in between, and idle it is some megabytes less. V8 takes it on the command line only:
 * `--v8-pool-size=1` in package.json and in the Dockerfile. Without it all works, with longer waits under load.
 */
import { performance } from "node:perf_hooks";
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";

/** 8 MiB a half. */
const GROWN_BYTES = 16 << 20;
const LOOK_MS = 1_000;
/** The part of the time that the event loop is busy from which on there is work. */
const BUSY = 0.25;
/** More than it takes in any version of Node that there is. */
const MAX_PIECES = 2_000;

/** How much the old generation may grow over what lived on, in percent. */
const OLD_GROWTH = 50;

const youngGrowsBy = (factor: number): void => setFlagsFromString(`--semi-space-growth-factor=${factor}`);

/** To be said again when a thread has begun: that sets V8's flags of the whole process back (Node 20 and 22; not 24). */
export function keepHeapSmall(): void {
  youngGrowsBy(1);
  setFlagsFromString(`--heap-growing-percent=${OLD_GROWTH}`);
}

/** For as long as the process runs: V8 makes it small again while there is little to do. */
export function letYoungHeapGrow(): void {
  let before = performance.eventLoopUtilization();
  const timer = setInterval(() => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, before);
    before = now;
    if (utilization > BUSY && youngBytes() < (3 / 4) * GROWN_BYTES) growOnce();
  }, LOOK_MS);
  timer.unref();
}

/** It grows in a collection that much survives: one is caused here, some milliseconds of work. */
function growOnce(): void {
  const before = youngBytes();
  const survivors: object[] = [];
  youngGrowsBy(Math.max(2, Math.round(GROWN_BYTES / before)));
  while (youngBytes() === before && survivors.length < MAX_PIECES) {
    survivors.push(Array.from({ length: 200 }, (_, index) => ({ index })));
  }
  youngGrowsBy(1);
}

/**
 * What both halves are meant to hold (some 2 % less than they take). Not `space_size`: from Node 24 on pages come and
 * go within each collection, and that counts them. Even so a look just after one may see up to three times as much.
 */
export function youngBytes(): number {
  const young = getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space");
  return young === undefined ? 0 : 2 * (young.space_used_size + young.space_available_size);
}
