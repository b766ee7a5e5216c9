/** Helpers around the real log for tests. */
import { type Logger, pino } from "pino";
import { onTestFinished } from "vitest";
import type { Append, Log, Partition, RecordAppend, Stream } from "../../src/log/log.ts";
import { StreamStore, type StreamStoreOptions } from "../../src/log/stream-store.ts";
import type { StoredRecord } from "../../src/record.ts";
import { endOffsetOf, NO_HEADERS, recordsOf } from "../../src/wire/record-batch.ts";

export const silentLogger: Logger = pino({ level: "silent" });

/** For `upkeepMs`: nothing is retained or compacted but by `retain()` and `compact()`. */
export const BY_CALLS = Number.POSITIVE_INFINITY;

/** A started store; closed when the test is over unless it was before. */
export async function openStore(
  dataDir: string,
  options: Partial<StreamStoreOptions> = {},
): Promise<StreamStore> {
  const store = new StreamStore({
    dataDir,
    logger: silentLogger,
    journalFileBytes: 1 << 20,
    upkeepMs: BY_CALLS,
    ...options,
  });
  await store.start();
  onTestFinished(() => store.close());
  return store;
}

/** Resolves when the append is durable. */
export function append(log: Log, entries: readonly Append[]): Promise<void> {
  return new Promise((resolve, reject) => {
    log.append(entries, (error) => (error === null ? resolve() : reject(error)));
  });
}

export function record(
  partition: Partition,
  key: string | null,
  value: string,
  timestamp = 1_700_000_000_000,
): RecordAppend {
  return {
    partition,
    key: key === null ? null : Buffer.from(key),
    value: Buffer.from(value),
    headers: NO_HEADERS,
    timestamp,
  };
}

/** Every record of a partition from an offset on. */
export async function readAll(
  partition: Partition,
  from = partition.logStartOffset,
): Promise<StoredRecord[]> {
  const records: StoredRecord[] = [];
  for (let offset = from; offset < partition.highWatermark; ) {
    const found = await partition.read(offset, 1 << 20);
    for (const record of recordsOf(found)) if (record.offset >= offset) records.push(record);
    offset = endOffsetOf(found);
  }
  return records;
}

export async function values(partition: Partition): Promise<string[]> {
  return (await readAll(partition)).map(({ value }) => value?.toString() ?? "");
}

/** A stream's partition; throws when there is none. */
export function partitionOf(stream: Stream | undefined, index = 0): Partition {
  const partition = stream?.partitions[index];
  if (partition === undefined) throw new Error(`no partition ${index}`);
  return partition;
}
