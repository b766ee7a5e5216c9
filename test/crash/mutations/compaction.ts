import type { Mutation } from "../mutations.ts";

/** Found where streams are compacted. */
export const MUTATIONS_OF_COMPACTION: readonly Mutation[] = [
  {
    name: "compaction gives a segment's place to one that is not synced",
    edits: [
      {
        file: "log/compaction.ts",
        find: "      await output.sync();\n",
        replace: "",
      },
    ],
  },
  {
    name: "compaction removes the old segments first",
    edits: [
      {
        file: "log/compaction.ts",
        find: "      await replaceRun(",
        replace: "      for (const one of run) await one.removeNames();\n      await replaceRun(",
      },
    ],
  },
  {
    name: "compaction takes what the journal may bring back",
    edits: [
      {
        file: "log/partition-log.ts",
        find: "segment.end < this.recoveryPoint",
        replace: "segment !== this.segments.newest",
      },
    ],
  },
  {
    name: "a start does not finish what compaction had begun",
    edits: [
      {
        file: "log/replacement.ts",
        find: "await moveIn(fileSystem, folder, name, { remove: (of) => fileSystem.remove(join(folder, of)) });",
        replace: "await fileSystem.remove(join(folder, name));",
      },
    ],
  },
  {
    name: "compaction keeps a key's first record in place of its latest",
    edits: [
      {
        file: "log/compaction.ts",
        find: "!this.map.set(key, offset)",
        replace: "this.map.get(key) < 0 && !this.map.set(key, offset)",
      },
    ],
  },
  {
    name: "compaction lets deletions go at once",
    edits: [
      {
        file: "log/compaction.ts",
        find: "this.options.now() >= horizon",
        replace: "true",
      },
    ],
  },
  {
    name: "compaction lets a deletion go before a pass has seen all that it deletes",
    edits: [
      {
        file: "log/compaction.ts",
        find: "if (baseOffsetOf(batch) >= this.to) return batch;",
        replace: "",
      },
      {
        file: "log/compaction.ts",
        find: "const isKnown = lastOffsetOf(batch) < this.to;",
        replace: "const isKnown = true;",
      },
    ],
  },
];
