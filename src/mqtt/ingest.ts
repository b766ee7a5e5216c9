/**
 * From a PUBLISH to the log: map, append, and only then `done`.
 *
 * `done` without an error means that all of the message's records are on disk, in one commit; or that it is a
 * dead letter, on disk too; or that the rules (the user's, not the sensor's) have no place for it: then it is
 * counted and said, and acknowledged, because sending it again would not help. `done` with an error means that
 * nothing was written; the client shall send again.
 */
import { LogError } from "../errors.ts";
import type { Log, Partition, RecordAppend, StreamOrigin, StreamSettings } from "../log/log.ts";
import type { ReceivingClock } from "../log/timekeeper.ts";
import { type Logger, RateLimitedLog } from "../logger.ts";
import { deadLetterHeaders, unmatchedHeaders } from "../mapping/dead-letter.ts";
import type { Mapper } from "../mapping/mapper.ts";
import type { Mapped, MappingError, UnknownStream } from "../mapping/outcome.ts";
import { murmur2, partitionOf } from "../mapping/partitioner.ts";
import { CLOCK_MARK } from "../mapping/record-builder.ts";
import type { OnError } from "../mapping/rule.ts";
import { TopicCensus } from "../mapping/topic-census.ts";
import type { MappedRecord, PublishPacket } from "../record.ts";
import { recordBytesBound, withHeader } from "../wire/record-batch.ts";
import { Taps } from "./taps.ts";

export interface IngestOptions {
  /** Where messages go that no rule matches. Without it: counted, dropped. */
  readonly fallbackStream?: string | undefined;
  /** Where messages go of which a rule cannot make its records; made when it is first needed. Without it: counted, dropped. */
  readonly deadLetterStream?: string | undefined;
  /** Streams that a rule names and nobody declared: made when the first message comes, up to `maxStreams` beside the internal ones. */
  readonly autoCreate?: {
    readonly enabled: boolean;
    readonly partitions: number;
    readonly maxStreams?: number;
  };
}

export interface IngestStats {
  /** Messages on disk. */
  readonly stored: number;
  /** Payload bytes on disk. */
  readonly storedBytes: number;
  /** Of the stored ones: something could not be made and was left out (`onError: pass`). */
  readonly mappingProblems: number;
  /** On disk as dead letters. */
  readonly deadLettered: number;
  /** Acknowledged, and wanted by no rule: `retained: skip`, an empty `split`. */
  readonly skipped: number;
  /** Acknowledged without a place to go: no rule matched. */
  readonly droppedUnmatched: number;
  /** Acknowledged and dropped because a rule failed (`onError: drop`). */
  readonly droppedFailed: number;
  /** Acknowledged and dropped because nobody may publish to that MQTT topic (`$SYS`). */
  readonly droppedForbidden: number;
  /** The log refused; not acknowledged. */
  readonly refused: number;
  /** Waiting for their commit now. */
  readonly inFlight: number;
}

/** `stored`: without an error, what is on disk now, with its offsets; left out where nothing was to be written. */
export type Done = (error: LogError | null, stored?: readonly RecordAppend[]) => void;

/** What has to be on disk in the same commit as a message. */
export interface Companions {
  /** Called when the message is appended, at most once. */
  entries(): readonly RecordAppend[];
  /** Called with the outcome, before anybody else hears of it. */
  settle(error: LogError | null): void;
}

/** All of it in one commit; rejects with LogError when nothing of it was written. */
export function appendTogether(log: Log, all: readonly Companions[]): Promise<void> {
  return new Promise((resolve, reject) => {
    log.append(
      all.flatMap((one) => one.entries()),
      (error) => {
        for (const one of all) one.settle(error);
        if (error === null) resolve();
        else reject(error);
      },
    );
  });
}

export interface IncomingPublish extends PublishPacket {
  readonly companions: Companions | undefined;
}

const MAX_STREAMS = 10_000;
const ALWAYS_SET: ReceivingClock = { now: Date.now, isSet: true };

export class Ingest {
  private mapper: Mapper;
  private readonly log: Log;
  private readonly logger: Logger;
  private options: IngestOptions;
  private readonly clock: ReceivingClock;
  /** What no mapping took, whether it went to the fallback stream or nowhere. */
  readonly unmatched = new TopicCensus();
  /** Who looks on. */
  readonly taps = new Taps();
  private readonly repeats = new RateLimitedLog();
  private readonly creating = new Map<string, Promise<unknown>>();
  private readonly idle: (() => void)[] = [];
  private readonly counts = {
    stored: 0,
    storedBytes: 0,
    mappingProblems: 0,
    deadLettered: 0,
    skipped: 0,
    droppedUnmatched: 0,
    droppedFailed: 0,
    droppedForbidden: 0,
    refused: 0,
    inFlight: 0,
  };

  /** `clock` stamps what comes; the machine's own, believed, when left out. */
  constructor(
    mapper: Mapper,
    log: Log,
    logger: Logger,
    options: IngestOptions = {},
    clock: ReceivingClock = ALWAYS_SET,
  ) {
    this.mapper = mapper;
    this.log = log;
    this.logger = logger;
    this.options = options;
    this.clock = clock;
  }

  /** For `receivedAt`. */
  now(): number {
    return this.clock.now();
  }

  /** From the next message on. */
  use(mapper: Mapper, options: IngestOptions): void {
    this.mapper = mapper;
    this.options = options;
  }

  get stats(): IngestStats {
    return { ...this.counts };
  }

  /** Calls `done` once, when the message is on disk, has no place to go, or was refused. */
  accept(packet: IncomingPublish, done: Done): void {
    if (this.taps.size === 0) {
      this.take(packet, done);
      return;
    }
    const mapping = this.mapper.map(packet);
    const shown: Done = (error, stored = []) => {
      done(error);
      this.taps.show(packet, mapping, error, stored);
    };
    this.take(packet, shown, mapping);
  }

  /**
   * A dead letter through the present rules, as `accept`; one that none of them takes is one again. Tells what
   * becomes of it if `done` brings no error.
   */
  retry(packet: IncomingPublish, done: Done): "stored" | "failed" {
    const mapping = this.mapper.map(packet);
    if (mapping.outcome === "unmatched" && this.options.fallbackStream === undefined) {
      const error = { rule: "", field: "from", position: undefined, message: "no mapping takes it any more" };
      this.fail(packet, error, "deadLetter", done);
      return "failed";
    }
    this.accept(packet, done);
    return mapping.outcome === "failed" ? "failed" : "stored";
  }

  private take(packet: IncomingPublish, done: Done, mapping = this.mapper.map(packet)): void {
    switch (mapping.outcome) {
      case "mapped":
        this.store(packet, mapping, done);
        break;
      case "unmatched":
        this.fallBack(packet, done);
        break;
      case "failed":
        this.fail(packet, mapping.error, mapping.onError, done);
        break;
      case "skipped":
        this.counts.skipped++;
        this.acknowledge(packet, done);
        break;
      case "unknown stream":
        this.create(packet, mapping, done);
        break;
    }
  }

  /**
   * For what nobody may publish. Refused, which ends a connection, it would come again over the next one, and the
   * client would never get past it.
   */
  dropForbidden(mqttTopic: string, done: () => void): void {
    this.counts.droppedForbidden++;
    this.repeats.say("forbidden", (heldBack) =>
      this.logger.warn(
        { mqttTopic, heldBack, total: this.counts.droppedForbidden },
        "dropped a message to $SYS: nobody may publish there but the broker",
      ),
    );
    queueMicrotask(done);
  }

  /** Resolves when nothing waits for its commit. */
  async drained(): Promise<void> {
    if (this.counts.inFlight > 0) await new Promise<void>((resolve) => this.idle.push(resolve));
  }

  private store(packet: IncomingPublish, { rule, records, problem }: Mapped, done: Done): void {
    const entries: RecordAppend[] = [];
    for (const record of records) {
      // Whoever comes while the stream is being made lines up behind those who wait for it.
      if (this.creating.size > 0 && this.creating.has(record.stream)) {
        this.afterCreation(this.creating.get(record.stream) as Promise<unknown>, packet, record.stream, done);
        return;
      }
      const entry = this.entryOf(record);
      if (entry === undefined) {
        this.refuse(record.stream, done);
        return;
      }
      const problem = misfit(entry);
      // The log would refuse it each time that it is sent again.
      if (problem !== undefined) {
        this.fail(packet, { rule, ...problem }, "deadLetter", done);
        return;
      }
      entries.push(entry);
    }
    if (problem !== undefined) this.report(packet, problem, "stored without it");
    if (packet.companions !== undefined) entries.push(...packet.companions.entries());
    if (entries.length === 0) this.acknowledge(packet, done);
    else this.commit(entries, problem === undefined ? "stored" : "stored in part", packet, done);
  }

  /** Undefined when the stream is not there, or the gateway's own. */
  private entryOf(record: MappedRecord): RecordAppend | undefined {
    const stream = this.log.stream(record.stream);
    if (stream === undefined || stream.internal) return undefined;
    const partition = record.partition < 0 ? stream.keylessPartition() : stream.partitions[record.partition];
    const { key, value, timestamp } = record;
    const headers = this.clock.isSet ? record.headers : withHeader(record.headers, CLOCK_MARK);
    return partition && { partition, key, value, headers, timestamp };
  }

  private refuse(stream: string, done: Done): void {
    this.counts.refused++;
    done(new LogError("UNKNOWN_STREAM", `the stream "${stream}" cannot be written`));
  }

  private commit(
    entries: readonly RecordAppend[],
    outcome: "stored" | "stored in part" | "dead letter" | "no record",
    packet: IncomingPublish,
    done: Done,
  ): void {
    const { counts } = this;
    counts.inFlight++;
    this.log.append(entries, (error) => {
      if (error === null) {
        if (outcome !== "no record") {
          counts.stored++;
          counts.storedBytes += packet.payload.length;
        }
        if (outcome === "stored in part") counts.mappingProblems++;
        if (outcome === "dead letter") counts.deadLettered++;
      } else {
        counts.refused++;
        this.repeats.say(`refused ${error.code}`, (heldBack) =>
          this.logger.error({ code: error.code, heldBack }, `the log refused a message: ${error.message}`),
        );
      }
      packet.companions?.settle(error);
      done(error, entries);
      this.release();
    });
  }

  private release(): void {
    if (--this.counts.inFlight === 0 && this.idle.length > 0) {
      for (const resolve of this.idle.splice(0)) resolve();
    }
  }

  /** Without a record; sessions and a later subscriber get it all the same. */
  private acknowledge(packet: IncomingPublish, done: Done): void {
    const entries = packet.companions?.entries() ?? [];
    if (entries.length > 0) this.commit(entries, "no record", packet, done);
    else queueMicrotask(() => done(null));
  }

  /** For what no rule matches. */
  private fallBack(packet: IncomingPublish, done: Done): void {
    const { mqttTopic, payload: value, receivedAt: timestamp } = packet;
    this.unmatched.add(mqttTopic);
    const stream = this.options.fallbackStream;
    if (stream !== undefined) {
      const headers = unmatchedHeaders(mqttTopic);
      const record = { stream, partition: -1, key: null, value, headers, timestamp };
      this.store(packet, { outcome: "mapped", rule: "", records: [record], problem: undefined }, done);
      return;
    }
    this.counts.droppedUnmatched++;
    this.repeats.say("unmatched", (heldBack) =>
      this.logger.warn(
        { mqttTopic, heldBack, total: this.counts.droppedUnmatched },
        'dropped a message: no mapping matches its MQTT topic; add a mapping, or one with from: "#rest"',
      ),
    );
    this.acknowledge(packet, done);
  }

  /** For what a rule takes and cannot make records of. */
  private fail(packet: IncomingPublish, error: MappingError, onError: OnError, done: Done): void {
    const { deadLetterStream } = this.options;
    if (onError === "drop" || deadLetterStream === undefined) {
      this.drop(packet, error, done);
      return;
    }
    const stream = this.log.stream(deadLetterStream);
    // While it is being made it is there, but may have no partitions yet; and who came before comes first.
    if (stream === undefined || this.creating.has(deadLetterStream)) {
      this.createStream(deadLetterStream, 1, DEAD_LETTERS, "config");
      const creation = this.creating.get(deadLetterStream) as Promise<unknown>;
      this.afterCreation(creation, packet, deadLetterStream, done);
      return;
    }
    const key = Buffer.from(packet.mqttTopic);
    const entry = this.entryOf({
      stream: deadLetterStream,
      partition: partitionOf(murmur2(key), stream.partitions.length),
      key,
      value: packet.payload,
      headers: deadLetterHeaders(packet, error),
      timestamp: packet.receivedAt,
    });
    if (entry === undefined) {
      this.refuse(deadLetterStream, done);
      return;
    }
    // With its reason it is larger than it came: refused it would come again, and never fit.
    if (misfit(entry) !== undefined) {
      this.drop(packet, error, done);
      return;
    }
    this.report(packet, error, `stored as a dead letter on ${deadLetterStream}`);
    this.commit([entry, ...(packet.companions?.entries() ?? [])], "dead letter", packet, done);
  }

  private drop(packet: IncomingPublish, error: MappingError, done: Done): void {
    this.counts.droppedFailed++;
    this.report(packet, error, "dropped");
    this.acknowledge(packet, done);
  }

  private report({ mqttTopic }: PublishPacket, { rule, field, message }: MappingError, what: string): void {
    this.repeats.say(`problem ${rule} ${field}`, (heldBack) =>
      this.logger.warn({ rule, field, mqttTopic, heldBack }, `mapping: ${field}: ${message}; ${what}`),
    );
  }

  private create(packet: IncomingPublish, { rule, stream, limit, onError }: UnknownStream, done: Done): void {
    const { enabled = false, partitions = 1, maxStreams = MAX_STREAMS } = this.options.autoCreate ?? {};
    if (!this.creating.has(stream)) {
      const names = this.log.streams.filter(({ internal }) => !internal).map(({ name }) => name);
      const present = [...names, ...this.creating.keys()];
      const alike = limit && present.filter((name) => limit.pattern.test(name)).length;
      let why: string | undefined;
      if (!enabled) why = "is not there, and kafka.autoCreate is off";
      else if (present.length >= maxStreams)
        why = `is not there, and there are ${maxStreams} streams already`;
      else if (limit !== undefined && (alike ?? 0) >= limit.streams) {
        why = `would be one more than the ${limit.streams} that limit allows`;
      }
      if (why !== undefined) {
        const error = { rule, field: "to", position: undefined, message: `stream "${stream}" ${why}` };
        this.fail(packet, error, onError, done);
        return;
      }
      this.createStream(stream, partitions, {}, "protocol");
      this.logger.info({ stream, partitions, rule }, "a mapping named a new stream: made it");
    }
    this.afterCreation(this.creating.get(stream) as Promise<unknown>, packet, stream, done);
  }

  private createStream(
    stream: string,
    partitions: number,
    settings: Partial<StreamSettings>,
    origin: StreamOrigin,
  ): void {
    if (this.creating.has(stream)) return;
    const creation = this.log
      .createStream(stream, partitions, settings, origin)
      .finally(() => this.creating.delete(stream));
    this.creating.set(stream, creation);
  }

  /** Maps the message anew when its stream is there. */
  private afterCreation(
    creation: Promise<unknown>,
    packet: IncomingPublish,
    stream: string,
    done: Done,
  ): void {
    this.counts.inFlight++;
    const settle = (error: LogError | null): void => {
      if (error === null && this.log.stream(stream) !== undefined) this.take(packet, done);
      else done(error ?? new LogError("UNKNOWN_STREAM", `the stream "${stream}" went away`));
      this.release();
    };
    creation.then(
      () => settle(null),
      (error: unknown) => {
        const exists = error instanceof LogError && error.code === "STREAM_EXISTS";
        settle(exists ? null : error instanceof LogError ? error : new LogError("CREATE", String(error)));
      },
    );
  }
}

/** Of the stream that is made for dead letters: whatever MQTT lets in has to fit, with its reason. */
export const DEAD_LETTERS: Partial<StreamSettings> = { maxMessageBytes: 2 << 20, retentionBytes: 256 << 20 };

/** Why the log would not take a record, whoever sends it. */
function misfit(entry: RecordAppend): Omit<MappingError, "rule"> | undefined {
  const { name, settings } = (entry.partition as Partition).stream;
  if (entry.key === null && settings.cleanup === "compact") {
    const message = `stream "${name}" is compacted and takes no record without a key`;
    return { field: "key", position: undefined, message };
  }
  const bytes = recordBytesBound(entry);
  if (bytes <= (settings.maxMessageBytes ?? bytes)) return undefined;
  const message = `the record has ${bytes} bytes, and stream "${name}" takes ${settings.maxMessageBytes}`;
  return { field: "value", position: undefined, message };
}
