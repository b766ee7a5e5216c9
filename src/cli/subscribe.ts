/**
 * `sluice subscribe`: reads streams, one line a record, from the gateway or any Kafka cluster. Standard output
 * holds records only; whatever else is to be said goes to standard error.
 */
import { once } from "node:events";
import { type Command, Option } from "commander";
import pc from "picocolors";
import { formatJson, prettyFormatter } from "../subscriber/format.ts";
import { parseFrom } from "../subscriber/from.ts";
import { subscribe } from "../subscriber/subscriber.ts";
import { wholeNumber } from "./arguments.ts";
import { type BrokerOptions, brokerOptions, brokersOf } from "./broker.ts";
import { stopSignal } from "./stop.ts";

interface SubscribeOptions extends BrokerOptions {
  readonly group?: string;
  readonly from?: string;
  readonly count?: number;
  readonly json?: boolean;
  readonly pretty?: boolean;
}

const HELP = `
--from beginning | latest | <offset> | <time ago: 15m> | <ISO 8601 time>
  Without --group: where reading starts in every partition; latest when left out. Nothing is committed.
  With --group: the group continues where it has committed; beginning and latest decide only where it has
  not yet. An offset or a time moves the group there.`;

export function register(program: Command): void {
  brokerOptions(
    program
      .command("subscribe")
      .description("read streams as records come in, from the gateway or a Kafka cluster")
      .argument("<streams...>", "the streams to read")
      .option("--group <name>", "share the reading with others of this group, and continue where it stopped")
      .option("--from <where>", "where to start, see below")
      .option("--count <n>", "end after so many records", wholeNumber(1))
      .addOption(new Option("--json", "one JSON object per record").conflicts("pretty"))
      .addOption(new Option("--pretty", "for people (the default on a terminal; JSON elsewhere)")),
  )
    .addHelpText("after", HELP)
    .action(run);
}

async function run(streams: string[], options: SubscribeOptions): Promise<void> {
  const { group, count } = options;
  const from = options.from === undefined ? undefined : parseFrom(options.from, Date.now());
  const pretty = options.pretty ?? (options.json !== true && process.stdout.isTTY === true);
  const format = pretty ? prettyFormatter({ colour: pc.isColorSupported }) : formatJson;
  const brokers = await brokersOf(options);
  const signal = stopSignal();
  const onNotice = (words: string): void => console.error(words);
  await subscribe([...new Set(streams)], { brokers, group, from, count, signal, onNotice }, (record) =>
    writeLine(format(record), signal),
  );
  // Asked to end: kafkajs would first go on trying to reach a broker that is gone.
  if (signal.aborted) process.stdout.write("", () => process.exit());
}

/** Undefined when it may go on at once, as for most lines; otherwise it waits for a slow reader, but not beyond `signal`. */
export function writeLine(
  text: string,
  signal: AbortSignal,
  stream: NodeJS.WritableStream = process.stdout,
): Promise<void> | undefined {
  if (signal.aborted || stream.write(`${text}\n`)) return undefined;
  return once(stream, "drain", { signal }).then(
    () => undefined,
    () => undefined, // aborted, or nobody reads any more
  );
}
