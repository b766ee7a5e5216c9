/**
 * A log's history by seed: several lives on one disk, each ended by a power cut, a kill or a clean stop, in which
 * records are appended to several partitions, batches produced and sent again, streams made, changed and
 * deleted, retention, compaction and checkpoints run and readers read, all at once and with every size tiny. Each step of
 * the disk is a moment at which the power might have gone: a `Moment` keeps the disk as it was, and how much of
 * the chronicle had happened.
 *
 * A seed gives the same history again as long as the code under test does the same.
 */
import { pino } from "pino";
import type { Partition, Stream, StreamSettings } from "../../src/log/log.ts";
import type { StreamStore, StreamStoreOptions } from "../../src/log/stream-store.ts";
import { Actor, settingsOf } from "./actor.ts";
import { DiskImage, drawCutStyle } from "./disk-image.ts";
import { Guests } from "./guests.ts";
import { Chronicle, type Starts, timeOf } from "./oracle.ts";
import { PROGRAM, type Program } from "./program.ts";
import { Random } from "./random.ts";
import { contentOf, ownStreams } from "./reader.ts";
import { type Refusal, SimulatedDisk } from "./simulated-disk.ts";
import { clockOf } from "./turn-clock.ts";

const DATA = "/var/lib/data";
/** A life waits this long for the step that it shall end at. */
const MAX_BOUNDARIES_OVERTIME = 200;
/** A disk that has failed for good makes no steps that a life could end at. */
const MAX_ROUNDS = 3_000;
/** Steps of compaction. */
const COMPACTING = [/during .*compact/, /during remove .*while/, /sync folder .*while/];
const silent = pino({ level: "silent" });

export interface Moment {
  readonly image: DiskImage;
  /** So many events of the chronicle had happened. */
  readonly events: number;
  readonly starts: Starts;
  /** In words. */
  readonly step: string;
}

export interface Sizes {
  readonly sectorBytes: number;
  readonly journalFileBytes: number;
  /** The actor's appends that fit into one journal entry whatever is committed with them. */
  readonly maxInFlightBytes: number;
  readonly maxJournalFiles: number;
  readonly maxTailBytes: number;
  /** Keys that compaction knows at a time. */
  readonly maxCompactionKeys: number;
}

/** What is driven: the log, the log with compacted streams, or the broker and the group coordinator on it, too. */
export const LEVELS = ["log", "compaction", "gateway"] as const;
export type Level = (typeof LEVELS)[number];

/** What kind of use a log is put to; each brings out other bugs. */
interface Habits {
  /** One record of one size at a time, so that entries lie where earlier generations' entries lay. */
  readonly isRegular: boolean;
  /** Many short lives instead of a few long ones: damage of one shows in a later one. */
  readonly isShortLived: boolean;
  readonly recordBytes: number;
  /** Names of streams: few get more each. */
  readonly names: readonly string[];
  readonly segmentBytes: readonly number[];
  readonly retentionBytes: readonly number[];
  readonly cleanup: readonly StreamSettings["cleanup"][];
  /** How often a pass of compaction is asked for. */
  readonly compaction: number;
  readonly hasGuests: boolean;
  /** How often the disk refuses a step. */
  readonly faults: number;
  /** See SimulatedDiskOptions: long, so that what is sent again finds the first one not yet on disk. */
  readonly maxCommitTurns: number;
}

export interface History {
  readonly sizes: Sizes;
  readonly hasGuests: boolean;
  readonly moments: readonly Moment[];
  readonly chronicle: Chronicle;
  /** Starts in it, all but the first after a cut, a kill or a stop; each is judged. */
  readonly lives: number;
  /** What went wrong while the history was made, if anything did. */
  readonly failure: unknown;
}

/** A disk that refuses a step now and then, or all for a while. */
class Faults {
  private readonly random: Random;
  private readonly chance: number;
  private left = 0;
  private refusal: Refusal = "EIO";
  isOn = false;

  constructor(random: Random, chance: number) {
    this.random = random;
    this.chance = chance;
  }

  next(): Refusal | undefined {
    if (!this.isOn) return undefined;
    if (this.left > 0) this.left--;
    else if (!this.random.chance(this.chance)) return undefined;
    else {
      this.left = this.random.pick([0, 0, 0, 5, 40]);
      this.refusal = this.random.pick(["EIO", "ENOSPC"]);
    }
    return this.refusal;
  }
}

/** A log on a simulated disk, not started. Its clock follows the number of records. */
export function logOn(
  disk: SimulatedDisk,
  sizes: Sizes,
  chronicle: Chronicle,
  program: Program,
): StreamStore {
  const options: StreamStoreOptions = {
    dataDir: DATA,
    logger: silent,
    fileSystem: disk,
    clock: clockOf(() => timeOf(chronicle.now.nextRecord)),
    ...sizes,
    retryMs: 1,
    // Retention and compaction run when the workload says so.
    upkeepMs: Number.POSITIVE_INFINITY,
  };
  return new program.StreamStore(options);
}

export async function runHistory(seed: number, level: Level, program: Program = PROGRAM): Promise<History> {
  const random = new Random(seed);
  const hasGuests = level === "gateway";
  const isCompacting = level === "compaction";
  const journalFileBytes = random.pick(hasGuests ? [20_000, 40_000] : [3000, 4096, 10_000]);
  const sizes: Sizes = {
    sectorBytes: random.pick([512, 512, 4096]),
    journalFileBytes,
    maxInFlightBytes: hasGuests ? 6000 : journalFileBytes - 300,
    maxJournalFiles: random.pick([2, 3, 4]),
    maxTailBytes: random.pick([4_000, 16_000, 160_000]),
    maxCompactionKeys: random.pick([2, 1000]),
  };
  const isBulky = random.chance(0.25);
  const cleanup = random.pick([["delete"], ["delete", "compact"]] as const);
  const habits: Habits = {
    isRegular: random.chance(0.25),
    isShortLived: random.chance(0.5),
    recordBytes: isCompacting ? 40 : isBulky ? 700 : 160,
    names: !hasGuests && !isCompacting && random.chance(0.7) ? ["a", "b", "c"] : ["a"],
    segmentBytes: isCompacting ? [300, 1000] : isBulky ? [6000, 30_000] : [250, 1000, 6000],
    retentionBytes: random.chance(0.5) ? [-1] : [500, 500, 4000, -1],
    cleanup: isCompacting ? ["compact"] : cleanup,
    compaction: isCompacting ? 0.15 : 0.05,
    hasGuests,
    faults: hasGuests ? ([0, 0, 0.02][seed % 3] as number) : random.pick([0, 0, 0.01, 0.05]),
    maxCommitTurns: hasGuests ? random.pick([4, 4, 60]) : 4,
  };
  const chronicle = new Chronicle();
  const moments: Moment[] = [];
  let image = new DiskImage(sizes.sectorBytes);
  let failure: unknown;
  let lives = 0;
  try {
    while (lives < (hasGuests ? 4 : habits.isShortLived ? 12 : 3)) {
      lives++;
      const life = new Life({ image, sizes, habits, chronicle, moments, random, program });
      image = await life.live();
    }
  } catch (error) {
    failure = error;
  }
  return { sizes, hasGuests, moments, chronicle, lives, failure };
}

interface LifeOptions {
  readonly image: DiskImage;
  readonly sizes: Sizes;
  readonly habits: Habits;
  readonly chronicle: Chronicle;
  readonly moments: Moment[];
  readonly random: Random;
  readonly program: Program;
}

class Life {
  private readonly habits: Habits;
  private readonly disk: SimulatedDisk;
  private readonly store: StreamStore;
  private readonly actor: Actor;
  private readonly guests: Guests | undefined;
  private readonly chronicle: Chronicle;
  private readonly moments: Moment[];
  private readonly random: Random;
  private readonly faults: Faults;
  private starts: Starts;
  private isOpen = false;
  private isOver = false;
  private isReplacing = false;
  private boundariesLeft: number;
  /** It ends at the first of these once its time has come. */
  private readonly lastStep: RegExp;

  constructor({ image, sizes, habits, chronicle, moments, random, program }: LifeOptions) {
    this.random = random;
    this.habits = habits;
    this.chronicle = chronicle;
    this.moments = moments;
    this.starts = moments.at(-1)?.starts ?? new Map();
    // Some end while they still recover, or at the first step of a kind.
    const isEarly = random.chance(0.2);
    const lifetime = (habits.hasGuests ? 200 : 100) + random.int(habits.isShortLived ? 100 : 500);
    this.boundariesLeft = isEarly ? 1 + random.int(60) : lifetime;
    this.lastStep = random.pick([
      /./,
      /during rename/,
      /during create .*journal/,
      /during (remove|make)/,
      ...COMPACTING,
    ]);
    if (random.chance(0.2)) this.boundariesLeft = 1;
    this.faults = new Faults(new Random(random.int(2 ** 31)), habits.faults);
    this.disk = new SimulatedDisk(image, {
      refuse: () => this.faults.next(),
      spoils: new Random(random.int(2 ** 31)),
      latency: new Random(random.int(2 ** 31)),
      maxCommitTurns: habits.maxCommitTurns,
      onBoundary: ({ moment, step }) => this.onBoundary(this.inContext(`${moment} ${step}`)),
    });
    this.store = logOn(this.disk, sizes, chronicle, program);
    const { recordBytes, isRegular } = habits;
    this.actor = new Actor({
      log: this.store,
      chronicle,
      random,
      maxInFlightBytes: sizes.maxInFlightBytes,
      recordBytes,
      isRegular,
      isFaulty: habits.faults > 0,
    });
    const fail = (error: unknown): void => this.actor.fail(error);
    if (habits.hasGuests) this.guests = new Guests({ program, store: this.store, chronicle, fail });
  }

  /** Says of a step that compaction is putting a segment in place: what is otherwise ordinary matters then. */
  private inContext(step: string): string {
    if (/during rename .*compacting to/.test(step)) this.isReplacing = true;
    if (/during remove .*compacted$/.test(step)) this.isReplacing = false;
    return this.isReplacing ? `${step} while compaction replaces segments` : step;
  }

  private onBoundary(step: string): void {
    if (this.isOpen) this.starts = startsOf(ownStreams(this.store));
    this.moments.push({
      image: this.disk.image(),
      events: this.chronicle.events.length,
      starts: this.starts,
      step,
    });
    const left = --this.boundariesLeft;
    if (left > -MAX_BOUNDARIES_OVERTIME && (left > 0 || !this.lastStep.test(step))) return;
    this.isOver = true;
    this.disk.die();
  }

  /** Resolves to the disk that the next life finds. */
  async live(): Promise<DiskImage> {
    await Promise.race([this.work(), this.disk.death, this.actor.broken]);
    // Whatever of it still runs is never answered by its disk again; this only ends its timer.
    this.disk.die();
    this.guests?.end();
    void this.store.close();
    const image = this.disk.image();
    return this.random.chance(0.4) ? image : image.afterPowerCut(this.random, drawCutStyle(this.random));
  }

  private async work(): Promise<void> {
    const { store, chronicle, random, actor } = this;
    await store.start();
    const content = await contentOf(store, chronicle.now);
    chronicle.now.judge(content, this.starts);
    chronicle.tell((oracle) => oracle.recovered(content));
    this.isOpen = true;
    await this.guests?.start(random);
    this.faults.isOn = true;
    for (const batches of [...chronicle.now.producers.values()]) await actor.resend(batches);
    const stopsByItself = random.chance(0.4);
    for (let rounds = 0; !this.isOver && rounds < MAX_ROUNDS; rounds++) {
      if (stopsByItself && this.boundariesLeft <= 60) break;
      if (this.guests !== undefined && random.chance(0.85)) await this.guests.step(random);
      else await this.step();
      if (random.chance(0.2)) await actor.settle();
    }
    // A stop with everything in flight.
    if (random.chance(0.5)) await actor.settle();
    await actor.settle();
    await this.guests?.stop();
    await store.close();
  }

  private async step(): Promise<void> {
    const { random, actor, store } = this;
    const streams = ownStreams(store);
    if (streams.length > 0 && random.chance(this.habits.compaction)) return this.compact();
    const draw = random.next();
    if (streams.length === 0 || draw < 0.05) return this.create(streams);
    const partition = random.pick(random.pick(streams).partitions);
    if (draw < 0.5) return this.append(streams);
    if (draw < 0.65) return this.produce(streams);
    if (draw < 0.68)
      return actor.resend(this.chronicle.now.producers.get(this.anyProducer())?.slice(-1) ?? []);
    if (draw < 0.73) return actor.read(partition);
    if (draw < 0.76) return store.retain();
    if (draw < 0.78) return this.background(store.checkpoint());
    if (draw < 0.81) return this.alter(random.pick(streams));
    if (draw < 0.84) return this.remove(random.pick(streams).name);
    if (draw < 0.86) return this.background(actor.newProducerId());
    if (draw < 0.89) return this.retainMeanwhile();
    if (draw < 0.91) return this.background(actor.deleteRecords(partition).catch(actor.fail));
    for (let turns = random.int(20); turns > 0; turns--)
      await new Promise((resolve) => setImmediate(resolve));
  }

  /** What is asked for and not waited for. */
  private async background(work: Promise<unknown>): Promise<void> {
    work.catch(() => {});
  }

  private async retainMeanwhile(): Promise<void> {
    await this.background(this.store.retain());
    await this.background(this.store.checkpoint());
  }

  /** Of what a checkpoint has settled; sometimes with everything else going on. */
  private async compact(): Promise<void> {
    const { store, random } = this;
    const work = store.checkpoint().then(() => store.compact());
    const isWaitedFor = random.chance(0.5) && this.habits.faults === 0;
    await (isWaitedFor ? work : this.background(work));
  }

  private async create(streams: readonly Stream[]): Promise<void> {
    const { random } = this;
    const free = this.habits.names.filter((name) => streams.every((stream) => stream.name !== name));
    if (free.length > 0) await this.createNamed(random.pick(free));
  }

  /** Sometimes made anew at once, under the same name. */
  private async remove(name: string): Promise<void> {
    const { random, actor, store } = this;
    if (random.chance(0.4)) await this.background(store.checkpoint());
    await actor.change({ kind: "delete", name });
    if (random.chance(0.5)) await this.createNamed(name);
  }

  private async createNamed(name: string): Promise<void> {
    const { actor } = this;
    await actor.settle();
    if (this.store.stream(name) !== undefined) return;
    const deleteRetentionMs = this.random.pick([0, 5000, 1_000_000]);
    const settings = settingsOf({ ...this.drawSettings(), deleteRetentionMs });
    await actor.change({ kind: "create", name, partitions: this.drawPartitions(), settings });
    await actor.settle();
  }

  private drawPartitions(): number {
    return this.habits.names.length === 1 ? 1 : 1 + this.random.int(3);
  }

  private drawSettings(): Partial<StreamSettings> {
    const { random } = this;
    return {
      segmentBytes: random.pick(this.habits.segmentBytes),
      segmentMs: random.pick([10_000, 1_000_000_000]),
      retentionMs: random.pick([-1, -1, 20_000, 100_000]),
      retentionBytes: random.pick(this.habits.retentionBytes),
      cleanup: random.pick(this.habits.cleanup),
    };
  }

  private async alter(stream: Stream): Promise<void> {
    const { random, actor } = this;
    await actor.settle();
    const now = this.store.stream(stream.name);
    if (now === undefined) return;
    const partitions =
      now.partitions.length + (random.chance(0.5) && now.partitions.length < 4 ? random.int(2) : 0);
    const settings = { ...now.settings, ...(random.chance(0.5) ? this.drawSettings() : {}) };
    await actor.change({ kind: "alter", name: now.name, partitions, settings });
  }

  private async append(streams: readonly Stream[]): Promise<void> {
    const { random } = this;
    const { isRegular } = this.habits;
    const count = isRegular ? 1 : random.pick([1, 1, 1, 2, 3]);
    const partitions = Array.from({ length: count }, () => {
      const stream = random.pick(streams);
      return random.chance(0.3) ? stream.keylessPartition() : random.pick(stream.partitions);
    });
    await this.actor.append(partitions);
    if (isRegular) await this.actor.settle();
  }

  private anyProducer(): number {
    return this.random.pick([...this.chronicle.now.producers.keys(), -1]);
  }

  private async produce(streams: readonly Stream[]): Promise<void> {
    const { random, actor, chronicle, store } = this;
    let id: number | undefined = this.anyProducer();
    const last = chronicle.now.producers.get(id)?.at(-1)?.records[0];
    let partition: Partition | undefined = last && store.stream(last.stream)?.partitions[last.partition];
    if (partition === undefined) {
      id = await actor.newProducerId();
      partition = random.pick(random.pick(streams).partitions);
    }
    if (id === undefined) return;
    await actor.produce(id, partition, 1 + random.int(3));
  }
}

function startsOf(streams: readonly Stream[]): Starts {
  const starts = new Map<string, number>();
  for (const { name, partitions } of streams) {
    for (const { index, logStartOffset } of partitions) starts.set(`${name}/${index}`, logStartOffset);
  }
  return starts;
}
