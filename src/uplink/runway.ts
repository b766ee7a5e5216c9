/**
 * The runway meter: how long the disk lasts at today's rate, and how long a drain would take at the link's.
 * It counts on monotonic time only, and is told the time, so that a week can be tried in a second.
 */

/** A point of the past: what had come in by then. */
interface Sample {
  readonly atMs: number;
  readonly records: number;
  readonly bytes: number;
}

const SAMPLE_EVERY_MS = 60_000;
/** "Today": the rate is taken over this long, or as long as is known. */
const WINDOW_MS = 24 * 3_600_000;
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
  readonly in: Rate | undefined;
  /** Of the link while it is busy; undefined until it was. */
  readonly out: Rate | undefined;
  /** Until the disk is full at today's rate; undefined while nothing comes in. */
  readonly diskMs: number | undefined;
  /** Until what waits has been sent; undefined while the link is not known, Infinity when more comes in than goes out. */
  readonly drainMs: number | undefined;
}

export class RunwayMeter {
  private readonly samples: Sample[] = [];
  private latest: Sample | undefined;
  private link: Rate | undefined;
  private linkMs = 0;

  /** What has come in since the log began, of all streams together. */
  note(atMs: number, records: number, bytes: number): void {
    this.latest = { atMs, records, bytes };
    const last = this.samples.at(-1);
    if (last === undefined || atMs - last.atMs >= SAMPLE_EVERY_MS) this.samples.push(this.latest);
    // The newest of those that are older than the window stays: from it the window is measured.
    while (this.samples.length > 2 && atMs - (this.samples[1] as Sample).atMs >= WINDOW_MS)
      this.samples.shift();
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

  /** `freeBytes` as of the last `note`, `waitingRecords` as of now. */
  forecast(nowMs: number, freeBytes: number | undefined, waitingRecords: number): Runway {
    const { rate, link, latest } = this;
    const diskMs =
      rate === undefined || rate.bytes <= 0 || freeBytes === undefined
        ? undefined
        : Math.max(0, (freeBytes / rate.bytes) * 1000 - (nowMs - (latest?.atMs ?? nowMs)));
    const net = link === undefined ? undefined : link.records - (rate?.records ?? 0);
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
