/**
 * Bugs put into the log on purpose, each by changing one place of its sources, which the simulator must find.
 * The changed sources are a copy: nothing in `src` knows of this.
 */
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { Store } from "./workload.ts";

interface Edit {
  /** Below src/log. */
  readonly file: string;
  /** Stands exactly once in the file. */
  readonly find: string;
  readonly replace: string;
}

/** More than one edit where one precaution would make up for the loss of the other. */
export interface Mutation {
  readonly name: string;
  readonly edits: readonly Edit[];
}

const SOURCES = fileURLToPath(new URL("../../src", import.meta.url));
/** What the log imports; see test/walls.test.ts. */
const ROOMS = ["log", "wire", "errors.ts", "logger.ts", "record.ts", "histogram.ts", "clock.ts"];

/** Gives the log with a bug in it to `work`. Throws when its place is not in the sources any more. */
export async function withMutation<T>(mutation: Mutation, work: (Log: Store) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "sluice-mutant-"));
  try {
    // Packages are looked for above a file, and modules are told by the package.json above it.
    await writeFile(join(folder, "package.json"), '{"type":"module"}');
    await symlink(join(SOURCES, "../node_modules"), join(folder, "node_modules"));
    for (const room of ROOMS) await cp(join(SOURCES, room), join(folder, room), { recursive: true });
    for (const { file, find, replace } of mutation.edits) {
      const path = join(folder, "log", file);
      const parts = (await readFile(path, "utf8")).split(find);
      if (parts.length !== 2) {
        throw new Error(`"${mutation.name}": ${file} has its place ${parts.length - 1} times`);
      }
      await writeFile(path, parts.join(replace));
    }
    const { href } = pathToFileURL(join(folder, "log", "stream-store.ts"));
    const { StreamStore } = (await import(/* @vite-ignore */ href)) as { StreamStore: Store };
    return await work(StreamStore);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export const MUTATIONS: readonly Mutation[] = [
  {
    name: "acknowledge before the journal is synced",
    edits: [
      {
        file: "journal.ts",
        find: ".writeDurably(pieces, this.position)",
        replace: ".write(pieces, this.position)",
      },
    ],
  },
  {
    name: "write each batch of a commit by itself",
    edits: [
      {
        file: "committer.ts",
        find: "await this.options.journal.write(batches);",
        replace: "for (const one of batches) await this.options.journal.write([one]);",
      },
    ],
  },
  {
    name: "make a checkpoint before the segments are synced",
    edits: [
      {
        file: "partition-log.ts",
        find: "await segment.sync();",
        replace: "",
      },
    ],
  },
  {
    name: "call committed offsets synced that came while a checkpoint was made",
    edits: [
      {
        file: "partition-log.ts",
        find: "    return reached;",
        replace: "    return this.next;",
      },
    ],
  },
  {
    name: "put a file in place that is not synced",
    edits: [
      {
        file: "file-system.ts",
        find: "    await file.write([content], 0);\n    await file.sync();",
        replace: "    await file.write([content], 0);",
      },
    ],
  },
  {
    name: "put a file in place and do not sync its folder",
    edits: [
      {
        file: "file-system.ts",
        find: "  await fileSystem.syncFolder(folder);\n",
        replace: "",
      },
    ],
  },
  {
    name: "write the next temporary file over one that a power cut has made the real one",
    edits: [
      {
        file: "file-system.ts",
        find: "  await fileSystem.remove(temporary);\n",
        replace: "",
      },
    ],
  },
  {
    name: "take an earlier generation's entries for proof that newer ones are missing",
    edits: [
      {
        file: "journal.ts",
        find: "Math.max(covered, entries.at(-1)?.sequence ?? -1)",
        replace: "entries.at(-1)?.sequence ?? -1",
      },
    ],
  },
  {
    name: "replay an earlier generation's entries",
    edits: [
      {
        file: "journal.ts",
        find: "entry.generation !== first?.generation || entry.sequence !== first.sequence + entries.length",
        replace: "false",
      },
      {
        file: "recovery.ts",
        find: "if (entry.sequence <= checkpoint.sequence) continue;",
        replace: "",
      },
      { file: "recovery.ts", find: "if (entry.sequence !== sequence + 1) {", replace: "if (false) {" },
    ],
  },
  {
    name: "skip the entry's checksum",
    edits: [
      {
        file: "journal.ts",
        find: "source.readUInt32BE(at + MARK_BYTES) !== crc32c(source.subarray(at + CRC_FROM, at + bytes), crc32c(mark))",
        replace: "false",
      },
    ],
  },
  {
    name: "release the journal before the checkpoint is written",
    edits: [
      {
        file: "write-behind.ts",
        find: "const generation = journal.lastGeneration;",
        replace: "const generation = journal.lastGeneration; journal.release(sequence);",
      },
    ],
  },
  {
    name: "a checkpoint claims one entry more than the partitions have",
    edits: [
      {
        file: "stream-store.ts",
        find: "this.writes.checkpoint(this.journal as Journal, this.visibleSequence)",
        replace: "this.writes.checkpoint(this.journal as Journal, this.visibleSequence + 1)",
      },
    ],
  },
  {
    name: "begin writing before what was recovered is in the segments",
    edits: [
      {
        file: "stream-store.ts",
        find: "if (isRecovered) await this.checkpoint().catch((error) => (problem = error));",
        replace: "",
      },
    ],
  },
  {
    name: "number entries from the checkpoint on again",
    edits: [
      {
        file: "stream-store.ts",
        find: "sequence: sequence + 1,",
        replace: "sequence: checkpoint.sequence + 1,",
      },
    ],
  },
  {
    name: "believe in a segment what lies behind the recovery point",
    edits: [
      {
        file: "segment.ts",
        find: "if (next >= Math.min(endOffset, this.end)) break;",
        replace: "",
      },
    ],
  },
  {
    name: "replay what is there already",
    edits: [
      {
        file: "partition-log.ts",
        find: "if (base < this.next) return false;",
        replace: "",
      },
    ],
  },
  {
    name: "keep segments that were begun behind the recovery point",
    edits: [
      {
        file: "partition-log.ts",
        find: "        await segment.remove();\n",
        replace: "",
      },
    ],
  },
  {
    name: "do not sync the removal of a segment begun behind the recovery point",
    edits: [
      {
        file: "partition-log.ts",
        find: "this.namesUnsynced = names.length > 0;",
        replace: "",
      },
    ],
  },
  {
    name: "never sync the segments' names",
    edits: [
      {
        file: "partition-log.ts",
        find: "        await this.fileSystem.syncFolder(this.folder);\n      } catch",
        replace: "      } catch",
      },
    ],
  },
  {
    name: "never sync the partitions' names",
    edits: [
      {
        file: "write-behind.ts",
        find: 'await fileSystem.syncFolder(join(dataDir, "streams"));',
        replace: "",
      },
    ],
  },
  {
    name: "take over a checkpoint whose name is not synced",
    edits: [
      {
        file: "data-folder.ts",
        find: "    await fileSystem.syncFolder(dataDir);\n",
        replace: "",
      },
    ],
  },
  {
    name: "never sync the data folder's own name",
    edits: [
      {
        file: "data-folder.ts",
        find: "    await syncAncestors(fileSystem, dataDir);\n",
        replace: "",
      },
    ],
  },
  {
    name: "never sync the names of new journal files",
    edits: [
      {
        file: "journal.ts",
        find: "      await file.close();\n    }\n    await fileSystem.syncFolder(folder);",
        replace: "      await file.close();\n    }",
      },
    ],
  },
  {
    name: "take over a journal file whose name is not synced",
    edits: [
      {
        file: "journal.ts",
        find: "    await fileSystem.syncFolder(folder);\n    for (",
        replace: "    for (",
      },
    ],
  },
  {
    name: "leave a partition out of the checkpoint while its deletion is not durable",
    edits: [
      {
        file: "write-behind.ts",
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
        file: "stream-store.ts",
        find: "for (const partition of stream.partitions) partition.isGone = true;",
        replace:
          "for (const partition of stream.partitions) { partition.isGone = true; await partition.destroy(); }",
      },
    ],
  },
  {
    name: "flush a deleted stream's tail into the new one of its name",
    edits: [
      { file: "partition-log.ts", find: "    this.isDestroyed = true;\n", replace: "" },
      {
        file: "partition-log.ts",
        find: "    for (const segment of this.segments) await segment.retire();\n",
        replace: "",
      },
    ],
  },
  {
    name: "retention removes a segment before the name of the next one is safe",
    edits: [
      {
        file: "partition-log.ts",
        find: "    await this.fileSystem.syncFolder(this.folder);\n    this.setSegments",
        replace: "    this.setSegments",
      },
    ],
  },
  {
    name: "retention and checkpoint at the same time",
    edits: [
      {
        file: "partition-log.ts",
        find: "const result = this.upkeep.catch(() => {}).then(work);",
        replace: "const result = work();",
      },
    ],
  },
  {
    name: "forget idempotent producers at a checkpoint",
    edits: [
      {
        file: "partition-log.ts",
        find: "await this.snapshots.save(reached);",
        replace: "",
      },
    ],
  },
  {
    name: "remove the last snapshot before the checkpoint names the next",
    edits: [
      {
        file: "producer-snapshots.ts",
        find: "Number(name.slice(0, 20)) < old",
        replace: "Number(name.slice(0, 20)) <= old",
      },
      {
        file: "partition-log.ts",
        find: "if (names.some(isSnapshot)) await this.recallProducers(recoveryPoint);",
        replace: "",
      },
    ],
  },
  {
    name: "forget idempotent producers in the journal",
    edits: [
      {
        file: "partition-log.ts",
        find: "    this.producers.replay(batch);\n    this.commit",
        replace: "    this.commit",
      },
    ],
  },
  {
    name: "give producer ids before their block is durable",
    edits: [
      {
        file: "stream-store.ts",
        find: "await this.writeCatalog(producerIdsRecord(end));",
        replace: "void this.writeCatalog(producerIdsRecord(end));",
      },
    ],
  },
  {
    name: "believe an index of which the other half is missing",
    edits: [
      {
        file: "segment-index.ts",
        find: "while ((index.offsets.at(-1) ?? -1) > vouched) {",
        replace: "while (false) {",
      },
      // What would notice.
      {
        file: "segment.ts",
        find: "return isSound && (await this.vouchesFor(index, { offset, timestamp })) ? index : fresh;",
        replace: "return isSound ? index : fresh;",
      },
    ],
  },
];
