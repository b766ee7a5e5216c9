/**
 * Consumers that all read everything of one partition, each on a bare socket. Latency runs from the socket write of a
 * PUBLISH, stamped by load.ts, to the arrival of its record; of each answer its first, oldest record counts.
 *
 * Run as `fan-out.ts <FanOutOptions as JSON>`; prints `waiting` when all have asked, and on SIGTERM one line of
 * JSON, a FanOutResult.
 */
import { batchBytes, decodeRecords } from "../../src/wire/record-batch.ts";
import { BareConsumer } from "./bare-consumer.ts";
import { clockMs } from "./load.ts";

export interface FanOutOptions {
  readonly port: number;
  readonly consumers: number;
  readonly stream: string;
  /** From the first message's stamp on; what was sent in this time is not judged. */
  readonly warmUpMs: number;
  readonly roundMs: number;
}

export interface FanOutResult {
  /** Records that came to the consumer with the fewest, warm-up included; and to all together. */
  readonly fewest: number;
  readonly deliveries: number;
  /** Answers that brought records. */
  readonly answers: number;
  readonly rounds: readonly { readonly p50: number; readonly p99: number; readonly max: number }[];
  readonly cpuMs: number;
}

const options = JSON.parse(process.argv[2] ?? "{}") as FanOutOptions;
const { port, consumers, stream, warmUpMs, roundMs } = options;
const wish = { stream, partitions: 1, maxWaitMs: 60_000, partitionMaxBytes: 1 << 20 };
const rounds: number[][] = [];
let answers = 0;
let from: number | undefined;

function note(source: Buffer): void {
  const [first] = decodeRecords(source.subarray(0, batchBytes(source)));
  const sentAt = Number(first?.value?.toString("latin1"));
  answers++;
  from ??= sentAt + warmUpMs;
  if (sentAt < from) return;
  const round = Math.floor((sentAt - from) / roundMs);
  rounds[round] ??= [];
  rounds[round].push(clockMs() - sentAt);
}

const all: BareConsumer[] = [];
for (let opened = 0; opened < consumers; opened += 200) {
  const some = Array.from({ length: Math.min(200, consumers - opened) }, () =>
    BareConsumer.open(port, wish, note),
  );
  all.push(...(await Promise.all(some)));
}
for (const consumer of all) consumer.ask();
process.stdout.write("waiting\n");

process.once("SIGTERM", () => {
  const counts = all.map(({ records }) => records);
  const { user, system } = process.cpuUsage();
  const result: FanOutResult = {
    fewest: Math.min(...counts),
    deliveries: counts.reduce((sum, count) => sum + count, 0),
    answers,
    rounds: rounds.map((latencies) => {
      const sorted = Float64Array.from(latencies).sort();
      const at = (share: number) => sorted[Math.floor((sorted.length - 1) * share)] ?? Number.NaN;
      return { p50: at(0.5), p99: at(0.99), max: at(1) };
    }),
    cpuMs: (user + system) / 1_000,
  };
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
});
