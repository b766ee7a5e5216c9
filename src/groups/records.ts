/**
 * The records of `__consumer_offsets`, in Kafka's own format, so that Kafka's tools can print them
 * (DumpLogSegments --offsets-decoder): an int16 in front of the key says what it is about, one in front of the
 * value is the version of the value; a null value deletes.
 *
 * | key | value | about |
 * |---|---|---|
 * | 0 or 1, OffsetCommitKey | 0–3, OffsetCommitValue (3 is written) | a committed offset |
 * | 2, GroupMetadataKey | 0–3, GroupMetadataValue (3 is written) | a group's generation, members, assignments |
 */
import { ProtocolError } from "../errors.ts";
import { Reader, Writer } from "../wire/buffer.ts";
import {
  array,
  bytes,
  decode,
  encode,
  type Fields,
  int32,
  int64,
  type MessageSchema,
  message,
  type Partially,
  type Shape,
  string,
} from "../wire/schema.ts";
import type { CommittedOffset, GroupDescription, StreamPartition } from "./types.ts";

const OFFSET_KEY = 1;
const GROUP_KEY = 2;
const VALUE_VERSION = 3;

const offsetCommitKey = message({}, { group: string(), topic: string(), partition: int32() });

const offsetCommitValue = message(
  {},
  {
    offset: int64(),
    leaderEpoch: int32({ versions: "3+", default: -1 }),
    metadata: string(),
    commitTimestamp: int64(),
    expireTimestamp: int64({ versions: "1", default: -1 }),
  },
);

const groupMetadataKey = message({}, { group: string() });

/** Kafka's GroupMetadataValue, in the words of `GroupDescription`. */
const groupMetadataValue = message(
  {},
  {
    protocolType: string(),
    generationId: int32(),
    protocolName: string({ nullable: "0+" }),
    leader: string({ nullable: "0+" }),
    currentStateTimestamp: int64({ versions: "2+", default: -1 }),
    members: array({
      memberId: string(),
      groupInstanceId: string({ versions: "3+", nullable: "3+", default: null }),
      clientId: string(),
      clientHost: string(),
      rebalanceTimeoutMs: int32({ versions: "1+", default: -1 }),
      sessionTimeoutMs: int32(),
      metadata: bytes(),
      assignment: bytes(),
    }),
  },
);

/** What is stored of a group. */
export type StoredGroup = Omit<GroupDescription, "groupId" | "state">;

/** A record to write; a null value deletes. */
export interface KeyedRecord {
  readonly key: Buffer;
  readonly value: Buffer | null;
}

function versioned<F extends Fields>(
  version: number,
  schema: MessageSchema<F>,
  value: Partially<Shape<F>>,
): Buffer {
  const writer = new Writer();
  writer.int16(version);
  encode(schema, version, value, writer);
  return writer.toBuffer();
}

export function offsetRecord(
  group: string,
  { stream, partition }: StreamPartition,
  committed: CommittedOffset | null,
): KeyedRecord {
  const key = versioned(OFFSET_KEY, offsetCommitKey, { group, topic: stream, partition });
  if (committed === null) return { key, value: null };
  const { offset, leaderEpoch, metadata, committedAt } = committed;
  const fields = { offset, leaderEpoch, metadata, commitTimestamp: committedAt };
  return { key, value: versioned(VALUE_VERSION, offsetCommitValue, fields) };
}

/** Null: the group is gone. */
export function groupRecord(
  group: string,
  value: StoredGroup | null,
  currentStateTimestamp: number,
): KeyedRecord {
  return {
    key: versioned(GROUP_KEY, groupMetadataKey, { group }),
    value: value && versioned(VALUE_VERSION, groupMetadataValue, { ...value, currentStateTimestamp }),
  };
}

/** About an offset of a group, or (without `at`) about the group itself. */
export type StoredFact =
  | { readonly group: string; readonly at: StreamPartition; readonly committed: CommittedOffset | null }
  | { readonly group: string; readonly at?: undefined; readonly value: StoredGroup | null };

/** Undefined for a kind of record that Kafka has and this coordinator has not; throws ProtocolError on a torn one. */
export function readRecord(key: Buffer, value: Buffer | null): StoredFact | undefined {
  const keyReader = new Reader(key);
  const kind = keyReader.int16();
  if (kind !== 0 && kind !== OFFSET_KEY && kind !== GROUP_KEY) return undefined;
  const reader = value === null ? null : new Reader(value);
  const version = reader?.int16() ?? VALUE_VERSION;
  if (version < 0 || version > VALUE_VERSION) throw new ProtocolError(`a value of version ${version}`);
  if (kind === GROUP_KEY) {
    const { group } = decode(groupMetadataKey, 0, keyReader);
    return { group, value: reader && decode(groupMetadataValue, version, reader) };
  }
  const { group, topic: stream, partition } = decode(offsetCommitKey, 0, keyReader);
  const at = { stream, partition };
  if (reader === null) return { group, at, committed: null };
  const { commitTimestamp: committedAt, ...committed } = decode(offsetCommitValue, version, reader);
  return { group, at, committed: { ...at, ...committed, committedAt } };
}
