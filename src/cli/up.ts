/** `sluice up`: starts the gateway and says, in the words a person needs, where it is reached. */
import { resolve } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import pc from "picocolors";
import { flag } from "../config/environment.ts";
import { DEFAULT_CONFIG_FILE, loadConfig, shiftPorts } from "../config/load.ts";
import type { Address, Config } from "../config/schema.ts";
import { formatAddress, formatDuration } from "../config/units.ts";
import { Gateway, type GatewayAddresses } from "../gateway.ts";
import { createLogger } from "../logger.ts";
import { runUntilStopped } from "./stop.ts";

interface Options {
  readonly config: string;
  readonly data?: string;
  readonly logLevel?: string;
  readonly portOffset: number;
}

export function register(program: Command): void {
  program
    .command("up")
    .description("Start the gateway. Ctrl-C or SIGTERM stops it in order; what was acknowledged is on disk.")
    .option("--config <file>", "the configuration", DEFAULT_CONFIG_FILE)
    .option("--data <folder>", "the data folder, instead of the configuration's dataDir")
    .option("--port-offset <n>", "add n to every port, to run beside another gateway", wholeNumber, 0)
    .option("--log-level <level>", "trace, debug, info, warn, error or silent")
    .action(run);
}

async function run({ config: file, data, logLevel, portOffset }: Options): Promise<void> {
  const flags = [
    ...(data === undefined ? [] : [flag("--data", ["dataDir"], data)]),
    ...(logLevel === undefined ? [] : [flag("--log-level", ["logLevel"], logLevel)]),
  ];
  const loaded = await loadConfig(file, { env: process.env, flags });
  const config = shiftPorts(loaded.config, portOffset);
  const logger = createLogger(config.logLevel);
  for (const warning of loaded.warnings) logger.warn(warning);

  const gateway = new Gateway(config, logger);
  // From here on a signal must find someone who stops what has started.
  const stopped = runUntilStopped(async (signal) => {
    logger.info({ signal }, "stopping");
    await gateway.close();
    logger.info(summary(gateway), "stopped; everything acknowledged is on disk");
  });
  const addresses = await gateway.start();
  console.log(welcome(config, addresses));
  await stopped;
}

function wholeNumber(text: string): number {
  if (!/^\d{1,5}$/.test(text)) throw new InvalidArgumentError("It must be a whole number from 0 to 65535.");
  return Number(text);
}

function summary(gateway: Gateway): object {
  const { ingest } = gateway.stats;
  const { stored, droppedUnmatched, droppedFailed } = ingest;
  return { stored, droppedUnmatched, droppedFailed };
}

function welcome(config: Config, { mqtt, kafka }: GatewayAddresses): string {
  const streams = Object.entries(config.streams);
  const [example] = streams.map(([name]) => name);
  const line = (title: string, text: string) => `  ${title.padEnd(24)}${text}`;
  const kafkaAddress = formatAddress(reachable(kafka));
  // Where the verbs' own defaults do not lead here, the address has to be typed.
  const broker = kafka.port === 9092 ? "" : ` --brokers ${kafkaAddress}`;
  const to =
    mqtt[0] === undefined || mqtt[0].port === 1883 ? "" : ` --to mqtt://${formatAddress(reachable(mqtt[0]))}`;
  const hints = [
    [`sluice simulate devices/greenhouse.yaml${to}`, "let sensors publish"],
    ...(example === undefined
      ? []
      : [[`sluice subscribe ${example} --from beginning${broker}`, "read a stream"]]),
    [`sluice streams${broker}`, "what is stored"],
  ] as [string, string][];
  const width = Math.max(...hints.map(([command]) => command.length));
  const local = [...mqtt, kafka].every(({ host }) => isLoopback(host));
  return [
    `${pc.bold(pc.green(config.name))} is up`,
    ...mqtt.map((address) =>
      line("MQTT for sensors", `mqtt://${formatAddress(reachable(address))}${scope(address)}`),
    ),
    line("Kafka for subscribers", `${kafkaAddress}${scope(kafka)}`),
    line("Data folder", resolve(config.dataDir)),
    line("Streams", streams.map(([name, stream]) => describe(name, stream)).join(", ") || "none declared"),
    ...(local
      ? [pc.dim("  Only this machine can connect; bind 0.0.0.0 in the configuration to let others in.")]
      : []),
    "",
    "In another terminal:",
    ...hints.map(([command, what]) => `  ${command.padEnd(width)}  ${pc.dim(what)}`),
    "Ctrl-C stops.",
  ].join("\n");
}

function describe(name: string, { partitions, retention }: Config["streams"][string]): string {
  const kept = retention.time < 0 ? "for ever" : formatDuration(retention.time);
  return `${name} (${partitions} partition${partitions === 1 ? "" : "s"}, ${kept})`;
}

/** An address that can be typed: what listens everywhere is reached at this machine's own. */
function reachable({ host, port }: Address): Address {
  return { host: host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host, port };
}

function scope({ host }: Address): string {
  if (host === "0.0.0.0" || host === "::") return " and at every other address of this machine";
  return "";
}

function isLoopback(host: string): boolean {
  return host.startsWith("127.") || host === "::1" || host === "localhost";
}
