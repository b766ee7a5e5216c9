/**
 * The log: all streams of one data folder. It owns the journal, the partitions and the rules between them:
 *
 * - a commit is written to the journal, then becomes visible, then is acknowledged;
 * - the newest commits stay in memory (the tail) until they have been flushed and newer ones need the room;
 * - a checkpoint flushes and syncs the segments and lets journal files be used again;
 * - recovery puts the segments back to the last checkpoint and replays the journal over them.
 */
import { join } from "node:path";
import type { Clock } from "../clock.ts";
import { LogError, messageOf } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { NO_HEADERS, recordsOf } from "../wire/record-batch.ts";
import {
  CATALOG_ID,
  CATALOG_STREAM,
  type CatalogRecord,
  epochRecord,
  isStreamName,
  newStreamId,
  producerIdsRecord,
  readCatalog,
  type StreamDescription,
  startRecord,
  streamRecord,
  streamTombstone,
} from "./catalog.ts";
import { type Checkpoint, decodeCheckpoint, NO_CHECKPOINT, partitionKey } from "./checkpoint-file.ts";
import { type CommittedBatches, Committer } from "./committer.ts";
import { CountedDisk, deviceBytes } from "./counted-disk.ts";
import { type FolderMeta, foreignFiles, openDataFolder, refuseWithoutCheckpoint } from "./data-folder.ts";
import { DiskSpace, type StorageRules } from "./disk-space.ts";
import { eachOf } from "./each-of.ts";
import { type FileSystem, nodeFileSystem } from "./file-system.ts";
import type { OnVisitor } from "./folder-lock.ts";
import { Journal } from "./journal.ts";
import { LeaderEpochs } from "./leader-epochs.ts";
import type { Append, Log, LogStats, Partition, StreamOrigin, StreamSettings } from "./log.ts";
import { Outage } from "./outage.ts";
import { PartitionLog } from "./partition-log.ts";
import { journalFilesBehind, replayJournal } from "./recovery.ts";
import { DEFAULT_SETTINGS, INTERNAL_SETTINGS, StreamState } from "./stream-state.ts";
import { type SegmentAge, type SegmentAges, Timekeeper } from "./timekeeper.ts";
import { Upkeep } from "./upkeep.ts";
import { wholePartition } from "./whole-partition.ts";
import { WriteBehind } from "./write-behind.ts";

export interface StreamStoreOptions {
  readonly dataDir: string;
  readonly logger: Logger;
  readonly fileSystem?: FileSystem;
  /** Takes the connections to the data folder's socket, from before recovery until it is closed. */
  readonly onVisitor?: OnVisitor;
  readonly clock?: Clock;
  /** How long commits gather, for fewer syncs; acknowledgements wait for it. */
  readonly lingerMs?: number;
  readonly journalFileBytes?: number;
  readonly maxJournalFiles?: number;
  /** Memory for the newest batches of all partitions together. */
  readonly maxTailBytes?: number;
  /** Between two rounds of retention and compaction. */
  readonly upkeepMs?: number;
  readonly storage?: StorageRules;
  /** Between two looks at the room on the disk. */
  readonly spaceCheckMs?: number;
  /** From a failed attempt to write the journal to the next; each wait is twice the one before, up to a hundred times this. */
  readonly retryMs?: number;
  /** Keys that compaction knows at a time, 32 bytes each. */
  readonly maxCompactionKeys?: number;
}

const PRODUCER_ID_BLOCK = 1000;
const MAX_PARTITIONS = 10_000;

export class StreamStore implements Log {
  private readonly dataDir: string;
  private readonly logger: Logger;
  private readonly fileSystem: CountedDisk;
  /** What time it is, for whoever stamps records too. */
  readonly time: Timekeeper;
  private ages: SegmentAges = new Map();
  private readonly options: StreamStoreOptions;
  private unlock: (() => Promise<void>) | undefined;
  private readonly byName = new Map<string, StreamState>();
  private readonly byId = new Map<string, StreamState>();
  private journal: Journal | undefined;
  private committer: Committer | undefined;
  private folder: FolderMeta | undefined;
  private writeBehind: WriteBehind | undefined;
  /** The newest journal entry whose batches their partitions have. */
  private visibleSequence = -1;
  private readonly upkeep: Upkeep;
  private readonly outage: Outage;
  private readonly space: DiskSpace;
  private readonly epochs = new LeaderEpochs();
  /** By `<stream id>/<partition>`, while the catalog is loaded. */
  private starts: ReadonlyMap<string, number> = new Map();
  private nextId = 0;
  private idsReserved = 0;
  private reserving: Promise<void> | undefined;
  private closing: Promise<void> | undefined;
  private catalogChange: Promise<unknown> = Promise.resolve();
  /** Bytes of batches committed since the start. */
  committedBytes = 0;
  private deviceBytesBefore = 0;
  private wasKilled = false;
  /** While it starts: what it is doing, in words. */
  progress: string | undefined;

  constructor(options: StreamStoreOptions) {
    this.options = options;
    this.dataDir = options.dataDir;
    this.logger = options.logger;
    this.fileSystem = new CountedDisk(options.fileSystem ?? nodeFileSystem);
    this.time = new Timekeeper(options.logger, options.clock);
    this.outage = new Outage({
      logger: options.logger,
      moveOn: async () => {
        const journal = this.journal as Journal;
        await journal.moveOn();
        this.visibleSequence = journal.lastSequence;
      },
      retryMs: options.retryMs ?? 100,
      onBegin: (error) => this.working.refuse(error),
      onEnd: () => this.working.admit(),
    });
    this.space = new DiskSpace({
      ...{ dataDir: options.dataDir, fileSystem: this.fileSystem, logger: options.logger },
      checkMs: options.spaceCheckMs ?? 1_000,
      partitions: () => this.streams.flatMap((stream) => stream.partitions),
      retain: () => this.retain(),
      checkpoint: () => this.checkpoint(),
      onChange: (refusal) => {
        this.working.publicRefusal = refusal;
      },
    });
    if (options.storage !== undefined) this.space.rules = options.storage;
    this.upkeep = new Upkeep({
      logger: options.logger,
      time: this.time,
      saveTime: () => this.saveTime(),
      streams: () => this.streams,
      checkMs: options.upkeepMs ?? 60_000,
      maxCompactionKeys: options.maxCompactionKeys,
    });
  }

  /** Kafka's `cluster.id`: made with the data folder. */
  get clusterId(): string {
    return (this.folder as FolderMeta).clusterId;
  }

  get streams(): readonly StreamState[] {
    return [...this.byName.values()];
  }

  get stats(): LogStats {
    const { commits, records, isRefusing, publicRefusal } = this.working;
    const { committedBytes } = this;
    const { droppedBytes, droppedRecords } = this.space;
    const { writtenBytes, syncs } = this.fileSystem;
    const device = deviceBytes(this.dataDir);
    return {
      ...{ commits, records, committedBytes, writtenBytes, syncs, readOnly: isRefusing },
      ...{ diskFull: publicRefusal !== undefined, droppedBytes, droppedRecords },
      ...(device === undefined ? {} : { deviceBytes: device - this.deviceBytesBefore }),
    };
  }

  /** What is to stay free on the disk. */
  set storage(rules: StorageRules) {
    this.space.rules = rules;
  }

  /** How long commits gather. */
  set lingerMs(ms: number) {
    this.working.lingerMs = ms;
  }

  /** Before a stop: what has been appended is committed at once, and so is what still comes. */
  stopLingering(): void {
    if (this.committer === undefined) return;
    this.committer.lingerMs = 0;
    this.committer.hurry();
  }

  stream(name: string): StreamState | undefined {
    return this.byName.get(name);
  }

  streamById(id: string): StreamState | undefined {
    return this.byId.get(id);
  }

  private get working(): Committer {
    if (this.committer === undefined) throw new LogError("CLOSED", "the log has not been started");
    return this.committer;
  }

  private get writes(): WriteBehind {
    return this.writeBehind as WriteBehind;
  }

  /** Recovers what lies in the data folder. Throws LogError for a folder that cannot be used as it is. */
  async start(): Promise<void> {
    const { fileSystem, dataDir } = this;
    this.folder = await openDataFolder(fileSystem, dataDir);
    this.deviceBytesBefore = deviceBytes(dataDir) ?? 0;
    this.unlock = await fileSystem.lockFolder(dataDir, this.options.onVisitor);
    try {
      this.ages = await this.time.start(fileSystem, dataDir);
      await this.recover();
      this.ages = new Map();
      await this.saveTime().catch((error) => {
        // A full disk keeps no reader out; upkeep tries again.
        this.logger.error({ error: messageOf(error) }, "the time cannot be kept");
      });
    } catch (error) {
      await this.unlock?.();
      throw error;
    }
    this.progress = undefined;
    await this.space.start();
    this.upkeep.start();
    if (this.wasKilled) void this.upkeep.check();
  }

  private async recover(): Promise<void> {
    const { fileSystem, dataDir } = this;
    const began = performance.now();
    const path = join(dataDir, "checkpoint");
    const content = await fileSystem.readFile(path);
    const checkpoint = content === undefined ? NO_CHECKPOINT : decodeCheckpoint(content, path);
    this.writeBehind = new WriteBehind({
      dataDir,
      fileSystem,
      logger: this.logger,
      maxTailBytes: this.options.maxTailBytes ?? 8 << 20,
      recoveryPoints: checkpoint.recoveryPoints,
      partitions: () => this.streams.flatMap((stream) => stream.partitions),
    });
    const journalFolder = join(dataDir, "journal");
    const { mark } = this.folder as FolderMeta;

    // The catalog first: it says which streams the other entries belong to.
    const catalog = this.register({
      name: CATALOG_STREAM,
      id: CATALOG_ID,
      origin: "internal",
      partitions: 0,
      settings: INTERNAL_SETTINGS,
    });
    const files = await journalFilesBehind(fileSystem, journalFolder, mark, checkpoint);
    if (content === undefined) await refuseWithoutCheckpoint(fileSystem, dataDir, files);
    // Before anything is changed: a journal that is damaged is left as it is, and so is all else.
    const changes: Buffer[] = [];
    await replayJournal(fileSystem, journalFolder, mark, files, checkpoint, (entry) => {
      for (const { streamId, batch } of entry.batches) {
        if (streamId.equals(catalog.idBytes)) changes.push(Buffer.from(batch));
      }
    });
    await this.openPartitions(catalog, 1);
    const catalogLog = catalog.partitions[0] as PartitionLog;
    for (const batch of changes) this.replay(catalogLog, batch);
    await this.loadCatalog(catalogLog);
    await this.sayForeignFiles();

    this.progress = "reading the journal";
    const replayed = { batches: 0 };
    const end = await replayJournal(fileSystem, journalFolder, mark, files, checkpoint, (entry) => {
      for (const { streamId, partition, batch } of entry.batches) {
        // One that is not known any more has been deleted since.
        const stream = this.byId.get(streamId.toString("base64url"));
        const log = stream === catalog ? undefined : stream?.partitions[partition];
        if (log !== undefined && this.replay(log, batch)) replayed.batches++;
      }
    });
    await this.beginWriting(checkpoint, end.sequence, end.generation);
    if (replayed.batches > 0) {
      this.wasKilled = true;
      const ms = Math.round(performance.now() - began);
      this.logger.warn(
        { batches: replayed.batches, ms },
        "the last stop was not a clean one; recovered from the journal",
      );
    }
  }

  /** The segments take over what the journal held, so that its files can be used anew. */
  private async beginWriting(checkpoint: Checkpoint, sequence: number, generation: number): Promise<void> {
    this.journal = new Journal({
      folder: join(this.dataDir, "journal"),
      fileSystem: this.fileSystem,
      mark: (this.folder as FolderMeta).mark,
      fileBytes: this.options.journalFileBytes ?? 16 << 20,
      maxFiles: this.options.maxJournalFiles ?? 4,
      generation: generation + 1,
      sequence: sequence + 1,
      checkpoint: () => this.checkpoint(),
    });
    this.visibleSequence = sequence;
    this.progress = "writing to the segments what the journal held";
    const isRecovered = sequence > checkpoint.sequence;
    let problem: unknown;
    if (isRecovered) await this.checkpoint().catch((error) => (problem = error));
    await this.journal.start(problem === undefined ? -1 : sequence);
    this.committer = new Committer({
      journal: this.journal,
      now: () => this.time.now(),
      onCommitted: (committed, bytes) => this.onCommitted(committed, bytes),
      onFailed: (error) => this.outage.begin(error),
    });
    this.lingerMs = this.options.lingerMs ?? 0;
    if (problem !== undefined) {
      // The journal keeps what it has, and readers are served from memory.
      this.outage.begin(new LogError("READ_ONLY", `no checkpoint could be made: ${messageOf(problem)}`));
    } else if (isRecovered) await this.raiseEpoch();
  }

  /** See leader-epochs.ts. A disk that takes no more must not keep readers out: then the epoch stays. */
  private async raiseEpoch(): Promise<void> {
    const { epoch, starts, forgotten } = this.epochs.next(this.streams);
    try {
      await this.writeCatalog(epochRecord(epoch, starts), ...forgotten.map((old) => epochRecord(old, null)));
      this.epochs.begin(epoch, starts);
      // Or the next start would have this to recover, and raise it again.
      await this.checkpoint();
    } catch (error) {
      this.logger.error({ error: messageOf(error) }, "the leader epoch could not be raised");
    }
  }

  /** Writes down what time it is, and how old what is stored; comes by itself, too. */
  saveTime(): Promise<void> {
    const ages = function* (streams: readonly StreamState[]): Generator<readonly [string, SegmentAge]> {
      for (const { id, settings, partitions } of streams) {
        if (!settings.cleanup.includes("delete")) continue;
        for (const one of partitions) for (const age of one.ages()) yield [partitionKey(id, one.index), age];
      }
    };
    return this.time.save(this.fileSystem, this.dataDir, ages(this.streams));
  }

  /** What lies in the folder and is nobody's is left alone, and said. */
  private async sayForeignFiles(): Promise<void> {
    const known = this.streams.flatMap(({ name, partitions }) =>
      partitions.map(({ index }) => `${name}-${index}`),
    );
    const foreign = await foreignFiles(this.fileSystem, this.dataDir, new Set(known));
    if (foreign.length === 0) return;
    const files = foreign.slice(0, 20);
    this.logger.warn(
      { files, total: foreign.length },
      "the data folder holds what is not the gateway's: left alone",
    );
  }

  private replay(partition: PartitionLog, batch: Buffer): boolean {
    // A copy: the file it is a slice of would stay in memory with it.
    const own = Buffer.from(batch);
    if (!partition.replay(own)) return false;
    this.writes.keep([{ partition, batches: [own] }], own.length);
    return true;
  }

  private async loadCatalog(log: PartitionLog): Promise<void> {
    const buffers: Buffer[] = [];
    for await (const found of wholePartition(log)) buffers.push(...found);
    const { streams, nextProducerId, starts, epochs } = readCatalog(recordsOf(buffers));
    this.starts = starts;
    this.epochs.load(epochs);
    this.nextId = nextProducerId;
    this.idsReserved = nextProducerId;
    let opened = 0;
    for (const description of streams.values()) {
      this.progress = `opening stream ${++opened} of ${streams.size}`;
      await this.openPartitions(this.register(description), description.partitions);
    }
  }

  private register({ name, id, origin, settings }: StreamDescription): StreamState {
    const commitNumber = () => (this.committer === undefined ? 0 : this.committer.windowNumber);
    const resolved = { ...DEFAULT_SETTINGS, ...settings };
    const state = new StreamState(name, id, origin, resolved, commitNumber, this.epochs);
    this.byName.set(name, state);
    this.byId.set(id, state);
    return state;
  }

  private async openPartitions(stream: StreamState, count: number): Promise<void> {
    const added: PartitionLog[] = [];
    for (let index = stream.partitions.length; index < count; index++) {
      const folder = join(this.dataDir, "streams", `${stream.name}-${index}`);
      const partition = new PartitionLog(stream, index, this.fileSystem, folder, () => this.time.logTime);
      partition.deletedBelow = this.starts.get(`${stream.id}/${index}`) ?? 0;
      added.push(partition);
    }
    await eachOf(added, 8, (partition) => {
      const ages = this.ages.get(partitionKey(stream.id, partition.index));
      return partition.open(this.writes.recoveryPointOf(stream.id, partition.index), ages);
    });
    stream.partitions.push(...added);
  }

  append(entries: readonly Append[], done: (error: LogError | null) => void): void {
    this.working.append(entries, done);
  }

  private onCommitted(committed: readonly CommittedBatches[], bytes: number): void {
    this.committedBytes += bytes;
    this.visibleSequence = (this.journal as Journal).lastSequence;
    for (const { partition, batches } of committed) for (const batch of batches) partition.commit(batch);
    this.writes.keep(committed, bytes);
  }

  /** Makes the segments hold everything that is committed, and the journal files before it free. */
  checkpoint(): Promise<void> {
    return this.writes.checkpoint(this.journal as Journal, this.visibleSequence);
  }

  async createStream(
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
    return this.changeCatalog(async () => {
      if (this.byName.has(name)) throw new LogError("STREAM_EXISTS", `stream ${name} exists`);
      this.checkPartitions(partitions, 0);
      const description: StreamDescription = {
        name,
        id: newStreamId(),
        origin,
        partitions,
        settings: { ...(origin === "internal" ? INTERNAL_SETTINGS : DEFAULT_SETTINGS), ...settings },
      };
      await this.writeCatalog(streamRecord(description));
      const stream = this.register(description);
      await this.openPartitions(stream, partitions);
      return stream;
    });
  }

  alterStream(
    name: string,
    change: { partitions?: number; settings?: Partial<StreamSettings> },
  ): Promise<StreamState> {
    return this.changeCatalog(async () => {
      const stream = this.known(name);
      const partitions = change.partitions ?? stream.partitions.length;
      this.checkPartitions(partitions, stream.partitions.length);
      const settings = { ...stream.settings, ...change.settings };
      const { id, origin } = stream;
      await this.writeCatalog(streamRecord({ name, id, origin, partitions, settings }));
      stream.settings = settings;
      await this.openPartitions(stream, partitions);
      return stream;
    });
  }

  deleteStream(name: string): Promise<void> {
    return this.changeCatalog(async () => {
      const stream = this.known(name);
      // From here on nothing more is queued for it, so nothing can come behind its tombstone.
      for (const partition of stream.partitions) partition.isGone = true;
      try {
        const starts = stream.partitions.filter((one) => one.deletedBelow > 0);
        const gone = starts.map(({ index }) => startRecord(stream.id, index, null));
        await this.writeCatalog(streamTombstone(name), ...gone);
      } catch (error) {
        for (const partition of stream.partitions) partition.isGone = false;
        throw error;
      }
      this.byName.delete(name);
      this.byId.delete(stream.id);
      // Whoever waits for it to grow shall look again, and find it gone.
      for (const partition of stream.partitions) partition.notify();
      await this.writes.settled();
      for (const partition of stream.partitions) {
        this.writes.forget(stream.id, partition.index);
        await partition.destroy();
      }
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
    const others = this.streams.reduce((sum, stream) => sum + stream.partitions.length, 0) - present;
    if (others + wanted > MAX_PARTITIONS) {
      throw new LogError(
        "INVALID_PARTITIONS",
        `${others + wanted} partitions are more than a gateway takes (${MAX_PARTITIONS})`,
      );
    }
  }

  /** One change at a time: each sees what the one before has made durable. */
  private changeCatalog<T>(change: () => Promise<T>): Promise<T> {
    const result = this.catalogChange.catch(() => {}).then(change);
    this.catalogChange = result;
    return result;
  }

  /** All of it in one commit. */
  private writeCatalog(...records: readonly CatalogRecord[]): Promise<void> {
    const partition = this.known(CATALOG_STREAM).partitions[0] as PartitionLog;
    const timestamp = this.time.now();
    const entries = records.map((one) => ({ partition, ...one, headers: NO_HEADERS, timestamp }));
    return new Promise((resolve, reject) => {
      this.append(entries, (error) => (error === null ? resolve() : reject(error)));
      // Changes of the catalog come one after the other; each would wait for the whole time.
      this.working.hurry();
    });
  }

  async deleteRecords({ stream, index }: Partition, before: number): Promise<number> {
    const partition = this.streamById(stream.id)?.partitions[index];
    if (partition === undefined || partition.isGone) {
      throw new LogError("UNKNOWN_STREAM", `there is no stream ${stream.name}`);
    }
    if (before < 0 || before > partition.highWatermark) partition.outOfRange(before);
    if (before > partition.logStartOffset) {
      await this.writeCatalog(startRecord(stream.id, index, before));
      partition.deletedBelow = Math.max(partition.deletedBelow, before);
      this.upkeep.retainSoon(partition);
    }
    return partition.logStartOffset;
  }

  async nextProducerId(): Promise<number> {
    while (this.nextId >= this.idsReserved) {
      this.reserving ??= this.reserveProducerIds().finally(() => {
        this.reserving = undefined;
      });
      await this.reserving;
    }
    return this.nextId++;
  }

  private async reserveProducerIds(): Promise<void> {
    const end = this.idsReserved + PRODUCER_ID_BLOCK;
    await this.writeCatalog(producerIdsRecord(end));
    this.nextId = this.idsReserved;
    this.idsReserved = end;
  }

  /** Deletes what retention no longer wants, in all streams; comes by itself, too. */
  retain(): Promise<void> {
    return this.upkeep.retain();
  }

  /** Compacts streams of which enough is new; comes by itself, too. */
  compact(): Promise<void> {
    return this.upkeep.compact();
  }

  /** Refuses new appends, writes what was queued, makes a last checkpoint. Idempotent. */
  close(): Promise<void> {
    this.closing ??= this.closeNow();
    return this.closing;
  }

  private async closeNow(): Promise<void> {
    const committer = this.committer;
    if (committer === undefined) return;
    committer.refuse(new LogError("CLOSED", "the gateway is stopping"));
    // Its timer ends here, whatever the disk still answers.
    const unwatched = this.space.close();
    await this.upkeep.close();
    await committer.drain();
    await unwatched;
    await this.outage.close();
    await this.catalogChange.catch(() => {});
    // A checkpoint that is under way may have begun before the last commits.
    await this.writes.settled();
    // What failed has been said, and the journal holds everything.
    await this.checkpoint().catch(() => {});
    await this.saveTime().catch(() => {});
    await this.journal?.close();
    for (const stream of this.streams) for (const partition of stream.partitions) await partition.close();
    await this.unlock?.();
  }
}
