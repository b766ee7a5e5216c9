/**
 * From streams back to MQTT: what a Kafka producer writes reaches devices, also those that are offline.
 *
 * The place of each partition is the committed offset of the gateway's own group, and goes to disk in the same
 * commit as what sessions are owed and what is retained: so a restart neither repeats nor leaves out a message,
 * `sluice groups` shows the lag, and resetting the group's offsets, with any Kafka tool and while the gateway
 * runs, replays. What a record's rule cannot do with it goes to dead letters in that commit, too.
 */
import { messageOf } from "../errors.ts";
import type { GroupCoordinator } from "../groups/coordinator.ts";
import type { Log, Partition, Stream } from "../log/log.ts";
import { type Logger, RateLimitedLog } from "../logger.ts";
import { type DownlinkDefinition, DownlinkRule } from "../mapping/downlink-rule.ts";
import type { OwnMessage } from "../mqtt/broker.ts";
import type { Companions } from "../mqtt/ingest.ts";
import type { StoredRecord } from "../record.ts";
import { PartitionReader } from "./partition-reader.ts";

export const DOWNLINK_GROUP = "sluice.downlink";

/** How often streams are looked at for partitions that came or went. */
const LOOK_EVERY_MS = 1_000;

export interface DownlinkServices {
  readonly log: Log;
  readonly groups: GroupCoordinator;
  /** See `MqttBroker.publish`. */
  publish(messages: readonly OwnMessage[], more: readonly Companions[]): Promise<void>;
  /** Why nobody may publish there, or undefined. */
  topicProblem(mqttTopic: string): string | undefined;
  /** What puts a record that cannot be sent among the dead letters; undefined where there are none. */
  deadLetter(failed: FailedRecord): Companions | undefined;
}

/** A record that its rule could do nothing with. */
export interface FailedRecord {
  readonly record: StoredRecord;
  readonly stream: string;
  readonly partition: number;
  readonly rule: string;
  readonly problem: string;
}

export interface DownlinkStats {
  /** Records published over MQTT. */
  readonly sent: number;
  /** Older than their `expiry` when their turn came. */
  readonly expired: number;
  /** Not to be sent: among the dead letters, or reported where there are none. */
  readonly failed: number;
}

export class Downlinks {
  private readonly services: DownlinkServices;
  private readonly logger: Logger;
  private readonly repeats = new RateLimitedLog();
  private rules = new Map<string, DownlinkRule[]>();
  private readonly readers = new Map<Partition, PartitionReader>();
  /** Streams that had a rule when they were looked at last. */
  private watched = new Set<string>();
  private readonly counts = { sent: 0, expired: 0, failed: 0 };
  private timer: NodeJS.Timeout | undefined;

  constructor(definitions: readonly DownlinkDefinition[], services: DownlinkServices, logger: Logger) {
    this.services = services;
    this.logger = logger;
    this.rules = byStream(definitions);
  }

  get stats(): DownlinkStats {
    return { ...this.counts };
  }

  async start(): Promise<void> {
    this.timer = setInterval(() => this.look(), LOOK_EVERY_MS).unref();
    this.look();
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    this.timer = undefined;
    await Promise.all([...this.readers.values()].map((reader) => reader.close()));
  }

  /** From the next record on. */
  use(definitions: readonly DownlinkDefinition[]): void {
    this.rules = byStream(definitions);
    if (this.timer !== undefined) this.look();
  }

  /** Begins with partitions that have a rule, and ends with those that have none or are gone. */
  private look(): void {
    const { log, groups } = this.services;
    // Every time, as somebody may have deleted it.
    if (this.rules.size > 0) groups.own(DOWNLINK_GROUP);
    const wanted = new Set([...this.rules.keys()].flatMap((name) => log.stream(name)?.partitions ?? []));
    for (const [partition, reader] of this.readers) {
      if (wanted.has(partition)) continue;
      this.readers.delete(partition);
      void reader.close();
    }
    for (const partition of wanted) {
      if (this.readers.has(partition)) continue;
      // One that came to a stream with a rule is new: everything on it is news.
      const from = this.watched.has(partition.stream.name) ? "beginning" : "latest";
      const reader = new PartitionReader(partition, groups, DOWNLINK_GROUP, from, {
        send: (records, place) => this.send(partition, records, place),
        skip: (record, place, problem) => this.skip(partition, record, place, problem),
        lost: (records) => {
          const stream = partition.stream.name;
          this.logger.warn(
            { stream, partition: partition.index, records },
            "retention was faster than a downlink",
          );
        },
        failed: (error) => this.complain(partition.stream, error),
      });
      this.readers.set(partition, reader);
      reader.start();
    }
    this.watched = new Set(this.rules.keys());
  }

  /** All of these records in one commit with the place behind them. */
  private async send(
    partition: Partition,
    records: readonly StoredRecord[],
    place: Companions,
  ): Promise<void> {
    const messages: OwnMessage[] = [];
    const failed: FailedRecord[] = [];
    let expired = 0;
    for (const record of records) {
      const made = this.messageOf(partition, record);
      if (made === undefined) continue;
      if ("problem" in made) failed.push(made);
      else if (made.expiresAt !== undefined && made.expiresAt <= Date.now()) expired++;
      else messages.push(made);
    }
    const letters = failed.flatMap((one) => this.services.deadLetter(one) ?? []);
    await this.services.publish(messages, [...letters, place]);
    this.counts.sent += messages.length;
    this.counts.expired += expired;
    for (const one of failed) this.report(one);
  }

  /** Too large for a dead letter, or unreadable: it stays on its stream, and that is said. */
  private async skip(
    partition: Partition,
    record: StoredRecord,
    place: Companions,
    problem: string,
  ): Promise<void> {
    await this.services.publish([], [place]);
    const rule = this.rules.get(partition.stream.name)?.[0]?.definition.name ?? "";
    this.report(failedRecord(partition, record, rule, problem));
  }

  /** Undefined where no rule takes the record. */
  private messageOf(partition: Partition, record: StoredRecord): OwnMessage | FailedRecord | undefined {
    const stream = partition.stream.name;
    const [rule] = this.rules.get(stream) ?? [];
    if (rule === undefined) return undefined;
    try {
      const message = rule.message(record, stream, partition.index);
      const problem = this.services.topicProblem(message.topic);
      if (problem === undefined) return message;
      return failedRecord(partition, record, rule.definition.name, `to: a publish to ${problem}`);
    } catch (error) {
      return failedRecord(partition, record, rule.definition.name, messageOf(error));
    }
  }

  private report({ rule, stream, partition, record: { offset }, problem }: FailedRecord): void {
    this.counts.failed++;
    this.repeats.say(`failed ${rule} ${problem.slice(0, 20)}`, (heldBack) =>
      this.logger.warn({ rule, stream, partition, offset, heldBack }, `downlink: ${problem}`),
    );
  }

  private complain({ name: stream }: Stream, error: unknown): void {
    this.repeats.say(`error ${stream}`, (heldBack) =>
      this.logger.error({ stream, heldBack }, `downlink: ${messageOf(error)}`),
    );
  }
}

function failedRecord(
  { stream, index }: Partition,
  record: StoredRecord,
  rule: string,
  problem: string,
): FailedRecord {
  return { record, stream: stream.name, partition: index, rule, problem };
}

function byStream(definitions: readonly DownlinkDefinition[]): Map<string, DownlinkRule[]> {
  const rules = new Map<string, DownlinkRule[]>();
  for (const definition of definitions) {
    const own = rules.get(definition.from);
    if (own === undefined) rules.set(definition.from, [new DownlinkRule(definition)]);
    else own.push(new DownlinkRule(definition));
  }
  return rules;
}
