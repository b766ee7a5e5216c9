/**
 * What the broker keeps, as keyed records on internal compacted streams. The newest record of a key counts; a
 * null value deletes. A key begins with its kind, a value with its version, both an int8; the rest is encoded
 * as Kafka's flexible messages are (strings of any length, room for tagged fields).
 *
 * Sessions, wills and queued messages are numbered. A number is never used again while any record mentions it,
 * so what belonged to an earlier session of a client id is never taken for a later one's.
 */
import { ProtocolError } from "../errors.ts";
import { Reader, Writer } from "../wire/buffer.ts";
import {
  array,
  bool,
  bytes,
  decode,
  encode,
  type Fields,
  int8,
  int64,
  type MessageSchema,
  message,
  type Partially,
  type Shape,
  string,
  struct,
  uint16,
} from "../wire/schema.ts";

export const SESSIONS_STREAM = "__mqtt_sessions";
export const QUEUE_STREAM = "__mqtt_queue";
export const RETAINED_STREAM = "__mqtt_retained";
/** In the order in which they are read back: a queued message means something to a known session only. */
export const STATE_STREAMS = [SESSIONS_STREAM, RETAINED_STREAM, QUEUE_STREAM] as const;

const VERSION = 0;
const FLEXIBLE = { flexible: 0 };

interface Kind<K extends Fields, V extends Fields> {
  readonly stream: (typeof STATE_STREAMS)[number];
  readonly id: number;
  readonly key: MessageSchema<K>;
  readonly value: MessageSchema<V>;
}

const kind = <K extends Fields, V extends Fields>(
  stream: Kind<K, V>["stream"],
  id: number,
  key: K,
  value: V,
): Kind<K, V> => ({ stream, id, key: message(FLEXIBLE, key), value: message(FLEXIBLE, value) });

const KINDS = {
  /** A session that outlives its connection. */
  session: kind(SESSIONS_STREAM, 0, { clientId: string() }, { number: int64() }),
  subscription: kind(SESSIONS_STREAM, 1, { session: int64(), filter: string() }, { qos: int8() }),
  /** A QoS 2 message from the client is on disk and its packet id not yet released. */
  received: kind(SESSIONS_STREAM, 2, { session: int64(), packetId: uint16() }, {}),
  /**
   * How far a session has come with what is queued for it: every delivery below `floor` is over, and so is
   * each of `done`; of those `released`, PUBREC has come and PUBCOMP has not.
   */
  progress: kind(
    SESSIONS_STREAM,
    3,
    { session: int64() },
    { floor: int64(), released: array(int64()), done: array(int64()) },
  ),
  /** The will of a connection that is open. */
  will: kind(
    SESSIONS_STREAM,
    4,
    { number: int64() },
    {
      clientId: string(),
      username: string({ nullable: "0+" }),
      mqttTopic: string(),
      payload: bytes(),
      qos: int8(),
      retain: bool(),
    },
  ),
  /** A message for sessions, once for all of them; `sequence` counts a session's deliveries. */
  queued: kind(
    QUEUE_STREAM,
    5,
    { number: int64() },
    {
      mqttTopic: string(),
      payload: bytes(),
      deliveries: array(struct({ session: int64(), sequence: int64(), qos: int8() })),
      /** Milliseconds since the epoch, from which on it is not to be sent any more; 0 for never. */
      expiresAt: int64({ tag: 0 }),
    },
  ),
  retained: kind(RETAINED_STREAM, 6, { mqttTopic: string() }, { payload: bytes(), qos: int8() }),
};

type Kinds = typeof KINDS;
export type KindName = keyof Kinds;
export type KeyOf<N extends KindName> = Kinds[N] extends Kind<infer K, Fields> ? Shape<K> : never;
export type ValueOf<N extends KindName> = Kinds[N] extends Kind<Fields, infer V> ? Shape<V> : never;
export type QueuedValue = ValueOf<"queued">;
export type WillValue = ValueOf<"will">;
export type ProgressValue = ValueOf<"progress">;

/** A record read back, by kind. */
export type Fact = {
  [N in KindName]: { readonly kind: N; readonly key: KeyOf<N>; readonly value: ValueOf<N> | null };
}[KindName];

export const streamOf = (name: KindName): string => KINDS[name].stream;

export function encodeKey<N extends KindName>(name: N, key: KeyOf<N>): Buffer {
  return encoded(KINDS[name].id, KINDS[name].key, key);
}

export function encodeValue<N extends KindName>(name: N, value: ValueOf<N>): Buffer {
  return encoded(VERSION, KINDS[name].value, value);
}

function encoded(first: number, schema: MessageSchema, fields: object): Buffer {
  const writer = new Writer();
  writer.int8(first);
  encode(schema, 0, fields as Partially<Shape<Fields>>, writer);
  return writer.toBuffer();
}

/** Throws `ProtocolError` for a kind or version that a newer gateway may have written. */
export function readFact(key: Buffer, value: Buffer | null): Fact {
  const reader = new Reader(key);
  const id = reader.int8();
  const [name, kind] = Object.entries(KINDS).find(([, candidate]) => candidate.id === id) ?? [];
  if (kind === undefined) throw new ProtocolError(`broker state of an unknown kind ${id}`);
  const valueReader = value === null ? undefined : new Reader(value);
  const version = valueReader?.int8() ?? VERSION;
  if (version !== VERSION) throw new ProtocolError(`broker state "${name}" of an unknown version ${version}`);
  return {
    kind: name,
    key: decode(kind.key as MessageSchema, 0, reader),
    value: valueReader === undefined ? null : decode(kind.value as MessageSchema, 0, valueReader),
  } as Fact;
}
