/**
 * The log: all streams of one data folder. It owns the journal, the partitions and the rules between them:
 *
 * - a commit is written to the journal, then becomes visible, then is acknowledged;
 * - the newest commits stay in memory (the tail) until they have been flushed and newer ones need the room;
 * - a checkpoint flushes and syncs the segments and lets journal files be used again;
 * - recovery puts the segments back to the last checkpoint and replays the journal over them.
 */
import { join } from "node:path";
import { type Clock, systemClock } from "../clock.ts";
import { LogError, messageOf } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { Turns } from "../turns.ts";
import { CATALOG_ID, epochRecord } from "./catalog.ts";
import { type Checkpoint, decodeCheckpoint, NO_CHECKPOINT, partitionKey } from "./checkpoint-file.ts";
import { type CommittedBatches, Committer } from "./committer.ts";
import { CountedDisk, deviceBytes } from "./counted-disk.ts";
import { type FolderMeta, foreignFiles, openDataFolder, refuseWithoutCheckpoint } from "./data-folder.ts";
import { DiskSpace, type StorageRules } from "./disk-space.ts";
import { type FileSystem, nodeFileSystem } from "./file-system.ts";
import type { OnVisitor } from "./folder-lock.ts";
import { Journal } from "./journal.ts";
import type { Append, Log, LogStats, Partition, StreamOrigin, StreamSettings } from "./log.ts";
import { Outage } from "./outage.ts";
import type { PartitionLog } from "./partition-log.ts";
import { journalFilesBehind, replayJournal } from "./recovery.ts";
import type { StreamState } from "./stream-state.ts";
import { Streams } from "./streams.ts";
import { type SegmentAge, type SegmentAges, Timekeeper } from "./timekeeper.ts";
import { Upkeep } from "./upkeep.ts";
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
  /** How long they wait at most for those who were just answered, see regulars.ts; 0, the default: not at all. */
  readonly maxWaitMs?: number;
  readonly journalFileBytes?: number;
  readonly maxJournalFiles?: number;
  /** Memory for the newest batches of all partitions together. */
  readonly maxTailBytes?: number;
  /** Between two rounds of retention and compaction; Infinity: only when it is called for. */
  readonly upkeepMs?: number;
  readonly storage?: StorageRules;
  /** Between two looks at the room on the disk. */
  readonly spaceCheckMs?: number;
  /** From a failed attempt to write the journal to the next; each wait is twice the one before, up to a hundred times this. */
  readonly retryMs?: number;
  /** Nothing is deleted before `lookAfter`. */
  readonly awaitsHolders?: boolean;
  /** Keys that compaction knows at a time, 32 bytes each. */
  readonly maxCompactionKeys?: number;
  /** Of all clients of the gateway: compaction pauses beside them. */
  readonly turns?: Turns;
}

export class StreamStore implements Log {
  private readonly dataDir: string;
  private readonly logger: Logger;
  private readonly fileSystem: CountedDisk;
  /** What time it is, for whoever stamps records too. */
  readonly time: Timekeeper;
  private readonly options: StreamStoreOptions;
  private unlock: (() => Promise<void>) | undefined;
  private readonly registry: Streams;
  private journal: Journal | undefined;
  private committer: Committer | undefined;
  private folder: FolderMeta | undefined;
  private writeBehind: WriteBehind | undefined;
  /** The newest journal entry whose batches their partitions have. */
  private visibleSequence = -1;
  private readonly upkeep: Upkeep;
  private readonly outage: Outage;
  private readonly space: DiskSpace;
  private closing: Promise<void> | undefined;
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
    this.registry = new Streams({
      ...{ dataDir: options.dataDir, logger: options.logger, fileSystem: this.fileSystem, time: this.time },
      writeBehind: () => this.writes,
      committer: () => this.committer,
      retainSoon: (partition) => this.upkeep.retainSoon(partition),
    });
    this.outage = new Outage({
      logger: options.logger,
      clock: options.clock ?? systemClock,
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
      partitions: () => this.registry.partitions,
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
      checkMs: options.upkeepMs ?? 15_000,
      maxCompactionKeys: options.maxCompactionKeys,
      turns: options.turns ?? new Turns(),
    });
  }

  /** Somebody waits for a sync: whoever has time had better not take the processor from it. */
  get isCommitting(): boolean {
    return this.committer?.isCommitting ?? false;
  }

  /** Kafka's `cluster.id`: made with the data folder. */
  get clusterId(): string {
    return (this.folder as FolderMeta).clusterId;
  }

  get streams(): readonly StreamState[] {
    return this.registry.all;
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
    return this.registry.named(name);
  }

  streamById(id: string): StreamState | undefined {
    return this.registry.withId(id);
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
      await this.recover(await this.time.start(fileSystem, dataDir));
      await this.saveTime().catch((error) => {
        // A full disk keeps no reader out; upkeep tries again.
        this.logger.error({ error: messageOf(error) }, "the time cannot be kept");
      });
    } catch (error) {
      await this.unlock?.();
      throw error;
    }
    this.progress = undefined;
    await this.space.check();
    if (this.options.awaitsHolders !== true) await this.lookAfter();
  }

  /**
   * From now on retention, compaction and a full disk take what they may. With `awaitsHolders` this is to be called
   * when everybody who needs records (`Partition.hold`) has said so: what a start would take before is gone for them.
   */
  async lookAfter(): Promise<void> {
    await this.space.start();
    this.upkeep.start();
    if (this.wasKilled) void this.upkeep.check();
  }

  private async recover(ages: SegmentAges): Promise<void> {
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
      partitions: () => this.registry.partitions,
    });
    const journalFolder = join(dataDir, "journal");
    const { mark } = this.folder as FolderMeta;

    const files = await journalFilesBehind(fileSystem, journalFolder, mark, checkpoint);
    if (content === undefined) await refuseWithoutCheckpoint(fileSystem, dataDir, files);
    // Before anything is changed: a journal that is damaged is left as it is, and so is all else.
    const catalogId = Buffer.from(CATALOG_ID, "base64url");
    const changes: Buffer[] = [];
    await replayJournal(fileSystem, journalFolder, mark, files, checkpoint, (entry) => {
      for (const { streamId, batch } of entry.batches) {
        if (streamId.equals(catalogId)) changes.push(Buffer.from(batch));
      }
    });
    // The catalog first: it says which streams the other entries belong to.
    const catalog = await this.registry.openCatalog(ages);
    for (const batch of changes) this.replay(catalog, batch);
    await this.registry.load(catalog, (what) => {
      this.progress = what;
    });
    await this.sayForeignFiles();

    this.progress = "reading the journal";
    const replayed = { batches: 0 };
    const end = await replayJournal(fileSystem, journalFolder, mark, files, checkpoint, (entry) => {
      for (const { streamId, partition, batch } of entry.batches) {
        // One that is not known any more has been deleted since.
        const log = this.streamById(streamId.toString("base64url"))?.partitions[partition];
        if (log !== undefined && log !== catalog && this.replay(log, batch)) replayed.batches++;
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
      maxWaitMs: this.options.maxWaitMs ?? 0,
    });
    this.lingerMs = this.options.lingerMs ?? 0;
    if (problem !== undefined) {
      // The journal keeps what it has, and readers are served from memory.
      this.outage.begin(new LogError("READ_ONLY", `no checkpoint could be made: ${messageOf(problem)}`));
    } else if (isRecovered) await this.raiseEpoch();
  }

  /** See leader-epochs.ts. A disk that takes no more must not keep readers out: then the epoch stays. */
  private async raiseEpoch(): Promise<void> {
    const { epochs } = this.registry;
    const { epoch, starts, forgotten } = epochs.next(this.streams);
    try {
      await this.registry.write(
        epochRecord(epoch, starts),
        ...forgotten.map((old) => epochRecord(old, null)),
      );
      epochs.begin(epoch, starts);
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
    const known = this.registry.partitions.map(({ stream, index }) => `${stream.name}-${index}`);
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

  createStream(
    name: string,
    partitions: number,
    settings: Partial<StreamSettings>,
    origin: StreamOrigin,
  ): Promise<StreamState> {
    return this.registry.create(name, partitions, settings, origin);
  }

  alterStream(
    name: string,
    change: { partitions?: number; settings?: Partial<StreamSettings> },
  ): Promise<StreamState> {
    return this.registry.alter(name, change);
  }

  deleteStream(name: string): Promise<void> {
    return this.registry.delete(name);
  }

  deleteRecords(partition: Partition, before: number): Promise<number> {
    return this.registry.deleteRecords(partition, before);
  }

  nextProducerId(): Promise<number> {
    return this.registry.producerIds.next();
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
    await this.registry.settled();
    // A checkpoint that is under way may have begun before the last commits.
    await this.writes.settled();
    // What failed has been said, and the journal holds everything.
    await this.checkpoint().catch(() => {});
    await this.saveTime().catch(() => {});
    await this.journal?.close();
    for (const partition of this.registry.partitions) await partition.close();
    await this.unlock?.();
  }
}
