/**
 * A consumer of streams on kafkajs, against the gateway or a Kafka cluster alike.
 *
 * Without a group it reads on its own: it remembers its places itself and commits nothing (kafkajs knows no
 * reading without a group, so it joins one under a name of chance, which is gone when it leaves). With a group
 * it continues at the group's committed offsets; `from: beginning | latest` decides only where there are none,
 * a time or an offset moves the group there. A record counts as read once `onRecord` has resolved; only what
 * was read is committed.
 */
import { randomBytes } from "node:crypto";
import {
  type Admin,
  type Consumer,
  type EachBatchPayload,
  Kafka,
  type KafkaMessage,
  logLevel,
} from "kafkajs";
import { didYouMean } from "../config/problems.ts";
import { messageOf, SluiceError } from "../errors.ts";
import type { RecordHeader } from "../record.ts";
import type { ReceivedRecord } from "./format.ts";
import { type From, type OffsetRange, startOffset } from "./from.ts";

export interface SubscriberOptions {
  /** `host:port` each. */
  readonly brokers: readonly string[];
  /** Undefined: read without a group. */
  readonly group: string | undefined;
  /** Undefined: latest. */
  readonly from: From | undefined;
  /** Ends after so many records; undefined reads until aborted. */
  readonly count: number | undefined;
  /** Ends the reading in order. */
  readonly signal: AbortSignal;
  /** What a person should know meanwhile: a lost connection, its return. */
  readonly onNotice: (words: string) => void;
}

/** How long a connection, and an answer over it, may take. */
const CONNECT_TIMEOUT_MS = 3_000;
const REQUEST_TIMEOUT_MS = 10_000;
/** A fetch that waits longer would hold up the end by as much. */
const MAX_FETCH_WAIT_MS = 500;
const CLOSE_TIMEOUT_MS = 5_000;

/** Waits for `work`, but no longer than the bound: a broker that is gone must not hold up the end. */
async function bounded(work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise((resolve) => {
    timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
  });
  await Promise.race([work.catch(() => undefined), timeout]);
  clearTimeout(timer);
}

function kafkaOf(brokers: readonly string[], onError: (message: string) => void, retries: number): Kafka {
  return new Kafka({
    clientId: "sluice-subscribe",
    brokers: [...brokers],
    connectionTimeout: CONNECT_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    retry: { retries, initialRetryTime: 200, maxRetryTime: 5_000 },
    logLevel: logLevel.ERROR,
    logCreator:
      () =>
      ({ log }) =>
        onError(typeof log.error === "string" ? `${log.message}: ${log.error}` : log.message),
  });
}

/** One sentence for whatever kafkajs threw. */
export function explain(error: unknown, brokers: readonly string[]): SluiceError {
  if (error instanceof SluiceError) return error;
  const words = messageOf(error);
  const where = brokers.join(", ");
  const unavailable = (code: string, message: string, mend: string): SluiceError =>
    new SluiceError(code, message, { mend, exitCode: 69, cause: error });
  if (/ECONNREFUSED/.test(words)) {
    return unavailable(
      "UNREACHABLE",
      `nothing listens at ${where}`,
      "start the gateway with `sluice up`, or say where it is: --brokers host:port",
    );
  }
  if (/ENOTFOUND|EAI_AGAIN/.test(words)) {
    return unavailable("UNREACHABLE", `no host is known as ${where}`, "check the name given to --brokers");
  }
  if (/timed? ?out|timeout|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH/i.test(words)) {
    return unavailable(
      "UNREACHABLE",
      `${where} does not answer`,
      "is it a Kafka listener (the gateway's is 9092 by default, MQTT's 1883), and is no firewall between?",
    );
  }
  if (/ECONNRESET|Closed connection|EPIPE|socket/i.test(words)) {
    return unavailable("UNREACHABLE", `${where} closed the connection`, "is it a Kafka listener?");
  }
  return new SluiceError("SUBSCRIBE", `the broker at ${where} refused: ${words}`, { cause: error });
}

async function withAdmin<T>(brokers: readonly string[], work: (admin: Admin) => Promise<T>): Promise<T> {
  // What kafkajs throws in the end often has lost the cause; what it logged on the way has it.
  let lastLogged = "";
  const admin = kafkaOf(
    brokers,
    (message) => {
      lastLogged = message;
    },
    1,
  ).admin();
  try {
    await admin.connect();
    return await work(admin);
  } catch (error) {
    if (error instanceof SluiceError) throw error;
    throw explain(new Error(`${messageOf(error)} ${lastLogged}`.trim(), { cause: error }), brokers);
  } finally {
    await bounded(admin.disconnect());
  }
}

export interface StreamSummary {
  readonly stream: string;
  readonly partitions: number;
}

async function streamsOf(admin: Admin): Promise<StreamSummary[]> {
  const { topics } = await admin.fetchTopicMetadata();
  return topics
    .map(({ name, partitions }) => ({ stream: name, partitions: partitions.length }))
    .sort((a, b) => (a.stream < b.stream ? -1 : 1));
}

/** The streams that there are, by name, the broker's internal ones left out. */
export async function listStreams(brokers: readonly string[]): Promise<StreamSummary[]> {
  return withAdmin(brokers, async (admin) => {
    return (await streamsOf(admin)).filter(({ stream }) => !stream.startsWith("__"));
  });
}

function requireStreams(wanted: readonly string[], known: readonly StreamSummary[]): void {
  const names = known.map(({ stream }) => stream);
  const missing = wanted.find((stream) => !names.includes(stream));
  if (missing === undefined) return;
  const shown = names.filter((name) => !name.startsWith("__"));
  const list = shown.slice(0, 20).join(", ") + (shown.length > 20 ? " …" : "");
  throw new SluiceError("UNKNOWN_STREAM", `there is no stream "${missing}"${didYouMean(missing, shown)}`, {
    mend: shown.length === 0 ? "no stream exists there yet" : `there are ${shown.length}: ${list}`,
    exitCode: 66,
  });
}

/** Where reading starts in each partition: stream → partition → offset. */
type Places = Map<string, Map<number, number>>;

async function findPlaces(admin: Admin, streams: readonly string[], from: From): Promise<Places> {
  const places: Places = new Map();
  for (const stream of streams) {
    const atTime = new Map<number, number>();
    if (from.kind === "time") {
      const found = await admin.fetchTopicOffsetsByTimestamp(stream, from.timestampMs);
      for (const { partition, offset } of found) atTime.set(partition, Number(offset));
    }
    const ofStream = new Map<number, number>();
    for (const { partition, low, high } of await admin.fetchTopicOffsets(stream)) {
      const range: OffsetRange = { low: Number(low), high: Number(high) };
      ofStream.set(partition, startOffset(from, range, atTime.get(partition)));
    }
    places.set(stream, ofStream);
  }
  return places;
}

function headersOf(message: KafkaMessage): RecordHeader[] {
  return Object.entries(message.headers ?? {}).flatMap(([key, value]) =>
    (Array.isArray(value) ? value : [value]).map((item) => ({
      key,
      value: item === undefined || item === null ? null : Buffer.from(item),
    })),
  );
}

function recordOf(stream: string, partition: number, message: KafkaMessage): ReceivedRecord {
  return {
    stream,
    partition,
    offset: Number(message.offset),
    timestamp: Number(message.timestamp),
    key: message.key,
    value: message.value,
    headers: headersOf(message),
  };
}

/**
 * Reads the streams until `count` records or an abort, each record handed to `onRecord` one after another;
 * resolves with how many there were, after the group has been left. Rejects with SluiceError: UNREACHABLE,
 * UNKNOWN_STREAM, or what `onRecord` threw.
 */
export async function subscribe(
  streams: readonly string[],
  options: SubscriberOptions,
  onRecord: (record: ReceivedRecord) => Promise<void> | void,
): Promise<number> {
  const { brokers, group, from = { kind: "latest" } } = options;
  const seeks = group === undefined || from.kind === "time" || from.kind === "offset";
  const places = await withAdmin(brokers, async (admin) => {
    requireStreams(streams, await streamsOf(admin));
    return seeks ? findPlaces(admin, streams, from) : new Map();
  });
  if (options.signal.aborted || options.count === 0) return 0;
  const reading = new Reading(streams, options, places, onRecord);
  return reading.run(group === undefined || from.kind === "beginning");
}

/** One reading from join to leave. The only writer of `places`, `received` and the outcome. */
class Reading {
  received = 0;
  private lost = false;
  private ended = false;
  private joined = false;
  private end: (error?: unknown) => void = () => undefined;
  private readonly streams: readonly string[];
  private readonly options: SubscriberOptions;
  private readonly places: Places;
  private readonly onRecord: (record: ReceivedRecord) => Promise<void> | void;

  constructor(
    streams: readonly string[],
    options: SubscriberOptions,
    places: Places,
    onRecord: (record: ReceivedRecord) => Promise<void> | void,
  ) {
    this.streams = streams;
    this.options = options;
    this.places = places;
    this.onRecord = onRecord;
  }

  async run(fromBeginning: boolean): Promise<number> {
    const { brokers, group, signal } = this.options;
    const groupId = group ?? `sluice-subscribe-${randomBytes(6).toString("hex")}`;
    const consumer = kafkaOf(brokers, () => this.noticeLoss(), 8).consumer({
      groupId,
      maxWaitTimeInMs: MAX_FETCH_WAIT_MS,
      allowAutoTopicCreation: false,
    });
    const outcome = new Promise<void>((resolve, reject) => {
      this.end = (error) => {
        this.ended = true;
        if (error === undefined) resolve();
        else reject(error);
      };
    });
    const onAbort = (): void => this.end();
    signal.addEventListener("abort", onAbort, { once: true });
    consumer.on(consumer.events.GROUP_JOIN, () => this.seekTo(consumer));
    consumer.on(consumer.events.CRASH, ({ payload }) => {
      if (!payload.restart) this.end(payload.error);
    });
    try {
      await Promise.race([outcome, this.begin(consumer, fromBeginning)]);
      await outcome;
    } catch (error) {
      throw explain(error, brokers);
    } finally {
      signal.removeEventListener("abort", onAbort);
      await bounded(consumer.disconnect());
      // A broker that cannot delete groups forgets an empty one without offsets in time.
      if (group === undefined && this.joined && !this.lost) {
        await bounded(withAdmin(brokers, (admin) => admin.deleteGroups([groupId])));
      }
    }
    return this.received;
  }

  private async begin(consumer: Consumer, fromBeginning: boolean): Promise<void> {
    await consumer.connect();
    await consumer.subscribe({ topics: [...this.streams], fromBeginning });
    await consumer.run({
      autoCommit: this.options.group !== undefined,
      autoCommitInterval: 1_000,
      eachBatchAutoResolve: false,
      eachBatch: (payload) => this.batch(payload),
    });
  }

  /**
   * Without a group the places are ours, and every join (the first, and those after a lost connection) starts
   * from them. A group is moved once only: afterwards its committed offsets are the truth.
   */
  private seekTo(consumer: Consumer): void {
    const first = !this.joined;
    this.joined = true;
    if (!first && this.options.group !== undefined) return;
    for (const [topic, ofStream] of this.places) {
      for (const [partition, offset] of ofStream) consumer.seek({ topic, partition, offset: String(offset) });
    }
  }

  private async batch({ batch, resolveOffset, heartbeat, isRunning, isStale, ...rest }: EachBatchPayload) {
    if (this.lost) this.options.onNotice("reading again");
    this.lost = false;
    for (const message of batch.messages) {
      if (this.ended || !isRunning() || isStale()) return;
      try {
        await this.onRecord(recordOf(batch.topic, batch.partition, message));
      } catch (error) {
        // Not kafkajs's to retry: the reader itself failed.
        this.end(error);
        return;
      }
      resolveOffset(message.offset);
      this.places.get(batch.topic)?.set(batch.partition, Number(message.offset) + 1);
      if (++this.received === this.options.count) {
        this.end();
        return;
      }
      await rest.commitOffsetsIfNecessary();
      await heartbeat();
    }
  }

  private noticeLoss(): void {
    if (this.lost || this.ended || !this.joined) return;
    this.lost = true;
    this.options.onNotice(`lost the connection to ${this.options.brokers.join(", ")}; trying again`);
  }
}
