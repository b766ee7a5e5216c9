/**
 * What must be true of a log, told by what was asked of it and what it answered: the other side of the promise.
 *
 * Everything that happens to a log is an *event*, a function that changes an oracle. The workload tells its
 * events to a `Chronicle`; a second oracle that is given the first n of them knows what was known when they
 * had happened, so that a power cut in the past can be judged later.
 */
import type { StreamSettings } from "../../src/log/log.ts";
import { Books } from "./books.ts";
import { Violation } from "./violation.ts";

export interface Rec {
  /** One for each record that was ever appended; the same for one that is sent again. */
  readonly id: number;
  readonly key: Buffer | null;
  /** Null deletes the key. */
  readonly value: Buffer | null;
  /** `timeOf` its id: so it is known by, whatever its value. */
  readonly timestamp: number;
}

/** Where a record is read. */
export interface Shown {
  readonly offset: number;
  readonly id: number;
}

/** A partition as it is read, in the order of the offsets; `end` is its high watermark. */
export interface PartitionContent {
  readonly start: number;
  readonly end: number;
  readonly records: readonly Shown[];
}

export interface StreamContent {
  readonly settings: StreamSettings;
  readonly partitions: readonly PartitionContent[];
}

/** All streams but the log's own and those that MQTT is mapped to, by name. */
export type LogContent = ReadonlyMap<string, StreamContent>;

export interface StreamFacts {
  readonly settings: StreamSettings;
  /** Its cleanup is, or once was, compaction. */
  readonly isCompacted: boolean;
  /** By partition: record ids by offset, acknowledged or shown. */
  readonly known: readonly Map<number, number>[];
}

export type CatalogChange =
  | { readonly kind: "create"; readonly name: string; partitions: number; settings: StreamSettings }
  | { readonly kind: "alter"; readonly name: string; partitions: number; settings: StreamSettings }
  | { readonly kind: "delete"; readonly name: string };

export interface PlacedRecord {
  readonly stream: string;
  readonly partition: number;
  readonly record: Rec;
}

/** One append. An idempotent batch that is sent again is the same append. */
export interface AppendFacts {
  readonly id: number;
  readonly records: readonly PlacedRecord[];
  readonly producer?: { readonly id: number; readonly firstSequence: number };
}

/** Where retention had got to, by "stream/partition". */
export type Starts = ReadonlyMap<string, number>;

const REMEMBERED_BATCHES = 5;
const FIRST_TIMESTAMP = 1_700_000_000_000;
export const MS_BETWEEN_RECORDS = 1000;

export function timeOf(record: number): number {
  return FIRST_TIMESTAMP + record * MS_BETWEEN_RECORDS;
}

/** The record with that timestamp. */
export function recordAt(timestamp: number): number {
  return (timestamp - FIRST_TIMESTAMP) / MS_BETWEEN_RECORDS;
}

export class Oracle {
  readonly streams = new Map<string, StreamFacts>();
  readonly records = new Map<number, Rec>();
  /** Asked for and not answered. */
  readonly pending = new Map<number, AppendFacts>();
  /**
   * Of `pending`, those that were refused with an error of the disk. Nothing of them was written, or so the disk said;
   * but until it takes another append a power cut may show that it was.
   */
  readonly doubtful = new Set<number>();
  /** The catalog change that was asked for and not answered. */
  changing: CatalogChange | undefined;
  /** By "stream/partition", below which offset records were deleted on request: acknowledged, and asked for. */
  private readonly deleted = new Map<string, { acknowledged: number; asked: number }>();
  /** The newest batches of each idempotent producer, answered or not. */
  readonly producers = new Map<number, AppendFacts[]>();
  /** Producers one of whose batches was refused: not heard of again. */
  readonly retired = new Set<number>();
  readonly producerIds = new Set<number>();
  /** Of those who come over MQTT, and of a consumer group. */
  readonly books = new Books();
  /** Above the ids of all appends and records so far. */
  nextAppend = 0;
  nextRecord = 0;

  requested(append: AppendFacts): void {
    this.nextAppend = Math.max(this.nextAppend, append.id + 1);
    for (const { record } of append.records) {
      this.records.set(record.id, record);
      this.nextRecord = Math.max(this.nextRecord, record.id + 1);
    }
    this.pending.set(append.id, append);
    const { producer } = append;
    if (producer === undefined || this.retired.has(producer.id)) return;
    const batches = this.producers.get(producer.id) ?? [];
    if (!batches.some(({ id }) => id === append.id)) {
      this.producers.set(producer.id, [...batches, append].slice(-REMEMBERED_BATCHES));
    }
  }

  /** `offsets` of the records in their order; undefined for a duplicate of which the log knows no offset. */
  acknowledged(append: AppendFacts, offsets: readonly (number | undefined)[]): void {
    this.pending.delete(append.id);
    this.forgetDoubtful();
    append.records.forEach((placed, index) => {
      const { stream, partition, record } = placed;
      const known = this.streams.get(stream)?.known[partition];
      const offset = offsets[index];
      if (known === undefined) return;
      if (offset !== undefined) this.fix(placed, offset);
      else if (!hasValue(known, record.id)) {
        throw new Violation(
          `record ${record.id} was called a duplicate but is not in ${stream}-${partition}`,
        );
      }
    });
  }

  private fix({ stream, partition, record }: PlacedRecord, offset: number): void {
    const known = this.streams.get(stream)?.known[partition] as Map<number, number>;
    const before = known.get(offset);
    if (before !== undefined && before !== record.id) {
      throw new Violation(`${stream}-${partition} offset ${offset}: record ${before} became ${record.id}`);
    }
    known.set(offset, record.id);
  }

  private forgetDoubtful(): void {
    for (const id of this.doubtful) this.pending.delete(id);
    this.doubtful.clear();
  }

  /** The disk has refused it; see `doubtful`. Among the pending it stays where it was asked for. */
  refused(append: AppendFacts): void {
    this.doubtful.add(append.id);
    this.retire(append);
  }

  /** Nothing of it was written. */
  failed(append: AppendFacts): void {
    this.pending.delete(append.id);
    this.retire(append);
  }

  private retire(append: AppendFacts): void {
    if (append.producer === undefined) return;
    this.retired.add(append.producer.id);
    this.producers.delete(append.producer.id);
  }

  /** A reader has seen these. */
  shown(stream: string, partition: number, records: readonly Shown[]): void {
    for (const { offset, id } of records) {
      const record = this.records.get(id);
      if (record === undefined) throw new Violation(`${stream}-${partition} shows record ${id} from nowhere`);
      this.fix({ stream, partition, record }, offset);
    }
  }

  deletionRequested(stream: string, partition: number, before: number): void {
    const { acknowledged, asked } = this.deletedOf(stream, partition);
    this.deleted.set(`${stream}/${partition}`, { acknowledged, asked: Math.max(asked, before) });
  }

  deletionAcknowledged(stream: string, partition: number, before: number): void {
    const { acknowledged, asked } = this.deletedOf(stream, partition);
    this.deleted.set(`${stream}/${partition}`, { acknowledged: Math.max(acknowledged, before), asked });
  }

  private deletedOf(stream: string, partition: number): { acknowledged: number; asked: number } {
    return this.deleted.get(`${stream}/${partition}`) ?? { acknowledged: 0, asked: 0 };
  }

  changeRequested(change: CatalogChange): void {
    this.changing = change;
  }

  changeAcknowledged(): void {
    if (this.changing !== undefined) apply(this.streams, this.changing);
    if (this.changing?.kind === "delete") {
      const { name } = this.changing;
      for (const place of this.deleted.keys()) if (place.startsWith(`${name}/`)) this.deleted.delete(place);
    }
    this.changing = undefined;
    this.forgetDoubtful();
    for (const [id, batches] of this.producers) {
      if (batches.some(({ records }) => !this.streams.has(records[0]?.stream ?? "")))
        this.producers.delete(id);
    }
  }

  changeFailed(): void {
    this.changing = undefined;
  }

  producerIdGiven(id: number): void {
    if (this.producerIds.has(id)) throw new Violation(`producer id ${id} was given twice`);
    this.producerIds.add(id);
  }

  /** What was found after a start, and is from then on shown. What is not there must never come back. */
  recovered(content: LogContent): void {
    if (this.changing !== undefined && fits(afterChange(this.streams, this.changing), content)) {
      this.changeAcknowledged();
    }
    this.changing = undefined;
    this.pending.clear();
    this.doubtful.clear();
    for (const [name, { partitions }] of content) {
      partitions.forEach(({ records }, index) => {
        this.shown(name, index, records);
      });
    }
  }

  /** Throws `Violation` when a log that holds `content` has broken a promise. */
  judge(content: LogContent, starts: Starts): void {
    const streams = [this.streams, this.changing && afterChange(this.streams, this.changing)].find(
      (one) => one !== undefined && fits(one, content),
    );
    if (streams === undefined) throw new Violation(`the streams are ${describe(content)}`);
    const found = new Set<number>();
    for (const [name, { partitions }] of content) {
      partitions.forEach((partition, index) => {
        const facts = streams.get(name) as StreamFacts;
        const known = facts.known[index] ?? new Map<number, number>();
        const allowedStart = starts.get(`${name}/${index}`) ?? Number.POSITIVE_INFINITY;
        this.judgePartition({ name, index, known, found, allowedStart }, partition);
        this.judgeHoles(`${name}-${index}`, facts, known, partition);
      });
    }
    for (const { id, records } of this.pending.values()) {
      const there = records.filter(({ stream }) => content.has(stream));
      // One that is sent again may have been compacted since it was shown.
      const isThere = ({ stream, partition, record }: PlacedRecord): boolean =>
        found.has(record.id) || hasValue(this.streams.get(stream)?.known[partition], record.id);
      const count = there.filter(isThere).length;
      if (count !== 0 && count !== there.length) {
        throw new Violation(`append ${id} is there in part: ${count} of ${there.length} records`);
      }
    }
  }

  private judgePartition(
    place: {
      name: string;
      index: number;
      known: ReadonlyMap<number, number>;
      found: Set<number>;
      allowedStart: number;
    },
    { start, end, records }: PartitionContent,
  ): void {
    const where = `${place.name}-${place.index}`;
    const { acknowledged, asked } = this.deletedOf(place.name, place.index);
    if (start < acknowledged) {
      throw new Violation(`${where} begins at ${start} again, and was deleted below ${acknowledged}`);
    }
    if (start > Math.max(place.allowedStart, asked)) {
      throw new Violation(`${where} begins at ${start}, retention was only at ${place.allowedStart}`);
    }
    for (const [offset, id] of place.known) {
      if (offset >= end)
        throw new Violation(`${where} lost record ${id} at offset ${offset}; it ends at ${end}`);
    }
    const unanswered = this.unansweredOf(place.name, place.index);
    let turn = 0;
    for (const { offset, id } of records) {
      if (place.found.has(id)) throw new Violation(`${where} has record ${id} twice, again at ${offset}`);
      place.found.add(id);
      const known = place.known.get(offset);
      if (known === id) continue;
      if (known !== undefined) throw new Violation(`${where} offset ${offset}: record ${known} became ${id}`);
      // They come in the order in which they were asked for, and none is left out before another but refused ones.
      while (unanswered[turn]?.isDoubtful && unanswered[turn]?.id !== id) turn++;
      if (unanswered[turn++]?.id === id) continue;
      const isKnownOf = unanswered.some((one) => one.id === id);
      throw new Violation(
        `${where} offset ${offset} has record ${id} ${isKnownOf ? "out of order" : "from nowhere"}`,
      );
    }
  }

  /** An offset may be empty only where compaction took what a later record of the same key replaces. */
  private judgeHoles(
    where: string,
    { isCompacted, settings }: StreamFacts,
    known: ReadonlyMap<number, number>,
    { start, end, records }: PartitionContent,
  ): void {
    const present = new Map(records.map(({ offset, id }) => [offset, id]));
    if (present.size === end - start) return;
    if (!isCompacted)
      throw new Violation(`${where} has ${present.size} of the offsets from ${start} to ${end}`);
    const keyOf = (id: number): string | undefined => this.records.get(id)?.key?.toString();
    const latest = new Map<string | undefined, number>();
    const first = new Map<string | undefined, number>();
    for (const [offset, id] of [...known, ...present]) {
      latest.set(keyOf(id), Math.max(offset, latest.get(keyOf(id)) ?? -1));
    }
    for (const [offset, id] of [...present].reverse()) first.set(keyOf(id), offset);
    for (let offset = start; offset < end; offset++) {
      if (present.has(offset)) continue;
      const id = known.get(offset);
      if (id === undefined)
        throw new Violation(`${where} has nothing at offset ${offset}, where nobody knows of anything`);
      const { key, value, timestamp } = this.records.get(id) as Rec;
      if (key !== null && (latest.get(keyOf(id)) as number) > offset) continue;
      if (key === null || value !== null)
        throw new Violation(`${where} lost record ${id} at offset ${offset} to compaction`);
      if ((first.get(keyOf(id)) ?? offset) < offset)
        throw new Violation(`${where} shows key ${key} again, deleted at ${offset}`);
      if (timeOf(this.nextRecord) - timestamp < settings.deleteRetentionMs)
        throw new Violation(`${where} lost the deletion at ${offset} before its time`);
    }
  }

  /** The records of one partition that may or may not be there, but for those a reader has been shown. */
  private unansweredOf(stream: string, partition: number): { id: number; isDoubtful: boolean }[] {
    const shown = new Set(this.streams.get(stream)?.known[partition]?.values());
    return [...this.pending.values()].flatMap(({ id: append, records }) =>
      records
        .filter((one) => one.stream === stream && one.partition === partition && !shown.has(one.record.id))
        .map(({ record }) => ({ id: record.id, isDoubtful: this.doubtful.has(append) })),
    );
  }
}

function hasValue(known: ReadonlyMap<number, number> | undefined, id: number): boolean {
  for (const one of known?.values() ?? []) if (one === id) return true;
  return false;
}

/** The streams that there are when a change has been made; facts are shared with those before it. */
function afterChange(
  streams: ReadonlyMap<string, StreamFacts>,
  change: CatalogChange,
): Map<string, StreamFacts> {
  const after = new Map(streams);
  apply(after, change);
  return after;
}

function apply(streams: Map<string, StreamFacts>, change: CatalogChange): void {
  if (change.kind === "delete") {
    streams.delete(change.name);
    return;
  }
  const known = [...(streams.get(change.name)?.known ?? [])];
  while (known.length < change.partitions) known.push(new Map());
  const isCompacted =
    change.settings.cleanup.includes("compact") || streams.get(change.name)?.isCompacted === true;
  streams.set(change.name, { settings: change.settings, isCompacted, known });
}

function fits(streams: ReadonlyMap<string, StreamFacts>, content: LogContent): boolean {
  if (streams.size !== content.size) return false;
  return [...streams].every(([name, { settings, known }]) => {
    const found = content.get(name);
    return (
      found !== undefined &&
      found.partitions.length === known.length &&
      JSON.stringify(found.settings) === JSON.stringify(settings)
    );
  });
}

function describe(content: LogContent): string {
  const names = [...content].map(([name, { partitions }]) => `${name} (${partitions.length} partitions)`);
  return `${names.join(", ") || "none"}, which is neither what was acknowledged nor what was asked for`;
}

export type Event = (oracle: Oracle) => void;

/** An oracle of the present, and all that made it so. */
export class Chronicle {
  readonly now = new Oracle();
  readonly events: Event[] = [];

  /** `past`: what has happened already. */
  constructor(past: readonly Event[] = []) {
    for (const event of past) this.tell(event);
  }

  tell(event: Event): void {
    this.events.push(event);
    event(this.now);
  }
}
