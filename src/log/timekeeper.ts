/**
 * What time it is, on a machine whose clock may stand at 1970, at its last shutdown, or anywhere.
 *
 * - **Log time** is for all that ages: retention, `segment.ms`, how long tombstones stay. It goes on by the
 *   monotonic clock only, while the machine is on, and is kept in the data folder. No setting of the wall
 *   clock moves it. It begins with the data folder, at the wall clock's time.
 * - **The wall clock** stamps what is received. It counts as *not set* when it is earlier than this program,
 *   earlier than what was last stamped, or claims that the machine was off for no time at all (it was put back
 *   to the last shutdown). Stamps then go on from the last one, and whoever stamps is to mark them (`isSet`).
 *   It counts as set from when somebody sets it on.
 *
 * Both are kept in the file `clock`, written now and then and at a stop: losing it, or an hour of it, makes
 * records stay longer, never shorter.
 * ```
 * sluice-clock 1
 * log <ms>                                             log time
 * stamp <ms> set|unset                                 the wall clock, or what went for it
 * machine <boot id> <ms>                               monotonic time when it was written
 * <stream id> <partition> <base> <end> <first> <last>  a segment's offsets; log times of its first and last batch
 * crc32c <hex of all lines above>
 * ```
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Clock, systemClock } from "../clock.ts";
import type { Logger } from "../logger.ts";
import { partitionKey, sealText, unsealText } from "./checkpoint-file.ts";
import { type FileSystem, replaceFile } from "./file-system.ts";

/** No machine's clock is right that is before this program was written. */
const RELEASED = Date.UTC(2026, 0, 1);
/** The wall clock is pulled along by the network in small steps; a larger one is somebody who sets it. */
const STEP_MS = 1_000;
/** No machine is off for less, from the stop of one process to the start of its kernel. */
const MIN_OFF_MS = 2_000;
/** Behind the last stamp, a clock is as good as right. */
const MAX_BEHIND_MS = 60_000;
/** A machine that was copied a data folder is not one that has just started. */
const JUST_STARTED_MS = 3_600_000;
/** So much of what is kept may be lost to a power cut. */
const SAVE_MS = 600_000;
const DAY_MS = 24 * 3_600_000;
const NAME = "clock";

/** A segment's offsets, and when its first and its last batch came, in log time. */
export interface SegmentAge {
  readonly base: number;
  readonly end: number;
  readonly first: number;
  readonly last: number;
}

/** For whoever stamps what is received. */
export interface ReceivingClock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** False: what `now` says is a guess, too early by the time that the machine was off. */
  readonly isSet: boolean;
}

/** Ages of segments by `partitionKey`. */
export type SegmentAges = ReadonlyMap<string, readonly SegmentAge[]>;

interface Kept {
  readonly logTime: number;
  readonly stamp: number;
  readonly isSet: boolean;
  readonly bootId: string;
  readonly monotonic: number;
  readonly ages: SegmentAges;
}

export class Timekeeper implements ReceivingClock {
  private readonly clock: Clock;
  private readonly bootId: string;
  private readonly logger: Logger;
  /** Log time at monotonic time 0. */
  private logBase: number;
  /** Wall clock less monotonic time when it was last looked at: jumps when the clock is set. */
  private offset: number;
  /** While the clock is not set: stamp less monotonic time. */
  private stampOffset: number;
  isSet = true;
  /** Log time, and whether the clock was set, when it was last written down. */
  private saved: { at: number; isSet: boolean } | undefined;

  constructor(logger: Logger, clock: Clock = systemClock, bootId = readBootId()) {
    this.logger = logger;
    this.clock = clock;
    this.bootId = bootId;
    this.offset = clock.wallTime() - clock.now();
    this.stampOffset = this.offset;
    this.logBase = this.offset;
  }

  /** Milliseconds; only differences mean something. */
  get logTime(): number {
    return this.logBase + this.clock.now();
  }

  now(): number {
    const monotonic = this.clock.now();
    const offset = this.clock.wallTime() - monotonic;
    if (Math.abs(offset - this.offset) > STEP_MS) this.stepped(offset, monotonic);
    else this.offset = offset;
    return Math.round(monotonic + (this.isSet ? offset : this.stampOffset));
  }

  /** Goes on from what the data folder says; resolves to what it knows of segments. */
  async start(fileSystem: FileSystem, dataDir: string): Promise<SegmentAges> {
    const path = join(dataDir, NAME);
    const content = await fileSystem.readFile(path);
    const kept = content === undefined ? undefined : decode(content);
    if (content !== undefined && kept === undefined) {
      this.logger.warn({ path }, "the clock's file is damaged: what is stored ages anew from now on");
    }
    const monotonic = this.clock.now();
    const wall = this.clock.wallTime();
    this.offset = wall - monotonic;
    const isSameBoot =
      kept !== undefined && kept.bootId === this.bootId && kept.bootId !== "-" && kept.monotonic <= monotonic;
    const sinceMs = isSameBoot ? monotonic - kept.monotonic : 0;
    const floor = Math.max(RELEASED, (kept?.stamp ?? 0) + sinceMs);
    this.stampOffset = floor - monotonic;
    this.logBase = (kept?.logTime ?? Math.max(wall, RELEASED)) + sinceMs - monotonic;
    if (isSameBoot && kept.isSet) this.isSet = wall >= RELEASED;
    else if (isSameBoot) this.isSet = this.believes(wall, floor);
    else {
      // A machine that has just started was off since it was last seen on, and its clock has to know.
      const wasOff = this.offset >= (kept?.stamp ?? 0) + MIN_OFF_MS;
      this.isSet = wall >= floor - MAX_BEHIND_MS && (wasOff || monotonic > JUST_STARTED_MS);
    }
    if (!this.isSet) {
      this.logger.warn(
        { clock: new Date(wall).toISOString(), stamps: new Date(floor).toISOString() },
        `the machine's clock is not set: what comes is marked, and stamped from the latest known time on. If the clock is right, remove ${path} while the gateway is stopped`,
      );
    }
    return kept?.ages ?? new Map();
  }

  /** A clock that was not right is set, not put back to where it was: ahead of the guess, or far behind it. */
  private believes(wall: number, guess: number): boolean {
    return wall >= RELEASED && (wall > guess + STEP_MS || wall < guess - DAY_MS);
  }

  private stepped(offset: number, monotonic: number): void {
    const [before, wall] = [monotonic + (this.isSet ? this.offset : this.stampOffset), monotonic + offset];
    const wasSet = this.isSet;
    this.offset = offset;
    this.isSet = wasSet ? wall >= RELEASED : this.believes(wall, before);
    if (!this.isSet && wasSet) this.stampOffset = before - monotonic;
    const facts = { clock: new Date(wall).toISOString(), byMs: Math.round(wall - before) };
    if (!this.isSet)
      this.logger.warn(facts, "the machine's clock is not to be believed: what comes is marked");
    else if (wasSet) this.logger.warn(facts, "the machine's clock was set to another time");
    else this.logger.warn(facts, "the machine's clock is set now; what came before is stamped wrong by that");
  }

  get isSaveDue(): boolean {
    this.now();
    return this.saved?.isSet !== this.isSet || this.logTime - this.saved.at >= SAVE_MS;
  }

  /** Writes it down, with the ages of all segments, by `partitionKey`. */
  async save(
    fileSystem: FileSystem,
    dataDir: string,
    ages: Iterable<readonly [string, SegmentAge]>,
  ): Promise<void> {
    const stamp = this.now();
    const saved = { at: this.logTime, isSet: this.isSet };
    let text = `sluice-clock 1\nlog ${Math.round(this.logTime)}\nstamp ${stamp} ${this.isSet ? "set" : "unset"}\n`;
    text += `machine ${this.bootId} ${Math.ceil(this.clock.now())}\n`;
    for (const [key, { base, end, first, last }] of ages) {
      text += `${key} ${base} ${end} ${Math.round(first)} ${Math.round(last)}\n`;
    }
    await replaceFile(fileSystem, dataDir, NAME, sealText(text));
    this.saved = saved;
  }
}

/** Undefined for anything that `save` did not write. */
function decode(content: Buffer): Kept | undefined {
  const lines = unsealText(content);
  const log = /^log (\d+)$/.exec(lines?.[1] ?? "");
  const stamp = /^stamp (\d+) (set|unset)$/.exec(lines?.[2] ?? "");
  const machine = /^machine (\S+) (\d+)$/.exec(lines?.[3] ?? "");
  if (lines?.[0] !== "sluice-clock 1" || log === null || stamp === null || machine === null) return undefined;
  const ages = new Map<string, SegmentAge[]>();
  for (const line of lines.slice(4)) {
    const [id = "", partition, ...numbers] = line.split(" ");
    const [base = 0, end = 0, first = 0, last = 0] = numbers.map(Number);
    const key = partitionKey(id, Number(partition));
    const known = ages.get(key);
    if (known === undefined) ages.set(key, [{ base, end, first, last }]);
    else known.push({ base, end, first, last });
  }
  return {
    logTime: Number(log[1]),
    stamp: Number(stamp[1]),
    isSet: stamp[2] === "set",
    bootId: machine[1] as string,
    monotonic: Number(machine[2]),
    ages,
  };
}

/** Names one run of the machine; "-" where the system does not tell, which makes each start a new one. */
function readBootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  } catch {
    return "-";
  }
}
