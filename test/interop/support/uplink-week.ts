/**
 * A week without the cluster, in minutes: sensors' records come in at an even rate until the disk is full and they
 * have to wait; then the cluster is back, takes all of it, and retention gives the disk back. Compared: what the
 * runway meter said with what happened, and each record's offset with where it came to lie.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ApacheKafka } from "./apache-kafka.ts";
import { Gateway, program } from "./gateway.ts";
import { kafkaClient } from "./kafka.ts";
import { MAINS } from "./kafka-tools.ts";
import { eventually, Running } from "./process.ts";
import { javaArgs, tool } from "./tools.ts";

const PARTITIONS = 6;
const RECORD_BYTES = 200;
/** What the log takes for each, in batches as ProducerPerformance makes them. */
const STORED_BYTES = 215;
/** The gateway's own state, and the journal's files. */
const OWN_BYTES = 128 << 20;
/** Of all records so many find room on the disk. */
const ROOM = 0.6;
const TOPIC = "edge.interop.telemetry";

export interface WeekOptions {
  readonly records: number;
  readonly perSecond: number;
  readonly say?: (words: string) => void;
}

export interface WeekResult {
  readonly records: number;
  readonly inKafka: number;
  /** Offsets that are missing, there again, or behind a later one. */
  readonly lost: number;
  readonly repeated: number;
  readonly gapRecords: number;
  /** What was foretold over what came: of the time until the disk was full, and of the drain. */
  readonly disk: number;
  readonly drain: number;
  /** Records that retention has taken since, though they had to wait for the cluster. */
  readonly retired: number;
  readonly seconds: number;
}

interface Status {
  readonly waitingRecords: number;
  readonly gapRecords: number;
  readonly runway: { readonly diskMs?: number; readonly drainMs?: number };
}

export async function week({ records, perSecond, say = () => {} }: WeekOptions): Promise<WeekResult> {
  const startedAt = performance.now();
  const kafka = await ApacheKafka.start({ heap: "1g" });
  let gateway: Gateway | undefined;
  try {
    await kafka.createTopics({ [TOPIC]: PARTITIONS });
    await kafka.kill();
    gateway = await away(kafka.brokers, records);
    const { brokers } = gateway;
    const own = gateway;
    const status = () => statusOf(own);
    const producing = produce(brokers, records, perSecond);
    const filled = (part: number) =>
      eventually(
        async () => (await status()).waitingRecords > records * ROOM * part,
        `${part} of the disk full`,
        3_600_000,
      );
    // The power fails, too; and from then on the meter knows the rate of this week, and no time before it.
    await filled(0.05);
    await gateway.kill();
    await gateway.again();
    await filled(0.5);
    const diskMs = (await status()).runway.diskMs ?? Number.NaN;
    const diskAt = performance.now();
    say(`the disk is said to last ${(diskMs / 1000).toFixed(0)} s`);
    await eventually(() => /takes nothing|full/i.test(own.process.output), "a full disk", 3_600_000);
    const disk = diskMs / (performance.now() - diskAt);
    say(`it lasted ${((performance.now() - diskAt) / 1000).toFixed(0)} s`);
    const waiting = (await status()).waitingRecords;
    await kafka.again();
    await eventually(
      async () => (await status()).waitingRecords < waiting * 0.8,
      "a fifth drained",
      3_600_000,
    );
    const drainMs = (await status()).runway.drainMs ?? Number.NaN;
    const drainAt = performance.now();
    say(`the drain is said to take ${(drainMs / 1000).toFixed(0)} s more`);
    await eventually(async () => (await status()).waitingRecords < perSecond / 2, "the drain", 3_600_000);
    const drain = drainMs / (performance.now() - drainAt);
    say(`it took ${((performance.now() - drainAt) / 1000).toFixed(0)} s`);
    await producing;
    await eventually(async () => (await status()).waitingRecords === 0, "the rest", 600_000);
    const retired = await retiredOf(gateway);
    const { gapRecords } = await status();
    return {
      records,
      ...(await audit(kafka)),
      gapRecords,
      disk,
      drain,
      retired,
      seconds: Math.round((performance.now() - startedAt) / 1000),
    };
  } finally {
    await gateway?.dispose();
    await kafka.close();
  }
}

/** On a disk of its own, with a retention that would long have taken what waits. */
async function away(broker: string, records: number): Promise<Gateway> {
  const retention = { time: "5s", size: "16MiB", waitForUplink: true };
  const segment = { size: "4MiB", time: "10s" };
  const gateway = await Gateway.start({
    streams: { telemetry: { partitions: PARTITIONS, retention, segment } },
    mappings: [],
    uplinks: [{ name: "cloud", brokers: [broker], streams: ["telemetry"], maxBackoff: "1s" }],
    nodeArgs: ["--import", fileURLToPath(new URL("small-disk.mjs", import.meta.url))],
  });
  const bytes = OWN_BYTES + Math.round(records * ROOM * STORED_BYTES);
  await writeFile(join(gateway.folder, "small-disk"), String(bytes));
  return gateway;
}

async function statusOf(gateway: Gateway): Promise<Status> {
  const running = new Running(process.execPath, [
    ...[program, "uplink", "status", "--json", "--data", gateway.dataDir],
  ]);
  await running.exited;
  return JSON.parse(running.stdout)[0];
}

/** All of them, however long the gateway takes none. */
async function produce(brokers: string, records: number, perSecond: number): Promise<void> {
  const sizes = ["--num-records", records, "--record-size", RECORD_BYTES, "--throughput", perSecond];
  const patient = [
    "delivery.timeout.ms=2147483647",
    "max.block.ms=9223372036854775807",
    "retry.backoff.ms=200",
  ];
  const properties = ["--producer-props", `bootstrap.servers=${brokers}`, "acks=all", ...patient];
  const args = ["--topic", "telemetry", ...sizes.map(String), ...properties];
  const producer = new Running(tool("java"), javaArgs(MAINS["producer performance"], args));
  const code = await producer.exited;
  if (code !== 0) throw new Error(`the producer ended with ${code}: ${producer.output.slice(-2_000)}`);
}

/** By the first offsets that the gateway still has; retention comes round once a minute. */
async function retiredOf(gateway: Gateway): Promise<number> {
  const admin = kafkaClient(gateway.brokers).admin();
  await admin.connect();
  let retired = 0;
  await eventually(
    async () => {
      const offsets = await admin.fetchTopicOffsets("telemetry");
      retired = offsets.reduce((sum, { low }) => sum + Number(low), 0);
      return retired > 0;
    },
    "retention",
    120_000,
  );
  await admin.disconnect();
  return retired;
}

/** Each partition must hold the offsets of its source's, from 0 on, one after the other. */
async function audit(kafka: ApacheKafka): Promise<{ inKafka: number; lost: number; repeated: number }> {
  const format = ["-f", "%p %h\\n"];
  const args = ["-b", kafka.brokers, "-C", "-t", TOPIC, "-o", "beginning", "-e", "-q"];
  const reader = new Running(tool("kcat"), [...args, "-X", "isolation.level=read_committed", ...format]);
  const next = new Array<number>(PARTITIONS).fill(0);
  const found = { inKafka: 0, lost: 0, repeated: 0 };
  let rest = "";
  reader.onStdout = (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() as string;
    for (const line of lines) {
      const partition = Number(line.slice(0, line.indexOf(" ")));
      const offset = Number(line.slice(line.lastIndexOf("=") + 1));
      const expected = next[partition] as number;
      found.inKafka++;
      if (offset < expected) found.repeated++;
      else {
        found.lost += offset - expected;
        next[partition] = offset + 1;
      }
    }
  };
  const code = await reader.exited;
  if (code !== 0) throw new Error(`kcat ended with ${code}: ${reader.stderr}`);
  return found;
}
