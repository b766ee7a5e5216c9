/**
 * The subscriber of the latency row: kafkajs with its defaults and one `eachMessage`, in a process of its own.
 * Latency runs from the socket write of the PUBLISH, stamped by load.ts, to the call of `eachMessage`.
 *
 * Run as `latency.ts <LatencyOptions as JSON>`; prints `joined`, and one line of JSON on SIGTERM.
 */
import { kafkaClient } from "../interop/support/kafka.ts";
import { clockMs } from "./load.ts";

export interface LatencyOptions {
  readonly brokers: string;
  readonly stream: string;
  /** From the first message's stamp on; what was sent in this time is not counted. */
  readonly warmUpMs: number;
  /** What follows is judged in rounds of this length, so that one hiccup of the machine is one round's. */
  readonly roundMs: number;
  /** Whether it reads what was there before, too. */
  readonly fromBeginning?: boolean;
}

export interface LatencyResult {
  /** All that came, warm-up included. */
  readonly received: number;
  readonly rounds: readonly { readonly p50: number; readonly p99: number; readonly max: number }[];
}

const {
  brokers,
  stream,
  warmUpMs,
  roundMs,
  fromBeginning = true,
} = JSON.parse(process.argv[2] ?? "{}") as LatencyOptions;
const rounds: number[][] = [];
let received = 0;
let from: number | undefined;

const consumer = kafkaClient(brokers).consumer({ groupId: `latency-${process.pid}` });
const joined = new Promise((resolve) => consumer.on(consumer.events.GROUP_JOIN, resolve));
await consumer.connect();
await consumer.subscribe({ topic: stream, fromBeginning });
await consumer.run({
  eachMessage: async ({ message }) => {
    const now = clockMs();
    const sentAt = Number(message.value?.toString("latin1"));
    received++;
    from ??= sentAt + warmUpMs;
    if (sentAt < from) return;
    const round = Math.floor((sentAt - from) / roundMs);
    rounds[round] ??= [];
    rounds[round].push(now - sentAt);
  },
});
await joined;
process.stdout.write("joined\n");

process.once("SIGTERM", () => {
  const result: LatencyResult = {
    received,
    rounds: rounds.map((latencies) => {
      latencies.sort((a, b) => a - b);
      const at = (share: number) => latencies[Math.floor((latencies.length - 1) * share)] ?? Number.NaN;
      return { p50: at(0.5), p99: at(0.99), max: at(1) };
    }),
  };
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
});
