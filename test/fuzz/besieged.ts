/** One gateway under attack, from start to stop, and what must hold in the end. */
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Gateway } from "../interop/support/gateway.ts";
import { type AttackOptions, type AttackReport, attack, HONEST_STREAM } from "./attack.ts";

/** In memory where the system has such a place: it is not the disk that is tried here. */
const ROOM = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
/** So much and no more: on a large machine garbage would look like growth, and a leak ends the process here. */
const HEAP_MIB = 160;
/** What memory may still grow by in the last third of a run: the collector's mood, not a leak of frames. */
const MAX_GROWTH_MIB = 64;

export interface Siege {
  readonly report: AttackReport;
  /** What should not have been, in words; empty when all is well. */
  readonly complaints: readonly string[];
}

export async function besiege(options: AttackOptions): Promise<Siege> {
  const dataDir = await mkdtemp(join(ROOM, "sluice-fuzz-"));
  const gateway = await Gateway.start({
    dataDir,
    nodeArgs: [`--max-old-space-size=${HEAP_MIB}`],
    streams: { [HONEST_STREAM]: {}, a: { partitions: 3 }, unmapped: {} },
    mappings: [{ from: "#", to: "unmapped" }],
  });
  try {
    const report = await attack(gateway, options);
    const complaints: string[] = [];
    const { residentMiB } = report;
    const before = Math.max(...residentMiB.slice(0, Math.ceil((residentMiB.length * 2) / 3)));
    const grown = (residentMiB.at(-1) ?? 0) - before;
    if (grown > MAX_GROWTH_MIB) complaints.push(`memory grew by ${grown} MiB in the last third`);
    const { code } = await gateway.stop();
    if (code !== 0) complaints.push(`the gateway ended with ${code}`);
    for (const line of gateway.process.output.split("\n")) {
      if (/"level":[56]0/.test(line)) complaints.push(line);
    }
    return { report, complaints };
  } finally {
    await gateway.dispose();
    await rm(dataDir, { recursive: true, force: true });
  }
}
