/** `sluice init`: writes a small commented configuration, and never over one that is there. */
import { existsSync } from "node:fs";
import { constants, copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { createInterface, type Interface } from "node:readline/promises";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import pc from "picocolors";
import { loadConfig } from "../config/load.ts";
import { DEFAULT_CONFIG_FILE } from "../config/loaded.ts";
import { didYouMean } from "../config/problems.ts";
import { SluiceError } from "../errors.ts";

interface Options {
  readonly from?: string;
  readonly name?: string;
  readonly network?: boolean;
  readonly data?: string;
  readonly list?: boolean;
}

/** `EX_USAGE` and `EX_CANTCREAT` of sysexits.h. */
const [USAGE, CANNOT_CREATE] = [64, 73];
const SHIPPED = fileURLToPath(new URL("../../config/", import.meta.url));
const PLAIN = "plain";

export function register(program: Command): void {
  program
    .command("init")
    .description("Write a configuration to start from; what is there already is never touched.")
    .argument("[file]", "where it goes", DEFAULT_CONFIG_FILE)
    .option("--from <example>", "what publishes here: see --list")
    .option("--name <name>", "how the gateway calls itself")
    .option("--network", "let in the whole network, not this machine only")
    .option("--data <folder>", "the data folder", "./data")
    .option("--list", "the examples there are")
    .action(run);
}

async function run(file: string, options: Options): Promise<void> {
  const examples = await readExamples();
  if (options.list) return console.log(listOf(examples));
  // Before anything is asked.
  if (existsSync(file)) throw isThere(file);
  const { example, ...answers } = await ask(options, examples);
  const written = await write(file, textOf(example.text, answers), example);
  await loadConfig(file);
  for (const name of written) console.log(`${pc.green("wrote")}  ${name}`);
  const flag = file === DEFAULT_CONFIG_FILE ? "" : ` ${file}`;
  console.log(`\nNext:  sluice check${flag}\n       sluice up${flag === "" ? "" : ` --config${flag}`}`);
}

interface Example {
  readonly name: string;
  /** The comment's first sentence. */
  readonly about: string;
  readonly text: string;
}

async function readExamples(): Promise<Example[]> {
  const folder = join(SHIPPED, "examples");
  const names = (await readdir(folder)).filter((name) => name.endsWith(".yaml"));
  const examples = await Promise.all(
    names.map(async (name): Promise<Example> => {
      const text = await readFile(join(folder, name), "utf8");
      const [, about = ""] = /\n# ([^\n]*)/.exec(text) ?? [];
      return { name: basename(name, ".yaml"), about, text };
    }),
  );
  return examples.sort(
    (a, b) => Number(b.name === PLAIN) - Number(a.name === PLAIN) || (a.name < b.name ? -1 : 1),
  );
}

function listOf(examples: readonly Example[]): string {
  const width = Math.max(...examples.map(({ name }) => name.length));
  return examples
    .map(
      ({ name, about }, index) => `${String(index + 1).padStart(2)}  ${name.padEnd(width)}  ${pc.dim(about)}`,
    )
    .join("\n");
}

interface Answers {
  readonly example: Example;
  readonly name: string;
  readonly network: boolean;
  readonly data: string;
}

/** On a terminal what no flag says is asked for, the default being one keystroke away. */
async function ask(options: Options, examples: readonly Example[]): Promise<Answers> {
  const { from, name = "sluice", network, data = "./data" } = options;
  if (from !== undefined || !process.stdin.isTTY) {
    return { example: exampleOf(from ?? PLAIN, examples), name, network: network ?? false, data };
  }
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  try {
    console.log(`What publishes here?\n${listOf(examples)}`);
    const example = await choose(lines, examples);
    const open =
      network ??
      /^y/i.test(
        await lines.question(
          "May other machines connect? Without passwords, until you set mqtt.users [y/N]: ",
        ),
      );
    return { example, name, network: open, data };
  } catch (error) {
    // Ctrl-C or Ctrl-D instead of an answer.
    if ((error as Error).name !== "AbortError") throw error;
    throw new SluiceError("STOPPED", "\nnothing was written", { exitCode: 130 });
  } finally {
    lines.close();
  }
}

/** Until there is one. */
async function choose(lines: Interface, examples: readonly Example[]): Promise<Example> {
  for (;;) {
    const chosen = (await lines.question("Number or name [1]: ")).trim() || "1";
    try {
      return examples[Number(chosen) - 1] ?? exampleOf(chosen, examples);
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
      console.log(error.message);
    }
  }
}

function exampleOf(wanted: string, examples: readonly Example[]): Example {
  const example = examples.find(({ name }) => name === wanted);
  if (example !== undefined) return example;
  const names = examples.map(({ name }) => name);
  throw new SluiceError("USAGE", `there is no example "${wanted}"${didYouMean(wanted, names)}`, {
    mend: `examples are ${names.join(", ")}`,
    exitCode: USAGE,
  });
}

function isThere(file: string): SluiceError {
  return new SluiceError("EXISTS", `${file} is there already, and nothing was written`, {
    mend: "Name another file: sluice init <file>",
    exitCode: CANNOT_CREATE,
  });
}

/** The example with this gateway's own settings in front. */
function textOf(example: string, { name, network, data }: Omit<Answers, "example">): string {
  const host = network ? "0.0.0.0" : "127.0.0.1";
  const settings = [
    "version: 1",
    `name: ${JSON.stringify(name)}`,
    `dataDir: ${JSON.stringify(data)} # all that the gateway keeps; relative to where it is started`,
    network
      ? "# 0.0.0.0 lets in the whole network, without passwords but for mqtt.users: only where you trust it."
      : '# 127.0.0.1 is this machine only; "0.0.0.0:1883" lets in the whole network.',
    "mqtt:",
    "  listeners:",
    `    - { type: tcp, bind: "${host}:1883" } # where sensors connect`,
    "kafka:",
    `  bind: "${host}:9092" # where subscribers connect`,
    "",
  ].join("\n");
  return example.replace("$schema=../", "$schema=./").replace(/^version: 1\n/m, () => `${settings}\n`);
}

/** With the files that it names, and the schema for editors. Gives what was written. */
async function write(file: string, text: string, { name }: Example): Promise<string[]> {
  const folder = dirname(file);
  await mkdir(folder, { recursive: true });
  const written = [file];
  try {
    await writeFile(file, text, { flag: "wx" });
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === "EEXIST" ? isThere(file) : error;
  }
  const beside = (await readdir(join(SHIPPED, "examples"))).filter(
    (other) => other.startsWith(`${name}-`) && text.includes(other),
  );
  const sources = [
    join(SHIPPED, "gateway.schema.json"),
    ...beside.map((other) => join(SHIPPED, "examples", other)),
  ];
  for (const source of sources) {
    const target = join(folder, basename(source));
    try {
      await copyFile(source, target, constants.COPYFILE_EXCL);
      written.push(target);
    } catch (error) {
      // Its own is as good, or the user's wish.
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
  return written;
}
