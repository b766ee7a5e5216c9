/**
 * What clients that read old records will ask for next, read from the files while they still look at what they were
 * given: their next Fetch is answered in the turn in which it comes.
 *
 * Each read-ahead is for one client: whoever comes first takes it. Few are kept, and none for long. While they are as
 * many as may be none is begun: in the place of an older one it would be lost in its turn, where a client goes round
 * among more partitions than that.
 */
import type { Partition } from "../log/log.ts";
import { readMemory } from "../log/reused-memory.ts";
import type { ByteBudget } from "./byte-budget.ts";

const MAX_ENTRIES = 8;
const MAX_AGE_MS = 2_000;

interface Entry {
  readonly partition: Partition;
  readonly offset: number;
  /** Held in the budget for it. */
  readonly bytes: number;
  readonly found: Promise<readonly Buffer[]>;
  readonly begunAt: number;
}

export class ReadAhead {
  private readonly memory: ByteBudget;
  /** The oldest first. */
  private entries: Entry[] = [];

  constructor(memory: ByteBudget) {
    this.memory = memory;
  }

  /** Begins to read there, unless that is in memory anyway, or memory is short. */
  begin(partition: Partition, offset: number, maxBytes: number): void {
    const isInFiles = partition.bytesFrom(offset) === Number.POSITIVE_INFINITY;
    if (!isInFiles || this.entries.length === MAX_ENTRIES || this.memory.roomBytes < 2 * maxBytes) return;
    const found = (async () => partition.read(offset, maxBytes))();
    found.catch(() => {}); // told to who asks for it
    this.memory.hold(maxBytes);
    this.entries.push({ partition, offset, bytes: maxBytes, found, begunAt: performance.now() });
  }

  /** What was begun there; the budget's share of it is the caller's from now on to hold. */
  take(partition: Partition, offset: number): Promise<readonly Buffer[]> | undefined {
    const at = this.entries.findIndex((one) => one.partition === partition && one.offset === offset);
    if (at < 0) return undefined;
    const [entry] = this.entries.splice(at, 1) as [Entry];
    this.memory.release(entry.bytes);
    return entry.found;
  }

  /** Lets go of what nobody has come for. */
  sweep(now = performance.now()): void {
    while (this.entries[0] !== undefined && now - this.entries[0].begunAt > MAX_AGE_MS) {
      this.drop(this.entries.shift() as Entry);
    }
  }

  private drop({ found, bytes }: Entry): void {
    this.memory.release(bytes);
    void found.then(
      (buffers) => {
        for (const buffer of buffers) readMemory.give(buffer);
      },
      () => {},
    );
  }
}
