/**
 * Compaction: of each key only the latest record stays, and offsets never change.
 *
 * A pass learns the latest offset of every key from where the last pass ended (bounded: see OffsetMap; what
 * does not fit is for the next pass), then goes through all settled segments from the oldest on, and puts the
 * compacted form of a few neighbours in their place. So at any moment, a crash included, the oldest part is
 * compacted and the rest as it was, and every record that went has a later one of its key behind it.
 *
 * A tombstone stays until its delete horizon, which the first pass that meets it writes into its batch
 * (KIP-534): then all that it deletes is gone, and readers have `delete.retention.ms` to learn of it. Records
 * without a key stay. So do batches that cannot be looked into, and with them the tombstones behind them: the
 * keys that they delete may be in there.
 */
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { LogError, ProtocolError } from "../errors.ts";
import type { Turns } from "../turns.ts";
import { bodyOf, keepRecords, keyIn, rawRecords } from "../wire/raw-records.ts";
import { baseOffsetOf, deleteHorizonOf, lastOffsetOf, recordCountOf } from "../wire/record-batch.ts";
import { sealText, unsealText } from "./checkpoint-file.ts";
import { replaceFile } from "./file-system.ts";
import { OffsetMap } from "./offset-map.ts";
import type { PartitionLog } from "./partition-log.ts";
import { compactingName, replaceRun } from "./replacement.ts";
import { Segment } from "./segment.ts";
import { MAX_OFFSETS } from "./segment-index.ts";

/** Records looked at before whoever else has work gets a turn. */
const RECORDS_PER_TURN = 64;
/** After so much work it has had its turn as a client has, and pauses beside others. */
const TURN_MS = 0.5;
/** Written and synced at a time, so that no commit waits long behind it. */
const WRITE_BYTES = 1 << 20;
/** What a compressed batch may grow to; a larger one is not looked into. */
const MAX_BODY_BYTES = 16 << 20;
const HINT_FILE = "compaction";
const HINT = "sluice-compaction 2";

export interface CompactionOptions {
  readonly maxKeys: number;
  /** Log time. */
  readonly now: () => number;
  /** Of all clients of the gateway. */
  readonly turns: Turns;
  readonly signal: AbortSignal;
}

export interface CompactionResult {
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  readonly keys: number;
  /** Batches that could not be looked into. */
  readonly opaqueBatches: number;
}

/**
 * Makes one pass if enough has come since the last; undefined if not. Rejects with LogError CLOSED when it is
 * stopped, DAMAGED for a segment that is not sound, or the disk's error: the partition is whole in each case.
 */
export function compact(
  partition: PartitionLog,
  options: CompactionOptions,
): Promise<CompactionResult | undefined> {
  return partition.maintain(async () => {
    if (partition.isGone || options.signal.aborted) return undefined;
    const cleanedTo = partition.cleanedTo ?? (await readHint(partition));
    partition.cleanedTo = cleanedTo;
    const segments = partition.settledSegments;
    const bytes = bytesOf(segments);
    const dirtyBytes = bytesOf(segments.filter(({ end }) => end > cleanedTo));
    if (dirtyBytes <= bytes * partition.stream.settings.minDirtyRatio) return undefined;
    // It is the sign, too, that offsets may be missing here: there before the first of them goes.
    if (cleanedTo === 0) await writeHint(partition, 0);
    return new Pass(partition, segments, cleanedTo, options).run();
  });
}

function bytesOf(segments: readonly Segment[]): number {
  return segments.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** No more than a hint: without it the next pass finds again what is there only once. */
async function readHint({ fileSystem, folder }: PartitionLog): Promise<number> {
  const content = await fileSystem.readFile(join(folder, HINT_FILE));
  const [head, cleanedTo] = (content && unsealText(content)) ?? [];
  return head === HINT ? Number(cleanedTo) : 0;
}

async function writeHint({ fileSystem, folder }: PartitionLog, cleanedTo: number): Promise<void> {
  await replaceFile(fileSystem, folder, HINT_FILE, sealText(`${HINT}\n${cleanedTo}\n`));
}

class Pass {
  private readonly partition: PartitionLog;
  private readonly segments: readonly Segment[];
  private readonly from: number;
  private readonly options: CompactionOptions;
  private readonly map: OffsetMap;
  /** The map knows all keys below. */
  private to: number;
  /** Of the batches that cannot be looked into. */
  private firstOpaque = Number.POSITIVE_INFINITY;
  private lastOpaque = -1;
  private opaqueBatches = 0;
  private records = 0;
  /** Of this turn: its own work and what it waits for of the disk, without what others do in their turns. */
  private workedMs = 0;
  private resumedAt = performance.now();
  private room = Buffer.alloc(0);

  constructor(
    partition: PartitionLog,
    segments: readonly Segment[],
    cleanedTo: number,
    options: CompactionOptions,
  ) {
    this.partition = partition;
    this.segments = segments;
    this.options = options;
    this.from = Math.max(cleanedTo, (segments[0] as Segment).baseOffset);
    this.to = (segments.at(-1) as Segment).end;
    this.map = new OffsetMap(Math.min(options.maxKeys, this.to - this.from));
  }

  async run(): Promise<CompactionResult> {
    const { partition, segments } = this;
    const before = partition.sizeBytes;
    await this.learn();
    for (const run of runsOf(segments, partition.stream.settings.segmentBytes)) {
      const [first] = run as [Segment];
      if (first.baseOffset >= this.to) break;
      // What would stay as it is costs the disk no write.
      if (run.length > 1 || (await this.changes(first))) await this.rewrite(run);
    }
    await writeHint(partition, this.to);
    partition.cleanedTo = this.to;
    return {
      bytesBefore: before,
      bytesAfter: partition.sizeBytes,
      keys: this.map.size,
      opaqueBatches: this.opaqueBatches,
    };
  }

  /** Fills the map. */
  private async learn(): Promise<void> {
    for (const segment of this.segments) {
      if (segment.end <= this.from) continue;
      for await (const batch of segment.batches()) {
        if (lastOffsetOf(batch) >= this.from && !(await this.learnFrom(batch))) return;
      }
    }
  }

  /** False when the map is full; `to` is then where the pass ends. */
  private async learnFrom(batch: Buffer): Promise<boolean> {
    const body = await this.look(batch);
    if (body === undefined) return true;
    for (const record of rawRecords(batch, body)) {
      const { offset } = record;
      const key = offset >= this.from ? keyIn(body, record) : null;
      if (key !== null && !this.map.set(key, offset)) {
        this.to = offset;
        return false;
      }
      if (this.turnIsOver()) await this.pause();
    }
    return true;
  }

  /** The records' bytes, of which every record parses; undefined when they cannot be looked into. */
  private async look(batch: Buffer): Promise<Buffer | undefined> {
    if (this.turnIsOver()) await this.pause();
    const body = await bodyOf(batch, MAX_BODY_BYTES);
    try {
      if (body !== undefined)
        for (const _ of rawRecords(batch, body)) if (this.turnIsOver()) await this.pause();
      return body;
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      return undefined;
    }
  }

  private turnIsOver(): boolean {
    return ++this.records % RECORDS_PER_TURN === 0;
  }

  private async pause(): Promise<void> {
    this.workedMs += performance.now() - this.resumedAt;
    const tookMs = this.workedMs;
    if (tookMs < TURN_MS) {
      await nextTurn();
    } else {
      await new Promise<void>((goOn) => this.options.turns.end(this, tookMs, tookMs, goOn));
      this.workedMs = 0;
    }
    this.resumedAt = performance.now();
    if (this.options.signal.aborted || this.partition.isGone) {
      throw new LogError("CLOSED", "compaction was stopped");
    }
  }

  private async changes(segment: Segment): Promise<boolean> {
    for await (const batch of segment.batches()) if ((await this.compacted(batch)) !== batch) return true;
    return false;
  }

  /** The batch itself when all of it stays, undefined when nothing does. */
  private async compacted(batch: Buffer): Promise<Buffer | undefined> {
    if (baseOffsetOf(batch) >= this.to) return batch;
    const body = await this.look(batch);
    if (body === undefined) {
      this.countOpaque(baseOffsetOf(batch));
      return batch;
    }
    // A horizon is for all of a batch: only when all that its tombstones delete is gone.
    const isKnown = lastOffsetOf(batch) < this.to;
    const known = deleteHorizonOf(batch);
    const horizon = known ?? this.options.now() + this.partition.stream.settings.deleteRetentionMs;
    const isExpired = isKnown && baseOffsetOf(batch) < this.firstOpaque && this.options.now() >= horizon;
    const isKept = new Uint8Array(recordCountOf(batch));
    let kept = 0;
    let tombstones = 0;
    let index = 0;
    for (const record of rawRecords(batch, body)) {
      const key = keyIn(body, record);
      const isLatest = key === null || this.map.get(key) <= record.offset;
      const deletes = record.isTombstone && key !== null;
      if (isLatest && !(deletes && isExpired)) {
        isKept[index] = 1;
        kept++;
        if (deletes) tombstones++;
      }
      index++;
      if (this.turnIsOver()) await this.pause();
    }
    const isMet = tombstones > 0 && isKnown && known === undefined;
    if (kept === index && !isMet) return batch;
    if (kept === 0) return undefined;
    return keepRecords(batch, body, isKept, isMet ? horizon : undefined, (bytes) => this.roomFor(bytes));
  }

  /** The same for each batch: nothing of it is kept. */
  private roomFor(bytes: number): Buffer {
    if (this.room.length < bytes) this.room = Buffer.allocUnsafeSlow(bytes);
    return this.room;
  }

  /** Segments come by in order, some of them twice. */
  private countOpaque(baseOffset: number): void {
    this.firstOpaque = Math.min(this.firstOpaque, baseOffset);
    if (baseOffset <= this.lastOpaque) return;
    this.lastOpaque = baseOffset;
    this.opaqueBatches++;
  }

  /** Puts the compacted form of a run of segments in its place. */
  private async rewrite(run: readonly Segment[]): Promise<void> {
    const { fileSystem, folder } = this.partition;
    const { baseOffset } = run[0] as Segment;
    const name = compactingName(baseOffset);
    const output = new Segment(fileSystem, folder, baseOffset, name);
    output.end = (run.at(-1) as Segment).end;
    await fileSystem.remove(join(folder, name));
    const letGo = await output.hold();
    let isTaken = false;
    try {
      await this.write(run, output);
      await replaceRun(fileSystem, folder, run, output, () => {
        isTaken = true;
        this.partition.exchange(run, output);
      });
      await output.writeIndex(true);
    } catch (error) {
      if (isTaken) this.partition.cleanedTo = Number.POSITIVE_INFINITY;
      else await fileSystem.remove(join(folder, name));
      throw error;
    } finally {
      letGo();
      if (isTaken) await output.unload();
      else await output.retire();
      for (const segment of isTaken ? run : []) await segment.close();
    }
  }

  private async write(run: readonly Segment[], output: Segment): Promise<void> {
    output.startEmpty();
    let waiting: Buffer[] = [];
    const flush = async (): Promise<void> => {
      await output.flush(waiting);
      await output.sync();
      waiting = [];
    };
    for (const segment of run) {
      for await (const batch of segment.batches()) {
        const kept = await this.compacted(batch);
        if (kept === undefined) continue;
        output.add(kept, 0);
        // The batch itself is there only until the next one comes.
        waiting.push(kept === batch ? Buffer.from(batch) : kept);
        if (output.bytes - output.flushedBytes >= WRITE_BYTES) await flush();
      }
    }
    await flush();
  }
}

/** Neighbours that together are one segment's worth. */
function runsOf(segments: readonly Segment[], maxBytes: number): Segment[][] {
  const runs: Segment[][] = [];
  for (const segment of segments) {
    const run = runs.at(-1);
    const fits =
      run !== undefined &&
      bytesOf(run) + segment.bytes <= maxBytes &&
      segment.end - (run[0] as Segment).baseOffset <= MAX_OFFSETS;
    if (fits) run.push(segment);
    else runs.push([segment]);
  }
  return runs;
}
