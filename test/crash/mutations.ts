/**
 * Bugs put into the log on purpose, each by changing one place of its sources, which the simulator must find.
 * The changed sources are a copy: nothing in `src` knows of this.
 */
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { PARTS, type Program } from "./program.ts";

interface Edit {
  /** Below src. */
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
/** Gives the program with a bug in it to `work`. Throws when its place is not in the sources any more. */
export async function withMutation<T>(
  mutation: Mutation,
  work: (program: Program) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "sluice-mutant-"));
  try {
    // Packages are looked for above a file, and modules are told by the package.json above it.
    await writeFile(join(folder, "package.json"), '{"type":"module"}');
    await symlink(join(SOURCES, "../node_modules"), join(folder, "node_modules"));
    await cp(SOURCES, folder, { recursive: true });
    for (const { file, find, replace } of mutation.edits) {
      const path = join(folder, file);
      const parts = (await readFile(path, "utf8")).split(find);
      if (parts.length !== 2) {
        throw new Error(`"${mutation.name}": ${file} has its place ${parts.length - 1} times`);
      }
      await writeFile(path, parts.join(replace));
    }
    const parts: Record<string, unknown> = {};
    for (const [name, file] of Object.entries(PARTS)) {
      const { href } = pathToFileURL(join(folder, file));
      parts[name] = ((await import(/* @vite-ignore */ href)) as Record<string, unknown>)[name];
    }
    return await work(parts as unknown as Program);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

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
    name: "take an earlier generation's entries for proof that newer ones are missing",
    edits: [
      {
        file: "log/journal.ts",
        find: "Math.max(covered, entries.at(-1)?.sequence ?? -1)",
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
        find: "if (next >= Math.min(endOffset, this.end)) break;",
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
        file: "log/partition-log.ts",
        find: "        await segment.remove();\n",
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
        find: "      await file.close();\n    }\n    await fileSystem.syncFolder(folder);",
        replace: "      await file.close();\n    }",
      },
    ],
  },
  {
    name: "take over a journal file whose name is not synced",
    edits: [
      {
        file: "log/journal.ts",
        find: "    await fileSystem.syncFolder(folder);\n    for (",
        replace: "    for (",
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
        file: "log/stream-store.ts",
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
        find: "    for (const segment of this.segments) await segment.retire();\n",
        replace: "",
      },
    ],
  },
  {
    name: "retention removes a segment before the name of the next one is safe",
    edits: [
      {
        file: "log/partition-log.ts",
        find: "    await this.fileSystem.syncFolder(this.folder);\n    this.setSegments",
        replace: "    this.setSegments",
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
        find: "Number(name.slice(0, 20)) < old",
        replace: "Number(name.slice(0, 20)) <= old",
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
        file: "log/stream-store.ts",
        find: "await this.writeCatalog(producerIdsRecord(end));",
        replace: "void this.writeCatalog(producerIdsRecord(end));",
      },
    ],
  },
  {
    name: "believe an index of which the other half is missing",
    edits: [
      {
        file: "log/segment-index.ts",
        find: "while ((index.offsets.at(-1) ?? -1) > vouched) {",
        replace: "while (false) {",
      },
      // What would notice.
      {
        file: "log/segment.ts",
        find: "return isSound && (await this.vouchesFor(index, { offset, timestamp })) ? index : fresh;",
        replace: "return isSound ? index : fresh;",
      },
    ],
  },
];

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
    name: "compaction removes old segments before the new one's name is synced",
    edits: [
      {
        file: "log/replacement.ts",
        find: "  onTaken();\n  await fileSystem.syncFolder(folder);\n",
        replace: "  onTaken();\n",
      },
    ],
  },
  {
    name: "compaction puts its segment in place before the removal of the others is synced",
    edits: [
      {
        file: "log/replacement.ts",
        find: "  await fileSystem.syncFolder(folder);\n  await fileSystem.rename(join(folder, taken)",
        replace: "  await fileSystem.rename(join(folder, taken)",
      },
    ],
  },
  {
    name: "compaction removes the old segments first",
    edits: [
      {
        file: "log/compaction.ts",
        find: "      await replaceRun(",
        replace: "      for (const one of run) await one.remove();\n      await replaceRun(",
      },
    ],
  },
  {
    name: "compaction takes what the journal may bring back",
    edits: [
      {
        file: "log/partition-log.ts",
        find: "segment.end < this.recoveryPoint",
        replace: "segment !== this.segments.at(-1)",
      },
    ],
  },
  {
    name: "a start does not finish what compaction had begun",
    edits: [
      {
        file: "log/replacement.ts",
        find: "if (TAKEN.test(name)) await moveIn(fileSystem, folder, name);",
        replace: "if (TAKEN.test(name)) await fileSystem.remove(join(folder, name));",
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
];

/** Found where the broker and the group coordinator are driven, too. */
export const MUTATIONS_ABOVE_THE_LOG: readonly Mutation[] = [
  {
    name: "acknowledge QoS 0 and 1 before the commit",
    edits: [
      {
        file: "mqtt/broker.ts",
        find: "else this.append(client, packet as StoredPacket, isWill, done);",
        replace:
          "else {\n      this.append(client, packet as StoredPacket, isWill, () => {});\n      done();\n    }",
      },
    ],
  },
  {
    name: "acknowledge QoS 2 before the commit",
    edits: [
      {
        file: "mqtt/broker.ts",
        find: "        if (error) reject(error);\n        else resolve();\n      });",
        replace: "        if (error) reject(error);\n      });\n      resolve();",
      },
    ],
  },
  {
    name: "answer a retransmission before the first one is on disk",
    edits: [
      {
        file: "mqtt/persistence.ts",
        find: "    await stored;\n",
        replace: "    // await stored;\n",
      },
    ],
  },
  {
    name: "a QoS 2 packet id in a commit of its own",
    edits: [
      {
        file: "mqtt/sessions.ts",
        find: 'add({ entry: this.store.entry("received", key, {}) });',
        replace: 'setImmediate(() => this.store.append([this.store.entry("received", key, {})], () => {}));',
      },
    ],
  },
  {
    name: "forget QoS 2 packet ids at the start",
    edits: [
      {
        file: "mqtt/sessions.ts",
        find: "else session.incoming.set(key.packetId, null);",
        replace: "else {}",
      },
    ],
  },
  {
    name: "PUBCOMP before the release of its packet id is on disk",
    edits: [
      {
        file: "mqtt/persistence.ts",
        find: "      await released;\n",
        replace: "",
      },
    ],
  },
  {
    name: "retained messages in a commit of their own",
    edits: [
      {
        file: "mqtt/sessions.ts",
        find: "if (packet.retain) add(this.retained.change(packet));",
        replace:
          "if (packet.retain) {\n          const change = this.retained.change(packet);\n          if (change !== undefined)\n            setImmediate(() => this.store.append([change.entry], (error) => change.settle?.(error === null)));\n        }",
      },
    ],
  },
  {
    name: "queued messages in a commit of their own",
    edits: [
      {
        file: "mqtt/sessions.ts",
        find: "if (isQueued) add(this.queue.change(packet, this.subscribersOf(packet)));",
        replace:
          "if (isQueued) {\n          const change = this.queue.change(packet, this.subscribersOf(packet));\n          if (change !== undefined)\n            setImmediate(() => this.store.append([change.entry], (error) => change.settle?.(error === null)));\n        }",
      },
    ],
  },
  {
    name: "deliver a queued message before it is on disk",
    edits: [
      {
        file: "mqtt/queue.ts",
        find: "    return { entry, settle: (isDurable) => this.settle(message, isDurable) };",
        replace: "    setImmediate(() => this.settle(message, true));\n    return { entry };",
      },
    ],
  },
  {
    name: "SUBACK before the subscription is on disk",
    edits: [
      {
        file: "mqtt/persistence.ts",
        find: "writes.push(sessions.saveSubscription(session, topic, { qos }));",
        replace: "void sessions.saveSubscription(session, topic, { qos });",
      },
    ],
  },
  {
    name: "UNSUBACK before the subscription's end is on disk",
    edits: [
      {
        file: "mqtt/persistence.ts",
        find: "return sessions.saveSubscription(session, filter, null);",
        replace: "void sessions.saveSubscription(session, filter, null);",
      },
    ],
  },
  {
    name: "PUBREL before its PUBREC is on disk",
    edits: [
      {
        file: "mqtt/queue.ts",
        find: "      this.changed(delivery);\n    }\n    return this.saved(outbox);",
        replace: "      this.changed(delivery);\n    }\n    return Promise.resolve();",
      },
    ],
  },
  {
    name: "forget at the start how far sessions have come",
    edits: [
      {
        file: "mqtt/sessions.ts",
        find: "for (const [number, value] of progress) byNumber.get(number)?.outbox.restore(value);",
        replace: "",
      },
    ],
  },
  {
    name: "begin deliveries' numbers anew at the start",
    edits: [
      {
        file: "mqtt/outbox.ts",
        find: "    this.nextSequence = Math.max(this.nextSequence, sequence + 1);\n",
        replace: "",
      },
    ],
  },
  {
    name: "use sessions' numbers again",
    edits: [
      {
        file: "mqtt/state-store.ts",
        find: "        this.noteNumbers(fact);\n",
        replace: "",
      },
    ],
  },
  {
    name: "delete a queued message before its acknowledgement is on disk",
    edits: [
      {
        file: "mqtt/queue.ts",
        find: '    if (cmd === "puback") this.noLongerWaits(delivery);',
        replace:
          '    this.deleteLater("queued", { number: delivery.message?.number ?? 0 });\n    if (cmd === "puback") this.noLongerWaits(delivery);',
      },
    ],
  },
  {
    name: "CONNACK before the will is on disk",
    edits: [
      {
        file: "mqtt/persistence.ts",
        find: "await this.sessions.keepWill(client, will);",
        replace: "void this.sessions.keepWill(client, will);",
      },
    ],
  },
  {
    name: "publish a will and delete it in another commit",
    edits: [
      {
        file: "mqtt/sessions.ts",
        find: 'add({ entry: this.store.entry("will", { number: will }, null) });',
        replace:
          'setImmediate(() => this.store.append([this.store.entry("will", { number: will }, null)], () => {}));',
      },
    ],
  },
  {
    name: "answer an offset commit before it is on disk",
    edits: [
      {
        file: "groups/coordinator.ts",
        find: "      this.records.append(records,",
        replace: '      resolve("NONE");\n      this.records.append(records,',
      },
    ],
  },
  {
    name: "show committed offsets before they are on disk",
    edits: [
      {
        file: "groups/coordinator.ts",
        find: "    for (const [at] of changes) offsets.begin(at);",
        replace:
          "    for (const [at, committed] of changes) offsets.set(at, committed);\n    for (const [at] of changes) offsets.begin(at);",
      },
    ],
  },
  {
    name: "commit a request's offsets one by one",
    edits: [
      {
        file: "groups/coordinator.ts",
        find: "      this.records.append(records, this.clock.wallTime(), (error) => {",
        replace:
          "      for (const one of records.slice(1))\n        setImmediate(() => this.records.append([one], this.clock.wallTime(), () => {}));\n      this.records.append(records.slice(0, 1), this.clock.wallTime(), (error) => {",
      },
    ],
  },
];
