/**
 * The committed offsets of one group, in memory. What is shown here is on disk: a commit under way is only
 * counted, and enters when its append is done. Appends are done in their order, so memory always equals what
 * a replay of the stream would give.
 */
import type { CommittedOffset, StreamPartition } from "./types.ts";

interface Entry extends StreamPartition {
  committed: CommittedOffset | null;
  /** Commits and deletions under way. */
  pending: number;
}

// A stream's name has no slash.
const keyOf = ({ stream, partition }: StreamPartition) => `${stream}/${partition}`;

export class CommittedOffsets {
  private readonly entries = new Map<string, Entry>();

  /** Undefined when nothing is committed. */
  get(at: StreamPartition): CommittedOffset | undefined {
    return this.entries.get(keyOf(at))?.committed ?? undefined;
  }

  list(): CommittedOffset[] {
    return [...this.entries.values()].flatMap(({ committed }) => committed ?? []);
  }

  /** Everything that a deletion has to name: also what a commit under way is about to write. */
  keys(): StreamPartition[] {
    return Array.from(this.entries.values(), ({ stream, partition }) => ({ stream, partition }));
  }

  /** Nothing is committed, and nothing is about to be. */
  get empty(): boolean {
    return this.entries.size === 0;
  }

  /** Before the append. */
  begin(at: StreamPartition): void {
    const entry = this.entries.get(keyOf(at));
    if (entry !== undefined) entry.pending++;
    else this.entries.set(keyOf(at), { ...at, committed: null, pending: 1 });
  }

  /** After the append; `committed` undefined: it failed, nothing changes; null: deleted. */
  end(at: StreamPartition, committed: CommittedOffset | null | undefined): void {
    const entry = this.entries.get(keyOf(at));
    if (entry === undefined) return;
    entry.pending--;
    if (committed !== undefined) entry.committed = committed;
    if (entry.pending === 0 && entry.committed === null) this.entries.delete(keyOf(at));
  }

  /** What the stream says at start-up. */
  set(at: StreamPartition, committed: CommittedOffset | null): void {
    this.begin(at);
    this.end(at, committed);
  }
}
