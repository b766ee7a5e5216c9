/** Sluice beside Apache Kafka 4, both driven by Kafka's own performance tools. */
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApacheKafka } from "../interop/support/apache-kafka.ts";
import type { Gateway } from "../interop/support/gateway.ts";
import { withAdmin } from "../interop/support/kafka.ts";
import { MAINS } from "../interop/support/kafka-tools.ts";
import { run } from "../interop/support/process.ts";
import { javaArgs, tool } from "../interop/support/tools.ts";
import { type Figure, mb } from "./figure.ts";
import { BENCH, median, residentBytes, withGateway } from "./measure.ts";

/**
 * Values, in bytes in all, of one run; less where Kafka syncs each batch, which takes it three times as long. Of 300 MB
 * most of the time went into the tool's own first seconds, whoever answered it: interpreted, not yet compiled.
 */
const RUN_BYTES = Number(process.env.SLUICE_BENCH_RUN ?? 2_000_000_000);
const CAREFUL_BYTES = RUN_BYTES / 2;
/** Kafka's producer fills batches of 16 KiB by itself; others, in bytes, for who has tuned his. */
const BATCH_BYTES = process.env.SLUICE_BENCH_BATCH;
/**
 * Or a run's files would be deleted a minute later, in the middle of another's. Not 0: its thread would then never rest,
 * at a twentieth of a core for each Kafka.
 */
const DELETES_SOON = { "log.segment.delete.delay.ms": 1_000 };
const ROUNDS = Number(process.env.SLUICE_BENCH_ROUNDS ?? 3);

/** A tool in a JVM of its own, with the compiler's second tier. */
async function perf(name: "producer performance" | "consumer performance", args: string[]): Promise<string> {
  const flags = javaArgs(MAINS[name], args).filter((flag) => flag !== "-XX:TieredStopAtLevel=1");
  const roomy = flags.map((flag) => (flag === "-Xmx256m" ? "-Xmx512m" : flag));
  return (await run(tool("java"), roomy, { timeoutMs: 300_000 })).stdout;
}

/** MB/s of values that Kafka's producer got acknowledged: acks=all and idempotent, as it is by itself. */
async function produced(brokers: string, topic: string, size: number, bytes: number): Promise<number> {
  const load = [
    "--topic",
    topic,
    "--num-records",
    String(Math.round(bytes / size)),
    "--record-size",
    String(size),
  ];
  const text = await perf("producer performance", [
    ...[...load, "--throughput", "-1", "--producer-props", `bootstrap.servers=${brokers}`],
    ...(BATCH_BYTES === undefined ? [] : [`batch.size=${BATCH_BYTES}`]),
  ]);
  return (Number([...text.matchAll(/sent, ([\d.]+) records\/sec/g)].at(-1)?.[1]) * size) / 1e6;
}

/** MB/s at which Kafka's consumer fetched a topic from its beginning, the joining of its group left out. */
async function consumed(brokers: string, topic: string, size: number, bytes: number): Promise<number> {
  const text = await perf("consumer performance", [
    ...["--bootstrap-server", brokers, "--topic", topic, "--timeout", "20000"],
    ...["--messages", String(Math.round(bytes / size))],
  ]);
  // start, end, MB, MB/s, messages, messages/s, rebalance ms, fetch ms, fetch MB/s (of 2^20), fetch messages/s
  return Number(text.trim().split("\n").at(-1)?.split(", ")[8]) * 1.048576;
}

interface Rival {
  readonly brokers: string;
  readonly pid: number;
}

/** What Kafka has not synced would be written during the next run, which may not be Kafka's. */
const quietDisk = () => run("sync", []);

/**
 * Each producer finds the machine as every other does, whoever ran before it. A virtual machine gives memory that lies
 * free for some seconds back to its host: whoever came first after a pause had to ask for all of his page cache anew,
 * and copying into it took eight times as long.
 */
async function evenMachine(bytes: number): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sluice-bench-"));
  try {
    const file = await open(join(folder, "memory"), "w");
    try {
      const zeros = Buffer.alloc(1 << 20);
      for (let at = 0; at < bytes; at += zeros.length) await file.write(zeros);
    } finally {
      await file.close();
    }
  } finally {
    await rm(folder, { recursive: true });
  }
  await quietDisk();
}

const createTopic = ({ brokers }: Rival, topic: string, numPartitions: number) =>
  withAdmin(brokers, (admin) =>
    admin.createTopics({ topics: [{ topic, numPartitions }], waitForLeaders: true }),
  );
/** Or the runs together would take 60 GB. */
const deleteTopic = ({ brokers }: Rival, topic: string) =>
  withAdmin(brokers, (admin) => admin.deleteTopics({ topics: [topic] }));

const rivalOf = ({ brokers, process }: Gateway | ApacheKafka): Rival => ({ brokers, pid: process.pid });
const listOf = (values: readonly number[]) => values.map((value) => value.toFixed(0)).join(" ");

/** How many times theirs ours is. */
export function ratio(
  what: string,
  ours: readonly number[],
  theirs: readonly number[],
  target: number,
  note = "",
): Figure {
  const [a, b] = [median(ours), median(theirs)];
  return {
    what,
    figure: `${(a / b).toFixed(2)}×`,
    target: `≥ ${target}×`,
    met: a / b >= target,
    detail: `${a.toFixed(0)} MB/s (${listOf(ours)}) against ${b.toFixed(0)} MB/s (${listOf(theirs)})${note}`,
    values: { ours: a, theirs: b },
  };
}

/** Both Kafkas beside Sluice: it syncs, Kafka by default does not, and a third one is told to. */
async function withRivals<T>(body: (ours: Rival, theirs: Rival, careful: Rival) => Promise<T>): Promise<T> {
  const unsynced = await ApacheKafka.start({ heap: "1g", properties: DELETES_SOON });
  try {
    const properties = { ...DELETES_SOON, "log.flush.interval.messages": 1 };
    const synced = await ApacheKafka.start({ heap: "1g", properties });
    try {
      return await withGateway(BENCH, (gateway) =>
        body(rivalOf(gateway), rivalOf(unsynced), rivalOf(synced)),
      );
    } finally {
      await synced.close();
    }
  } finally {
    await unsynced.close();
  }
}

/** Which record sizes and how many partitions; a part of them for a short look: `1000x1,1000x6`. */
const CASES = (process.env.SLUICE_BENCH_CASES ?? "200x1,200x6,1000x1,1000x6")
  .split(",")
  .map((one) => one.split("x").map(Number) as [size: number, partitions: number]);

export function kafkaPerformance(): Promise<Figure[]> {
  return withRivals(async (us, kafka, careful) => {
    const figures: Figure[] = [];
    const memory = { ours: 0, theirs: 0 };
    for (const [size, partitions] of CASES) {
      const rates = { ours: [] as number[], theirs: [] as number[], careful: [] as number[] };
      const reads = { ours: [] as number[], theirs: [] as number[] };
      for (let round = 0; round < ROUNDS; round++) {
        const topic = `perf-${size}-${partitions}-${round}`;
        for (const [rival, name] of [
          [us, "ours"],
          [kafka, "theirs"],
          [careful, "careful"],
        ] as const) {
          await createTopic(rival, topic, partitions);
          const bytes = name === "careful" ? CAREFUL_BYTES : RUN_BYTES;
          await evenMachine(bytes);
          rates[name].push(await produced(rival.brokers, topic, size, bytes));
          if (name !== "careful") {
            memory[name] = Math.max(memory[name], residentBytes(rival.pid));
            await quietDisk();
            reads[name].push(await consumed(rival.brokers, topic, size, bytes));
            memory[name] = Math.max(memory[name], residentBytes(rival.pid));
          }
          await deleteTopic(rival, topic);
        }
      }
      const batches = BATCH_BYTES === undefined ? "" : `, batches of ${BATCH_BYTES} B`;
      const what = `${size} B, ${partitions} partition${partitions === 1 ? "" : "s"}${batches}`;
      figures.push(
        ratio(`ProducerPerformance, ${what}, synced, against Kafka unsynced`, rates.ours, rates.theirs, 1),
        ratio(`ProducerPerformance, ${what}, against Kafka synced`, rates.ours, rates.careful, 3),
        ratio(
          `ConsumerPerformance, ${what}`,
          reads.ours,
          reads.theirs,
          1,
          ", without the joining of the group",
        ),
      );
    }
    return [...figures, memoryFigure(memory)];
  });
}

function memoryFigure({ ours, theirs }: { readonly ours: number; readonly theirs: number }): Figure {
  return {
    what: "resident memory meanwhile, against Kafka's",
    figure: `1/${(theirs / ours).toFixed(1)}`,
    target: "≤ 1/5",
    met: ours <= theirs / 5,
    detail: `${mb(ours)} against ${mb(theirs)}, the largest seen after any of the runs; Kafka has the heap of its start script, 1 GiB`,
    values: { ours, theirs },
  };
}
