/**
 * A consumer of streams on kafkajs, against the gateway or a Kafka cluster alike.
 *
 * Without a group it reads on its own: it remembers its places itself and commits nothing (kafkajs knows no
 * reading without a group, so it joins one under a name of chance, which is gone when it leaves). With a group
 * it continues at the group's committed offsets; `from: beginning | latest` decides only where there are none
 * (and is committed there, so that the next reading continues in those partitions too), a time or an offset
 * moves the group there. A record counts as read once `onRecord` has resolved; only what was read is committed.
 */
import { randomBytes } from "node:crypto";
import type { Admin, Consumer, EachBatchPayload, KafkaMessage } from "kafkajs";
import { didYouMean } from "../config/problems.ts";
import { SluiceError } from "../errors.ts";
import type { RecordHeader } from "../record.ts";
import type { ReceivedRecord } from "./format.ts";
import { type From, startOffset } from "./from.ts";
import { closed, explain, kafkaOf, withAdmin } from "./kafka-client.ts";

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

/** A fetch that waits longer would hold up the end by as much. */
const MAX_FETCH_WAIT_MS = 500;

function requireStreams(wanted: readonly string[], known: readonly string[]): void {
  const missing = wanted.find((stream) => !known.includes(stream));
  if (missing === undefined) return;
  const shown = known.filter((name) => !name.startsWith("__")).sort();
  const list = shown.slice(0, 20).join(", ") + (shown.length > 20 ? " …" : "");
  throw new SluiceError("UNKNOWN_STREAM", `there is no stream "${missing}"${didYouMean(missing, shown)}`, {
    mend: shown.length === 0 ? "no stream exists there yet" : `there are ${shown.length}: ${list}`,
    exitCode: 66,
  });
}

/** Where reading starts in each partition: stream → partition → offset. */
type Places = ReadonlyMap<string, Map<number, number>>;

async function findPlaces(
  admin: Admin,
  streams: readonly string[],
  from: From,
  group: string | undefined,
): Promise<Places> {
  const places = new Map<string, Map<number, number>>();
  for (const stream of streams) {
    const atTime = new Map<number, number>();
    if (from.kind === "time") {
      const found = await admin.fetchTopicOffsetsByTimestamp(stream, from.timestampMs);
      for (const { partition, offset } of found) atTime.set(partition, Number(offset));
    }
    const ofStream = new Map<number, number>();
    for (const { partition, low, high } of await admin.fetchTopicOffsets(stream)) {
      const range = { low: Number(low), high: Number(high) };
      ofStream.set(partition, startOffset(from, range, atTime.get(partition)));
    }
    places.set(stream, ofStream);
  }
  if (group !== undefined && (from.kind === "beginning" || from.kind === "latest")) {
    const committed = await admin.fetchOffsets({ groupId: group, topics: [...streams] });
    for (const { topic, partitions } of committed) {
      for (const { partition, offset } of partitions) {
        if (Number(offset) >= 0) places.get(topic)?.delete(partition);
      }
    }
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
  const places = await withAdmin(brokers, async (admin) => {
    requireStreams(streams, await admin.listTopics());
    return findPlaces(admin, streams, from, group);
  });
  if (options.signal.aborted || options.count === 0) return 0;
  return new Reading(options, places, onRecord).run();
}

/** One reading from join to leave. The only writer of `places`, `received` and the outcome. */
class Reading {
  private received = 0;
  private lost = false;
  private ended = false;
  private joined = false;
  private end: (error?: unknown) => void = () => undefined;
  private readonly options: SubscriberOptions;
  private readonly places: Places;
  private readonly onRecord: (record: ReceivedRecord) => Promise<void> | void;

  constructor(
    options: SubscriberOptions,
    places: Places,
    onRecord: (record: ReceivedRecord) => Promise<void> | void,
  ) {
    this.options = options;
    this.places = places;
    this.onRecord = onRecord;
  }

  async run(): Promise<number> {
    const { brokers, group, signal } = this.options;
    const groupId = group ?? `sluice-subscribe-${randomBytes(6).toString("hex")}`;
    const consumer = kafkaOf(brokers, { retries: 8, onError: () => this.noticeLoss() }).consumer({
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
      await Promise.race([outcome, this.begin(consumer)]);
      await outcome;
    } catch (error) {
      throw explain(error, brokers);
    } finally {
      signal.removeEventListener("abort", onAbort);
      await closed(consumer.disconnect());
      // A broker that cannot delete groups forgets an empty one without offsets in time.
      if (group === undefined && this.joined && !this.lost) {
        await closed(withAdmin(brokers, (admin) => admin.deleteGroups([groupId])));
      }
    }
    return this.received;
  }

  private async begin(consumer: Consumer): Promise<void> {
    await consumer.connect();
    // From the beginning of what has no place: partitions that are added later.
    await consumer.subscribe({ topics: [...this.places.keys()], fromBeginning: true });
    await consumer.run({
      autoCommit: this.options.group !== undefined,
      autoCommitInterval: 1_000,
      eachBatchAutoResolve: false,
      eachBatch: (payload) => this.batch(payload),
    });
  }

  /**
   * Without a group the places are ours, and every join (the first, and those after a lost connection) starts
   * from them. A group is moved once only (kafkajs commits that): afterwards its committed offsets are the truth.
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
