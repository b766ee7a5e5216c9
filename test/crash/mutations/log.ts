import type { Mutation } from "../mutations.ts";

export const MUTATIONS: readonly Mutation[] = [
  {
    name: "acknowledge before the journal is synced",
    edits: [
      {
        file: "log/journal.ts",
        find: ".writeDurably(pieces, this.position)",
        replace: ".write(pieces, this.position)",
      },
    ],
  },
  {
    name: "write each batch of a commit by itself",
    edits: [
      {
        file: "log/committer.ts",
        find: "await this.options.journal.write(batches);",
        replace: "for (const one of batches) await this.options.journal.write([one]);",
      },
    ],
  },
  {
    name: "make a checkpoint before the segments are synced",
    edits: [
      {
        file: "log/partition-log.ts",
        find: "await segment.sync();",
        replace: "",
      },
    ],
  },
  {
    name: "begin a checkpoint while one that failed is still at it",
    edits: [
      {
        file: "log/each-of.ts",
        find: "failure ??= { error };",
        replace: "throw error;",
      },
    ],
  },
  {
    name: "take a sync that succeeds for one that makes up for the one before it",
    edits: [
      {
        file: "log/segment.ts",
        find: "if (this.syncFailed) await this.writeAgain(file);",
        replace: "",
      },
    ],
  },
  {
    name: "go on in a journal file behind a write that failed",
    edits: [
      {
        file: "log/journal.ts",
        find: "      await this.leave();\n      throw error;",
        replace: "      this.position += bytes;\n      throw error;",
      },
    ],
  },
  {
    name: "call committed offsets synced that came while a checkpoint was made",
    edits: [
      {
        file: "log/partition-log.ts",
        find: "    return reached;",
        replace: "    return this.next;",
      },
    ],
  },
  {
    name: "put a file in place that is not synced",
    edits: [
      {
        file: "log/file-system.ts",
        find: "    await file.write([content], 0);\n    await file.sync();",
        replace: "    await file.write([content], 0);",
      },
    ],
  },
  {
    name: "put a file in place and do not sync its folder",
    edits: [
      {
        file: "log/file-system.ts",
        find: "  await fileSystem.syncFolder(folder);\n",
        replace: "",
      },
    ],
  },
  {
    name: "write the next temporary file over one that a power cut has made the real one",
    edits: [
      {
        file: "log/file-system.ts",
        find: "  await fileSystem.remove(temporary);\n",
        replace: "",
      },
    ],
  },
  {
    name: "take an earlier generation's entries for proof that newer ones are missing",
    edits: [
      {
        file: "log/journal.ts",
        find: "Math.max(covered.sequence, entries.at(-1)?.sequence ?? -1)",
        replace: "entries.at(-1)?.sequence ?? -1",
      },
    ],
  },
  {
    name: "replay an earlier generation's entries",
    edits: [
      {
        file: "log/journal.ts",
        find: "entry.generation !== first?.generation || entry.sequence !== first.sequence + entries.length",
        replace: "false",
      },
      {
        file: "log/recovery.ts",
        find: "if (entry.sequence <= checkpoint.sequence) continue;",
        replace: "",
      },
      { file: "log/recovery.ts", find: "if (entry.sequence !== sequence + 1) {", replace: "if (false) {" },
    ],
  },
  {
    name: "skip the entry's checksum",
    edits: [
      {
        file: "log/journal.ts",
        find: "source.readUInt32BE(at + MARK_BYTES) !== crc32c(source.subarray(at + CRC_FROM, at + bytes), crc32c(mark))",
        replace: "false",
      },
    ],
  },
  {
    name: "release the journal before the checkpoint is written",
    edits: [
      {
        file: "log/write-behind.ts",
        find: "const generation = journal.lastGeneration;",
        replace: "const generation = journal.lastGeneration; journal.release(sequence);",
      },
    ],
  },
  {
    name: "a checkpoint claims one entry more than the partitions have",
    edits: [
      {
        file: "log/stream-store.ts",
        find: "this.writes.checkpoint(this.journal as Journal, this.visibleSequence)",
        replace: "this.writes.checkpoint(this.journal as Journal, this.visibleSequence + 1)",
      },
    ],
  },
  {
    name: "begin writing before what was recovered is in the segments",
    edits: [
      {
        file: "log/stream-store.ts",
        find: "if (isRecovered) await this.checkpoint().catch((error) => (problem = error));",
        replace: "",
      },
    ],
  },
  {
    name: "number entries from the checkpoint on again",
    edits: [
      {
        file: "log/stream-store.ts",
        find: "sequence: sequence + 1,",
        replace: "sequence: checkpoint.sequence + 1,",
      },
    ],
  },
  {
    name: "believe in a segment what lies behind the recovery point",
    edits: [
      {
        file: "log/segment.ts",
        find: "if (next >= limit) break;",
        replace: "",
      },
    ],
  },
  {
    name: "replay what is there already",
    edits: [
      {
        file: "log/partition-log.ts",
        find: "if (base < this.next) return false;",
        replace: "",
      },
    ],
  },
  {
    name: "keep segments that were begun behind the recovery point",
    edits: [
      {
        file: "log/segment-list.ts",
        find: "        await segment.removeNames();\n",
        replace: "",
      },
    ],
  },
  {
    name: "do not sync the removal of a segment begun behind the recovery point",
    edits: [
      {
        file: "log/partition-log.ts",
        find: "this.namesUnsynced = names.length > 0;",
        replace: "",
      },
    ],
  },
  {
    name: "never sync the segments' names",
    edits: [
      {
        file: "log/partition-log.ts",
        find: "        await this.fileSystem.syncFolder(this.folder);\n      } catch",
        replace: "      } catch",
      },
    ],
  },
  {
    name: "never sync the partitions' names",
    edits: [
      {
        file: "log/write-behind.ts",
        find: 'await fileSystem.syncFolder(join(dataDir, "streams"));',
        replace: "",
      },
    ],
  },
  {
    name: "take over a checkpoint whose name is not synced",
    edits: [
      {
        file: "log/data-folder.ts",
        find: "    await fileSystem.syncFolder(dataDir);\n",
        replace: "",
      },
    ],
  },
  {
    name: "never sync the data folder's own name",
    edits: [
      {
        file: "log/data-folder.ts",
        find: "    await syncAncestors(fileSystem, dataDir);\n",
        replace: "",
      },
    ],
  },
  {
    name: "never sync the names of new journal files",
    edits: [
      {
        file: "log/journal.ts",
        find: "    await fileSystem.rename(temporary, this.pathOf(name));\n    await fileSystem.syncFolder(folder);",
        replace: "    await fileSystem.rename(temporary, this.pathOf(name));",
      },
    ],
  },
  {
    name: "take over a journal file whose name is not synced",
    edits: [
      {
        file: "log/journal.ts",
        find: "    await fileSystem.syncFolder(folder);\n    const names",
        replace: "    const names",
      },
    ],
  },
  {
    name: "leave a partition out of the checkpoint while its deletion is not durable",
    edits: [
      {
        file: "log/write-behind.ts",
        find: "for (const { partition, offset } of reached) {\n        // One",
        replace:
          "for (const { partition, offset } of reached) {\n        if (partition.isGone) continue;\n        // One",
      },
    ],
  },
  {
    name: "remove a stream's files before its tombstone is durable",
    edits: [
      {
        file: "log/streams.ts",
        find: "for (const partition of stream.partitions) partition.isGone = true;",
        replace:
          "for (const partition of stream.partitions) { partition.isGone = true; await partition.destroy(); }",
      },
    ],
  },
  {
    name: "flush a deleted stream's tail into the new one of its name",
    edits: [
      { file: "log/partition-log.ts", find: "    this.isDestroyed = true;\n", replace: "" },
      {
        file: "log/partition-log.ts",
        find: "    await this.segments.retire();\n",
        replace: "",
      },
    ],
  },
  {
    name: "retention removes a segment before the name of the next one is safe",
    edits: [
      {
        file: "log/segment-list.ts",
        find: "    await this.fileSystem.syncFolder(this.folder);\n    this.set",
        replace: "    this.set",
      },
    ],
  },
  {
    name: "retention gives a segment's space back before its name is gone for good",
    edits: [
      {
        file: "log/segment-list.ts",
        find: "    await this.fileSystem.syncFolder(this.folder);\n    await segment.close();",
        replace: "    await segment.close();",
      },
    ],
  },
  {
    name: "retention and checkpoint at the same time",
    edits: [
      {
        file: "log/partition-log.ts",
        find: "const result = this.upkeep.catch(() => {}).then(work);",
        replace: "const result = work();",
      },
    ],
  },
  {
    name: "answer DeleteRecords before it is on disk",
    edits: [
      {
        file: "log/streams.ts",
        find: "await this.write(startRecord(stream.id, index, before));",
        replace: "void this.write(startRecord(stream.id, index, before)).catch(() => {});",
      },
    ],
  },
  {
    name: "forget idempotent producers at a checkpoint",
    edits: [
      {
        file: "log/partition-log.ts",
        find: "await this.snapshots.save(reached);",
        replace: "",
      },
    ],
  },
  {
    name: "remove the last snapshot before the checkpoint names the next",
    edits: [
      {
        file: "log/producer-snapshots.ts",
        find: "if (at >= old) continue;",
        replace: "if (at > old) continue;",
      },
      {
        file: "log/partition-log.ts",
        find: "if (names.some(isSnapshot)) await this.recallProducers(recoveryPoint);",
        replace: "",
      },
    ],
  },
  {
    name: "forget idempotent producers in the journal",
    edits: [
      {
        file: "log/partition-log.ts",
        find: "    this.producers.replay(batch);\n    this.commit",
        replace: "    this.commit",
      },
    ],
  },
  {
    name: "give producer ids before their block is durable",
    edits: [
      {
        file: "log/producer-ids.ts",
        find: "await this.reserve(end);",
        replace: "void this.reserve(end).catch(() => {});",
      },
    ],
  },
  {
    name: "believe an index of which the other half is missing",
    edits: [
      {
        file: "log/segment-index.ts",
        find: "if (lastIndexed > after) index.unread",
        replace: "if (false) index.unread",
      },
      // What would notice.
      {
        file: "log/segment-index-files.ts",
        find: "return isSound && isTimeSound",
        replace: "return isSound",
      },
    ],
  },
];
