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
import type { Tables } from "../mapping/functions.ts";
import type { OwnMessage } from "../mqtt/broker.ts";
import type { Companions } from "../mqtt/ingest.ts";
import type { StoredRecord } from "../record.ts";
import { PartitionReader } from "./partition-reader.ts";

export const DOWNLINK_GROUP = "sluice.downlink";

/** How often streams are looked at for partitions that came or went, and places for having been moved. */
const LOOK_EVERY_MS = 1_000;

export interface DownlinkRules {
  /** The first of a stream that takes a record decides. */
  readonly rules: readonly DownlinkDefinition[];
  readonly tables?: Tables | undefined;
}

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

/** The partition that a record is from. */
export interface RecordPlace {
  readonly stream: string;
  readonly partition: number;
}

/** A record that its rule could do nothing with. */
export interface FailedRecord extends RecordPlace {
  readonly record: StoredRecord;
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

  constructor({ rules, tables }: DownlinkRules, services: DownlinkServices, logger: Logger) {
    this.services = services;
    this.logger = logger;
    this.rules = byStream(rules, tables);
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
  use({ rules, tables }: DownlinkRules): void {
    this.rules = byStream(rules, tables);
    if (this.timer !== undefined) this.look();
  }

  /** Begins with partitions that have a rule, and ends with those that have none or are gone. */
  private look(): void {
    const { log, groups } = this.services;
    // Every time, as somebody may have deleted it.
    if (this.rules.size > 0) groups.own(DOWNLINK_GROUP);
    const wanted = new Set([...this.rules.keys()].flatMap((name) => log.stream(name)?.partitions ?? []));
    for (const [partition, reader] of this.readers) {
      if (wanted.has(partition)) {
        reader.look();
        continue;
      }
      this.readers.delete(partition);
      void reader.close();
    }
    for (const partition of wanted) {
      if (this.readers.has(partition)) continue;
      // One that came to a stream with a rule is new: everything on it is news.
      const from = this.watched.has(partition.stream.name) ? "beginning" : "latest";
      const reader = new PartitionReader(partition, groups, DOWNLINK_GROUP, from, {
        send: async (records, place) => void (await this.send(placeOf(partition), records, place)),
        skip: (record, place, problem) => this.skip(placeOf(partition), record, place, problem),
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

  /** A dead letter of a downlink's, through the present rules. Resolves when it is sent, or is one again. */
  async resend(at: RecordPlace, record: StoredRecord, place: Companions): Promise<boolean> {
    return (await this.send(at, [record], place)) === 0;
  }

  /** All of these records in one commit with the place behind them; gives how many could not be sent. */
  private async send(at: RecordPlace, records: readonly StoredRecord[], place: Companions): Promise<number> {
    const messages: OwnMessage[] = [];
    const failed: FailedRecord[] = [];
    let expired = 0;
    for (const record of records) {
      const made = this.messageOf(at, record);
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
    return failed.length;
  }

  /** Too large for a dead letter, or unreadable: it stays on its stream, and that is said. */
  private async skip(
    at: RecordPlace,
    record: StoredRecord,
    place: Companions,
    problem: string,
  ): Promise<void> {
    await this.services.publish([], [place]);
    const rule = this.rules.get(at.stream)?.[0]?.definition.name ?? "";
    this.report({ ...at, record, rule, problem });
  }

  /** Undefined where no rule takes the record. */
  private messageOf(at: RecordPlace, record: StoredRecord): OwnMessage | FailedRecord | undefined {
    for (const rule of this.rules.get(at.stream) ?? []) {
      const failed = (problem: string) => ({ ...at, record, rule: rule.definition.name, problem });
      try {
        const message = rule.message(record, at.stream, at.partition);
        if (message === undefined) continue;
        const problem = this.services.topicProblem(message.topic);
        return problem === undefined ? message : failed(`to: a publish to ${problem}`);
      } catch (error) {
        return failed(messageOf(error));
      }
    }
    return undefined;
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

const placeOf = ({ stream, index }: Partition): RecordPlace => ({ stream: stream.name, partition: index });

function byStream(
  definitions: readonly DownlinkDefinition[],
  tables: Tables | undefined,
): Map<string, DownlinkRule[]> {
  const rules = new Map<string, DownlinkRule[]>();
  for (const definition of definitions) {
    const own = rules.get(definition.from);
    if (own === undefined) rules.set(definition.from, [new DownlinkRule(definition, tables)]);
    else own.push(new DownlinkRule(definition, tables));
  }
  return rules;
}
