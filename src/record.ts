/**
 * The central types: what a message is on its way through the gateway.
 *
 * A `PublishPacket` comes in over MQTT, the mapping turns it into a `MappedRecord`, the log writes it as one
 * record of a Kafka record batch. Nothing here imports anything: every other folder may build on it.
 */

/** One MQTT PUBLISH as the mapping sees it. */
export interface PublishPacket {
  readonly mqttTopic: string;
  readonly payload: Buffer;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  /** The publisher's client id; empty for a message the broker itself publishes. */
  readonly clientId: string;
  /** Undefined when the client gave none in CONNECT. */
  readonly username: string | undefined;
  /** Milliseconds since the epoch. */
  readonly receivedAt: number;
}

/** What a mapping makes of a packet, ready for the log. */
export interface MappedRecord {
  readonly stream: string;
  /** `KEYLESS` leaves the choice to the stream, which keeps batches full. */
  readonly partition: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  /** The record's header section as it lies in the batch; see `encodeHeaders` in wire/record-batch.ts. */
  readonly headers: Buffer;
  /** Milliseconds since the epoch. */
  readonly timestamp: number;
}

/** The partition of a record that has no key: the stream chooses. */
export const KEYLESS = -1;

/** One record header. A name may repeat; null and empty values are distinct (Kafka keeps them so). */
export interface RecordHeader {
  readonly key: string;
  readonly value: Buffer | null;
}

/** A record as it is read back from a batch. */
export interface StoredRecord {
  readonly offset: number;
  readonly timestamp: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: readonly RecordHeader[];
}
