/**
 * Leader epochs (KIP-101, KIP-320): the gateway's epoch goes up whenever a start had to recover, so that a reader
 * who was shown more than there is now (by a disk that lied about a sync, or from a copy of the data folder put
 * back) asks where the epoch that it knows ended, and notices.
 *
 * Kept in the catalog, a record for each raise: where every partition ended at that moment. Of the last sixteen:
 * who knows only an older epoch is told where the oldest kept one began.
 */
import type { StreamState } from "./stream-state.ts";

const KEPT = 16;

/** High watermarks by stream id, in the order of the partitions. */
type Starts = Readonly<Record<string, readonly number[]>>;

export class LeaderEpochs {
  /** What new batches carry. */
  current = 0;
  /** Of each epoch where it began, oldest first. */
  private readonly starts = new Map<number, Starts>();

  /** What the catalog says, in any order. */
  load(known: ReadonlyMap<number, Starts>): void {
    for (const [epoch, starts] of [...known].sort(([a], [b]) => a - b)) this.begin(epoch, starts);
  }

  /** The next epoch: to be made durable, then begun. `forgotten` are those that go with it. */
  next(streams: Iterable<StreamState>): { epoch: number; starts: Starts; forgotten: number[] } {
    const starts = Object.fromEntries(
      Array.from(streams, ({ id, partitions }) => [id, partitions.map((one) => one.highWatermark)]),
    );
    return { epoch: this.current + 1, starts, forgotten: [...this.starts.keys()].slice(0, 1 - KEPT) };
  }

  begin(epoch: number, starts: Starts): void {
    this.current = epoch;
    this.starts.set(epoch, starts);
    for (const old of [...this.starts.keys()].slice(0, -KEPT)) this.starts.delete(old);
  }

  /** Where `epoch` ended in a partition: its high watermark if it has not; undefined for one that never was. */
  endOf(epoch: number, streamId: string, partition: number, highWatermark: number): number | undefined {
    if (epoch === this.current) return highWatermark;
    if (epoch < 0 || epoch > this.current) return undefined;
    for (const [later, starts] of this.starts) {
      const end = later > epoch ? starts[streamId]?.[partition] : undefined;
      if (end !== undefined) return end;
    }
    // It was made since.
    return 0;
  }

  /** In which `offset` of a partition was written, or will be; undefined where that is no longer known. */
  of(offset: number, streamId: string, partition: number): number | undefined {
    for (const [later, starts] of this.starts) {
      const end = starts[streamId]?.[partition];
      if (end === undefined || end <= offset) continue;
      // None before the first one begins in the catalog.
      return later === 1 || this.starts.has(later - 1) ? later - 1 : undefined;
    }
    return this.current;
  }
}
