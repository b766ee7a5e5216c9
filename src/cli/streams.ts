/** `sluice streams [name]`: what streams there are, or one of them with its partitions, offsets and sizes. */
import type { Command } from "commander";
import type { Admin } from "kafkajs";
import kafkajs from "kafkajs";
import pc from "picocolors";
import { formatDuration, plural, roughSize, UNLIMITED } from "../config/units.ts";
import type { GatewayStatus } from "../gateway.ts";
import { describeLogDirs } from "../kafka/apis/35-describe-log-dirs.ts";
import { KafkaClient } from "../kafka/client.ts";
import { ORIGIN_SETTING } from "../kafka/stream-config.ts";
import { withAdmin } from "../subscriber/kafka-client.ts";
import { type BrokerOptions, brokerOptions, brokersOf, chosen } from "./broker.ts";
import { gatewayOf } from "./gateway.ts";
import { table } from "./table.ts";
import { wearBetween, wearText } from "./wear.ts";

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
  /** Who made it: "configuration", "client" or "gateway"; null where the broker is not Sluice. */
  readonly origin: string | null;
  readonly partitions: readonly PartitionReport[];
}

interface Options extends BrokerOptions {
  readonly json?: boolean;
  readonly all?: boolean;
}

export function register(program: Command): void {
  brokerOptions(
    program
      .command("streams")
      .description("List the streams, or describe one: partitions, offsets, sizes, retention.")
      .argument("[name]", "a stream to describe"),
  )
    .option("--all", "the internal ones too (names with __ in front)")
    .option("--json", "one JSON document")
    .action(run);
}

async function run(name: string | undefined, options: Options): Promise<void> {
  const brokers = await brokersOf(options);
  const reports = await withAdmin(brokers, async (admin) => {
    const all = (await admin.listTopics()).sort();
    const shown = all.filter((one) => options.all || !one.startsWith("__"));
    return report(admin, name === undefined ? shown : [chosen("stream", name, all)]);
  });
  const [first] = reports;
  if (options.json) console.log(JSON.stringify(name === undefined ? reports : first, null, 2));
  else
    console.log(name === undefined || first === undefined ? listText(reports, brokers) : describeText(first));
  if (!options.json && options.brokers === undefined) await sayWear(options);
}

/** What the gateway on this machine has written, where there is one. */
async function sayWear({ config }: Options): Promise<void> {
  try {
    const gateway = await gatewayOf(config === undefined ? {} : { config });
    const { stats, upMs } = await gateway.ask<GatewayStatus>("GET /status");
    if (stats === undefined) return;
    console.log(pc.dim(`since the start: ${wearText(wearBetween(undefined, stats.log, upMs))}`));
  } catch {} // none, or of another version: the list is worth having without
}

async function report(admin: Admin, names: readonly string[]): Promise<StreamReport[]> {
  if (names.length === 0) return [];
  const [sizes, settings] = await Promise.all([sizesOf(admin), settingsOf(admin, names)]);
  const reports: StreamReport[] = [];
  for (const stream of names) {
    const partitions = (await admin.fetchTopicOffsets(stream))
      .map(({ partition, low, high }) => ({
        partition,
        logStartOffset: Number(low),
        logEndOffset: Number(high),
        sizeBytes: sizes.get(`${stream}-${partition}`) ?? null,
      }))
      .sort((a, b) => a.partition - b.partition);
    const setting = settings.get(stream);
    const numeric = (key: string) => (setting?.has(key) ? Number(setting.get(key)) : null);
    reports.push({
      stream,
      retentionMs: numeric("retention.ms"),
      retentionBytes: numeric("retention.bytes"),
      cleanup: setting?.get("cleanup.policy") ?? null,
      origin: setting?.get(ORIGIN_SETTING) ?? null,
      partitions,
    });
  }
  return reports;
}

/** The last before the flexible encodings. */
const LOG_DIRS_VERSION = 1;

/** Bytes of each partition's largest replica, by `stream-partition` (kafkajs has no call for it); none where the brokers do not tell. */
async function sizesOf(admin: Admin): Promise<ReadonlyMap<string, number>> {
  const sizes = new Map<string, number>();
  const { brokers } = await admin.describeCluster();
  for (const { host, port } of brokers) {
    const client = new KafkaClient("sluice");
    try {
      await client.connect(host, port);
      const { results } = await client.ask(describeLogDirs, LOG_DIRS_VERSION, { topics: null });
      // A broker may have several disks; a partition that is being moved lies on two of them.
      for (const { name, partitions } of results.flatMap(({ topics }) => topics)) {
        for (const { partitionIndex, partitionSize } of partitions) {
          const place = `${name}-${partitionIndex}`;
          sizes.set(place, Math.max(partitionSize, sizes.get(place) ?? 0));
        }
      }
    } catch {
      return new Map(); // shown as –: the rest of the answer is worth having without
    } finally {
      client.close();
    }
  }
  return sizes;
}

/** Stream → setting → value; empty where the broker does not tell. */
async function settingsOf(admin: Admin, names: readonly string[]): Promise<Map<string, Map<string, string>>> {
  const configNames = ["retention.ms", "retention.bytes", "cleanup.policy", ORIGIN_SETTING];
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

function listText(reports: readonly StreamReport[], brokers: readonly string[]): string {
  const rows = reports.map((report) => [
    report.stream,
    report.partitions.length,
    recordsIn(report.partitions),
    sizeText(report.partitions),
    retentionText(report),
    report.origin ?? "–",
  ]);
  const all = reports.flatMap(({ partitions }) => partitions);
  const total = `${plural(reports.length, "stream")}, ${plural(recordsIn(all), "record")}, ${sizeText(all)} at ${brokers}`;
  return `${table(["STREAM", "PARTITIONS", "RECORDS", "SIZE", "RETENTION", "MADE BY"], rows)}\n${pc.dim(total)}`;
}

function describeText(report: StreamReport): string {
  const { stream, partitions } = report;
  const rows = partitions.map((one) => [
    one.partition,
    one.logStartOffset,
    one.logEndOffset,
    recordsIn([one]),
    sizeText([one]),
  ]);
  const total = `${plural(partitions.length, "partition")}, ${plural(recordsIn(partitions), "record")}, ${sizeText(partitions)}`;
  return [
    `${pc.bold(stream)}  ${retentionText(report)}${madeBy(report)}`,
    table(["PARTITION", "START", "END", "RECORDS", "SIZE"], rows),
    pc.dim(total),
  ].join("\n");
}

const madeBy = ({ origin }: StreamReport): string => (origin === null ? "" : `, made by the ${origin}`);

/** Offsets between start and end: what compaction and transactions leave out is counted as if it were there. */
function recordsIn(partitions: readonly PartitionReport[]): number {
  return partitions.reduce((sum, { logStartOffset, logEndOffset }) => sum + logEndOffset - logStartOffset, 0);
}

function sizeText(partitions: readonly PartitionReport[]): string {
  const bytes = partitions.reduce((sum, { sizeBytes }) => sum + (sizeBytes ?? Number.NaN), 0);
  return Number.isNaN(bytes) ? "–" : roughSize(bytes);
}

function retentionText({ retentionMs, retentionBytes, cleanup }: StreamReport): string {
  if (cleanup?.split(",").includes("delete") === false) return "newest of each key";
  const time =
    retentionMs === null ? "–" : retentionMs === UNLIMITED ? "for ever" : formatDuration(retentionMs);
  const isBounded = retentionBytes !== null && retentionBytes !== UNLIMITED;
  return isBounded ? `${time}, ${roughSize(retentionBytes)} per partition` : time;
}
