/** Reads a whole log as a subscriber would, and holds every byte of it against what was appended. */
import type { Log, Partition, Stream } from "../../src/log/log.ts";
import type { StoredRecord } from "../../src/record.ts";
import { endOffsetOf, recordsOf } from "../../src/wire/record-batch.ts";
import { isSink } from "./guests.ts";
import {
  type LogContent,
  type Oracle,
  type PartitionContent,
  recordAt,
  type Shown,
  type StreamContent,
  timeOf,
} from "./oracle.ts";
import type { Random } from "./random.ts";
import { Violation } from "./violation.ts";

const MAX_READ_BYTES = 3000;

/** The records from an offset on; throws `Violation` where none comes, and on anything that has changed. */
export async function readFrom(partition: Partition, from: number, oracle: Oracle): Promise<Shown[]> {
  const where = `${partition.stream.name}-${partition.index}`;
  const shown: Shown[] = [];
  let offset = from;
  while (offset < partition.highWatermark) {
    const buffers = await partition.read(offset, MAX_READ_BYTES);
    const before = offset;
    for (const record of recordsOf(buffers)) {
      // The batch that contains the offset may begin before it.
      if (record.offset < from) continue;
      if (record.offset < offset) {
        throw new Violation(`${where} shows offset ${record.offset} where ${offset} should be`);
      }
      shown.push({ offset: record.offset, id: identify(record, oracle, where) });
      offset = record.offset + 1;
    }
    // Behind the last record of a batch compaction may have taken others.
    offset = buffers.length === 0 ? before : endOffsetOf(buffers);
    if (offset <= before) throw new Violation(`${where} shows nothing at ${before}`);
  }
  return shown;
}

function identify({ key, value, timestamp, offset }: StoredRecord, oracle: Oracle, where: string): number {
  const id = recordAt(timestamp);
  const sent = oracle.records.get(id);
  if (sent === undefined) throw new Violation(`${where} offset ${offset} has a record that nobody sent`);
  if (!isSame(key, sent.key) || !isSame(value, sent.value))
    throw new Violation(`${where} offset ${offset}: record ${id} is not as it was sent`);
  return id;
}

function isSame(one: Buffer | null, other: Buffer | null): boolean {
  return one === null || other === null ? one === other : one.equals(other);
}

/** Those that the actor works on. */
export function ownStreams(log: Log): Stream[] {
  return log.streams.filter(({ name, internal }) => !internal && !isSink(name));
}

export async function contentOf(log: Log, oracle: Oracle): Promise<LogContent> {
  const content = new Map<string, StreamContent>();
  for (const { name, settings, partitions } of ownStreams(log)) {
    const read: PartitionContent[] = [];
    for (const partition of partitions) {
      const start = partition.logStartOffset;
      const records = await readFrom(partition, start, oracle);
      read.push({ start, end: partition.highWatermark, records });
    }
    content.set(name, { settings, partitions: read });
  }
  return content;
}

/** Looks things up in one partition of each stream: what the indexes say must lead to what is there. */
export async function checkLookUps(
  log: Log,
  content: LogContent,
  oracle: Oracle,
  random: Random,
): Promise<void> {
  for (const [name, { partitions }] of content) {
    const index = random.int(partitions.length);
    const { start, end, records } = partitions[index] as PartitionContent;
    const partition = log.stream(name)?.partitions[index];
    if (partition === undefined || records.length === 0) continue;
    const from = start + random.int(end - start);
    const rest = await readFrom(partition, from, oracle);
    if (wordsOf(rest) !== wordsOf(records.filter(({ offset }) => offset >= from))) {
      throw new Violation(`${name}-${index} reads otherwise from ${from} on`);
    }
    const timestamps = records.map(({ id }) => timeOf(id));
    const wanted = random.pick(timestamps);
    const expected = records.find(({ id }) => timeOf(id) >= wanted)?.offset;
    const found = await partition.offsetForTimestamp(wanted);
    if (found?.offset !== expected) {
      throw new Violation(`${name}-${index} finds time ${wanted} at ${found?.offset}, it is at ${expected}`);
    }
    const newest = Math.max(...timestamps);
    const last = await partition.maxTimestamp();
    if (last?.timestamp !== newest) {
      throw new Violation(`${name}-${index} calls ${last?.timestamp} its newest time, it is ${newest}`);
    }
  }
}

const wordsOf = (records: readonly Shown[]): string =>
  records.map(({ offset, id }) => `${offset}=${id}`).join();

/** Throws `Violation` unless both are the same. */
export function expectSame(before: LogContent, after: LogContent, when: string): void {
  const words = (content: LogContent): string =>
    JSON.stringify([...content].sort(([a], [b]) => (a < b ? -1 : 1)));
  if (words(before) !== words(after)) {
    throw new Violation(`${when} the log has changed from ${words(before)} to ${words(after)}`);
  }
}
