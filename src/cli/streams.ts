/** `sluice streams [name]`: what streams there are, or one of them with its partitions, offsets and sizes. */
import type { Command } from "commander";
import type { Admin } from "kafkajs";
import kafkajs from "kafkajs";
import pc from "picocolors";
import { didYouMean } from "../config/problems.ts";
import { formatDuration, roughSize, UNLIMITED } from "../config/units.ts";
import { SluiceError } from "../errors.ts";
import { BROKER_OPTION, type BrokerOptions, brokerOf, CONFIG_OPTION, withAdmin } from "./broker.ts";
import { type PartitionSizes, partitionSizes } from "./log-dirs.ts";
import { plural, table } from "./table.ts";

/** One partition as it is shown; null is what the broker does not tell. */
interface PartitionReport {
  readonly partition: number;
  readonly logStartOffset: number;
  readonly logEndOffset: number;
  readonly sizeBytes: number | null;
}

interface StreamReport {
  readonly stream: string;
  /** -1 for without limit, null for untold. */
  readonly retentionMs: number | null;
  readonly retentionBytes: number | null;
  readonly cleanup: string | null;
  readonly partitions: readonly PartitionReport[];
}

interface Options extends BrokerOptions {
  readonly json?: boolean;
  readonly all?: boolean;
}

export function register(program: Command): void {
  program
    .command("streams")
    .description("List the streams, or describe one: partitions, offsets, sizes, retention.")
    .argument("[name]", "a stream to describe")
    .option(...BROKER_OPTION)
    .option(...CONFIG_OPTION)
    .option("--all", "the internal ones too (names with __ in front)")
    .option("--json", "one JSON document")
    .action(run);
}

async function run(name: string | undefined, options: Options): Promise<void> {
  const broker = await brokerOf(options);
  const reports = await withAdmin(broker, async (admin) => {
    const names = (await admin.listTopics()).sort();
    if (name === undefined)
      return report(
        admin,
        names.filter((one) => options.all || !one.startsWith("__")),
      );
    if (names.includes(name)) return report(admin, [name]);
    throw new SluiceError("UNKNOWN_STREAM", `${broker} has no stream "${name}"${didYouMean(name, names)}`, {
      mend: "sluice streams  lists them",
    });
  });
  if (options.json) console.log(JSON.stringify(name === undefined ? reports : reports[0], null, 2));
  else console.log(name === undefined ? listText(reports, broker) : describeText(reports[0] as StreamReport));
}

async function report(admin: Admin, names: readonly string[]): Promise<StreamReport[]> {
  if (names.length === 0) return [];
  const [sizes, settings] = await Promise.all([sizesOf(admin), settingsOf(admin, names)]);
  const reports: StreamReport[] = [];
  for (const stream of names) {
    const offsets = await admin.fetchTopicOffsets(stream);
    const partitions = offsets
      .map(({ partition, low, high }) => ({
        partition,
        logStartOffset: Number(low),
        logEndOffset: Number(high),
        sizeBytes: sizes?.get(stream)?.get(partition) ?? null,
      }))
      .sort((a, b) => a.partition - b.partition);
    const setting = settings.get(stream);
    const numeric = (key: string) => (setting?.has(key) ? Number(setting.get(key)) : null);
    reports.push({
      stream,
      retentionMs: numeric("retention.ms"),
      retentionBytes: numeric("retention.bytes"),
      cleanup: setting?.get("cleanup.policy") ?? null,
      partitions,
    });
  }
  return reports;
}

/** Each partition's largest replica over all brokers; undefined where a broker does not tell. */
async function sizesOf(admin: Admin): Promise<PartitionSizes | undefined> {
  const { brokers } = await admin.describeCluster();
  try {
    const all = await Promise.all(brokers.map(({ host, port }) => partitionSizes(host, port)));
    const merged = new Map<string, Map<number, number>>();
    for (const [stream, partitions] of all.flatMap((sizes) => [...sizes])) {
      const into = merged.get(stream) ?? new Map<number, number>();
      merged.set(stream, into);
      for (const [partition, bytes] of partitions)
        into.set(partition, Math.max(bytes, into.get(partition) ?? 0));
    }
    return merged;
  } catch {
    return undefined; // shown as –: the rest of the answer is worth having without
  }
}

/** Stream → setting → value; empty where the broker does not tell. */
async function settingsOf(admin: Admin, names: readonly string[]): Promise<Map<string, Map<string, string>>> {
  const configNames = ["retention.ms", "retention.bytes", "cleanup.policy"];
  const resources = names.map((name) => ({ type: kafkajs.ConfigResourceTypes.TOPIC, name, configNames }));
  try {
    const answer = await admin.describeConfigs({ resources, includeSynonyms: false });
    return new Map(
      answer.resources.map(({ resourceName, configEntries }) => [
        resourceName,
        new Map(configEntries.map(({ configName, configValue }) => [configName, configValue])),
      ]),
    );
  } catch {
    return new Map();
  }
}

function listText(reports: readonly StreamReport[], broker: string): string {
  if (reports.length === 0) return `no streams at ${broker}`;
  const rows = reports.map((report) => [
    report.stream,
    report.partitions.length,
    recordsOf(report),
    sizeText(sizeOf(report)),
    retentionText(report),
  ]);
  const records = reports.reduce((sum, report) => sum + recordsOf(report), 0);
  const sizes = reports.map(sizeOf);
  const size = sizes.includes(null) ? null : sizes.reduce<number>((sum, bytes) => sum + (bytes ?? 0), 0);
  const total = `${plural(reports.length, "stream")}, ${plural(records, "record")}, ${sizeText(size)} at ${broker}`;
  return `${table(["STREAM", "PARTITIONS", "RECORDS", "SIZE", "RETENTION"], rows)}\n${pc.dim(total)}`;
}

function describeText(report: StreamReport): string {
  const rows = report.partitions.map(({ partition, logStartOffset, logEndOffset, sizeBytes }) => [
    partition,
    logStartOffset,
    logEndOffset,
    logEndOffset - logStartOffset,
    sizeText(sizeBytes),
  ]);
  const total = `${plural(report.partitions.length, "partition")}, ${plural(recordsOf(report), "record")}, ${sizeText(sizeOf(report))}`;
  return [
    `${pc.bold(report.stream)}  ${retentionText(report)}`,
    table(["PARTITION", "START", "END", "RECORDS", "SIZE"], rows),
    pc.dim(total),
  ].join("\n");
}

/** Offsets between start and end: what compaction and transactions leave out is counted as if it were there. */
function recordsOf({ partitions }: StreamReport): number {
  return partitions.reduce((sum, { logStartOffset, logEndOffset }) => sum + logEndOffset - logStartOffset, 0);
}

function sizeOf({ partitions }: StreamReport): number | null {
  const sizes = partitions.map(({ sizeBytes }) => sizeBytes);
  return sizes.includes(null) ? null : sizes.reduce<number>((sum, bytes) => sum + (bytes ?? 0), 0);
}

function sizeText(bytes: number | null): string {
  return bytes === null ? "–" : roughSize(bytes);
}

function retentionText({ retentionMs, retentionBytes, cleanup }: StreamReport): string {
  if (cleanup?.split(",").includes("delete") === false) return "newest of each key";
  const time =
    retentionMs === null ? "–" : retentionMs === UNLIMITED ? "for ever" : formatDuration(retentionMs);
  const size =
    retentionBytes === null || retentionBytes === UNLIMITED
      ? ""
      : `, ${roughSize(retentionBytes)} per partition`;
  return `${time}${size}`;
}
