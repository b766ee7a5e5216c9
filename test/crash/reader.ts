/** Reads a whole log as a subscriber would, and holds every byte of it against what was appended. */
import type { Log, Partition } from "../../src/log/log.ts";
import type { StoredRecord } from "../../src/record.ts";
import { recordsOf } from "../../src/wire/record-batch.ts";
import {
  type LogContent,
  type Oracle,
  type PartitionContent,
  type StreamContent,
  Violation,
} from "./oracle.ts";
import type { Random } from "./random.ts";

const MAX_READ_BYTES = 3000;

/** The ids of the records from an offset on; throws `Violation` on holes and on anything that has changed. */
export async function readFrom(partition: Partition, from: number, oracle: Oracle): Promise<number[]> {
  const where = `${partition.stream.name}-${partition.index}`;
  const ids: number[] = [];
  let offset = from;
  while (offset < partition.highWatermark) {
    const buffers = await partition.read(offset, MAX_READ_BYTES);
    const before = offset;
    for (const record of recordsOf(buffers)) {
      // The batch that contains the offset may begin before it.
      if (record.offset < offset && offset === before && ids.length === 0) continue;
      if (record.offset !== offset) {
        throw new Violation(`${where} shows offset ${record.offset} where ${offset} should be`);
      }
      ids.push(identify(record, oracle, where));
      offset++;
    }
    if (offset === before) throw new Violation(`${where} shows nothing at ${offset}`);
  }
  return ids;
}

function identify({ key, value, timestamp, offset }: StoredRecord, oracle: Oracle, where: string): number {
  const id = Number.parseInt(value?.toString("latin1", 0, 12) ?? "", 10);
  const sent = oracle.records.get(id);
  if (sent === undefined) throw new Violation(`${where} offset ${offset} has a record that nobody sent`);
  const isSame =
    value?.equals(sent.value) === true &&
    timestamp === sent.timestamp &&
    (key === null ? sent.key === null : sent.key !== null && key.equals(sent.key));
  if (!isSame) throw new Violation(`${where} offset ${offset}: record ${id} is not as it was sent`);
  return id;
}

export async function contentOf(log: Log, oracle: Oracle): Promise<LogContent> {
  const content = new Map<string, StreamContent>();
  for (const { name, internal, settings, partitions } of log.streams) {
    if (internal) continue;
    const read: PartitionContent[] = [];
    for (const partition of partitions) {
      const start = partition.logStartOffset;
      read.push({ start, records: await readFrom(partition, start, oracle) });
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
    const { start, records } = partitions[index] as PartitionContent;
    const partition = log.stream(name)?.partitions[index];
    if (partition === undefined || records.length === 0) continue;
    const skip = random.int(records.length);
    const rest = await readFrom(partition, start + skip, oracle);
    if (rest.join() !== records.slice(skip).join()) {
      throw new Violation(`${name}-${index} reads otherwise from ${start + skip} on`);
    }
    const timestamps = records.map((id) => (oracle.records.get(id) as { timestamp: number }).timestamp);
    const wanted = random.pick(timestamps);
    const expected = start + timestamps.findIndex((timestamp) => timestamp >= wanted);
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

/** Throws `Violation` unless both are the same. */
export function expectSame(before: LogContent, after: LogContent, when: string): void {
  const words = (content: LogContent): string =>
    JSON.stringify([...content].sort(([a], [b]) => (a < b ? -1 : 1)));
  if (words(before) !== words(after)) {
    throw new Violation(`${when} the log has changed from ${words(before)} to ${words(after)}`);
  }
}
