/**
 * How fast an uplink may go: caps by bytes and records, by the hour if wanted, and a share of the time. And a drain
 * gives way to sensors that publish meanwhile, for their acknowledgements wait for the same processor and disk.
 */
import type { RateOptions, RateWindow } from "./options.ts";

/** What may be sent at once after a rest: a second's worth. */
const BURST_S = 1;
/**
 * Beside sensors a drain rests for so many times as long as gathering took it: on a slow link that is next to
 * nothing, and on a machine that is busy gathering takes longer by itself.
 */
const COMPANY_REST = 2;
/** And what a delivery carries at most then: a cluster on the same machine or network takes it in small pieces, too. */
const COMPANY_BYTES = 1 << 20;

/** What a delivery has cost, in milliseconds. */
export interface Spent {
  /** Reading and encoding, on this machine. */
  readonly gatherMs: number;
  /** Until the cluster had it. */
  readonly tookMs: number;
}

/** A bucket that fills by the second; what was taken too much is waited for afterwards. */
class Bucket {
  private level: number | undefined;
  private at = 0;

  /** Milliseconds until `amount`, which has been taken, is paid for. */
  take(amount: number, perSecond: number, now: number): number {
    const most = perSecond * BURST_S;
    const filled = this.level === undefined ? most : this.level + ((now - this.at) / 1000) * perSecond;
    this.level = Math.min(most, filled) - amount;
    this.at = now;
    return this.level >= 0 ? 0 : (-this.level / perSecond) * 1000;
  }
}

export class Pace {
  private readonly options: RateOptions;
  private readonly bytes = new Bucket();
  private readonly records = new Bucket();

  constructor(options: RateOptions) {
    this.options = options;
  }

  /** How long to rest after a delivery; `now` is monotonic, `date` says which window holds. */
  restMs(
    sent: { bytes: number; records: number },
    { gatherMs, tookMs }: Spent,
    now: number,
    date: Date,
    isBesideSensors: boolean,
  ): number {
    const caps = this.capsAt(date);
    const { share } = this.options;
    return Math.max(
      isBesideSensors ? gatherMs * COMPANY_REST : 0,
      caps.bytes === undefined ? 0 : this.bytes.take(sent.bytes, caps.bytes, now),
      caps.records === undefined ? 0 : this.records.take(sent.records, caps.records, now),
      share >= 1 ? 0 : tookMs * (1 / share - 1),
    );
  }

  /** No delivery is larger than a second's worth, so that a cap is not kept only on the average. */
  mostAt(date: Date, isBesideSensors: boolean): { bytes: number; records: number } {
    const { bytes = Number.POSITIVE_INFINITY, records = Number.POSITIVE_INFINITY } = this.capsAt(date);
    return { bytes: isBesideSensors ? Math.min(bytes, COMPANY_BYTES) : bytes, records };
  }

  private capsAt(date: Date): { bytes?: number | undefined; records?: number | undefined } {
    const minute = date.getHours() * 60 + date.getMinutes();
    return this.options.schedule.find((window) => holds(window, minute)) ?? this.options;
  }
}

function holds({ from, to }: RateWindow, minute: number): boolean {
  return from <= to ? minute >= from && minute < to : minute >= from || minute < to;
}
