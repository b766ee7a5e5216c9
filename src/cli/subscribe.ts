/**
 * `sluice subscribe`: reads streams, one line a record, from the gateway or any Kafka cluster. Standard output
 * holds records only; whatever else is to be said goes to standard error.
 */
import { type Command, InvalidArgumentError, Option } from "commander";
import pc from "picocolors";
import { parseAddress } from "../config/units.ts";
import { type Formatter, formatJson, prettyFormatter } from "../subscriber/format.ts";
import { type From, parseFrom } from "../subscriber/from.ts";
import { listStreams, subscribe } from "../subscriber/subscriber.ts";
import { onInterrupt } from "./interrupt.ts";

interface SubscribeOptions {
  readonly brokers: string[];
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
  not yet. An offset or a time moves the group there.

Without a stream: lists the streams.`;

export function register(program: Command): void {
  program
    .command("subscribe")
    .description("read streams as records come in, from the gateway or a Kafka cluster")
    .argument("[streams...]", "the streams to read")
    .option("--group <name>", "share the reading with others of this group, and continue where it stopped")
    .option("--from <where>", "where to start, see below")
    .option("--count <n>", "end after so many records", positiveCount)
    .addOption(new Option("--json", "one JSON object per record").conflicts("pretty"))
    .addOption(new Option("--pretty", "for people (the default on a terminal; JSON elsewhere)"))
    .option("--broker, --brokers <host:port,…>", "where to connect", brokerList, ["127.0.0.1:9092"])
    .addHelpText("after", HELP)
    .action(run);
}

async function run(streams: string[], options: SubscribeOptions): Promise<void> {
  const from: From | undefined = options.from === undefined ? undefined : parseFrom(options.from, Date.now());
  const pretty = options.pretty ?? (options.json !== true && process.stdout.isTTY === true);
  const output = new Output();
  if (streams.length === 0) return list(options.brokers, pretty, output);
  const format: Formatter = pretty ? prettyFormatter({ colour: pc.isColorSupported }) : formatJson;
  const interrupt = onInterrupt();
  await subscribe(
    [...new Set(streams)],
    {
      brokers: options.brokers,
      group: options.group,
      from,
      count: options.count,
      signal: AbortSignal.any([interrupt.signal, output.closed]),
      onNotice: (words) => process.stderr.write(`${words}\n`),
    },
    (record) => output.line(format(record)),
  ).finally(() => interrupt.dispose());
}

async function list(brokers: readonly string[], pretty: boolean, output: Output): Promise<void> {
  const streams = await listStreams(brokers);
  if (!pretty) {
    for (const stream of streams) await output.line(JSON.stringify(stream));
    return;
  }
  const width = Math.max(0, ...streams.map(({ stream }) => stream.length));
  for (const { stream, partitions } of streams) {
    await output.line(
      `${stream.padEnd(width)}  ${partitions} ${partitions === 1 ? "partition" : "partitions"}`,
    );
  }
  const some = streams.length > 0;
  await output.line(`${streams.length} ${streams.length === 1 ? "stream" : "streams"}`);
  if (some) process.stderr.write(`read one with  sluice subscribe ${streams[0]?.stream}\n`);
}

/** Standard output that waits when its reader is slow, and ends quietly when its reader is gone (`| head`). */
export class Output {
  private readonly controller = new AbortController();
  private readonly stream: NodeJS.WriteStream;

  constructor(stream: NodeJS.WriteStream = process.stdout) {
    this.stream = stream;
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
      this.controller.abort();
    });
  }

  /** Aborted when nobody reads any more. */
  get closed(): AbortSignal {
    return this.controller.signal;
  }

  /** Undefined when it may go on at once: most lines wait for nothing. */
  line(text: string): Promise<void> | undefined {
    if (this.closed.aborted || this.stream.write(`${text}\n`)) return undefined;
    return new Promise((resolve) => {
      const done = (): void => {
        this.stream.off("drain", done);
        this.closed.removeEventListener("abort", done);
        resolve();
      };
      this.stream.once("drain", done);
      this.closed.addEventListener("abort", done, { once: true });
    });
  }
}

function positiveCount(text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value > 0 && Number.isSafeInteger(value)) return value;
  throw new InvalidArgumentError("It is a whole number above 0.");
}

function brokerList(text: string): string[] {
  return text.split(",").map((broker) => {
    const parsed = parseAddress(broker.trim());
    if (!("value" in parsed)) throw new InvalidArgumentError(`It ${parsed.problem}.`);
    return broker.trim();
  });
}
