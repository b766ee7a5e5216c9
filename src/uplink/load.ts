/** What one delivery carries: gathered from sources in the order of their priority, within limits. */
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import type { Partition } from "../log/log.ts";
import { readMemory } from "../log/reused-memory.ts";
import { murmur2, partitionOf } from "../mapping/partitioner.ts";
import { bodyOf } from "../wire/raw-records.ts";
import { batchesIn, codecOf, isControl, lastOffsetOf } from "../wire/record-batch.ts";
import type { Witness } from "./places.ts";
import { Origin, RemoteBatch, takeRecords } from "./remote-batch.ts";
import type { Source } from "./source.ts";
import { NamedError } from "./words.ts";

/** What a batch that a producer compressed may come to. */
const MAX_BODY_BYTES = 64 << 20;
/** Some half a millisecond's work: then whoever else waits for this thread, sensors first, has a turn. */
const SLICE_BYTES = 32 << 10;
/** And syncs under way are let through before the next slice, for so long at most. */
const MAX_GIVE_WAY_MS = 8;

export interface LoadPart {
  readonly source: Source;
  readonly from: number;
  readonly next: number;
  readonly records: number;
  readonly last: Witness | undefined;
}

export class Load {
  readonly parts: LoadPart[] = [];
  readonly batches = new Map<string, RemoteBatch>();
  /** Which sources have records in which of the batches. */
  readonly sourcesOf = new Map<string, Set<Source>>();
  records = 0;
  /** There was more than could be taken. */
  isFull = false;

  get isEmpty(): boolean {
    return this.parts.length === 0;
  }

  get bytes(): number {
    let bytes = 0;
    for (const batch of this.batches.values()) bytes += batch.bytes;
    return bytes;
  }

  /** It is in the cluster: its memory is used again. */
  release(): void {
    for (const batch of this.batches.values()) batch.release();
  }

  batchFor(source: Source, partition: number, sizeHint: number): RemoteBatch {
    const place = `${source.topic}/${partition}`;
    let batch = this.batches.get(place);
    if (batch === undefined) {
      batch = new RemoteBatch(source.topic, partition, sizeHint);
      this.batches.set(place, batch);
      this.sourcesOf.set(place, new Set());
    }
    this.sourcesOf.get(place)?.add(source);
    return batch;
  }
}

export interface GatherOptions {
  readonly partitioning: "same" | "key" | "modulo";
  readonly maxBytes: number;
  readonly maxRecords: number;
  /** Somebody waits for a sync: it is quick as long as a processor is free for it. */
  readonly isCommitting: () => boolean;
  /** Partitions that the remote topic has. */
  readonly remotePartitions: (topic: string) => number;
}

/** Takes from each source what fits, in the order given. A source that cannot be read is failed. */
export async function gather(sources: readonly Source[], options: GatherOptions): Promise<Load> {
  const load = new Load();
  for (const source of sources) {
    if (!source.hasWork) continue;
    const leftBytes = options.maxBytes - load.bytes;
    const leftRecords = options.maxRecords - load.records;
    if (leftBytes <= 0 || leftRecords <= 0) {
      load.isFull = true;
      break;
    }
    try {
      await takeFrom(source, load, leftBytes, leftRecords, options);
    } catch (error) {
      source.fail(error, source.next);
      // What was taken of it before the error would be in the load without its part.
      if (load.batches.size > 0) {
        const others = sources.filter((one) => one !== source);
        return gather(others, options);
      }
    }
  }
  return load;
}

async function takeFrom(
  source: Source,
  load: Load,
  leftBytes: number,
  leftRecords: number,
  { partitioning, remotePartitions, isCommitting }: GatherOptions,
): Promise<void> {
  const { partition, maxBatchBytes, origin } = source;
  const remote = remotePartitions(source.topic);
  const maxRecords = Math.min(leftRecords, source.maxRecords);
  const own = partitioning === "modulo" ? source.index % remote : source.index;
  const from = source.next;
  const waiting = partition.highWatermark;
  let next = from;
  let records = 0;
  let { last } = source;
  const buffers = from < waiting ? await partition.read(from, Math.min(leftBytes, maxBatchBytes)) : [];
  // With room for the headers that are added.
  const sizeHint = Math.min(2 * buffers.reduce((sum, { length }) => sum + length, 0), maxBatchBytes);
  const batchFor = (key: Buffer | null): RemoteBatch => {
    if (partitioning !== "key") return load.batchFor(source, own, sizeHint);
    const index = key === null ? source.index % remote : partitionOf(murmur2(key), remote);
    return load.batchFor(source, index, Math.ceil(sizeHint / remote));
  };
  let sliceBytes = 0;
  for (const batch of batchesIn(buffers)) {
    const end = lastOffsetOf(batch) + 1;
    if (isControl(batch) || end <= next) {
      next = Math.max(next, end);
      continue;
    }
    const body = await bodyOf(batch, MAX_BODY_BYTES);
    if (body === undefined) {
      // What comes before it goes first.
      if (next > from) break;
      source.poison = { offset: next, end };
      throw unreadable(source, next, codecOf(batch));
    }
    const limits = { from: next, maxRecords: maxRecords - records, maxBatchBytes };
    const took = takeRecords({ header: batch, body }, end, origin, limits, batchFor);
    records += took.taken;
    next = took.next;
    last = took.last ?? last;
    sliceBytes += body.length;
    if (sliceBytes >= SLICE_BYTES) {
      sliceBytes = 0;
      await giveWay(isCommitting);
    }
    if (next < end || records >= maxRecords) break;
  }
  // Whatever was wanted of them is copied.
  for (const buffer of buffers) readMemory.give(buffer);
  load.records += records;
  if (next < waiting) load.isFull = true;
  if (next > from || source.mustWritePlace) load.parts.push({ source, from, next, records, last });
}

/** The record at an offset, or undefined where there is none (any more), or it cannot be read. */
export async function witnessAt(partition: Partition, offset: number): Promise<Witness | undefined> {
  for (const header of batchesIn(await partition.read(offset, 1))) {
    if (isControl(header) || lastOffsetOf(header) < offset) continue;
    const body = await bodyOf(header, MAX_BODY_BYTES);
    if (body === undefined) return undefined;
    const nowhere = new RemoteBatch("", 0, body.length);
    const limits = { from: offset, maxRecords: 1, maxBatchBytes: Number.POSITIVE_INFINITY };
    const { last } = takeRecords({ header, body }, 0, new Origin(undefined), limits, () => nowhere);
    nowhere.release();
    return last?.offset === offset ? last : undefined;
  }
  return undefined;
}

async function giveWay(isCommitting: () => boolean): Promise<void> {
  await turn();
  for (let waited = 0; waited < MAX_GIVE_WAY_MS && isCommitting(); waited++) await sleep(1);
}

const CODEC_NAMES = ["none", "gzip", "snappy", "lz4", "zstd"];

function unreadable({ name }: Source, offset: number, codec: number): NamedError {
  return new NamedError(
    "UNREADABLE",
    `the batch at offset ${offset} of ${name} is in ${CODEC_NAMES[codec] ?? `codec ${codec}`}, which cannot be unpacked here`,
    "Let its producer use gzip or none, or skip it: sluice uplink skip.",
  );
}
