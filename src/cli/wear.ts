/** What the disk had to take for what was kept, in words: an SD card lasts by what is written to it. */
import { grouped, roughSize } from "../config/units.ts";
import type { LogStats } from "../gateway.ts";

const MINUTE_MS = 60_000;

export interface Wear {
  /** Of record batches. */
  readonly takenBytes: number;
  /** Whole pages that Sluice wrote. */
  readonly writtenBytes: number;
  /** By the kernel's counter, everybody's on that device; left out where there is none. */
  readonly deviceBytes?: number;
  readonly syncs: number;
  readonly syncsPerMinute: number;
  /** Bytes written for each byte taken; left out when nothing was. */
  readonly amplification?: number;
}

/** Of the time `ms` between two looks at the counters. */
export function wearBetween(before: LogStats | undefined, after: LogStats, ms: number): Wear {
  const since = (count: (stats: LogStats) => number) => count(after) - (before ? count(before) : 0);
  const takenBytes = since((stats) => stats.committedBytes);
  const writtenBytes = since((stats) => stats.writtenBytes);
  const syncs = since((stats) => stats.syncs);
  const { deviceBytes } = after;
  return {
    takenBytes,
    writtenBytes,
    ...(deviceBytes === undefined ? {} : { deviceBytes: deviceBytes - (before?.deviceBytes ?? 0) }),
    syncs,
    syncsPerMinute: Number(((syncs * MINUTE_MS) / ms).toPrecision(3)),
    ...(takenBytes === 0 ? {} : { amplification: Number((writtenBytes / takenBytes).toPrecision(3)) }),
  };
}

export function wearText({
  takenBytes,
  writtenBytes,
  deviceBytes,
  syncsPerMinute,
  amplification,
}: Wear): string {
  const device = deviceBytes === undefined ? "" : ` (${roughSize(deviceBytes)} on the device, by everybody)`;
  const times = amplification === undefined ? "" : `, ${grouped(amplification)}×`;
  return `${roughSize(takenBytes)} taken, ${roughSize(writtenBytes)} written${times}${device}, ${grouped(Math.round(syncsPerMinute))} syncs/min`;
}
