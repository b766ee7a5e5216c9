/**
 * Dead letters: looked at, and sent through the present rules again, once each.
 *
 * How far the retrying has come is the committed offset of a group of the gateway's own; it goes to disk in the
 * same commit as what becomes of a letter, so a restart sends none twice and forgets none. A letter that fails
 * again is a new one at the end of the stream, with the present reason.
 */
import type { Downlinks, FailedRecord } from "./downlink/downlink.ts";
import { SluiceError } from "./errors.ts";
import type { GroupCoordinator } from "./groups/coordinator.ts";
import type { Log, Partition, RecordAppend } from "./log/log.ts";
import { wholePartition } from "./log/whole-partition.ts";
import { DEAD_LETTER_HEADERS } from "./mapping/dead-letter.ts";
import { appendTogether, type Companions, type Ingest } from "./mqtt/ingest.ts";
import type { PublishPacket, RecordHeader, StoredRecord } from "./record.ts";
import { encodeHeaders, recordsOf } from "./wire/record-batch.ts";

export const DEAD_LETTER_GROUP = "sluice.dead-letters";

/** In a dead letter of a downlink: where the record lies, which rule could not send it, and why. */
const DOWNLINK_HEADERS = {
  rule: "sluice.downlink.rule",
  stream: "sluice.downlink.stream",
  partition: "sluice.downlink.partition",
  offset: "sluice.downlink.offset",
  error: "sluice.downlink.error",
} as const;

const MAX_VALUE_BYTES = 1_000;

export interface DeadLetter {
  readonly partition: number;
  readonly offset: number;
  /** When the message arrived, or the record's timestamp. */
  readonly at: number;
  /** The MQTT topic, or the stream that a downlink reads. */
  readonly from: string;
  readonly rule: string;
  readonly error: string;
  /** In the rule: `key`, `headers.site` …; empty for a downlink. */
  readonly field: string;
  /** In the field's text, from 0; null where no place is to blame. */
  readonly position: number | null;
  readonly value: string | null;
  readonly bytes: number;
}

export interface DeadLetterList {
  readonly stream: string;
  /** Not retried yet, in all. */
  readonly waiting: number;
  /** The newest of them, the newest last. */
  readonly letters: readonly DeadLetter[];
}

export interface RetryProgress {
  /** Letters there were when it began. */
  readonly total: number;
  readonly done: number;
  /** Of those: dead letters again. */
  readonly failed: number;
  /** Of those: records that are no dead letters, or that somebody else wrote there. */
  readonly passedOver: number;
}

interface Services {
  readonly log: Log;
  readonly groups: GroupCoordinator;
  readonly ingest: Ingest;
  readonly downlinks: Downlinks;
  /** The stream that they are on. */
  stream(): string;
}

export class DeadLetters {
  private readonly services: Services;
  private isRetrying = false;

  constructor(services: Services) {
    this.services = services;
  }

  /** What puts a record that a downlink cannot send among them; undefined while there is no such stream. */
  ofDownlink({ record, stream, partition, rule, problem }: FailedRecord): Companions | undefined {
    const target = this.services.log.stream(this.services.stream());
    if (target === undefined) return undefined;
    const names = DOWNLINK_HEADERS;
    const said: [string, string | number][] = [
      [names.rule, rule],
      [names.stream, stream],
      [names.partition, partition],
      [names.offset, record.offset],
      [names.error, problem],
    ];
    const headers: RecordHeader[] = [
      ...record.headers.filter(({ key }) => !key.startsWith("sluice.downlink.")),
      ...said.map(([key, value]) => ({ key, value: Buffer.from(String(value)) })),
    ];
    const entry: RecordAppend = {
      partition: target.keylessPartition(),
      key: record.key,
      value: record.value,
      headers: encodeHeaders(headers),
      timestamp: record.timestamp,
    };
    return { entries: () => [entry], settle: () => {} };
  }

  /** Those that wait, at most so many of them. */
  async list(max: number): Promise<DeadLetterList> {
    const letters: DeadLetter[] = [];
    let waiting = 0;
    for (const partition of this.partitions) {
      const place = this.placeOf(partition);
      waiting += partition.highWatermark - place;
      const from = Math.max(place, partition.highWatermark - max);
      for await (const record of recordsFrom(partition, from, partition.highWatermark)) {
        letters.push(letterOf(partition, record));
      }
    }
    letters.sort((a, b) => a.at - b.at);
    return { stream: this.services.stream(), waiting, letters: letters.slice(-max) };
  }

  /** Sends all that wait now through the present rules, one after the other; says how far it is. */
  async *retry(gone: AbortSignal): AsyncGenerator<RetryProgress> {
    if (this.isRetrying)
      throw new SluiceError("BUSY", "dead letters are being retried already", { exitCode: 75 });
    this.isRetrying = true;
    try {
      const ends = this.partitions.map((partition) => ({ partition, end: partition.highWatermark }));
      const total = ends.reduce((sum, { partition, end }) => sum + end - this.placeOf(partition), 0);
      const counts = { total, done: 0, failed: 0, passedOver: 0 };
      yield { ...counts };
      for (const { partition, end } of ends) {
        for await (const record of recordsFrom(partition, this.placeOf(partition), end)) {
          if (gone.aborted) return;
          const outcome = await this.retryOne(partition, record);
          counts.done++;
          if (outcome !== "stored") counts[outcome]++;
          yield { ...counts };
        }
      }
    } finally {
      this.isRetrying = false;
    }
  }

  private async retryOne(
    partition: Partition,
    record: StoredRecord,
  ): Promise<"stored" | "failed" | "passedOver"> {
    const { ingest, downlinks } = this.services;
    const place = this.placing(partition, record.offset + 1);
    const header = headerReader(record);
    const stream = header(DOWNLINK_HEADERS.stream);
    if (stream !== undefined) {
      const at = { stream, partition: Number(header(DOWNLINK_HEADERS.partition)) };
      const offset = Number(header(DOWNLINK_HEADERS.offset));
      return (await downlinks.resend(at, { ...record, offset }, place)) ? "stored" : "failed";
    }
    const packet = packetOf(record);
    if (packet === undefined) {
      await appendTogether(this.services.log, [place]);
      return "passedOver";
    }
    return new Promise((resolve, reject) => {
      const outcome = ingest.retry({ ...packet, companions: place }, (error) => {
        if (error === null) resolve(outcome);
        else reject(error);
      });
    });
  }

  private get partitions(): readonly Partition[] {
    return this.services.log.stream(this.services.stream())?.partitions ?? [];
  }

  private placeOf({ stream, index, logStartOffset, highWatermark }: Partition): number {
    const at = { stream: stream.name, partition: index };
    const committed = this.services.groups.committedOffset(DEAD_LETTER_GROUP, at)?.offset ?? 0;
    return Math.min(Math.max(committed, logStartOffset), highWatermark);
  }

  private placing({ stream, index, leaderEpoch }: Partition, offset: number): Companions {
    const at = { stream: stream.name, partition: index, offset, leaderEpoch };
    return this.services.groups.placing(DEAD_LETTER_GROUP, [at]);
  }
}

async function* recordsFrom(partition: Partition, from: number, end: number): AsyncGenerator<StoredRecord> {
  for await (const buffers of wholePartition(partition, from, end)) {
    for (const record of recordsOf(buffers)) {
      if (record.offset >= from && record.offset < end) yield record;
    }
  }
}

function headerReader({ headers }: StoredRecord): (name: string) => string | undefined {
  const values = new Map(headers.map(({ key, value }) => [key, value?.toString()]));
  return (name) => values.get(name);
}

/** The message that a dead letter was; undefined for what is none. */
function packetOf(record: StoredRecord): PublishPacket | undefined {
  const header = headerReader(record);
  const names = DEAD_LETTER_HEADERS;
  const mqttTopic = header(names.topic);
  if (mqttTopic === undefined) return undefined;
  return {
    mqttTopic,
    payload: record.value ?? Buffer.alloc(0),
    clientId: header(names.clientId) ?? "",
    username: header(names.username),
    qos: Number(header(names.qos) ?? 0) as 0 | 1 | 2,
    retain: header(names.retain) === "true",
    receivedAt: record.timestamp,
  };
}

function letterOf({ index }: Partition, record: StoredRecord): DeadLetter {
  const header = headerReader(record);
  const names = DEAD_LETTER_HEADERS;
  const { value, offset, timestamp: at } = record;
  const stream = header(DOWNLINK_HEADERS.stream);
  const position = header(names.position);
  const said =
    stream === undefined
      ? {
          from: header(names.topic),
          rule: header(names.rule),
          error: header(names.error),
          field: header(names.field),
        }
      : {
          from: `${stream}[${header(DOWNLINK_HEADERS.partition)}]@${header(DOWNLINK_HEADERS.offset)}`,
          rule: header(DOWNLINK_HEADERS.rule),
          error: header(DOWNLINK_HEADERS.error),
          field: "",
        };
  return {
    partition: index,
    offset,
    at,
    from: said.from ?? "",
    rule: said.rule ?? "",
    error: said.error ?? "not a dead letter of this gateway's",
    field: said.field ?? "",
    position: position === undefined ? null : Number(position),
    value: value?.toString("utf8", 0, MAX_VALUE_BYTES) ?? null,
    bytes: value?.length ?? 0,
  };
}
