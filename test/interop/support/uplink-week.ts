/**
 * A week without the cluster, in minutes: sensors' records come in at an even rate until the disk is full and they
 * have to wait; then the cluster is back, takes all of it, and retention gives the disk back. And a second time, with
 * sensors that go on through the drain. Compared: what the runway meter said with what happened, and each record's
 * offset with where it came to lie.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ApacheKafka } from "./apache-kafka.ts";
import { Gateway, program } from "./gateway.ts";
import { withAdmin } from "./kafka.ts";
import { MAINS } from "./kafka-tools.ts";
import { eventually, Running, run } from "./process.ts";
import { javaArgs, tool } from "./tools.ts";

const PARTITIONS = 6;
const RECORD_BYTES = 200;
/** What the log takes for each, in batches as ProducerPerformance makes them. */
const STORED_BYTES = 215;
/** What the gateway leaves to others (`storage.minFree`). */
const MIN_FREE_BYTES = 64 << 20;
/** By which the journal grows at most. */
const JOURNAL_BYTES = 40 << 20;
/** Of all records so many find room on the disk. */
const ROOM = 0.6;
const TOPIC = "edge.interop.telemetry";
const FOR_EVER = 2 ** 31 - 1;
/** A week can be pressed into minutes, a link cannot: sensors beside its drain must be few against it, as in life. */
const DRAIN_SHARE = 4;

export interface WeekOptions {
  /** About so many, half of them in each outage. */
  readonly records: number;
  readonly perSecond: number;
  readonly say?: (words: string) => void;
}

export interface WeekResult {
  /** That the gateway took. */
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
    const half = records / 2;
    gateway = await away(kafka.brokers, half);
    const outage = new Outage(gateway, kafka, half, perSecond, say);
    const disk = await outage.fillsTheDisk();
    const retired = await retiredOf(gateway);
    const drain = await outage.drains();
    const { gapRecords } = await statusOf(gateway);
    const taken = sum(await offsetsOf(gateway), "high");
    const seconds = Math.round((performance.now() - startedAt) / 1000);
    return { records: taken, ...(await audit(kafka)), gapRecords, disk, drain, retired, seconds };
  } finally {
    await gateway?.dispose();
    await kafka.close();
  }
}

/** Two times the cluster is away for so many records; whatever is said of what will come is held against it. */
class Outage {
  private readonly gateway: Gateway;
  private readonly kafka: ApacheKafka;
  private readonly records: number;
  private readonly perSecond: number;
  private readonly say: (words: string) => void;

  constructor(
    gateway: Gateway,
    kafka: ApacheKafka,
    records: number,
    perSecond: number,
    say: (words: string) => void,
  ) {
    this.gateway = gateway;
    this.kafka = kafka;
    this.records = records;
    this.perSecond = perSecond;
    this.say = say;
  }

  private until(holds: (status: Status) => boolean, what: string): Promise<void> {
    return eventually(async () => holds(await statusOf(this.gateway)), what, 3_600_000);
  }

  /** The power fails, too; and from then on the meter knows the rate of this week, and no time before it. */
  private async begun(): Promise<void> {
    await this.until(({ waitingRecords }) => waitingRecords > this.records * 0.05, "the outage");
    await this.gateway.kill();
    await this.gateway.again();
  }

  /** Until sensors have to wait; then the cluster is back, and the rest comes. What was foretold over what came. */
  async fillsTheDisk(): Promise<number> {
    const { gateway, records, say } = this;
    const sensors = produce(gateway.brokers, records, this.perSecond);
    await this.begun();
    await this.until(({ waitingRecords }) => waitingRecords > records * ROOM * 0.5, "half of the disk");
    const diskMs = (await statusOf(gateway)).runway.diskMs ?? Number.NaN;
    const saidAt = performance.now();
    say(`the disk is said to last ${(diskMs / 1000).toFixed(0)} s`);
    await eventually(() => /the disk is full/.test(gateway.process.output), "a full disk", 3_600_000);
    const tookMs = performance.now() - saidAt;
    say(`it lasted ${(tookMs / 1000).toFixed(0)} s`);
    await this.kafka.again();
    const code = await sensors.exited;
    if (code !== 0) throw new Error(`the producer ended with ${code}: ${sensors.output.slice(-2_000)}`);
    await this.until(({ waitingRecords }) => waitingRecords === 0, "the drain");
    return diskMs / tookMs;
  }

  /**
   * The second outage ends long before the disk does, and sensors go on. It is the link's, as most are: a cluster that
   * has just started gets faster for longer than all of this drain takes. What was foretold over what came.
   */
  async drains(): Promise<number> {
    const { gateway, records, say } = this;
    this.kafka.freeze();
    const perSecond = this.perSecond / DRAIN_SHARE;
    const sensors = produce(gateway.brokers, FOR_EVER, perSecond);
    await this.begun();
    await this.until(({ waitingRecords }) => waitingRecords > records * ROOM * 0.8, "the outage's end");
    this.kafka.thaw();
    await this.until(({ waitingRecords }) => waitingRecords < records * ROOM * 0.6, "a quarter of the drain");
    const drainMs = (await statusOf(gateway)).runway.drainMs ?? Number.NaN;
    const saidAt = performance.now();
    say(`the drain is said to take ${(drainMs / 1000).toFixed(0)} s more`);
    await this.until(({ waitingRecords }) => waitingRecords < perSecond, "the drain");
    const tookMs = performance.now() - saidAt;
    say(`it took ${(tookMs / 1000).toFixed(0)} s`);
    await sensors.end();
    await this.until(({ waitingRecords }) => waitingRecords === 0, "the rest");
    return drainMs / tookMs;
  }
}

/** On a disk of its own, with a retention that would long have taken what waits. */
async function away(broker: string, records: number): Promise<Gateway> {
  const retention = { time: "5s", size: "2MiB", waitForUplink: true };
  const segment = { size: "1MiB", time: "10s" };
  const gateway = await Gateway.start({
    streams: { telemetry: { partitions: PARTITIONS, retention, segment } },
    mappings: [],
    uplinks: [{ name: "cloud", brokers: [broker], streams: ["telemetry"], maxBackoff: "1s" }],
    nodeArgs: ["--import", fileURLToPath(new URL("small-disk.mjs", import.meta.url))],
  });
  const { stdout } = await run("du", ["-sB1", gateway.dataDir]);
  const bytes = Number.parseInt(stdout, 10) + MIN_FREE_BYTES + JOURNAL_BYTES + records * ROOM * STORED_BYTES;
  await writeFile(join(gateway.folder, "small-disk"), String(Math.round(bytes)));
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
function produce(brokers: string, records: number, perSecond: number): Running {
  const sizes = ["--num-records", records, "--record-size", RECORD_BYTES, "--throughput", perSecond];
  const patient = [
    "delivery.timeout.ms=2147483647",
    "max.block.ms=9223372036854775807",
    "retry.backoff.ms=200",
  ];
  const properties = ["--producer-props", `bootstrap.servers=${brokers}`, "acks=all", ...patient];
  const args = ["--topic", "telemetry", ...sizes.map(String), ...properties];
  return new Running(tool("java"), javaArgs(MAINS["producer performance"], args));
}

/** By the first offsets that the gateway still has; retention comes round every 15 s. */
async function retiredOf(gateway: Gateway): Promise<number> {
  let retired = 0;
  await eventually(
    async () => {
      retired = sum(await offsetsOf(gateway), "low");
      return retired > 0;
    },
    "retention",
    120_000,
  );
  return retired;
}

type Offsets = { readonly low: string; readonly high: string };

const offsetsOf = ({ brokers }: Gateway): Promise<Offsets[]> =>
  withAdmin(brokers, (admin) => admin.fetchTopicOffsets("telemetry"));

function sum(offsets: readonly Offsets[], of: keyof Offsets): number {
  return offsets.reduce((total, { [of]: offset }) => total + Number(offset), 0);
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
