/**
 * The catalog: which streams there are, kept as records on the internal stream `__catalog`, keyed, the last
 * one counts. A stream is made durable by the same commit as everything else, and an ordinary consumer can
 * look at the list.
 *
 * Keys: `stream/<name>` with a JSON value (no value: deleted), `producer-ids` with the next free id,
 * `start/<stream id>/<partition>` with the offset below which records were deleted, `leader-epoch/<epoch>` with
 * where it began in each partition.
 */
import { randomBytes } from "node:crypto";
import type { StoredRecord } from "../record.ts";
import type { StreamOrigin, StreamSettings } from "./log.ts";
import { INTERNAL_SETTINGS } from "./stream-state.ts";

export const CATALOG_STREAM = "__catalog";
/** Fixed, because it must be found before anything can be looked up in it. */
export const CATALOG_ID = Buffer.from("sluice-catalog-0").toString("base64url");

/** As it would describe itself. */
export const CATALOG: StreamDescription = {
  name: CATALOG_STREAM,
  id: CATALOG_ID,
  origin: "internal",
  partitions: 1,
  settings: INTERNAL_SETTINGS,
};

const STREAM_KEY = "stream/";
const PRODUCER_IDS_KEY = "producer-ids";
const START_KEY = "start/";
const EPOCH_KEY = "leader-epoch/";

export interface StreamDescription {
  readonly name: string;
  readonly id: string;
  readonly origin: StreamOrigin;
  readonly partitions: number;
  readonly settings: StreamSettings;
}

export interface CatalogRecord {
  readonly key: Buffer;
  readonly value: Buffer | null;
}

export function newStreamId(): string {
  return randomBytes(16).toString("base64url");
}

/** 1–249 of letters, digits, dot, underscore and hyphen; not "." or ".." (Kafka's Topic.validate). */
export function isStreamName(name: string): boolean {
  return /^[a-zA-Z0-9._-]{1,249}$/.test(name) && name !== "." && name !== "..";
}

export function streamRecord(description: StreamDescription): CatalogRecord {
  const { name, ...rest } = description;
  return { key: Buffer.from(STREAM_KEY + name), value: Buffer.from(JSON.stringify(rest)) };
}

export function streamTombstone(name: string): CatalogRecord {
  return { key: Buffer.from(STREAM_KEY + name), value: null };
}

export function producerIdsRecord(next: number): CatalogRecord {
  return { key: Buffer.from(PRODUCER_IDS_KEY), value: Buffer.from(String(next)) };
}

/** Null: the partition is gone. */
export function startRecord(streamId: string, partition: number, offset: number | null): CatalogRecord {
  const value = offset === null ? null : Buffer.from(String(offset));
  return { key: Buffer.from(`${START_KEY}${streamId}/${partition}`), value };
}

/** Null: nobody asks for it any more. */
export function epochRecord(epoch: number, starts: object | null): CatalogRecord {
  const value = starts === null ? null : Buffer.from(JSON.stringify(starts));
  return { key: Buffer.from(EPOCH_KEY + epoch), value };
}

export interface CatalogContent {
  readonly streams: ReadonlyMap<string, StreamDescription>;
  readonly nextProducerId: number;
  /** By `<stream id>/<partition>`. */
  readonly starts: ReadonlyMap<string, number>;
  readonly epochs: ReadonlyMap<number, Readonly<Record<string, readonly number[]>>>;
}

/** The last word on each key. */
export function readCatalog(records: Iterable<StoredRecord>): CatalogContent {
  const streams = new Map<string, StreamDescription>();
  const starts = new Map<string, number>();
  const epochs = new Map<number, Readonly<Record<string, readonly number[]>>>();
  let nextProducerId = 0;
  for (const { key, value } of records) {
    const text = key?.toString() ?? "";
    if (text === PRODUCER_IDS_KEY) {
      nextProducerId = Number(value?.toString() ?? 0);
    } else if (text.startsWith(STREAM_KEY)) {
      const name = text.slice(STREAM_KEY.length);
      if (value === null) streams.delete(name);
      else streams.set(name, { name, ...JSON.parse(value.toString()) } as StreamDescription);
    } else if (text.startsWith(START_KEY)) {
      const place = text.slice(START_KEY.length);
      if (value === null) starts.delete(place);
      else starts.set(place, Number(value.toString()));
    } else if (text.startsWith(EPOCH_KEY)) {
      const epoch = Number(text.slice(EPOCH_KEY.length));
      if (value === null) epochs.delete(epoch);
      else epochs.set(epoch, JSON.parse(value.toString()));
    }
  }
  return { streams, nextProducerId, starts, epochs };
}
