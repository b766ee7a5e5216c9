/**
 * From a PUBLISH to the log: map, append, and only then `done`.
 *
 * `done` without an error means that the message is on disk, or that the rules (the user's, not the sensor's)
 * have no place for it: then it is counted and said, and acknowledged, because sending it again would not
 * help. `done` with an error means that nothing was written; the client shall send again.
 */
import { LogError } from "../errors.ts";
import type { Log, Partition, RecordAppend } from "../log/log.ts";
import { type Logger, RateLimitedLog } from "../logger.ts";
import { fallbackHeaders, type Mapped, type Mapper } from "../mapping/mapper.ts";
import type { PublishPacket } from "../record.ts";

export interface IngestOptions {
  /** Where messages go that no rule matches, or whose rule gives no usable stream. Without it: counted, dropped. */
  readonly fallbackStream?: string | undefined;
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
  /** Of the stored ones: key, a header or the timestamp could not be made. */
  readonly mappingProblems: number;
  /** Acknowledged without a place to go: no rule matched. */
  readonly droppedUnmatched: number;
  /** Acknowledged without a place to go: the rule gave no usable stream. */
  readonly droppedFailed: number;
  /** The log refused; not acknowledged. */
  readonly refused: number;
  /** Waiting for their commit now. */
  readonly inFlight: number;
}

export type Done = (error: LogError | null) => void;

/** What has to be on disk in the same commit as a message. */
export interface Companions {
  /** Called when the message is appended, at most once. */
  entries(): readonly RecordAppend[];
  /** Called with the outcome, before anybody else hears of it. */
  settle(error: LogError | null): void;
}

export interface IncomingPublish extends PublishPacket {
  readonly companions: Companions | undefined;
}

const MAX_STREAMS = 10_000;

export class Ingest {
  private mapper: Mapper;
  private readonly log: Log;
  private readonly logger: Logger;
  private options: IngestOptions;
  private readonly repeats = new RateLimitedLog();
  private readonly creating = new Map<string, Promise<unknown>>();
  private readonly idle: (() => void)[] = [];
  private readonly counts = {
    stored: 0,
    storedBytes: 0,
    mappingProblems: 0,
    droppedUnmatched: 0,
    droppedFailed: 0,
    refused: 0,
    inFlight: 0,
  };

  constructor(mapper: Mapper, log: Log, logger: Logger, options: IngestOptions = {}) {
    this.mapper = mapper;
    this.log = log;
    this.logger = logger;
    this.options = options;
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
    const mapping = this.mapper.map(packet);
    switch (mapping.outcome) {
      case "mapped":
        // Whoever comes while the stream is being made lines up behind those who wait for it.
        if (this.creating.size > 0 && this.creating.has(mapping.stream)) {
          this.create(packet, mapping.rule, mapping.stream, done);
          break;
        }
        if (mapping.key === null && this.log.stream(mapping.stream)?.settings.cleanup === "compact") {
          // The log would refuse it each time that it is sent again.
          const why = `stream "${mapping.stream}" is compacted and takes no record without a key`;
          this.fallBack(packet, `rule "${mapping.rule}": ${mapping.problem ?? "no key"}: ${why}`, done);
          break;
        }
        if (mapping.problem !== undefined) this.report(packet, mapping.rule, mapping.problem);
        this.append(packet, mapping, done);
        break;
      case "unmatched":
        this.fallBack(packet, undefined, done);
        break;
      case "failed":
        this.fallBack(packet, `rule "${mapping.rule}": ${mapping.problem}`, done);
        break;
      case "unknown stream":
        this.create(packet, mapping.rule, mapping.stream, done);
        break;
    }
  }

  /** Resolves when nothing waits for its commit. */
  async drained(): Promise<void> {
    if (this.counts.inFlight > 0) await new Promise<void>((resolve) => this.idle.push(resolve));
  }

  private append(packet: IncomingPublish, record: Omit<Mapped, "outcome" | "rule">, done: Done): void {
    const stream = this.log.stream(record.stream);
    let partition: Partition | undefined;
    if (stream !== undefined && !stream.internal) {
      partition = record.partition < 0 ? stream.keylessPartition() : stream.partitions[record.partition];
    }
    const { counts } = this;
    if (partition === undefined) {
      counts.refused++;
      done(new LogError("UNKNOWN_STREAM", `the stream "${record.stream}" cannot be written`));
      return;
    }
    const entry: RecordAppend = {
      partition,
      key: record.key,
      value: record.value,
      headers: record.headers,
      timestamp: record.timestamp,
    };
    const { companions } = packet;
    const entries = companions === undefined ? [entry] : [entry, ...companions.entries()];
    this.commit(entries, record.problem === undefined ? "stored" : "stored in part", packet, done);
  }

  private commit(
    entries: readonly RecordAppend[],
    outcome: "stored" | "stored in part" | "dropped",
    packet: IncomingPublish,
    done: Done,
  ): void {
    const { counts } = this;
    counts.inFlight++;
    this.log.append(entries, (error) => {
      if (error === null) {
        if (outcome !== "dropped") {
          counts.stored++;
          counts.storedBytes += packet.payload.length;
        }
        if (outcome === "stored in part") counts.mappingProblems++;
      } else {
        counts.refused++;
        this.repeats.say(`refused ${error.code}`, (heldBack) =>
          this.logger.error({ code: error.code, heldBack }, `the log refused a message: ${error.message}`),
        );
      }
      packet.companions?.settle(error);
      done(error);
      this.release();
    });
  }

  private release(): void {
    if (--this.counts.inFlight === 0 && this.idle.length > 0) {
      for (const resolve of this.idle.splice(0)) resolve();
    }
  }

  /** For a message without a stream of its own; `problem` is undefined where no rule matched. */
  private fallBack(packet: IncomingPublish, problem: string | undefined, done: Done): void {
    const { mqttTopic } = packet;
    const stream = this.options.fallbackStream;
    if (stream !== undefined) {
      this.append(
        packet,
        {
          stream,
          partition: -1,
          key: null,
          value: packet.payload,
          headers: fallbackHeaders(mqttTopic, problem),
          timestamp: packet.receivedAt,
          problem,
        },
        done,
      );
    } else {
      if (problem === undefined) this.counts.droppedUnmatched++;
      else this.counts.droppedFailed++;
      // Dropped as a record only: sessions and a later subscriber get it all the same.
      const entries = packet.companions?.entries() ?? [];
      if (entries.length > 0) this.commit(entries, "dropped", packet, done);
      else queueMicrotask(() => done(null));
    }
    const dropped = stream === undefined;
    if (problem !== undefined) this.report(packet, "", problem);
    else if (dropped) {
      this.repeats.say("unmatched", (heldBack) =>
        this.logger.warn(
          { mqttTopic, heldBack, total: this.counts.droppedUnmatched },
          'dropped a message: no mapping matches its MQTT topic; add a mapping, or one with from: "#rest"',
        ),
      );
    }
  }

  private report(packet: PublishPacket, rule: string, problem: string): void {
    this.repeats.say(`problem ${rule} ${problem.slice(0, 20)}`, (heldBack) =>
      this.logger.warn({ rule, mqttTopic: packet.mqttTopic, heldBack }, `mapping: ${problem}`),
    );
  }

  private create(packet: IncomingPublish, rule: string, stream: string, done: Done): void {
    const { enabled = false, partitions = 1, maxStreams = MAX_STREAMS } = this.options.autoCreate ?? {};
    const present = this.log.streams.filter(({ internal }) => !internal).length;
    if (!enabled || present + this.creating.size >= maxStreams) {
      const why = enabled ? `there are ${maxStreams} streams already` : "the stream is not there";
      this.fallBack(packet, `rule "${rule}": to: "${stream}": ${why}`, done);
      return;
    }
    let creation = this.creating.get(stream);
    if (creation === undefined) {
      creation = this.log
        .createStream(stream, partitions, {}, "protocol")
        .finally(() => this.creating.delete(stream));
      this.creating.set(stream, creation);
      this.logger.info({ stream, partitions, rule }, "a mapping named a new stream: made it");
    }
    this.counts.inFlight++;
    const settle = (error: LogError | null): void => {
      if (error === null && this.log.stream(stream) !== undefined) this.accept(packet, done);
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
