/**
 * What a sensor of the demonstration says, and the books that each subscriber keeps about it.
 *
 * A reading carries its sensor, a sequence number and the sender's clock. Every subscriber has an audit of
 * its own: a message that is missing, comes twice or comes after a later one of the same sensor is counted,
 * message by message. Invariant: delivered = all that came, less the duplicates.
 */
import type { Histogram } from "../histogram.ts";
import { crc32c } from "../wire/crc32c.ts";

/** The system's monotonic clock, in microseconds: the same one for every process of this machine. */
export function clockUs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e6 + nanoseconds / 1e3;
}

export const READINGS_STREAM = "readings";
export const sensorName = (sensor: number): string => `s${String(sensor).padStart(5, "0")}`;
export const mqttTopicOf = (sensor: number): string => `sensors/${sensorName(sensor)}/reading`;

/** One message, as JSON that reads well in another terminal. */
export function encodeReading(sensor: number, seq: number): Buffer {
  const celsius = Math.round(200 + 30 * Math.sin(sensor + seq / 60)) / 10;
  return Buffer.from(
    `{"sensor":${sensor},"seq":${seq},"sentUs":${Math.round(clockUs())},"celsius":${celsius}}`,
  );
}

/** A sum of checksums: the same for the same set of messages, in whatever order they come. */
export const addChecksum = (sum: number, payload: Buffer): number => (sum + crc32c(payload)) >>> 0;

/** Above this many open gaps a subscriber stops remembering which messages they were (32 MiB at worst). */
const MAX_REMEMBERED_GAPS = 500_000;

export class Audit {
  delivered = 0;
  duplicates = 0;
  outOfOrder = 0;
  /** Messages that no sensor of the demonstration sent. */
  foreign = 0;
  checksum = 0;
  /** Readings that were sent earlier (see `clockUs`) are counted, but their latency is not. */
  timedFromUs = 0;
  private readonly next: Uint32Array;
  private readonly latency: Histogram;
  /** Messages that were jumped over, as sensor × 2³² + sequence. */
  private readonly gaps = new Set<number>();
  private forgottenGaps = 0;

  constructor(sensors: number, latency: Histogram) {
    this.next = new Uint32Array(sensors);
    this.latency = latency;
  }

  /** Messages that are missing so far, seen from the later ones that did come. */
  get missing(): number {
    return this.gaps.size + this.forgottenGaps;
  }

  take(payload: Buffer): void {
    const reading = parse(payload);
    const next = reading === undefined ? undefined : this.next[reading.sensor];
    if (reading === undefined || next === undefined) {
      this.foreign++;
      return;
    }
    const { sensor, seq, sentUs } = reading;
    if (seq >= next) {
      for (let gap = next; gap < seq; gap++) this.remember(sensor * 2 ** 32 + gap);
      this.next[sensor] = seq + 1;
    } else if (this.gaps.delete(sensor * 2 ** 32 + seq)) {
      this.outOfOrder++;
    } else {
      this.duplicates++;
      return;
    }
    this.delivered++;
    this.checksum = addChecksum(this.checksum, payload);
    if (sentUs >= this.timedFromUs) this.latency.record((clockUs() - sentUs) / 1000);
  }

  private remember(message: number): void {
    if (this.gaps.size < MAX_REMEMBERED_GAPS) this.gaps.add(message);
    else this.forgottenGaps++;
  }

  /** How many of the messages that each sensor published have not come. */
  lost(published: readonly number[]): number {
    let lost = this.missing;
    published.forEach((count, sensor) => {
      lost += Math.max(0, count - (this.next[sensor] ?? 0));
    });
    return lost;
  }
}

function parse(payload: Buffer): { sensor: number; seq: number; sentUs: number } | undefined {
  try {
    const reading = JSON.parse(payload.toString());
    return Number.isInteger(reading.seq) && Number.isFinite(reading.sentUs) ? reading : undefined;
  } catch {
    return undefined;
  }
}
