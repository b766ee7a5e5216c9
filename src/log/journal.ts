/**
 * The journal: where a commit becomes durable, whatever it touches, by one write.
 *
 * A few files of equal size, preallocated once and used in turn, so that a sync moves no metadata of the file
 * system. A file holds entries one after another; each use of a file is a new *generation*, and a recycled
 * file still holds an earlier generation's entries behind today's end. README.md draws the bytes and lists
 * what each crash leaves.
 *
 * One writer: `write` is never called while another is under way.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { LogError } from "../errors.ts";
import { readInt64, writeInt64 } from "../wire/buffer.ts";
import { crc32c } from "../wire/crc32c.ts";
import { batchBytes } from "../wire/record-batch.ts";
import type { File, FileSystem } from "./file-system.ts";

const MAGIC = Buffer.from("SLJ2");
/** Each entry begins with the data folder's mark, a secret: what a publisher sends can never pass for one. */
export const MARK_BYTES = 16;
const CRC_FROM = 20;
export const ENTRY_HEADER_BYTES = 44;
/** Of the table that follows the header: stream id, partition, bytes. */
const ROW_BYTES = 24;

/** One batch's place in an entry. */
export interface JournalBatch {
  /** The stream's id as 16 bytes. */
  readonly streamId: Buffer;
  readonly partition: number;
  readonly batch: Buffer;
}

/** The bytes an entry takes beside its batches. */
export function entryOverheadBytes(batches: number): number {
  return ENTRY_HEADER_BYTES + batches * ROW_BYTES;
}

export function newMark(): Buffer {
  return Buffer.concat([MAGIC, randomBytes(MARK_BYTES - MAGIC.length)]);
}

/** An entry in pieces: header and table, then the batches as they are. */
export function encodeEntry(
  mark: Buffer,
  generation: number,
  sequence: number,
  batches: readonly JournalBatch[],
): { pieces: Buffer[]; bytes: number } {
  const head = Buffer.allocUnsafe(entryOverheadBytes(batches.length));
  let bytes = head.length;
  let at = ENTRY_HEADER_BYTES;
  for (const { streamId, partition, batch } of batches) {
    head.set(streamId, at);
    head.writeInt32BE(partition, at + 16);
    head.writeUInt32BE(batch.length, at + 20);
    at += ROW_BYTES;
    bytes += batch.length;
  }
  const pieces = [head, ...joined(batches)];
  head.set(mark, 0);
  head.writeUInt32BE(bytes, 20);
  writeInt64(head, 24, generation);
  writeInt64(head, 32, sequence);
  head.writeUInt32BE(batches.length, 40);
  let crc = crc32c(head.subarray(CRC_FROM), crc32c(mark));
  for (const piece of pieces.slice(1)) crc = crc32c(piece, crc);
  head.writeUInt32BE(crc, MARK_BYTES);
  return { pieces, bytes };
}

/** Batches that lie one behind the other in memory, as those of one window do, become one piece. */
function joined(batches: readonly JournalBatch[]): Buffer[] {
  const pieces: Buffer[] = [];
  for (let from = 0, to = 0; from < batches.length; from = to) {
    const { batch: first } = batches[from] as JournalBatch;
    let end = first.byteOffset;
    for (; to < batches.length; to++) {
      const { batch } = batches[to] as JournalBatch;
      if (batch.buffer !== first.buffer || batch.byteOffset !== end) break;
      end += batch.length;
    }
    pieces.push(Buffer.from(first.buffer, first.byteOffset, end - first.byteOffset));
  }
  return pieces;
}

export interface JournalEntry {
  readonly generation: number;
  readonly sequence: number;
  readonly bytes: number;
  readonly batches: readonly JournalBatch[];
}

/** How long an entry says it is, by its header; not checked. */
export function entryBytes(head: Buffer): number {
  return head.readUInt32BE(20);
}

/** The entry at `at`, or undefined when what lies there is not a whole, sound one of the folder with this mark. */
export function decodeEntry(source: Buffer, at: number, mark: Buffer): JournalEntry | undefined {
  if (source.length - at < ENTRY_HEADER_BYTES) return undefined;
  if (mark.compare(source, at, at + MARK_BYTES) !== 0) return undefined;
  const bytes = source.readUInt32BE(at + 20);
  const count = source.readUInt32BE(at + 40);
  if (bytes > source.length - at || entryOverheadBytes(count) > bytes) return undefined;
  if (
    source.readUInt32BE(at + MARK_BYTES) !== crc32c(source.subarray(at + CRC_FROM, at + bytes), crc32c(mark))
  )
    return undefined;
  const batches: JournalBatch[] = [];
  let position = at + entryOverheadBytes(count);
  for (let index = 0; index < count; index++) {
    const row = at + ENTRY_HEADER_BYTES + index * ROW_BYTES;
    const size = source.readUInt32BE(row + 20);
    const batch = source.subarray(position, position + size);
    if (batch.length !== size || size < 12 || batchBytes(batch) !== size) return undefined;
    batches.push({
      streamId: source.subarray(row, row + 16),
      partition: source.readInt32BE(row + 16),
      batch,
    });
    position += size;
  }
  return {
    generation: readInt64(source, at + 24),
    sequence: readInt64(source, at + 32),
    bytes,
    batches,
  };
}

/** One file of the journal, as recovery finds it. */
export interface JournalFileContent {
  readonly generation: number;
  readonly entries: readonly JournalEntry[];
  /** Where the sound entries end. */
  readonly end: number;
  /** Where a damaged entry stands *before* sound, newer ones: not a torn end, but damage. */
  readonly damagedAt: number | undefined;
}

/** What a checkpoint has covered: nothing up to that sequence, nor of a generation before that one, can be missed. */
export interface Covered {
  readonly sequence: number;
  readonly generation: number;
}

/** The entries of one file's present generation; undefined when it holds none that matter. */
export function readJournalFile(
  content: Buffer,
  covered: Covered,
  mark: Buffer,
): JournalFileContent | undefined {
  const entries: JournalEntry[] = [];
  const first = decodeEntry(content, 0, mark);
  let at = 0;
  for (let entry = first; entry !== undefined; entry = decodeEntry(content, at, mark)) {
    if (entry.generation !== first?.generation || entry.sequence !== first.sequence + entries.length) break;
    entries.push(entry);
    at += entry.bytes;
  }
  // Behind the end lie zeros, an earlier generation, or a torn entry that was never acknowledged. A sound
  // entry that is newer than the end can only have been written after what should stand at the end was.
  const sequence = Math.max(covered.sequence, entries.at(-1)?.sequence ?? -1);
  const later = findNewerEntry(content, at, { sequence, generation: covered.generation }, mark);
  const present = first ?? later?.entry;
  if (present === undefined) return undefined;
  return {
    generation: present.generation,
    entries,
    end: at,
    damagedAt: later === undefined ? undefined : at,
  };
}

function findNewerEntry(
  content: Buffer,
  from: number,
  { sequence, generation }: Covered,
  mark: Buffer,
): { at: number; entry: JournalEntry } | undefined {
  for (let at = content.indexOf(mark, from); at >= 0; at = content.indexOf(mark, at + 1)) {
    if (content.length - at < ENTRY_HEADER_BYTES) return undefined;
    // Most of what lies there is old and sound: told by its header, without reading it all. An old one may have a
    // newer number that was then given to another: its write had been refused.
    if (readInt64(content, at + 32) <= sequence || readInt64(content, at + 24) < generation) continue;
    const entry = decodeEntry(content, at, mark);
    if (entry !== undefined) return { at, entry };
  }
  return undefined;
}

interface Slot {
  readonly name: string;
  /** The last sequence in it; -1 when nothing in it counts. */
  lastSequence: number;
  /** The disk refused to write it for another reason than room: it is not used again but made anew. */
  isSuspect?: boolean;
}

/** Refusals that say nothing against the file: no room, or a file system that takes no writes at present. */
const NOT_THE_FILES_FAULT = new Set(["ENOSPC", "EDQUOT", "EROFS"]);

export interface JournalOptions {
  readonly folder: string;
  readonly fileSystem: FileSystem;
  /** The data folder's. */
  readonly mark: Buffer;
  readonly fileBytes: number;
  readonly maxFiles: number;
  /** The first generation and sequence to use: above all that recovery has seen. */
  readonly generation: number;
  readonly sequence: number;
  /** Makes the segments hold everything and calls `release`; asked for whenever a file is full. */
  readonly checkpoint: () => Promise<void>;
}

/** The writing side. Files are free to be used again once `release` has been told what the segments hold. */
export class Journal {
  private readonly options: JournalOptions;
  private readonly free: Slot[] = [];
  private readonly used: Slot[] = [];
  /** To be removed before a new file is made. */
  private readonly doomed: Slot[] = [];
  private current: Slot | undefined;
  private file: File | undefined;
  private position = 0;
  private generation: number;
  private sequence: number;

  constructor(options: JournalOptions) {
    this.options = options;
    this.generation = options.generation;
    this.sequence = options.sequence;
  }

  /** The sequence of the newest entry that is on disk. */
  get lastSequence(): number {
    return this.sequence - 1;
  }

  /** The generation that is being written. */
  get lastGeneration(): number {
    return this.generation;
  }

  /**
   * Takes the files that are there and opens the first. Recovery has made their content superfluous; where it
   * could not, they hold what counts up to `heldSequence`, and nothing is opened before that is released.
   */
  async start(heldSequence = -1): Promise<void> {
    const { fileSystem, folder } = this.options;
    await fileSystem.makeFolder(folder);
    // A process that was killed may have left a file whose name is not on disk yet.
    await fileSystem.syncFolder(folder);
    const names = await fileSystem.list(folder);
    for (const name of names.filter(isUnfinished)) await fileSystem.remove(this.pathOf(name));
    for (const name of names.filter(isJournalFile).sort()) {
      (heldSequence < 0 ? this.free : this.used).push({ name, lastSequence: heldSequence });
    }
    if (heldSequence < 0) await this.next();
  }

  /** One commit: on disk when it resolves. */
  async write(batches: readonly JournalBatch[]): Promise<void> {
    const { fileBytes, mark } = this.options;
    let { pieces, bytes } = encodeEntry(mark, this.generation, this.sequence, batches);
    if (bytes > fileBytes) {
      throw new LogError(
        "TOO_LARGE",
        `a commit of ${bytes} bytes does not fit into a journal file of ${fileBytes}`,
      );
    }
    if (this.file === undefined || this.position + bytes > fileBytes) {
      await this.next();
      ({ pieces, bytes } = encodeEntry(mark, this.generation, this.sequence, batches));
    }
    const slot = this.current as Slot;
    try {
      await (this.file as unknown as File).writeDurably(pieces, this.position);
    } catch (error) {
      // It may be on disk all the same, in whole or in part, now or later: nothing is written behind it.
      slot.isSuspect = !NOT_THE_FILES_FAULT.has((error as NodeJS.ErrnoException).code ?? "");
      await this.leave();
      throw error;
    }
    slot.lastSequence = this.sequence;
    this.sequence++;
    this.position += bytes;
  }

  /**
   * After a failed write: on in another file, with an entry of nothing but its sequence number. That number is
   * the failed entry's, so that from here on recovery knows that the failed one does not count.
   */
  moveOn(): Promise<void> {
    return this.write([]);
  }

  /** The segments hold everything up to and with this sequence, synced: older files may be used again. */
  release(sequence: number): void {
    while (this.used[0] !== undefined && this.used[0].lastSequence <= sequence) {
      this.setFree(this.used.shift() as Slot);
    }
  }

  async close(): Promise<void> {
    const file = this.file;
    this.file = undefined;
    await file?.close();
  }

  /** The present file is full, or not to be written any more. */
  private async leave(): Promise<void> {
    // Whatever closing says: what counts was on disk before.
    await this.close().catch(() => {});
    if (this.current === undefined) return;
    const slot = this.current;
    this.current = undefined;
    this.generation++;
    if (slot.lastSequence >= 0) this.used.push(slot);
    else this.setFree(slot);
  }

  private setFree(slot: Slot): void {
    slot.lastSequence = -1;
    (slot.isSuspect ? this.doomed : this.free).push(slot);
  }

  /** Goes on in another file; waits for a checkpoint to set one free only when all are in use. */
  private async next(): Promise<void> {
    await this.leave();
    const { fileSystem, folder, maxFiles, checkpoint } = this.options;
    const isFull = () => this.free.length === 0 && this.used.length >= maxFiles;
    if (this.used.length > 0) {
      // Said by the store when it fails; here it only matters if there is nowhere else to go.
      const made = checkpoint();
      if (isFull()) await made.catch(() => {});
      else made.catch(() => {});
      // It may have been one that was under way, of before the last entries; the next is not.
      if (isFull()) await checkpoint().catch(() => {});
    }
    if (isFull()) {
      throw new LogError("JOURNAL_FULL", "the journal is full and no checkpoint could be made");
    }
    const slot = this.free.shift() ?? (await this.preallocated());
    try {
      this.file = await fileSystem.open(join(folder, slot.name), "durable");
    } catch (error) {
      this.free.unshift(slot);
      throw error;
    }
    this.current = slot;
    this.position = 0;
  }

  /** A new file, or where there is no room for one, an old one as soon as a checkpoint sets it free. */
  private async preallocated(): Promise<Slot> {
    try {
      for (const slot of this.doomed) await this.options.fileSystem.remove(this.pathOf(slot.name));
      this.doomed.length = 0;
      return await this.preallocate();
    } catch (error) {
      if (this.used.length === 0) throw error;
      await this.options.checkpoint();
      const slot = this.free.shift();
      if (slot === undefined) throw error;
      return slot;
    }
  }

  private pathOf(name: string): string {
    return join(this.options.folder, name);
  }

  private async preallocate(): Promise<Slot> {
    const { fileSystem, folder, fileBytes } = this.options;
    const taken = new Set(this.used.map((slot) => slot.name));
    let number = 1;
    while (taken.has(journalFileName(number))) number++;
    const name = journalFileName(number);
    const temporary = this.pathOf(`${name}.tmp`);
    const file = await fileSystem.open(temporary, "write");
    try {
      const zeros = Buffer.alloc(Math.min(fileBytes, 1 << 20));
      for (let at = 0; at < fileBytes; at += zeros.length) {
        await file.write([zeros.subarray(0, Math.min(zeros.length, fileBytes - at))], at);
      }
      await file.sync();
    } catch (error) {
      // What room it has taken others may need.
      await fileSystem.remove(temporary).catch(() => {});
      throw error;
    } finally {
      await file.close();
    }
    // By this name only when it is all zeros: until then the room may show entries of a journal file that was removed.
    await fileSystem.rename(temporary, this.pathOf(name));
    await fileSystem.syncFolder(folder);
    return { name, lastSequence: -1 };
  }
}

function journalFileName(number: number): string {
  return `${String(number).padStart(4, "0")}.journal`;
}

export function isJournalFile(name: string): boolean {
  return /^\d{4}\.journal$/.test(name);
}

/** One that was being made when the process ended. */
function isUnfinished(name: string): boolean {
  return /^\d{4}\.journal\.tmp$/.test(name);
}
