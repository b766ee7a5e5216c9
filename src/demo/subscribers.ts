/**
 * Subscribers of one process, each with its own connection and its own books. How one is attached is given:
 * it listens for the sensors (`listenMqtt`, the mesh) or reads the stream from the gateway (`readGateway`).
 */
import { Histogram } from "../histogram.ts";
import { Audit } from "./audit.ts";
import { each, type Share, shareOf } from "./crew.ts";

/** A subscriber at work. */
export interface Attached {
  /** Which kind it is, as the screen names it. */
  readonly kind: string;
  /** Where sensors reach it; 0 when they do not. */
  readonly port: number;
  /** Its open connections. */
  readonly connections: () => number;
}

export type Attach = (subscriber: number, audit: Audit) => Promise<Attached>;

export interface SubscribersOptions extends Share {
  /** Sensors in all. */
  readonly sensors: number;
}

export interface SubscribersSnapshot {
  readonly connections: number;
  readonly delivered: number;
  /** Jumped over so far. */
  readonly missing: number;
  readonly outOfOrder: number;
  readonly latency: Histogram;
  readonly rssBytes: number;
}

/** The books of one subscriber, closed. */
export interface SubscriberResult {
  readonly subscriber: number;
  readonly kind: string;
  readonly delivered: number;
  readonly lost: number;
  readonly duplicates: number;
  readonly outOfOrder: number;
  readonly checksum: number;
}

const ATTACHING_AT_ONCE = 32;

export class Subscribers {
  private readonly options: SubscribersOptions;
  private readonly attach: Attach;
  private readonly latency = new Histogram();
  private readonly members = new Map<number, { audit: Audit; attached: Attached }>();

  constructor(options: SubscribersOptions, attach: Attach) {
    this.options = options;
    this.attach = attach;
  }

  /** Has the first `count` subscribers attached; returns number and port of those in this process. */
  async open(count: number): Promise<[number, number][]> {
    const missing = shareOf(this.options, count).filter((subscriber) => !this.members.has(subscriber));
    await each(missing, ATTACHING_AT_ONCE, async (subscriber) => {
      const audit = new Audit(this.options.sensors, this.latency);
      this.members.set(subscriber, { audit, attached: await this.attach(subscriber, audit) });
    });
    return [...this.members].map(([subscriber, { attached }]) => [subscriber, attached.port]);
  }

  /** From when on (see `clockUs`) the latency of what sensors send counts. */
  timeFrom(startUs: number): void {
    for (const { audit } of this.members.values()) audit.timedFromUs = startUs;
  }

  snapshot(): SubscribersSnapshot {
    const sum = { connections: 0, delivered: 0, missing: 0, outOfOrder: 0 };
    for (const { audit, attached } of this.members.values()) {
      sum.connections += attached.connections();
      sum.delivered += audit.delivered;
      sum.missing += audit.missing;
      sum.outOfOrder += audit.outOfOrder;
    }
    return { ...sum, latency: this.latency, rssBytes: process.memoryUsage.rss() };
  }

  /** Closes the books: `published` says how many readings each sensor has sent. */
  settle(published: readonly number[]): SubscriberResult[] {
    return [...this.members].map(([subscriber, { audit, attached }]) => ({
      subscriber,
      kind: attached.kind,
      delivered: audit.delivered,
      lost: audit.lost(published),
      duplicates: audit.duplicates,
      outOfOrder: audit.outOfOrder,
      checksum: audit.checksum,
    }));
  }
}
