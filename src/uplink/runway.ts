/**
 * The runway meter: how long the disk lasts at today's rate, and how long a drain would take at the link's, less
 * what comes in just now.
 * It counts on monotonic time only, and is told the time, so that a week can be tried in a second.
 */

/** A point of the past: what had come in by then. */
interface Sample {
  readonly atMs: number;
  readonly records: number;
  readonly bytes: number;
}

/** "Today": for so long a disk's end is looked ahead by. */
const DAY = { spanMs: 24 * 3_600_000, everyMs: 60_000 };
/** A drain lasts minutes: what comes in meanwhile is what came in just now. */
const RECENT = { spanMs: 60_000, everyMs: 0 };
/** Below it a rate is chance. */
const MIN_WINDOW_MS = 1_000;
/** The link's rate is a mean over about so long a time of being busy. */
const LINK_MEMORY_MS = 10_000;

export interface Rate {
  /** A second. */
  readonly records: number;
  readonly bytes: number;
}

export interface Runway {
  /** Today's. */
  readonly in: Rate | undefined;
  /** Of the link while it is busy; undefined until it was. */
  readonly out: Rate | undefined;
  /** Until the disk is full at today's rate; undefined while nothing comes in. */
  readonly diskMs: number | undefined;
  /** Until what waits has been sent; undefined while the link is not known, Infinity when more comes in than goes out. */
  readonly drainMs: number | undefined;
}

/** The mean over the last `spanMs`, or as long as is known, by samples `everyMs` apart. */
class Window {
  private readonly spanMs: number;
  private readonly everyMs: number;
  private readonly samples: Sample[] = [];
  private latest: Sample | undefined;

  constructor({ spanMs, everyMs }: { spanMs: number; everyMs: number }) {
    this.spanMs = spanMs;
    this.everyMs = everyMs;
  }

  note(sample: Sample): void {
    const { samples, spanMs, everyMs } = this;
    this.latest = sample;
    const last = samples.at(-1);
    if (last === undefined || sample.atMs - last.atMs >= everyMs) samples.push(sample);
    // The newest of those that are older than the window stays: from it the window is measured.
    while (samples.length > 2 && sample.atMs - (samples[1] as Sample).atMs >= spanMs) samples.shift();
  }

  get rate(): Rate | undefined {
    const [first] = this.samples;
    const { latest } = this;
    if (first === undefined || latest === undefined || latest.atMs - first.atMs < MIN_WINDOW_MS)
      return undefined;
    const seconds = (latest.atMs - first.atMs) / 1000;
    return {
      records: Math.max(0, latest.records - first.records) / seconds,
      bytes: Math.max(0, latest.bytes - first.bytes) / seconds,
    };
  }
}

export class RunwayMeter {
  private readonly day = new Window(DAY);
  private readonly recent = new Window(RECENT);
  private notedAtMs: number | undefined;
  private link: Rate | undefined;
  private linkMs = 0;

  /** What has come in since the log began, of all streams together. */
  note(atMs: number, records: number, bytes: number): void {
    const sample = { atMs, records, bytes };
    this.notedAtMs = atMs;
    this.day.note(sample);
    this.recent.note(sample);
  }

  /**
   * One delivery of a lane that had more to send; `lanes` of them send at a time. `tookMs` is from the end of the
   * one before, so that what is gathered, and rests that were told, count as well.
   */
  noteDelivery(records: number, bytes: number, tookMs: number, lanes: number): void {
    if (!(tookMs > 0) || records === 0) return;
    const now = { records: (records / tookMs) * 1000 * lanes, bytes: (bytes / tookMs) * 1000 * lanes };
    const before = this.link;
    this.linkMs += tookMs;
    const weight = Math.min(1, tookMs / Math.min(this.linkMs, LINK_MEMORY_MS));
    const mix = (a: number, b: number) => a + (b - a) * weight;
    this.link =
      before === undefined
        ? now
        : { records: mix(before.records, now.records), bytes: mix(before.bytes, now.bytes) };
  }

  /** `freeBytes` as of the last `note`, `waitingRecords` as of now. */
  forecast(nowMs: number, freeBytes: number | undefined, waitingRecords: number): Runway {
    const { link } = this;
    const { rate } = this.day;
    const diskMs =
      rate === undefined || rate.bytes <= 0 || freeBytes === undefined
        ? undefined
        : Math.max(0, (freeBytes / rate.bytes) * 1000 - (nowMs - (this.notedAtMs ?? nowMs)));
    const net = link === undefined ? undefined : link.records - (this.recent.rate?.records ?? 0);
    const drainMs =
      waitingRecords === 0
        ? 0
        : net === undefined
          ? undefined
          : net <= 0
            ? Number.POSITIVE_INFINITY
            : (waitingRecords / net) * 1000;
    return { in: rate, out: link, diskMs, drainMs };
  }
}

/** Says each mark once, when what is left falls below it, until `clear`. */
export class RunwayMarks {
  private readonly marksMs: readonly number[];
  private passed = 0;

  /** Longest first. */
  constructor(marksMs: readonly number[]) {
    this.marksMs = marksMs;
  }

  /** The mark that was passed just now. */
  pass(leftMs: number | undefined): number | undefined {
    let mark: number | undefined;
    while (leftMs !== undefined && leftMs < (this.marksMs[this.passed] ?? Number.NEGATIVE_INFINITY)) {
      mark = this.marksMs[this.passed++];
    }
    return mark;
  }

  clear(): void {
    this.passed = 0;
  }
}
