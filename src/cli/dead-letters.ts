/** `sluice dead-letters list | retry`: messages and records that could not be mapped or sent, and another try. */
import type { Command } from "commander";
import pc from "picocolors";
import { grouped, plural } from "../config/units.ts";
import type { DeadLetter, DeadLetterList, RetryProgress } from "../dead-letters.ts";
import { plain } from "../plain.ts";
import { wholeNumber } from "./arguments.ts";
import { type GatewayOptions, gatewayOf, gatewayOptions } from "./gateway.ts";
import { Progress } from "./progress.ts";
import { stopSignal } from "./stop.ts";

interface Options extends GatewayOptions {
  readonly count: number;
  readonly json?: boolean;
}

const HELP = `
Retrying sends each letter that waits through the rules that the gateway runs on now, once: what becomes a record
is one, and what fails again is a new dead letter with the present reason. How far it is survives a restart.`;

export function register(program: Command): void {
  const verb = program
    .command("dead-letters")
    .description("Messages that no mapping could make a record of, and records that no downlink could send.")
    .addHelpText("after", HELP);
  gatewayOptions(verb.command("list").description("show those that wait, the newest last"))
    .option("--count <n>", "at most so many", wholeNumber(1, 10_000), 20)
    .option("--json", "one JSON document")
    .action(list);
  gatewayOptions(verb.command("retry").description("send those that wait through the present rules"))
    .option("--json", "one JSON document at the end")
    .action(retry);
}

async function list(options: Options): Promise<void> {
  const client = await gatewayOf(options);
  const found = await client.ask<DeadLetterList>(`GET /dead-letters?max=${options.count}`);
  if (options.json) return console.log(JSON.stringify(found, null, 2));
  for (const letter of found.letters) console.log(letterText(letter));
  const shown = found.letters.length < found.waiting ? `, the newest ${found.letters.length} shown` : "";
  console.log(pc.dim(`${plural(found.waiting, "dead letter")} on ${found.stream} not retried yet${shown}`));
}

function letterText({
  partition,
  offset,
  at,
  from,
  rule,
  field,
  position,
  error,
  value,
  bytes,
}: DeadLetter): string {
  const place = field === "" ? "" : `${field}${position === null ? "" : `, character ${position + 1}`}: `;
  const text = plain(value ?? "");
  const payload = text.length > 160 || bytes > 1_000 ? `${text.slice(0, 160)}…` : text;
  return [
    `${pc.dim(`${partition}@${offset}`)}  ${new Date(at).toLocaleString("sv")}  ${pc.bold(plain(from))}`,
    `    ${rule === "" ? "" : `${plain(rule)}  `}${pc.red(plain(place + error))}`,
    `    ${value === null ? pc.dim("no value") : payload}`,
  ].join("\n");
}

async function retry(options: Options): Promise<void> {
  const client = await gatewayOf(options);
  const signal = stopSignal();
  const progress = new Progress();
  let last: RetryProgress = { total: 0, done: 0, failed: 0, passedOver: 0 };
  try {
    for await (last of client.lines<RetryProgress>("POST /dead-letters/retry", undefined, signal)) {
      if (!options.json) progress.show(`${grouped(last.done)} of ${plural(last.total, "dead letter")}`);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    progress.end();
  }
  if (options.json) console.log(JSON.stringify(last));
  else console.log(summary(last));
  if (last.done < last.total) process.exitCode = 1;
}

function summary({ total, done, failed, passedOver }: RetryProgress): string {
  if (total === 0) return "there are no dead letters to retry";
  const parts = [`${grouped(done - failed - passedOver)} of ${plural(total, "dead letter")} went through`];
  if (failed > 0) parts.push(pc.yellow(`${grouped(failed)} failed again and wait at the end`));
  if (passedOver > 0) parts.push(`${grouped(passedOver)} are none of the gateway's and were passed over`);
  if (done < total) parts.push(pc.yellow(`${grouped(total - done)} still wait`));
  return parts.join(", ");
}
