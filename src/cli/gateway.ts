/** Which running gateway a verb asks: the one on the data folder that is named, or that the configuration names. */
import { existsSync } from "node:fs";
import type { Command } from "commander";
import { DEFAULT_CONFIG_FILE, loadConfig, parseConfig } from "../config/load.ts";
import { ControlClient } from "../control/client.ts";

export interface GatewayOptions {
  readonly data?: string;
  readonly config?: string;
}

export function gatewayOptions(command: Command): Command {
  return command
    .option("--data <folder>", "the gateway's data folder; default: the configuration's dataDir")
    .option("--config <file>", `the configuration; default: ${DEFAULT_CONFIG_FILE}, if it is there`);
}

/** Rejects with ConfigError when the configuration that should name the data folder is wrong. */
export async function gatewayOf({ data, config: file }: GatewayOptions): Promise<ControlClient> {
  return new ControlClient(data ?? (await dataDirOf(file)));
}

/** The data folder that the configuration names. */
export async function dataDirOf(file: string | undefined): Promise<string> {
  const inputs = { env: process.env };
  const { config } =
    file === undefined && !existsSync(DEFAULT_CONFIG_FILE)
      ? parseConfig("version: 1", "defaults", inputs)
      : await loadConfig(file ?? DEFAULT_CONFIG_FILE, inputs);
  return config.dataDir;
}
