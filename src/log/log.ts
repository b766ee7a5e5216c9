/**
 * What the rest of the gateway knows of the log: streams, their partitions, and one way to append.
 *
 * The promise: `done` of an append is called without an error only when everything in it is on disk, and
 * nothing is visible to a reader before that. All entries of one append are in one commit: after a crash
 * either all of them are there or none is.
 */
import type { LogError } from "../errors.ts";

/** Settings of a stream, in Kafka's units; -1 means without limit, as in Kafka's topic configuration. */
export interface StreamSettings {
  /** `retention.ms` */
  readonly retentionMs: number;
  /** `retention.bytes`, per partition */
  readonly retentionBytes: number;
  /** `segment.bytes` */
  readonly segmentBytes: number;
  /** `segment.ms`: a segment older than this is rolled, so that retention can take it */
  readonly segmentMs: number;
  /** `max.message.bytes`: the largest record batch */
  readonly maxMessageBytes: number;
  /** `cleanup.policy`: by age and size, to the latest record of each key, or both */
  readonly cleanup: "delete" | "compact" | "compact,delete";
  /** `min.cleanable.dirty.ratio`: compaction begins when more than this part of it is new */
  readonly minDirtyRatio: number;
  /** `message.timestamp.type`: a record's own, or the time of its append */
  readonly timestampType: "CreateTime" | "LogAppendTime";
  /** `delete.retention.ms`: how long a compacted stream shows that a key was deleted */
  readonly deleteRetentionMs: number;
}

/** Who made a stream: what the configuration states stays the configuration's. */
export type StreamOrigin = "config" | "protocol" | "internal";

/** What a log has done since its start. */
export interface LogStats {
  readonly commits: number;
  readonly records: number;
  /** Of record batches: what was taken. */
  readonly committedBytes: number;
  /** What went to the disk for it: see counted-disk.ts. */
  readonly writtenBytes: number;
  readonly syncs: number;
  /** On the device under the data folder, by whomever, by the kernel's counter; left out where there is none. */
  readonly deviceBytes?: number;
  /** The disk failed: nothing is taken until it is back. */
  readonly readOnly: boolean;
  /** The disk is full: public streams take nothing until there is room. */
  readonly diskFull: boolean;
  /** Given up since the start because the disk was full. */
  readonly droppedBytes: number;
  readonly droppedRecords: number;
}

export interface Log {
  /** Streams by name, internal ones included. */
  stream(name: string): Stream | undefined;
  streamById(id: string): Stream | undefined;
  readonly streams: readonly Stream[];

  /**
   * Creates a stream; resolves when that is durable. Rejects with `LogError` code STREAM_EXISTS, or
   * INVALID_STREAM for a name that Kafka would not take (1–249 of [a-zA-Z0-9._-], not "." or "..").
   */
  createStream(
    name: string,
    partitions: number,
    settings: Partial<StreamSettings>,
    origin: StreamOrigin,
  ): Promise<Stream>;

  /** Changes settings, or adds partitions (never fewer: LogError FEWER_PARTITIONS); resolves when durable. */
  alterStream(
    name: string,
    change: { partitions?: number; settings?: Partial<StreamSettings> },
  ): Promise<Stream>;

  /** Deletes a stream and its files; resolves when durable. Rejects with UNKNOWN_STREAM. */
  deleteStream(name: string): Promise<void>;

  /**
   * Queues entries for the next commit, in this order within each partition. `done` is called exactly once,
   * never before this returns. Errors: LogError with code READ_ONLY (the disk failed), DISK_FULL, CLOSED (stopping),
   * TOO_LARGE, UNKNOWN_STREAM (deleted meanwhile), KEYLESS_RECORD (the stream is compacted), and for batches CORRUPT_BATCH, INVALID_RECORDS, OUT_OF_ORDER_SEQUENCE
   * or INVALID_PRODUCER_EPOCH. With an error nothing of it was written.
   */
  append(entries: readonly Append[], done: (error: LogError | null) => void): void;

  /**
   * Deletes a partition's records below `before`; resolves with its log start offset when that is durable, and
   * nothing below is ever shown again. Rejects with OFFSET_OUT_OF_RANGE beyond the high watermark.
   */
  deleteRecords(partition: Partition, before: number): Promise<number>;

  /** A fresh, durable producer id (Kafka's InitProducerId without a transactional id). */
  nextProducerId(): Promise<number>;
}

/** A record that the log shall encode: what came over MQTT, or the gateway's own state. */
export interface RecordAppend {
  readonly partition: Partition;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  /** The header section as `encodeHeaders` makes it. */
  readonly headers: Buffer;
  readonly timestamp: number;
  /** Set before `done`. */
  offset?: number;
}

/** A Kafka record batch v2 as a producer sent it, stored as they are but for base offset and leader epoch. */
export interface BatchAppend {
  readonly partition: Partition;
  /**
   * Exactly one batch, and the only entry of its append; the log writes base offset and epoch into it. It keeps a
   * copy: after `done` the bytes are the caller's again.
   */
  readonly batch: Buffer;
  /** Base offset; for a duplicate of an idempotent producer the original one. Set before `done`. */
  offset?: number;
}

export type Append = RecordAppend | BatchAppend;

export interface Stream {
  readonly name: string;
  /** Kafka's topic id: unique over time, so a stream made anew under an old name is another stream. */
  readonly id: string;
  readonly origin: StreamOrigin;
  /** Not for outside writers (`__consumer_offsets` …). */
  readonly internal: boolean;
  readonly settings: StreamSettings;
  readonly partitions: readonly Partition[];
  /** The partition for a record without a key: the same one for a whole commit, so that batches are full. */
  keylessPartition(): Partition;
}

/** An idempotent producer, by the last of its batches that is in the log. */
export interface ActiveProducer {
  readonly producerId: number;
  readonly epoch: number;
  readonly lastSequence: number;
  readonly timestamp: number;
}

export interface Partition {
  readonly stream: Stream;
  readonly index: number;
  /** The first offset that can still be read. */
  readonly logStartOffset: number;
  /** One past the last committed offset; nothing beyond it is ever shown. */
  readonly highWatermark: number;
  /** Bytes in this partition's segments, the ones still in memory only included. */
  readonly sizeBytes: number;
  /** `partitionLeaderEpoch` of new batches: one more after each start that had to recover. */
  readonly leaderEpoch: number;
  /** The idempotent producers that are remembered, the one that was silent longest first. */
  readonly activeProducers: readonly ActiveProducer[];

  /** One past the last offset of a leader epoch, the high watermark for the current one; undefined for one that never was. */
  endOfEpoch(epoch: number): number | undefined;

  /**
   * The leader epoch of what is or will be at `offset`, by the catalog: what a batch says is under no checksum.
   * Undefined where it is too old to be known.
   */
  epochAt(offset: number): number | undefined;

  /**
   * Whole committed batches from the one that *contains* `offset` on, or the next one where compaction left a
   * gap (read on at `endOffsetOf` them), about `maxBytes` of them but always at least one; empty at the high
   * watermark. Slices that must not be changed. Synchronous where memory has
   * them. Throws (or rejects with) LogError OFFSET_OUT_OF_RANGE below the start or beyond the high watermark.
   */
  read(offset: number, maxBytes: number): readonly Buffer[] | Promise<readonly Buffer[]>;

  /** Bytes that a read from `offset` would find, as far as known without reading; for `min_bytes`. */
  bytesFrom(offset: number): number;

  /** The first record with a timestamp >= `timestampMs`, or undefined. */
  offsetForTimestamp(timestampMs: number): Promise<{ offset: number; timestamp: number } | undefined>;

  /** The record with the largest timestamp (ListOffsets -3), or undefined in an empty partition. */
  maxTimestamp(): Promise<{ offset: number; timestamp: number } | undefined>;

  /**
   * Calls back after every commit that moved this partition's high watermark, and when its stream has been
   * deleted, until the returned function is called.
   */
  onCommit(listener: () => void): () => void;

  /**
   * Retention by time and size leaves what lies at `offset` or behind it as long as `owner` wants it; undefined
   * wants nothing any more. DeleteRecords and deletion of the stream do not ask.
   */
  hold(owner: string, offset: number | undefined): void;
}
