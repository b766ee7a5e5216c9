/** `sluice demo`: N×M connections against N+M, with real sockets. */
import type { Command } from "commander";
import type { Address } from "../config/schema.ts";
import { Demo } from "../demo/demo.ts";
import { DEFAULT_MESH_LIMIT } from "../demo/limits.ts";
import { conclusion } from "../demo/screen.ts";
import { Screen } from "../demo/terminal.ts";
import { duration, wholeNumber } from "./arguments.ts";
import { brokerList } from "./broker.ts";
import { stopSignal } from "./stop.ts";

const MAX_CLIENTS = 10_000;
/** Thousands of sockets are closed, and a gateway. */
const STOP_GRACE_MS = 10_000;

interface Flags {
  readonly sensors: number;
  readonly subscribers: number;
  readonly duration?: number;
  readonly meshLimit: number;
  readonly kafkajs: number;
  readonly brokers?: readonly Address[];
  readonly json?: true;
}

export function register(program: Command): void {
  const clients = wholeNumber(1, MAX_CLIENTS);
  program
    .command("demo")
    .description("show N×M connections against N+M: a mesh first, then a gateway, with real sockets")
    .option("--sensors <n>", "sensors that publish", clients, 10)
    .option("--subscribers <n>", "subscribers that read everything", clients, 10)
    .option("--duration <time>", "ends after so long; without it the gateway stays up", duration(1_000))
    .option("--mesh-limit <n>", "connections that the mesh opens at most", wholeNumber(1), DEFAULT_MESH_LIMIT)
    .option("--kafkajs <n>", "up to so many subscribers are kafkajs consumers", wholeNumber(1), 20)
    .option(
      "--broker, --brokers <host:port,…>",
      "a Kafka cluster behind the gateway, from which the subscribers read instead; without TLS and SASL",
      brokerList,
    )
    .option("--json", "the result as one JSON document on standard output")
    .action(run);
}

async function run({ json, duration: durationMs, kafkajs: kafkajsLimit, ...sizes }: Flags): Promise<void> {
  // Standard output belongs to the document; without a terminal there is nobody to show progress to.
  const screen = new Screen(json ? (process.stderr.isTTY ? process.stderr : undefined) : process.stdout);
  const demo = new Demo({ ...sizes, durationMs, kafkajsLimit }, screen, stopSignal(STOP_GRACE_MS));
  // Whatever is said of an error belongs below what stays.
  const report = await demo.run().finally(() => screen.print([]));
  if (json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  screen.print(conclusion(report));
  if (!report.passed) process.exitCode = 1;
}
