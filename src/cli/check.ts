/** `sluice check [file]`: says all that is wrong with a configuration, runs its tests, or sums up what it sets. */
import type { Command } from "commander";
import pc from "picocolors";
import { loadConfig } from "../config/load.ts";
import { DEFAULT_CONFIG_FILE, type LoadedConfig } from "../config/loaded.ts";
import { ConfigError, formatProblems } from "../config/problems.ts";
import { resultText, runTests, type TestResult } from "../config/tests.ts";
import { formatAddress, plural } from "../config/units.ts";

const HELP = `
Exit codes: 0 all is well, 1 a test fails, 78 the configuration is wrong.`;

export function register(program: Command): void {
  program
    .command("check")
    .description("Validate a configuration, environment variables included, and run the tests in it.")
    .argument("[file]", "the configuration", DEFAULT_CONFIG_FILE)
    .option("--json", "one JSON document: the configuration as it is used and the tests, or its problems")
    .addHelpText("after", HELP)
    .action(run);
}

async function run(file: string, options: { json?: boolean }): Promise<void> {
  try {
    const loaded = await loadConfig(file, { env: process.env });
    const results = runTests(loaded);
    const failed = results.filter(({ differences }) => differences.length > 0);
    if (failed.length > 0) process.exitCode = 1;
    if (options.json) printJson(loaded, results, failed.length === 0);
    else print(loaded, results, failed);
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

function printJson({ config, ...loaded }: LoadedConfig, tests: readonly TestResult[], ok: boolean): void {
  const { file, version, warnings } = loaded;
  const notes = loaded.notes.map(({ place, message, mend }) => ({ place: place.label, message, mend }));
  console.log(JSON.stringify({ ok, file, version, warnings, notes, tests, config }, null, 2));
}

function print(
  { config, file, version, warnings, notes }: LoadedConfig,
  tests: readonly TestResult[],
  failed: readonly TestResult[],
): void {
  for (const warning of warnings) console.error(pc.yellow(warning));
  if (notes.length > 0) console.error(pc.yellow(formatProblems(notes)));
  const { streams, mappings, downlinks, mqtt, kafka } = config;
  const partitions = Object.values(streams).reduce((sum, stream) => sum + stream.partitions, 0);
  const parts = [
    `${plural(Object.keys(streams).length, "stream")} with ${plural(partitions, "partition")}`,
    plural(mappings.length, "mapping"),
    ...(downlinks.length > 0 ? [plural(downlinks.length, "downlink")] : []),
    `MQTT at ${mqtt.listeners.map(({ bind }) => formatAddress(bind)).join(", ")}`,
    `Kafka at ${[kafka, ...kafka.listeners].map(({ bind }) => formatAddress(bind)).join(", ")}`,
  ];
  for (const result of failed) console.log(coloured(resultText(result)));
  const mark = failed.length === 0 ? pc.green("ok") : pc.red("tests fail");
  console.log(`${mark}  ${file}: ${parts.join(", ")}; version ${version}`);
  if (tests.length === 0) return;
  const passed = `${tests.length - failed.length} of ${plural(tests.length, "test")} passed`;
  console.log(failed.length === 0 ? pc.dim(passed) : pc.red(passed));
}

function coloured(text: string): string {
  const [title, ...lines] = text.split("\n");
  const painted = lines.map((line) =>
    line
      .replace(/(expected {2})(.*)/, (_, word, value) => word + pc.green(value))
      .replace(/(was {7})(.*)/, (_, word, value) => word + pc.red(value)),
  );
  return [pc.bold(`✗ ${title}`), ...painted].join("\n");
}
