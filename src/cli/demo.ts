/** `sluice demo`: N×M connections against N+M, with real sockets. */
import { type Command, InvalidArgumentError } from "commander";
import { parseDuration } from "../config/units.ts";
import { Demo } from "../demo/demo.ts";
import { DEFAULT_MESH_LIMIT } from "../demo/limits.ts";
import { conclusion, Screen } from "../demo/screen.ts";
import { onInterrupt } from "./interrupt.ts";

const MAX_CLIENTS = 10_000;

function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError("a whole number of at least 1 is wanted");
  return value;
}

function clients(text: string): number {
  const value = count(text);
  if (value > MAX_CLIENTS) throw new InvalidArgumentError(`at most ${MAX_CLIENTS}`);
  return value;
}

function duration(text: string): number {
  const parsed = parseDuration(text);
  if (!("value" in parsed) || parsed.value < 1000)
    throw new InvalidArgumentError("written like 20s, at least 1s");
  return parsed.value;
}

function perSecond(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 1000)) throw new InvalidArgumentError("a number above 0, at most 1000");
  return value;
}

interface Flags {
  sensors: number;
  subscribers: number;
  duration?: number;
  rate?: number;
  meshLimit: number;
  kafkajs: number;
  json?: true;
}

async function run(flags: Flags): Promise<void> {
  const json = flags.json === true;
  // Standard output belongs to the document; without a terminal there is nobody to show progress to.
  const screen = new Screen(json ? (process.stderr.isTTY ? process.stderr : undefined) : process.stdout);
  const interrupt = onInterrupt();
  const { sensors, subscribers, duration: durationMs, rate, meshLimit, kafkajs: kafkajsLimit } = flags;
  const demo = new Demo(
    { sensors, subscribers, durationMs, rate, meshLimit, kafkajsLimit },
    screen,
    interrupt.signal,
  );
  try {
    const report = await demo.run();
    if (json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    screen.print(conclusion(report));
    if (!report.passed) process.exitCode = 1;
  } finally {
    screen.end();
    interrupt.dispose();
  }
}

export function register(program: Command): void {
  program
    .command("demo")
    .description("show N×M connections against N+M: a mesh first, then a gateway, with real sockets")
    .option("--sensors <n>", "sensors that publish", clients, 10)
    .option("--subscribers <n>", "subscribers that read everything", clients, 10)
    .option(
      "--duration <time>",
      "how long messages flow in all, then end; without it the gateway stays up",
      duration,
    )
    .option("--rate <n>", "readings per second of each sensor; default: what makes a sight", perSecond)
    .option("--mesh-limit <n>", "how many connections the mesh opens at most", count, DEFAULT_MESH_LIMIT)
    .option("--kafkajs <n>", "up to so many subscribers are kafkajs consumers", count, 20)
    .option("--json", "the result as one JSON document on standard output")
    .action(run);
}
