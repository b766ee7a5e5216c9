/**
 * Reads one partition from the group's committed offset on, and hands its records over in batches that become
 * one commit each. The committed offset is the only place there is: whoever moves it moves the reader.
 */
import { setTimeout as delay } from "node:timers/promises";
import { LogError, ProtocolError } from "../errors.ts";
import type { GroupCoordinator } from "../groups/coordinator.ts";
import type { Partition } from "../log/log.ts";
import type { Companions } from "../mqtt/ingest.ts";
import type { StoredRecord } from "../record.ts";
import {
  baseOffsetOf,
  baseTimestampOf,
  batchesIn,
  decodeRecords,
  endOffsetOf,
  isControl,
} from "../wire/record-batch.ts";

const READ_BYTES = 1 << 20;
/** In one commit; each may be there twice, as queued and as retained. */
const MAX_RECORDS = 256;
const MAX_BYTES = 1 << 20;
const RETRY_MS = 1_000;
/** After these nothing can be written any more. */
const FINAL = new Set(["READ_ONLY", "CLOSED"]);

export interface ReaderHandler {
  /** All of it in one commit, `place` with it. Rejects when nothing was written. */
  send(records: readonly StoredRecord[], place: Companions): Promise<void>;
  /** A record that is too large for a commit, or the first one of a batch that cannot be read: go on behind. */
  skip(record: StoredRecord, place: Companions, problem: string): Promise<void>;
  /** Retention deleted so many before they were read. */
  lost(records: number): void;
  failed(error: unknown): void;
}

export class PartitionReader {
  private readonly partition: Partition;
  private readonly groups: GroupCoordinator;
  private readonly group: string;
  private readonly from: "beginning" | "latest";
  private readonly handler: ReaderHandler;
  private readonly ended = new AbortController();
  private running: Promise<void> | undefined;
  private wakeUp: (() => void) | undefined;

  /** `from` counts where nothing is committed. */
  constructor(
    partition: Partition,
    groups: GroupCoordinator,
    group: string,
    from: "beginning" | "latest",
    handler: ReaderHandler,
  ) {
    this.partition = partition;
    this.groups = groups;
    this.group = group;
    this.from = from;
    this.handler = handler;
  }

  start(): void {
    this.running = this.run();
  }

  /** Somebody may have moved the place while it waits for news. */
  look(): void {
    if (this.hasNews) this.wakeUp?.();
  }

  /** Resolves when nothing of it is under way. */
  async close(): Promise<void> {
    this.ended.abort();
    await this.running;
  }

  private async run(): Promise<void> {
    const { signal } = this.ended;
    while (!signal.aborted) {
      try {
        if (!(await this.step())) await this.news();
      } catch (error) {
        if (signal.aborted || (error instanceof LogError && FINAL.has(error.code))) return;
        this.handler.failed(error);
        await delay(RETRY_MS, undefined, { signal }).catch(() => {});
      }
    }
  }

  /** Sends what is there, about one read of it; false when there was nothing. */
  private async step(): Promise<boolean> {
    const { partition } = this;
    const place = await this.place();
    if (place >= partition.highWatermark) return false;
    const buffers = await partition.read(place, READ_BYTES);
    let records: StoredRecord[] = [];
    let bytes = 0;
    for (const record of readable(buffers)) {
      if (record.offset < place) continue;
      const size = (record.value?.length ?? 0) + (record.key?.length ?? 0);
      const isFull = records.length >= MAX_RECORDS || bytes + size > MAX_BYTES;
      if (records.length > 0 && (isFull || "unreadable" in record)) {
        if (!(await this.send(records, record.offset))) return true;
        records = [];
        bytes = 0;
      }
      if ("unreadable" in record) {
        await this.handler.skip(record, this.placing(record.end), record.unreadable);
        continue;
      }
      records.push(record);
      bytes += size;
    }
    await this.send(records, endOffsetOf(buffers));
    return true;
  }

  /** False when somebody has moved the place meanwhile, or it is time to end. */
  private async send(records: readonly StoredRecord[], next: number): Promise<boolean> {
    try {
      await this.handler.send(records, this.placing(next));
    } catch (error) {
      if (!(error instanceof LogError && error.code === "TOO_LARGE")) throw error;
      const [record, ...others] = records;
      if (record === undefined) throw error;
      if (others.length === 0) await this.handler.skip(record, this.placing(next), error.message);
      else {
        const half = records.length >> 1;
        const middle = (records[half] as StoredRecord).offset;
        return (
          (await this.send(records.slice(0, half), middle)) && (await this.send(records.slice(half), next))
        );
      }
    }
    return !this.ended.signal.aborted && this.committed === next;
  }

  private get committed(): number | undefined {
    const { stream, index } = this.partition;
    return this.groups.committedOffset(this.group, { stream: stream.name, partition: index })?.offset;
  }

  private get hasNews(): boolean {
    return (this.committed ?? -1) < this.partition.highWatermark;
  }

  private placing(offset: number): Companions {
    const { stream, index, leaderEpoch } = this.partition;
    return this.groups.placing(this.group, [{ stream: stream.name, partition: index, offset, leaderEpoch }]);
  }

  /** Where to read on; where one begins is kept, so that nothing is missed while the gateway is down. */
  private async place(): Promise<number> {
    const { logStartOffset, highWatermark } = this.partition;
    const { committed } = this;
    if (committed === undefined) {
      const first = this.from === "beginning" ? logStartOffset : highWatermark;
      await this.handler.send([], this.placing(first));
      return first;
    }
    if (committed < logStartOffset) this.handler.lost(logStartOffset - committed);
    return Math.min(Math.max(committed, logStartOffset), highWatermark);
  }

  /** Resolves when there is something to read, or it is time to end. */
  private async news(): Promise<void> {
    const { signal } = this.ended;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        stop();
        signal.removeEventListener("abort", done);
        this.wakeUp = undefined;
        resolve();
      };
      const stop = this.partition.onCommit(done);
      signal.addEventListener("abort", done);
      this.wakeUp = done;
      if (signal.aborted || this.hasNews) done();
    });
  }
}

/** In place of a batch's records. */
interface Unreadable extends StoredRecord {
  readonly unreadable: string;
  readonly end: number;
}

function* readable(buffers: readonly Buffer[]): Generator<StoredRecord | Unreadable> {
  for (const batch of batchesIn(buffers)) {
    if (isControl(batch)) continue;
    try {
      yield* decodeRecords(batch);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      const [offset, end] = [baseOffsetOf(batch), endOffsetOf([batch])];
      const unreadable = `offsets ${offset} to ${end - 1}: ${error.message}`;
      const timestamp = baseTimestampOf(batch);
      yield { offset, end, unreadable, timestamp, key: null, value: null, headers: [] };
    }
  }
}
