/**
 * All streams of a data folder, and what is changed about them: each change is durable in the catalog before it is
 * done, one after the other.
 */
import { join } from "node:path";
import { LogError, messageOf } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { NO_HEADERS, recordsOf } from "../wire/record-batch.ts";
import {
  CATALOG,
  CATALOG_STREAM,
  type CatalogRecord,
  isStreamName,
  newStreamId,
  producerIdsRecord,
  readCatalog,
  type StreamDescription,
  startRecord,
  streamRecord,
  streamTombstone,
} from "./catalog.ts";
import { partitionKey } from "./checkpoint-file.ts";
import type { Committer } from "./committer.ts";
import { eachOf } from "./each-of.ts";
import type { FileSystem } from "./file-system.ts";
import { LeaderEpochs } from "./leader-epochs.ts";
import type { Partition, StreamOrigin, StreamSettings } from "./log.ts";
import { PartitionLog } from "./partition-log.ts";
import { ProducerIds } from "./producer-ids.ts";
import { DEFAULT_SETTINGS, INTERNAL_SETTINGS, StreamState } from "./stream-state.ts";
import type { SegmentAges, Timekeeper } from "./timekeeper.ts";
import { wholePartition } from "./whole-partition.ts";
import type { WriteBehind } from "./write-behind.ts";

const MAX_PARTITIONS = 10_000;

export interface StreamsOptions {
  readonly dataDir: string;
  readonly logger: Logger;
  readonly fileSystem: FileSystem;
  readonly time: Timekeeper;
  readonly writeBehind: () => WriteBehind;
  /** Undefined while the log is recovered. */
  readonly committer: () => Committer | undefined;
  /** Some of the partition's records have been deleted. */
  readonly retainSoon: (partition: PartitionLog) => void;
}

export class Streams {
  readonly epochs = new LeaderEpochs();
  readonly producerIds = new ProducerIds((end) => this.write(producerIdsRecord(end)));
  private readonly options: StreamsOptions;
  private readonly byName = new Map<string, StreamState>();
  private readonly byId = new Map<string, StreamState>();
  /** Of what is about to be opened. */
  private ages: SegmentAges = new Map();
  /** By `<stream id>/<partition>`, while the catalog is loaded. */
  private starts: ReadonlyMap<string, number> = new Map();
  private changing: Promise<unknown> = Promise.resolve();

  constructor(options: StreamsOptions) {
    this.options = options;
  }

  get all(): readonly StreamState[] {
    return [...this.byName.values()];
  }

  get partitions(): readonly PartitionLog[] {
    return this.all.flatMap((stream) => stream.partitions);
  }

  named(name: string): StreamState | undefined {
    return this.byName.get(name);
  }

  withId(id: string): StreamState | undefined {
    return this.byId.get(id);
  }

  /** Opens the catalog's partition, which says what else there is. */
  async openCatalog(ages: SegmentAges): Promise<PartitionLog> {
    this.ages = ages;
    const catalog = await this.open(CATALOG);
    return catalog.partitions[0] as PartitionLog;
  }

  /** Opens all that the catalog says. */
  async load(catalog: PartitionLog, onProgress: (what: string) => void): Promise<void> {
    const buffers: Buffer[] = [];
    for await (const found of wholePartition(catalog)) buffers.push(...found);
    const { streams, nextProducerId, starts, epochs } = readCatalog(recordsOf(buffers));
    this.starts = starts;
    this.epochs.load(epochs);
    this.producerIds.load(nextProducerId);
    let opened = 0;
    for (const description of streams.values()) {
      onProgress(`opening stream ${++opened} of ${streams.size}`);
      await this.open(description);
    }
    this.ages = new Map();
  }

  private make({ name, id, origin, settings }: StreamDescription): StreamState {
    const commitNumber = () => this.options.committer()?.windowNumber ?? 0;
    const resolved = { ...DEFAULT_SETTINGS, ...settings };
    return new StreamState(name, id, origin, resolved, commitNumber, this.epochs);
  }

  /** With its first partitions, or not at all. */
  private async open(description: StreamDescription): Promise<StreamState> {
    const stream = this.make(description);
    await this.openPartitions(stream, description.partitions);
    this.byName.set(stream.name, stream);
    this.byId.set(stream.id, stream);
    return stream;
  }

  private async openPartitions(stream: StreamState, count: number): Promise<void> {
    const { dataDir, fileSystem, time, writeBehind } = this.options;
    const added: PartitionLog[] = [];
    for (let index = stream.partitions.length; index < count; index++) {
      const folder = join(dataDir, "streams", `${stream.name}-${index}`);
      const partition = new PartitionLog(stream, index, fileSystem, folder, () => time.logTime);
      partition.deletedBelow = this.starts.get(`${stream.id}/${index}`) ?? 0;
      added.push(partition);
    }
    await eachOf(added, 8, (partition) => {
      const ages = this.ages.get(partitionKey(stream.id, partition.index));
      return partition.open(writeBehind().recoveryPointOf(stream.id, partition.index), ages);
    });
    stream.partitions.push(...added);
  }

  /** See Log.createStream. */
  async create(
    name: string,
    partitions: number,
    settings: Partial<StreamSettings>,
    origin: StreamOrigin,
  ): Promise<StreamState> {
    if (!isStreamName(name)) {
      throw new LogError("INVALID_STREAM", `"${name}" is not a stream's name`, {
        mend: "Use 1 to 249 letters, digits, dots, underscores and hyphens.",
      });
    }
    return this.change(async () => {
      if (this.byName.has(name)) throw new LogError("STREAM_EXISTS", `stream ${name} exists`);
      this.checkPartitions(partitions, 0);
      const description: StreamDescription = {
        name,
        id: newStreamId(),
        origin,
        partitions,
        settings: { ...(origin === "internal" ? INTERNAL_SETTINGS : DEFAULT_SETTINGS), ...settings },
      };
      await this.write(streamRecord(description));
      return this.open(description);
    });
  }

  /** See Log.alterStream. */
  alter(
    name: string,
    change: { partitions?: number; settings?: Partial<StreamSettings> },
  ): Promise<StreamState> {
    return this.change(async () => {
      const stream = this.known(name);
      const partitions = change.partitions ?? stream.partitions.length;
      this.checkPartitions(partitions, stream.partitions.length);
      const settings = { ...stream.settings, ...change.settings };
      const { id, origin } = stream;
      await this.write(streamRecord({ name, id, origin, partitions, settings }));
      stream.settings = settings;
      await this.openPartitions(stream, partitions);
      return stream;
    });
  }

  /** See Log.deleteStream. */
  delete(name: string): Promise<void> {
    const { logger } = this.options;
    return this.change(async () => {
      const stream = this.known(name);
      // From here on nothing more is queued for it, so nothing can come behind its tombstone.
      for (const partition of stream.partitions) partition.isGone = true;
      try {
        const starts = stream.partitions.filter((one) => one.deletedBelow > 0);
        const gone = starts.map(({ index }) => startRecord(stream.id, index, null));
        await this.write(streamTombstone(name), ...gone);
      } catch (error) {
        for (const partition of stream.partitions) partition.isGone = false;
        throw error;
      }
      this.byName.delete(name);
      this.byId.delete(stream.id);
      // Whoever waits for it to grow shall look again, and find it gone.
      for (const partition of stream.partitions) partition.notify();
      const writes = this.options.writeBehind();
      await writes.settled();
      for (const partition of stream.partitions) {
        writes.forget(stream.id, partition.index);
        // Deleted it is all the same, whatever the disk still holds of it.
        await partition.destroy().catch((error: unknown) => {
          const place = { folder: partition.folder, error: messageOf(error) };
          logger.error(place, "files of a deleted stream could not be removed");
        });
      }
    });
  }

  /** See Log.deleteRecords. */
  deleteRecords({ stream, index }: Partition, before: number): Promise<number> {
    // One after the other, or the catalog's last word could be an earlier offset than one that was answered.
    return this.change(async () => {
      const partition = this.byId.get(stream.id)?.partitions[index];
      if (partition === undefined || partition.isGone) {
        throw new LogError("UNKNOWN_STREAM", `there is no stream ${stream.name}`);
      }
      if (before < 0 || before > partition.highWatermark) partition.outOfRange(before);
      // Whatever retention has removed: a power cut may bring that back, and not what was deleted on request.
      if (before > partition.deletedBelow) {
        await this.write(startRecord(stream.id, index, before));
        partition.deletedBelow = before;
        this.options.retainSoon(partition);
      }
      return partition.logStartOffset;
    });
  }

  private known(name: string): StreamState {
    const stream = this.byName.get(name);
    if (stream === undefined) throw new LogError("UNKNOWN_STREAM", `there is no stream ${name}`);
    return stream;
  }

  private checkPartitions(wanted: number, present: number): void {
    if (!Number.isInteger(wanted) || wanted < 1) {
      throw new LogError("INVALID_PARTITIONS", `${wanted} partitions are not possible`);
    }
    if (wanted < present) {
      throw new LogError(
        "FEWER_PARTITIONS",
        `${present} partitions cannot become ${wanted}: their records would be lost`,
      );
    }
    const others = this.partitions.length - present;
    if (others + wanted > MAX_PARTITIONS) {
      throw new LogError(
        "INVALID_PARTITIONS",
        `${others + wanted} partitions are more than a gateway takes (${MAX_PARTITIONS})`,
      );
    }
  }

  /** One change at a time: each sees what the one before has made durable. */
  private change<T>(change: () => Promise<T>): Promise<T> {
    const result = this.changing.catch(() => {}).then(change);
    this.changing = result;
    return result;
  }

  /** Resolves when no change is under way, however it ended. */
  async settled(): Promise<void> {
    await this.changing.catch(() => {});
  }

  /** Into the catalog, all in one commit. */
  write(...records: readonly CatalogRecord[]): Promise<void> {
    const timestamp = this.options.time.now();
    return new Promise((resolve, reject) => {
      const partition = this.known(CATALOG_STREAM).partitions[0] as PartitionLog;
      const committer = this.options.committer();
      if (committer === undefined) throw new LogError("CLOSED", "the log has not been started");
      const entries = records.map((one) => ({ partition, ...one, headers: NO_HEADERS, timestamp }));
      committer.append(entries, (error) => (error === null ? resolve() : reject(error)));
      // Changes of the catalog come one after the other; each would wait for the whole time.
      committer.hurry();
    });
  }
}
