/** `sluice check [file]`: says all that is wrong with a configuration, or sums up what it sets. */
import type { Command } from "commander";
import pc from "picocolors";
import { DEFAULT_CONFIG_FILE, loadConfig } from "../config/load.ts";
import { ConfigError } from "../config/problems.ts";
import { formatAddress, plural } from "../config/units.ts";

export function register(program: Command): void {
  program
    .command("check")
    .description("Validate a configuration, environment variables included. Exit code 78 when it is wrong.")
    .argument("[file]", "the configuration", DEFAULT_CONFIG_FILE)
    .option("--json", "one JSON document: the configuration as it is used, or its problems")
    .action(run);
}

async function run(file: string, options: { json?: boolean }): Promise<void> {
  try {
    const { config, warnings } = await loadConfig(file, { env: process.env });
    if (options.json) return console.log(JSON.stringify({ ok: true, file, warnings, config }, null, 2));
    for (const warning of warnings) console.error(pc.yellow(warning));
    const { streams, mappings, mqtt, kafka } = config;
    const partitions = Object.values(streams).reduce((sum, stream) => sum + stream.partitions, 0);
    const parts = [
      `${plural(Object.keys(streams).length, "stream")} with ${plural(partitions, "partition")}`,
      plural(mappings.length, "mapping"),
      `MQTT at ${mqtt.listeners.map(({ bind }) => formatAddress(bind)).join(", ")}`,
      `Kafka at ${formatAddress(kafka.bind)}`,
    ];
    console.log(`${pc.green("ok")}  ${file}: ${parts.join(", ")}`);
  } catch (error) {
    if (!(error instanceof ConfigError && options.json)) throw error;
    const problems = error.problems.map(({ place, message, mend }) => ({
      place: place.label,
      message,
      mend,
    }));
    console.log(JSON.stringify({ ok: false, file, problems }, null, 2));
    process.exitCode = error.exitCode;
  }
}
