/**
 * People who look at messages as they pass. A tap never holds up the gateway: it keeps a bounded number of lines,
 * takes a bounded number a second, and what is too much is counted and said instead.
 */
import { isUtf8 } from "node:buffer";
import type { LogError } from "../errors.ts";
import type { RecordAppend } from "../log/log.ts";
import type { Mapping, MappingError } from "../mapping/outcome.ts";
import { TopicFilter } from "../mapping/topic-filter.ts";
import type { PublishPacket } from "../record.ts";

export interface TapFilter {
  /** MQTT topic filters, any of which. */
  readonly from: readonly string[];
  readonly streams: readonly string[];
  /** Only messages that no mapping takes, only those whose mapping fails; both: either. */
  readonly unmatched: boolean;
  readonly errors: boolean;
}

/** A message that has passed. */
export interface TapLine {
  readonly at: number;
  readonly topic: string;
  readonly clientId: string;
  readonly qos: number;
  readonly retain: boolean;
  readonly bytes: number;
  /** The beginning of it: text, or hex where it is none. */
  readonly payload: string;
  readonly isText: boolean;
  readonly outcome: "stored" | "failed" | "unmatched" | "skipped" | "refused";
  readonly rule?: string | undefined;
  /** What was stored of it: records, a dead letter, or what goes to the fallback stream. */
  readonly records: readonly {
    readonly stream: string;
    readonly partition: number;
    readonly offset: number;
    readonly key: string | null;
  }[];
  /** Further records that are not named. */
  readonly more: number;
  readonly error?: Pick<MappingError, "field" | "message"> | undefined;
}

/** So many lines were too much for whoever reads. */
export interface TapGap {
  readonly missed: number;
}

const MAX_TAPS = 16;
const MAX_WAITING = 1_000;
const MAX_PER_SECOND = 2_000;
const MAX_PAYLOAD_BYTES = 512;
const MAX_RECORDS = 10;

export class Taps {
  private readonly taps = new Set<Tap>();

  get size(): number {
    return this.taps.size;
  }

  /** Undefined when there are enough. Throws `MappingSyntaxError` for a filter that is none. */
  open(filter: TapFilter, gone: AbortSignal): AsyncIterable<TapLine | TapGap> | undefined {
    if (this.taps.size >= MAX_TAPS) return undefined;
    const tap = new Tap(filter);
    this.taps.add(tap);
    const close = (): void => {
      this.taps.delete(tap);
      tap.close();
    };
    gone.addEventListener("abort", close);
    if (gone.aborted) close();
    return tap;
  }

  /** What the mapper made of a message, and what was stored of it. */
  show(
    packet: PublishPacket,
    mapping: Mapping,
    refusal: LogError | null,
    stored: readonly RecordAppend[],
  ): void {
    for (const tap of this.taps) tap.take(packet, mapping, refusal, stored);
  }
}

class Tap implements AsyncIterable<TapLine | TapGap> {
  private readonly filters: readonly TopicFilter[];
  private readonly filter: TapFilter;
  private waiting: TapLine[] = [];
  private missed = 0;
  private second = 0;
  private taken = 0;
  private isClosed = false;
  private wake = (): void => {};

  constructor(filter: TapFilter) {
    this.filter = filter;
    this.filters = filter.from.map((text) => TopicFilter.parse(text));
  }

  take(
    packet: PublishPacket,
    mapping: Mapping,
    refusal: LogError | null,
    stored: readonly RecordAppend[],
  ): void {
    const { filters } = this;
    if (filters.length > 0 && !filters.some((filter) => filter.matches(packet.mqttTopic))) return;
    if (!this.wants(mapping, stored)) return;
    if (!this.hasRoom()) {
      this.missed++;
      return;
    }
    this.waiting.push(lineOf(packet, mapping, refusal, stored));
    this.wake();
  }

  private wants(mapping: Mapping, stored: readonly RecordAppend[]): boolean {
    const { streams, unmatched, errors } = this.filter;
    const { outcome } = mapping;
    if (unmatched || errors) {
      const isError = outcome === "failed" || (outcome === "mapped" && mapping.problem !== undefined);
      if (!(unmatched && outcome === "unmatched") && !(errors && isError)) return false;
    }
    if (streams.length === 0 || stored.some(({ partition }) => streams.includes(partition.stream.name)))
      return true;
    // Refused, but it was meant for there.
    return outcome === "mapped" && mapping.records.some(({ stream }) => streams.includes(stream));
  }

  private hasRoom(): boolean {
    const second = Math.floor(performance.now() / 1_000);
    if (second !== this.second) {
      this.second = second;
      this.taken = 0;
    }
    return this.waiting.length < MAX_WAITING && this.taken++ < MAX_PER_SECOND;
  }

  close(): void {
    this.isClosed = true;
    this.wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TapLine | TapGap> {
    while (!this.isClosed) {
      if (this.waiting.length === 0 && this.missed === 0) {
        await new Promise<void>((resolve) => {
          this.wake = resolve;
        });
        this.wake = () => {};
        continue;
      }
      const lines = this.waiting;
      const missed = this.missed;
      this.waiting = [];
      this.missed = 0;
      yield* lines;
      if (missed > 0) yield { missed };
    }
  }
}

function lineOf(
  packet: PublishPacket,
  mapping: Mapping,
  refusal: LogError | null,
  stored: readonly RecordAppend[],
): TapLine {
  const { mqttTopic: topic, clientId, qos, retain, payload, receivedAt: at } = packet;
  const problem =
    mapping.outcome === "failed" ? mapping.error : mapping.outcome === "mapped" ? mapping.problem : undefined;
  const error = problem && { field: problem.field, message: problem.message };
  // What sessions are owed of the message is in the same commit.
  const records = refusal === null ? stored.filter(({ partition }) => !partition.stream.internal) : [];
  return {
    at,
    topic,
    clientId,
    qos,
    retain,
    bytes: payload.length,
    ...beginningOf(payload),
    outcome: refusal !== null ? "refused" : outcomeOf(mapping, records),
    rule: mapping.outcome === "unmatched" ? undefined : mapping.rule,
    records: records.slice(0, MAX_RECORDS).map(({ partition, offset, key }) => ({
      stream: partition.stream.name,
      partition: partition.index,
      offset: offset as number,
      key: key?.toString() ?? null,
    })),
    more: Math.max(0, records.length - MAX_RECORDS),
    error: refusal === null ? error : { field: refusal.code, message: refusal.message },
  };
}

function beginningOf(payload: Buffer): Pick<TapLine, "payload" | "isText"> {
  let end = Math.min(payload.length, MAX_PAYLOAD_BYTES);
  // Not within a character: its further bytes are 10xxxxxx.
  if (end < payload.length)
    while (end > MAX_PAYLOAD_BYTES - 3 && ((payload[end] as number) & 0xc0) === 0x80) end--;
  const head = payload.subarray(0, end);
  const isText = isUtf8(head);
  return { payload: head.toString(isText ? "utf8" : "hex"), isText };
}

function outcomeOf(mapping: Mapping, records: readonly RecordAppend[]): TapLine["outcome"] {
  if (mapping.outcome !== "mapped" && mapping.outcome !== "unknown stream") return mapping.outcome;
  const streams =
    mapping.outcome === "mapped" ? mapping.records.map(({ stream }) => stream) : [mapping.stream];
  // Where it was meant to go: the stream may have been made for it, or takes no record so large.
  const isThere = records.some(({ partition }) => streams.includes(partition.stream.name));
  return isThere || streams.length === 0 ? "stored" : "failed";
}
