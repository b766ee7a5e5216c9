/** How fast an uplink may go: caps by bytes and records, by the hour if wanted, and a share of the time. */
import type { RateOptions, RateWindow } from "./options.ts";

/** What may be sent at once after a rest: a second's worth. */
const BURST_S = 1;

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

  /** How long to rest after a delivery: `tookMs` it lasted, `now` is monotonic, `date` says which window holds. */
  restMs(sent: { bytes: number; records: number }, tookMs: number, now: number, date: Date): number {
    const caps = this.capsAt(date);
    const { share } = this.options;
    return Math.max(
      caps.bytes === undefined ? 0 : this.bytes.take(sent.bytes, caps.bytes, now),
      caps.records === undefined ? 0 : this.records.take(sent.records, caps.records, now),
      share >= 1 ? 0 : tookMs * (1 / share - 1),
    );
  }

  /** No delivery is larger than a second's worth, so that a cap is not kept only on the average. */
  mostAt(date: Date): { bytes: number; records: number } {
    const { bytes = Number.POSITIVE_INFINITY, records = Number.POSITIVE_INFINITY } = this.capsAt(date);
    return { bytes, records };
  }

  private capsAt(date: Date): { bytes?: number | undefined; records?: number | undefined } {
    const minute = date.getHours() * 60 + date.getMinutes();
    return this.options.schedule.find((window) => holds(window, minute)) ?? this.options;
  }
}

function holds({ from, to }: RateWindow, minute: number): boolean {
  return from <= to ? minute >= from && minute < to : minute >= from || minute < to;
}
