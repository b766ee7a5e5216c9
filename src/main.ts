#!/usr/bin/env node
/**
 * Arguments, exit code, and the words of an error. A verb is a file in cli/ and is loaded only when it is
 * called: `sluice up` on a Raspberry Pi carries no Kafka client, no table printer, no fleet of sensors.
 */
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import pc from "picocolors";
import { nearest } from "./config/problems.ts";
import { SluiceError } from "./errors.ts";
import { keepHeapSmall } from "./heap.ts";

/** `EX_USAGE` of sysexits.h. */
const USAGE_EXIT_CODE = 64;

/** The verbs in the order of the help, each a file in cli/ that exports `register(program)`. */
const VERBS = {
  demo: "10 sensors, 10 subscribers, real sockets: what a gateway is for, on one screen",
  init: "write a configuration to start from",
  up: "start the gateway",
  status: "what the gateway that runs is doing",
  check: "validate a configuration and run its tests",
  tap: "messages as they pass through the gateway that runs",
  "dead-letters": "what could not be mapped or sent: look at it, and try again",
  explain: "which mapping takes a message, and what it becomes",
  reload: "make the gateway that runs take over its configuration anew",
  subscribe: "read streams, from the gateway or any Kafka cluster",
  simulate: "let simulated sensors publish",
  uplink: "how far the streams are in a Kafka cluster; pause, reset, verify",
  log: "look a data folder over, or mend it",
  streams: "list streams, or describe one",
  groups: "list consumer groups, or one group's members and lag",
} as const;

const EXAMPLES = `
Examples:
  $ sluice demo                                   see it work
  $ sluice init --from zigbee2mqtt                a configuration to start from
  $ sluice up --config config/gateway.yaml        start the gateway
  $ sluice check config/gateway.yaml              is the configuration right?
  $ sluice subscribe telemetry --from beginning   read a stream
  $ sluice streams telemetry                      its partitions and their sizes

sluice <verb> --help says more about a verb.`;

async function main(args: readonly string[]): Promise<void> {
  const program = new Command("sluice")
    .description("An IoT edge gateway: MQTT sensors in, durable partitioned streams, Kafka protocol out.")
    .version(versionOfPackage(), "-V, --version", "print the version")
    .addHelpText("after", EXAMPLES)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(pc.red(text)) });

  const [first, second] = args;
  const words = first === "help" && second !== undefined ? [second, "--help"] : [...args];
  const [verb = ""] = words;
  if (Object.hasOwn(VERBS, verb)) {
    if (verb === "up") keepHeapSmall();
    const { register } = await loadVerb(verb);
    register(program);
  } else if (verb !== "" && !verb.startsWith("-") && verb !== "help") {
    throw unknownVerb(verb);
  } else {
    for (const [name, summary] of Object.entries(VERBS)) program.command(name).description(summary);
    if (verb === "" || verb === "help") return program.outputHelp();
  }
  await program.parseAsync(words, { from: "user" });
}

/** The file beside this one, `.ts` from the sources and `.js` when built. */
async function loadVerb(verb: string): Promise<{ register(program: Command): void }> {
  const extension = import.meta.url.slice(import.meta.url.lastIndexOf("."));
  return import(new URL(`./cli/${verb}${extension}`, import.meta.url).href);
}

function unknownVerb(verb: string): SluiceError {
  const verbs = Object.keys(VERBS);
  const meant = nearest(verb, verbs);
  return new SluiceError("USAGE", `there is no verb "${verb}"${meant ? `; did you mean "${meant}"?` : ""}`, {
    mend: `verbs are ${verbs.join(", ")}; sluice --help says more`,
    exitCode: USAGE_EXIT_CODE,
  });
}

function versionOfPackage(): string {
  return JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")).version;
}

/** Prints what a person needs of an error; gives the exit code. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE_EXIT_CODE;
  if (error instanceof SluiceError) {
    console.error(pc.red(error.message));
    if (error.mend !== undefined) console.error(error.mend);
    return error.exitCode;
  }
  console.error(error instanceof Error ? (error.stack ?? error.message) : error);
  return 1;
}

// A reader that went away (`| head`) is no error; verbs that go on for long end with it, see cli/stop.ts.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
});
try {
  await main(process.argv.slice(2));
} catch (error) {
  process.exitCode = report(error);
}
