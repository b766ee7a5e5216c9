/** A stream as the store keeps it; only the store changes it. */
import type { LeaderEpochs } from "./leader-epochs.ts";
import type { Stream, StreamOrigin, StreamSettings } from "./log.ts";
import type { PartitionLog } from "./partition-log.ts";

/** Kafka's defaults, but for the segment size: a Raspberry Pi's week of data should be deleted in small steps. */
export const DEFAULT_SETTINGS: StreamSettings = {
  retentionMs: 7 * 24 * 3600 * 1000,
  retentionBytes: -1,
  segmentBytes: 64 << 20,
  segmentMs: 7 * 24 * 3600 * 1000,
  // 1 MiB, and the 12 bytes before it in Kafka's own default.
  maxMessageBytes: (1 << 20) + 12,
  cleanup: "delete",
  minDirtyRatio: 0.5,
  timestampType: "CreateTime",
  deleteRetentionMs: 24 * 3600 * 1000,
};

/**
 * The gateway's own state: the latest of each key for good, in small segments, so that compaction keeps what
 * a start reads small. Nobody but the gateway depends on its deletions, and there may be many.
 */
export const INTERNAL_SETTINGS: StreamSettings = {
  ...DEFAULT_SETTINGS,
  retentionMs: -1,
  retentionBytes: -1,
  segmentBytes: 1 << 20,
  cleanup: "compact",
  deleteRetentionMs: 60 * 1000,
};

export class StreamState implements Stream {
  readonly name: string;
  readonly id: string;
  /** The id as the journal has it. */
  readonly idBytes: Buffer;
  readonly origin: StreamOrigin;
  settings: StreamSettings;
  readonly partitions: PartitionLog[] = [];
  private keylessIndex = 0;
  private keylessCommit = -1;
  private readonly commitNumber: () => number;
  readonly epochs: LeaderEpochs;

  /** `commitNumber` tells which commit an append would go into now. */
  constructor(
    name: string,
    id: string,
    origin: StreamOrigin,
    settings: StreamSettings,
    commitNumber: () => number,
    epochs: LeaderEpochs,
  ) {
    this.name = name;
    this.id = id;
    this.idBytes = Buffer.from(id, "base64url");
    this.origin = origin;
    this.settings = settings;
    this.commitNumber = commitNumber;
    this.epochs = epochs;
  }

  get internal(): boolean {
    return this.origin === "internal";
  }

  keylessPartition(): PartitionLog {
    const commit = this.commitNumber();
    if (commit !== this.keylessCommit) {
      this.keylessCommit = commit;
      this.keylessIndex = (this.keylessIndex + 1) % this.partitions.length;
    }
    return this.partitions[this.keylessIndex] as PartitionLog;
  }
}
