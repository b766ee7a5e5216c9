/** `sluice log verify` and `sluice log repair`: a data folder looked over, and mended, without a gateway. */
import { existsSync } from "node:fs";
import type { Command } from "commander";
import pc from "picocolors";
import { grouped, plural, roughSize } from "../config/units.ts";
import { LogError, SluiceError } from "../errors.ts";
import { nodeFileSystem } from "../log/file-system.ts";
import { type Finding, type Inspection, inspect, type LostOffsets } from "../log/inspection.ts";
import { repair } from "../log/repair.ts";
import { dataDirOf, type GatewayOptions, gatewayOptions } from "./gateway.ts";
import { Progress } from "./progress.ts";

/** `EX_DATAERR` of sysexits.h. */
const DAMAGED_EXIT_CODE = 65;
/** `EX_NOINPUT`. */
const NO_FOLDER_EXIT_CODE = 66;
const PROGRESS_AFTER_MS = 2_000;

interface Options extends GatewayOptions {
  readonly json?: boolean;
}

export function register(program: Command): void {
  const log = program.command("log").description("Look a data folder over, or mend it.");
  gatewayOptions(
    log
      .command("verify")
      .description(
        "Read everything that is stored and say what is damaged, file by file. Changes nothing. Beside a running\n" +
          "gateway it judges what is settled. Exit code 65 for damage.",
      ),
  )
    .option("--json", "one JSON document")
    .action(verifyFolder);
  gatewayOptions(
    log
      .command("repair")
      .description(
        "Make a damaged data folder one that starts. What is damaged is kept in its quarantine/, and what is lost\n" +
          "is said by offsets. The gateway must not run.",
      ),
  )
    .option("--json", "one JSON document")
    .action(repairFolder);
}

async function folderOf({ data, config }: GatewayOptions): Promise<string> {
  const dataDir = data ?? (await dataDirOf(config));
  if (existsSync(dataDir)) return dataDir;
  throw new SluiceError("NO_FOLDER", `there is no data folder ${dataDir}`, {
    mend: "Name it with --data, or the configuration that does with --config.",
    exitCode: NO_FOLDER_EXIT_CODE,
  });
}

async function verifyFolder(options: Options): Promise<void> {
  const dataDir = await folderOf(options);
  let unlock: (() => Promise<void>) | undefined;
  let isRunning = false;
  try {
    unlock = await nodeFileSystem.lockFolder(dataDir);
  } catch (error) {
    // On a disk that takes no writes there can be no lock, and nobody who would change anything.
    isRunning = error instanceof LogError && error.code === "DATA_FOLDER_IN_USE";
  }
  const progress = new Progress(PROGRESS_AFTER_MS);
  const onProgress = showIn(progress);
  try {
    const inspection = await inspect(nodeFileSystem, dataDir, { isRunning, onProgress });
    progress.end();
    console.log(options.json ? JSON.stringify(inspection, null, 2) : inspectionText(inspection, dataDir));
    if (isDamaged(inspection)) process.exitCode = DAMAGED_EXIT_CODE;
  } finally {
    await unlock?.();
  }
}

async function repairFolder(options: Options): Promise<void> {
  const dataDir = await folderOf(options);
  const unlock = await nodeFileSystem.lockFolder(dataDir);
  const progress = new Progress(PROGRESS_AFTER_MS);
  const onProgress = showIn(progress);
  try {
    const before = await inspect(nodeFileSystem, dataDir, { onProgress });
    const isNeeded = isDamaged(before) || before.findings.some(({ kind }) => kind === "foreign");
    const { done, lost, quarantine } = isNeeded
      ? await repair(nodeFileSystem, dataDir, { onProgress })
      : { done: [], lost: [], quarantine: undefined };
    const after = isNeeded ? await inspect(nodeFileSystem, dataDir, { onProgress }) : before;
    progress.end();
    if (options.json) console.log(JSON.stringify({ done, lost, quarantine, after }, null, 2));
    else if (!isNeeded) console.log(`${inspectionText(before, dataDir)}\nNothing had to be mended.`);
    else console.log([...done, ...lostLines(lost), "", inspectionText(after, dataDir)].join("\n"));
    if (isDamaged(after)) process.exitCode = DAMAGED_EXIT_CODE;
  } finally {
    await unlock();
  }
}

function showIn(progress: Progress) {
  return ({ file, bytes }: { readonly file: string; readonly bytes: number }): void =>
    progress.show(`${roughSize(bytes)} read, ${file}`);
}

function isDamaged({ findings }: Inspection): boolean {
  return findings.some(({ kind }) => kind === "damage");
}

const KIND_WORDS: Readonly<Record<Finding["kind"], string>> = {
  damage: pc.red("damage"),
  rebuilt: pc.yellow("made anew when needed"),
  foreign: pc.yellow("left alone"),
};

function inspectionText(inspection: Inspection, dataDir: string): string {
  const { findings, lost, files, bytes, partitions, batches, isRunning } = inspection;
  const lines = findings.map(({ file, position, problem, kind }) => {
    const place = position === undefined ? "" : `, byte ${grouped(position)}`;
    return `${KIND_WORDS[kind]}  ${file}${place}: ${problem}`;
  });
  const total = `${plural(files, "file")}, ${roughSize(bytes)}, ${plural(partitions, "partition")}, ${grouped(batches)} record batches`;
  const result = findings.length === 0 ? pc.green("all sound") : plural(findings.length, "finding");
  return [
    ...lines,
    ...lostLines(lost),
    `${total}: ${result}`,
    ...(isRunning
      ? ["A gateway runs on it: the journal, and what is not in a checkpoint yet, was left out."]
      : []),
    ...(isDamaged(inspection)
      ? [`sluice log repair --data ${dataDir} mends it; the gateway must not run.`]
      : []),
  ].join("\n");
}

function lostLines(lost: readonly LostOffsets[]): string[] {
  const lines = lost.map(
    ({ stream, partition, from, to }) =>
      `${pc.red("lost")}  ${stream}-${partition}: offsets ${from} to ${to - 1}`,
  );
  const offsets = lost.reduce((sum, { from, to }) => sum + to - from, 0);
  return lines.length === 0 ? [] : [...lines, `${plural(offsets, "offset")} lost`];
}
