/** `sluice tap`: messages as they pass through the gateway that runs, one line each. */
import type { Command } from "commander";
import pc from "picocolors";
import { grouped, roughSize } from "../config/units.ts";
import { messageOf, SluiceError } from "../errors.ts";
import { TopicFilter } from "../mapping/topic-filter.ts";
import type { TapGap, TapLine } from "../mqtt/taps.ts";
import { plain } from "../plain.ts";
import { type GatewayOptions, gatewayOf, gatewayOptions } from "./gateway.ts";
import { stopSignal } from "./stop.ts";
import { writeLine } from "./subscribe.ts";

interface Options extends GatewayOptions {
  readonly from: readonly string[];
  readonly stream: readonly string[];
  readonly unmatched?: boolean;
  readonly errors?: boolean;
  readonly json?: boolean;
}

const HELP = `
Without an option it shows every message. It never slows the gateway: what comes faster than it can be shown
(or than 2,000 a second) is left out, and how much that was is said.`;

export function register(program: Command): void {
  const collect = (value: string, before: readonly string[]): string[] => [...before, value];
  gatewayOptions(
    program.command("tap").description("Show messages as they come over MQTT, and what becomes of each."),
  )
    .option("--from <filter>", "those of an MQTT topic filter; may be given again", collect, [])
    .option("--stream <name>", "those that become a record of a stream; may be given again", collect, [])
    .option("--unmatched", "those that no mapping takes")
    .option("--errors", "those whose mapping fails, in whole or in part")
    .option("--json", "one JSON object a line")
    .addHelpText("after", HELP)
    .action(run);
}

async function run(options: Options): Promise<void> {
  const query = new URLSearchParams();
  for (const from of options.from) query.append("from", checked(from));
  for (const stream of options.stream) query.append("stream", stream);
  for (const flag of ["unmatched", "errors"] as const) if (options[flag]) query.set(flag, "true");
  const signal = stopSignal();
  const client = await gatewayOf(options);
  try {
    for await (const line of client.lines<TapLine | TapGap>(`GET /tap?${query}`, undefined, signal)) {
      await writeLine(options.json ? JSON.stringify(line) : lineText(line), signal);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

function checked(from: string): string {
  try {
    return TopicFilter.parse(from).text;
  } catch (error) {
    const { mend } = error as SluiceError;
    throw new SluiceError("USAGE", `--from ${from}: ${messageOf(error)}`, { exitCode: 64, mend });
  }
}

const MARKS = {
  stored: pc.green("→"),
  failed: pc.red("✗"),
  unmatched: pc.yellow("?"),
  skipped: pc.dim("-"),
  refused: pc.red("!"),
} as const;
const TOPIC_WIDTH = 40;
const MAX_PAYLOAD_SHOWN = 100;

export function lineText(line: TapLine | TapGap): string {
  if ("missed" in line) return pc.yellow(`… ${grouped(line.missed)} more than could be shown`);
  const { at, topic, outcome } = line;
  const time = pc.dim(clock(at));
  return `${time} ${MARKS[outcome]} ${plain(topic).padEnd(TOPIC_WIDTH)} ${destination(line)}  ${payloadText(line)}`;
}

function destination({ topic, outcome, rule, records, more, error, retain }: TapLine): string {
  const problem = error === undefined ? "" : ` ${pc.red(plain(`${error.field}: ${error.message}`))}`;
  const retained = retain ? pc.dim(" retained") : "";
  const places = records.map(({ stream, partition, offset, key }) => {
    const shown = key === null || key === topic ? "" : ` ${pc.bold(plain(key))}`;
    return `${pc.cyan(stream)} ${partition}@${offset}${shown}`;
  });
  if (more > 0) places.push(pc.dim(`${grouped(more)} more`));
  const where = places.join(", ");
  switch (outcome) {
    case "stored":
      return `${where || pc.dim("no record")}${retained}${problem}`;
    case "unmatched":
      return pc.yellow("no mapping takes it") + (where && `, to ${where}`) + retained;
    case "skipped":
      return pc.dim(`skipped by ${rule}`) + retained;
    default:
      return `${pc.red(outcome)} ${rule ?? ""}${retained}${problem}${where && pc.dim(`, kept as ${where}`)}`;
  }
}

function payloadText({ payload, isText, bytes }: TapLine): string {
  const text = plain(payload);
  const given = isText ? Buffer.byteLength(payload) : payload.length / 2;
  const isWhole = text.length <= MAX_PAYLOAD_SHOWN && given >= bytes;
  const shown = isWhole ? text : `${text.slice(0, MAX_PAYLOAD_SHOWN)}… ${pc.dim(roughSize(bytes))}`;
  return isText ? shown : `${pc.dim("hex")} ${shown}`;
}

/** The local time of day, to the millisecond. */
function clock(at: number): string {
  return `${new Date(at).toLocaleTimeString("sv")}.${String(at % 1_000).padStart(3, "0")}`;
}
