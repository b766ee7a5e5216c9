/** Which running gateway a verb asks: the one on the data folder that is named, or that the configuration names. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import { loadConfig, parseConfig } from "../config/load.ts";
import { DEFAULT_CONFIG_FILE } from "../config/loaded.ts";
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

export async function gatewayOf({ data, config: file }: GatewayOptions): Promise<ControlClient> {
  return new ControlClient(data ?? (await dataDirOf(file)));
}

/** The data folder that the configuration names. Rejects with ConfigError where it names none. */
export async function dataDirOf(file: string | undefined): Promise<string> {
  const inputs = { env: process.env };
  if (file === undefined && !existsSync(DEFAULT_CONFIG_FILE)) {
    return parseConfig("version: 1", "defaults", inputs).config.dataDir;
  }
  const name = file ?? DEFAULT_CONFIG_FILE;
  try {
    return (await loadConfig(name, inputs)).config.dataDir;
  } catch (error) {
    // The gateway may well run on an earlier one, and what it says of this one is being asked for.
    const text = await readFile(name, "utf8").catch(() => "");
    const dataDir = process.env.SLUICE_DATA_DIR ?? /^dataDir:[ \t]*["']?([^"'#\s]+)/m.exec(text)?.[1];
    if (dataDir === undefined || !existsSync(dataDir)) throw error;
    return dataDir;
  }
}
