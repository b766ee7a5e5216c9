/** Which broker a verb asks: the one named, or the one that the configuration opens on this machine. */
import { existsSync } from "node:fs";
import type { Command } from "commander";
import { loadConfig, parseConfig } from "../config/load.ts";
import { DEFAULT_CONFIG_FILE } from "../config/loaded.ts";
import { didYouMean } from "../config/problems.ts";
import { formatAddress, parseAddress, reachable } from "../config/units.ts";
import { SluiceError } from "../errors.ts";
import { parsedBy } from "./arguments.ts";

export interface BrokerOptions {
  readonly brokers?: readonly string[];
  readonly config?: string;
}

const brokerAddress = parsedBy(parseAddress);
export const brokerList = (text: string) => text.split(",").map((one) => brokerAddress(one.trim()));

export function brokerOptions(command: Command): Command {
  return command
    .option(
      "--broker, --brokers <host:port,…>",
      "the gateway or a Kafka cluster; default: the configuration's kafka.bind",
      (text) => brokerList(text).map(formatAddress),
    )
    .option("--config <file>", `the configuration; default: ${DEFAULT_CONFIG_FILE}, if it is there`);
}

/** `host:port` each. Rejects with ConfigError when the configuration that should say it is wrong. */
export async function brokersOf({ brokers, config: file }: BrokerOptions): Promise<readonly string[]> {
  if (brokers !== undefined) return brokers;
  const inputs = { env: process.env };
  const { config } =
    file === undefined && !existsSync(DEFAULT_CONFIG_FILE)
      ? parseConfig("version: 1", "defaults", inputs)
      : await loadConfig(file ?? DEFAULT_CONFIG_FILE, inputs);
  return [formatAddress(reachable(config.kafka.bind))];
}

/** The name if it is one of those there are; SluiceError UNKNOWN, with what was meant, otherwise. */
export function chosen(kind: "stream" | "group", name: string, names: readonly string[]): string {
  if (names.includes(name)) return name;
  throw new SluiceError("UNKNOWN", `there is no ${kind} "${name}"${didYouMean(name, names)}`, {
    mend: `sluice ${kind}s  lists them`,
    exitCode: 66,
  });
}
