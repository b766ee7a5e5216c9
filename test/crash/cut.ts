/**
 * One power cut: what the disk may hold after it is drawn by seed, a log is started on it, sometimes cut again
 * while it recovers, and judged. Some are then used, cut and started again, because what a recovered log has
 * acknowledged must hold as well.
 */
import type { LogError } from "../../src/errors.ts";
import type { StreamStore } from "../../src/log/stream-store.ts";
import { Actor } from "./actor.ts";
import { type DiskImage, drawCutStyle, NOTHING_UNSYNCED_SURVIVES } from "./disk-image.ts";
import { Guests } from "./guests.ts";
import { Chronicle, type LogContent, type Oracle } from "./oracle.ts";
import type { Program } from "./program.ts";
import { Random } from "./random.ts";
import { checkLookUps, contentOf, expectSame, ownStreams } from "./reader.ts";
import { SimulatedDisk } from "./simulated-disk.ts";
import { Violation } from "./violation.ts";
import { type History, logOn } from "./workload.ts";

const MAX_BOUNDARIES_TO_CUT = 60;

/** Throws `Violation` when the log breaks a promise after a power cut at one of a history's moments. */
export class Cut {
  private readonly history: History;
  private readonly index: number;
  private readonly oracle: Oracle;
  private readonly program: Program;
  private readonly random: Random;

  /** `oracle`: what was known at that moment. */
  constructor(history: History, index: number, oracle: Oracle, seed: number, program: Program) {
    this.history = history;
    this.index = index;
    this.oracle = oracle;
    this.program = program;
    this.random = new Random(seed, index);
  }

  async check(): Promise<void> {
    const { random, history, oracle } = this;
    const moment = this.momentHere();
    const chronicle = this.chronicleOfNow();
    let image = moment.image.afterPowerCut(random, drawCutStyle(random));
    if (random.chance(0.3)) image = await this.cutInRecovery(image);
    const disk = new SimulatedDisk(image);
    const log = await this.start(disk, chronicle);
    const content = await contentOf(log, oracle);
    oracle.judge(content, moment.starts);
    await checkLookUps(log, content, oracle, random);
    const pastHere = (): Chronicle => new Chronicle(history.chronicle.events.slice(0, moment.events));
    if (random.chance(0.3)) await this.goOn(disk, content, pastHere());
    if (history.hasGuests) await this.receiveGuests(disk, log, pastHere());
    void log.close();
  }

  /** With no past, at the time of the cut: a clock that went back and on again would let deletions expire early. */
  private chronicleOfNow(): Chronicle {
    const chronicle = new Chronicle();
    chronicle.now.nextRecord = this.oracle.nextRecord;
    return chronicle;
  }

  /** Everybody comes back and ends what was begun; some of what is then acknowledged is cut off again. */
  private async receiveGuests(disk: SimulatedDisk, log: StreamStore, past: Chronicle): Promise<void> {
    const { random, program } = this;
    let failure: unknown;
    const fail = (error: unknown): void => {
      failure ??= error;
    };
    const guests = new Guests({ program, store: log, chronicle: past, fail });
    try {
      await guests.start(random);
      if (random.chance(0.3)) void log.checkpoint().then(() => log.compact());
      await guests.settle();
    } finally {
      guests.end();
    }
    if (random.chance(0.7)) return;
    disk.die();
    const image = disk.image().afterPowerCut(random, NOTHING_UNSYNCED_SURVIVES);
    const last = await this.start(new SimulatedDisk(image), past);
    const again = new Guests({ program, store: last, chronicle: past, fail });
    try {
      await again.start(random);
    } finally {
      again.end();
      void last.close();
    }
    if (failure !== undefined) throw failure;
  }

  private momentHere() {
    const moment = this.history.moments[this.index];
    if (moment === undefined) throw new RangeError(`the history has no point ${this.index}`);
    return moment;
  }

  private async start(disk: SimulatedDisk, chronicle: Chronicle): Promise<StreamStore> {
    const log = logOn(disk, this.history.sizes, chronicle, this.program);
    try {
      await log.start();
    } catch (error) {
      const { code, message } = error as LogError;
      throw new Violation(`start is refused: ${code} ${message}`, { cause: error });
    }
    return log;
  }

  /** Cuts the power at some step of the recovery, or just after it. */
  private async cutInRecovery(image: DiskImage): Promise<DiskImage> {
    const { random } = this;
    // Half of them while small files are replaced: few steps, of which much depends.
    const [kind, most] = random.chance(0.5)
      ? ([/\.tmp/, 12] as const)
      : ([/./, MAX_BOUNDARIES_TO_CUT] as const);
    let left = 1 + random.int(most);
    const disk: SimulatedDisk = new SimulatedDisk(image, {
      onBoundary: ({ step }) => {
        if (kind.test(step) && --left === 0) disk.die();
      },
    });
    const starting = this.start(disk, this.chronicleOfNow());
    await Promise.race([starting, disk.death]);
    disk.die();
    // Where it had come to its end, this ends its timer.
    starting.then((log) => void log.close()).catch(() => {});
    return disk.image().afterPowerCut(random, drawCutStyle(random));
  }

  /** A recovered log is recovered again, used, and the power cut while it is or after it. */
  private async goOn(disk: SimulatedDisk, content: LogContent, past: Chronicle): Promise<void> {
    const { random, oracle, history } = this;
    past.tell((one) => one.recovered(content));
    let left = Number.POSITIVE_INFINITY;
    const again: SimulatedDisk = new SimulatedDisk(disk.image(), {
      onBoundary: () => {
        if (--left === 0) again.die();
      },
      ...(random.chance(0.5) ? { latency: random } : {}),
    });
    const log = await this.start(again, past);
    expectSame(content, await contentOf(log, oracle), "recovered a second time,");
    expectSameSegments(disk.image(), again.image());

    const { sizes } = history;
    const options = { maxInFlightBytes: sizes.maxInFlightBytes, recordBytes: 160, isRegular: false };
    const actor = new Actor({ log, chronicle: past, random, ...options });
    if (random.chance(0.7)) left = 1 + random.int(MAX_BOUNDARIES_TO_CUT);
    await Promise.race([this.use(log, actor, past), again.death, actor.broken]);
    const hasSettled = left > 0;
    again.die();
    void log.close();
    const style = random.chance(0.5) ? NOTHING_UNSYNCED_SURVIVES : drawCutStyle(random);
    const last = await this.start(new SimulatedDisk(again.image().afterPowerCut(random, style)), past);
    const kept = await contentOf(last, past.now);
    past.now.judge(
      kept,
      new Map(
        [...content].flatMap(([name, { partitions }]) =>
          partitions.map(({ start }, index) => [`${name}/${index}`, start] as const),
        ),
      ),
    );
    if (hasSettled && past.now.pending.size > 0) throw new Violation("an append was never answered");
    void last.close();
  }

  private async use(log: StreamStore, actor: Actor, past: Chronicle): Promise<void> {
    const { random } = this;
    for (const batches of [...past.now.producers.values()]) await actor.resend(batches);
    for (let rounds = 1 + random.int(2); rounds > 0; rounds--) {
      for (const { partitions } of ownStreams(log)) await actor.append(partitions);
      await actor.newProducerId();
      if (random.chance(0.5)) await log.checkpoint();
      if (random.chance(0.3)) await log.compact();
      await actor.settle();
    }
  }
}

/** Segments must be the same files with the same bytes: recovery of a recovered log changes nothing. */
function expectSameSegments(before: DiskImage, after: DiskImage): void {
  const words = (image: DiskImage): string =>
    [...image.files()]
      .filter(([path]) => path.endsWith(".log"))
      .map(([path, bytes]) => `${path} ${bytes.toString("base64")}`)
      .sort()
      .join("\n");
  if (words(before) !== words(after)) throw new Violation("a second recovery has changed the segments");
}
