/** `sluice up`: starts the gateway and says, in the words a person needs, where it is reached. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import type { Command } from "commander";
import pc from "picocolors";
import { loadConfigAside } from "../config/load-aside.ts";
import { DEFAULT_CONFIG_FILE, flag, type LoadedConfig, shiftPorts } from "../config/loaded.ts";
import type { Address, Config } from "../config/schema.ts";
import { formatAddress, formatDuration, plural, reachable, UNLIMITED } from "../config/units.ts";
import type { Gateway, GatewayAddresses } from "../gateway.ts";
import { letYoungHeapGrow } from "../heap.ts";
import { createLogger, type Logger } from "../logger.ts";
import { wholeNumber } from "./arguments.ts";
import { aborted, stopSignal } from "./stop.ts";
import { wearBetween, wearText } from "./wear.ts";

const TELL_WEAR_MS = 600_000;

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
    .option(
      "--port-offset <n>",
      "add n to every port, to run beside another gateway",
      wholeNumber(0, 65_535),
      0,
    )
    .option("--log-level <level>", "trace, debug, info, warn, error or silent")
    .action(run);
}

async function run({ config: file, data, logLevel, portOffset }: Options): Promise<void> {
  const flags = [
    ...(data === undefined ? [] : [flag("--data", ["dataDir"], data)]),
    ...(logLevel === undefined ? [] : [flag("--log-level", ["logLevel"], logLevel)]),
  ];
  const inputs = { env: { ...process.env }, flags };
  const shifted = (one: LoadedConfig) => ({ ...one, config: shiftPorts(one.config, portOffset) });
  // What serves is read meanwhile.
  const [first, { Gateway }] = await Promise.all([loadConfigAside(file, inputs), import("../gateway.ts")]);
  const loaded = shifted(first);
  const { config } = loaded;
  const logger = createLogger(config.logLevel);
  for (const warning of loaded.warnings) logger.warn(warning);

  const load = async (current: LoadedConfig) => shifted(await loadConfigAside(file, inputs, current));
  const gateway = new Gateway(config, logger, { loaded, load });
  // What is wrong is logged; the terminal of the one who sent it is not this one.
  process.on("SIGHUP", () => gateway.reload().catch(() => {}));
  // From here on a signal must find someone who stops what has started.
  const stop = stopSignal();
  const stopped = aborted(stop).then(async () => {
    logger.info({ signal: stop.reason }, "stopping");
    await gateway.close();
    const { stored, droppedUnmatched, droppedFailed } = gateway.stats.ingest;
    const wear = wearBetween(undefined, gateway.stats.log, performance.now() - startedAt);
    logger.info(wear, `disk since the start: ${wearText(wear)}`);
    logger.info({ stored, droppedUnmatched, droppedFailed }, "stopped; everything acknowledged is on disk");
  });
  const startedAt = performance.now();
  const addresses = await gateway.start();
  letYoungHeapGrow();
  tellWear(gateway, logger);
  console.log(welcome(config, addresses));
  await stopped;
}

/** From time to time, when something was taken. */
function tellWear(gateway: Gateway, logger: Logger): void {
  let before = gateway.stats.log;
  const tell = (): void => {
    const after = gateway.stats.log;
    const wear = wearBetween(before, after, TELL_WEAR_MS);
    before = after;
    if (wear.takenBytes > 0) logger.info(wear, `disk: ${wearText(wear)}`);
  };
  setInterval(tell, TELL_WEAR_MS).unref();
}

function welcome(config: Config, { mqtt, kafka }: GatewayAddresses): string {
  const streams = Object.entries(config.streams);
  const [example] = Object.keys(config.streams);
  const line = (title: string, text: string) => `  ${title.padEnd(24)}${text}`;
  const kafkaAddress = formatAddress(reachable(kafka));
  // Where the verbs' own defaults do not lead here, the address has to be typed.
  const broker = kafka.port === 9092 ? "" : ` --broker ${kafkaAddress}`;
  const to =
    mqtt[0] === undefined || mqtt[0].port === 1883 ? "" : ` --to mqtt://${formatAddress(reachable(mqtt[0]))}`;
  // Run by npm, as in a clone of the repository, the program is not on the path.
  const sluice = process.env.npm_command === undefined ? "sluice" : "npx sluice";
  const data = resolve(config.dataDir) === resolve("data") ? "" : ` --data ${config.dataDir}`;
  const fleet = "devices/greenhouse.yaml";
  const hints: (readonly [string, string])[] = [
    ...(existsSync(fleet) ? [[`${sluice} simulate ${fleet}${to}`, "let sensors publish"] as const] : []),
    [`${sluice} tap${data}`, "messages as they come, and what becomes of each"],
    [`${sluice} subscribe ${example ?? "<stream>"} --from beginning${broker}`, "read a stream"],
    [`${sluice} streams${broker}`, "what is stored"],
  ];
  const width = Math.max(...hints.map(([command]) => command.length));
  const local = [...mqtt, kafka].every(({ host }) => isLoopback(host));
  return [
    `${pc.bold(pc.green(config.name))} is up`,
    ...mqtt.map((address) =>
      line("MQTT for sensors", `mqtt://${formatAddress(reachable(address))}${scope(address)}`),
    ),
    line("Kafka for subscribers", `${kafkaAddress}${scope(kafka)}`),
    line("Data folder", resolve(config.dataDir)),
    ...streams.map(([name, stream], index) => line(index === 0 ? "Streams" : "", describe(name, stream))),
    ...(local ? [pc.dim("  Only this machine can connect; bind 0.0.0.0 to let others in.")] : []),
    "",
    "In another terminal:",
    ...hints.map(([command, what]) => `  ${command.padEnd(width)}  ${pc.dim(what)}`),
    "Ctrl-C stops.",
  ].join("\n");
}

function describe(name: string, { partitions, retention }: Config["streams"][string]): string {
  const kept = retention.time === UNLIMITED ? "for ever" : formatDuration(retention.time);
  return `${name} (${plural(partitions, "partition")}, ${kept})`;
}

function scope(address: Address): string {
  return reachable(address).host === address.host ? "" : " and at every other address of this machine";
}

function isLoopback(host: string): boolean {
  return host.startsWith("127.") || host === "::1" || host === "localhost";
}
