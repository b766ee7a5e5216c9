/**
 * A proof of completeness: reads the cluster's topics back as a careful consumer would, and compares each
 * record with the log, by offset and checksum of key, value, timestamp and headers.
 */
import { SluiceError } from "../errors.ts";
import { wholePartition } from "../log/whole-partition.ts";
import type { RecordHeader, StoredRecord } from "../record.ts";
import { crc32c } from "../wire/crc32c.ts";
import { encodeHeaders, recordsOf } from "../wire/record-batch.ts";
import type { Cluster } from "./cluster.ts";
import { committedBatches, remoteOffset } from "./committed-reader.ts";
import { ORIGIN_HEADERS } from "./remote-batch.ts";
import type { Source } from "./source.ts";

/** Records of one partition that are compared at a time: 5 bytes each. */
const MAX_RECORDS = 50_000_000;
const SHOWN = 10;
const NEVER = 0;
const SEEN = 1;
const EXPECTED = 2;

export interface VerifiedPartition {
  readonly stream: string;
  readonly partition: number;
  readonly topic: string;
  /** What was compared: offsets of the log, `to` exclusive. */
  readonly from: number;
  readonly to: number;
  readonly records: number;
  readonly missing: number;
  readonly different: number;
  readonly duplicates: number;
  readonly outOfOrder: number;
  /** CRC-32C over the records' checksums, the same on both sides when all is well. */
  readonly checksum: string;
  /** Some of the offsets that are missing or different. */
  readonly examples: readonly number[];
}

export interface VerifyOptions {
  readonly gateway: string;
  /** Only what is not older; undefined for all that the log has. */
  readonly sinceMs: number | undefined;
  /** Whether a source's records may be in any partition of the topic. */
  readonly anyPartition: boolean;
  readonly partitionOf: (source: Source) => number;
}

export async function verify(
  source: Source,
  cluster: Cluster,
  options: VerifyOptions,
): Promise<VerifiedPartition> {
  const { topic, partition: local } = source;
  const to = Math.max(source.next, local.logStartOffset);
  const from = await firstOffset(source, options.sinceMs, to);
  if (to - from > MAX_RECORDS) {
    throw new SluiceError("TOO_MANY", `${source.name} has ${to - from} records`, {
      mend: "Compare less at a time: --last 1d.",
    });
  }
  const checksums = new Uint32Array(to - from);
  const states = new Uint8Array(to - from);
  for await (const buffers of wholePartition(local, from, to)) {
    for (const record of recordsOf(buffers)) {
      if (record.offset < from || record.offset >= to) continue;
      checksums[record.offset - from] = checksumOf(record, record.headers);
      states[record.offset - from] = EXPECTED;
    }
  }
  const found = { different: 0, duplicates: 0, outOfOrder: 0, examples: [] as number[] };
  const example = (offset: number): void => {
    if (found.examples.length < SHOWN) found.examples.push(offset);
  };
  const isCompacted = local.stream.settings.cleanup !== "delete";
  const width = cluster.topic(topic)?.leaders.length ?? 0;
  const partitions = options.anyPartition
    ? Array.from({ length: width }, (_, index) => index)
    : [options.partitionOf(source)];
  for (const remote of partitions) {
    let before = -1;
    const begin = await remoteOffset(cluster, topic, remote, options.sinceMs ?? -2);
    const end = await remoteOffset(cluster, topic, remote, -1);
    for await (const batch of committedBatches(cluster, topic, remote, begin < 0 ? end : begin, end)) {
      for (const record of recordsOf([batch])) {
        const offset = originOf(record, options.gateway, source);
        if (offset === undefined || offset < from || offset >= to) continue;
        const at = offset - from;
        // Compaction took it here, and the cluster has it still.
        if (states[at] === NEVER && isCompacted) continue;
        if (states[at] === SEEN) found.duplicates++;
        else if (offset < before) found.outOfOrder++;
        before = Math.max(before, offset);
        if (checksumOf(record, withoutOrigin(record.headers)) !== checksums[at]) {
          found.different++;
          example(offset);
        }
        states[at] = SEEN;
      }
    }
  }
  let missing = 0;
  let records = 0;
  for (let at = 0; at < states.length; at++) {
    if (states[at] !== NEVER) records++;
    if (states[at] !== EXPECTED) continue;
    missing++;
    example(from + at);
  }
  const checksum = crc32c(Buffer.from(checksums.buffer)).toString(16).padStart(8, "0");
  const { stream, index: partition } = source;
  return { stream, partition, topic, from, to, records, missing, checksum, ...found };
}

async function firstOffset({ partition }: Source, sinceMs: number | undefined, to: number): Promise<number> {
  if (sinceMs === undefined) return Math.min(partition.logStartOffset, to);
  return Math.min((await partition.offsetForTimestamp(sinceMs))?.offset ?? to, to);
}

function checksumOf({ key, value, timestamp }: StoredRecord, headers: readonly RecordHeader[]): number {
  const lengths = Buffer.alloc(16);
  lengths.writeInt32BE(key?.length ?? -1, 0);
  lengths.writeInt32BE(value?.length ?? -1, 4);
  lengths.writeDoubleBE(timestamp, 8);
  const empty = Buffer.alloc(0);
  return crc32c(Buffer.concat([lengths, key ?? empty, value ?? empty, encodeHeaders(headers)]));
}

/** The offset that it had here, if it came from this source. */
function originOf({ headers }: StoredRecord, gateway: string, source: Source): number | undefined {
  const own = headers.slice(-4);
  const is = (at: number, key: string, value: string): boolean =>
    own[at]?.key === key && own[at].value?.toString() === value;
  const fits =
    is(0, ORIGIN_HEADERS.gateway, gateway) &&
    is(1, ORIGIN_HEADERS.stream, source.stream) &&
    is(2, ORIGIN_HEADERS.partition, String(source.index));
  return fits && own[3]?.key === ORIGIN_HEADERS.offset ? Number(own[3].value) : undefined;
}

const withoutOrigin = (headers: readonly RecordHeader[]): readonly RecordHeader[] => headers.slice(0, -4);
