/** `sluice explain <topic> [payload]`: which mapping takes a message and why, and the record as it would be written. */
import { readFile } from "node:fs/promises";
import { buffer } from "node:stream/consumers";
import { type Command, Option } from "commander";
import pc from "picocolors";
import { loadConfig } from "../config/load.ts";
import { DEFAULT_CONFIG_FILE } from "../config/loaded.ts";
import { plural, roughSize } from "../config/units.ts";
import { messageOf, SluiceError } from "../errors.ts";
import type { ExplainRequest } from "../gateway.ts";
import { type ExplainedRecord, type Explanation, explain } from "../mapping/explain.ts";
import { Mapper } from "../mapping/mapper.ts";
import { plain } from "../plain.ts";
import { type GatewayOptions, gatewayOf, gatewayOptions } from "./gateway.ts";

interface Options extends GatewayOptions {
  readonly running?: boolean;
  readonly client: string;
  readonly user?: string;
  readonly qos: string;
  readonly retain?: boolean;
  readonly json?: boolean;
}

/** Rules that do not take it and are shown by name. */
const MAX_RULES_SHOWN = 8;

export function register(program: Command): void {
  gatewayOptions(
    program
      .command("explain")
      .description("Which mapping takes a message, why those before it do not, and what it becomes.")
      .argument("<topic>", "the MQTT topic")
      .argument("[payload]", "text; @file for a file's bytes, - for standard input", ""),
  )
    .option("--running", "ask the gateway that runs, instead of reading the configuration")
    .option("--client <id>", "the publisher's client id", "explain")
    .option("--user <name>", "its user name")
    .addOption(new Option("--qos <n>", "its QoS").choices(["0", "1", "2"]).default("1"))
    .option("--retain", "with the retain flag")
    .option("--json", "one JSON document")
    .action(run);
}

async function run(topic: string, payload: string, options: Options): Promise<void> {
  if (/[+#\0]/.test(topic) || topic === "") {
    throw new SluiceError("USAGE", `"${topic}" is no MQTT topic: nobody can publish to a wildcard`, {
      exitCode: 64,
    });
  }
  const request: ExplainRequest = {
    topic,
    payload: (await bytesOf(payload)).toString("base64"),
    clientId: options.client,
    username: options.user,
    qos: Number(options.qos) as 0 | 1 | 2,
    retain: options.retain ?? false,
  };
  const explanation = options.running
    ? await (await gatewayOf(options)).ask<Explanation>("POST /explain", request)
    : await fromFile(options.config ?? DEFAULT_CONFIG_FILE, request);
  console.log(options.json ? JSON.stringify(explanation, null, 2) : textOf(explanation));
}

async function bytesOf(payload: string): Promise<Buffer> {
  if (payload === "-") return buffer(process.stdin);
  if (!payload.startsWith("@")) return Buffer.from(payload);
  const file = payload.slice(1);
  return readFile(file).catch((error: NodeJS.ErrnoException) => {
    const why = error.code === "ENOENT" ? "there is no such file" : messageOf(error);
    // `EX_NOINPUT` of sysexits.h.
    throw new SluiceError("NO_INPUT", `${file}: ${why}`, {
      mend: "@ in front of a payload names a file; for a payload that begins with @ use -, standard input",
      exitCode: 66,
    });
  });
}

async function fromFile(file: string, request: ExplainRequest): Promise<Explanation> {
  const { config } = await loadConfig(file, { env: process.env });
  const { mappings, tables, streams, kafka, fallback, deadLetters } = config;
  const created = kafka.autoCreate.enabled ? kafka.autoCreate.partitions : 0;
  const partitionsOf = (stream: string): number => streams[stream]?.partitions ?? created;
  const { topic: mqttTopic, payload, ...rest } = request;
  const packet = { ...rest, mqttTopic, payload: Buffer.from(payload, "base64"), receivedAt: Date.now() };
  return explain(new Mapper(mappings, partitionsOf, { tables }), packet, partitionsOf, {
    fallback,
    deadLetters,
  });
}

function textOf({ topic, words, error, rules, fields: all, records }: Explanation): string {
  const fields = all.filter(({ text, value }) => text !== value);
  const lines = [`${pc.bold(topic)} ${words}`, ""];
  lines.push(...ruleLines(rules));
  if (fields.length > 0) {
    lines.push("");
    const width = Math.max(...fields.map(({ field }) => field.length));
    const textWidth = Math.min(60, Math.max(...fields.map(({ text }) => text.length)));
    for (const { field, text, value } of fields) {
      lines.push(`  ${field.padEnd(width)}  ${pc.dim(text.padEnd(textWidth))}  ${shown(value)}`);
    }
  }
  if (error !== undefined) lines.push("", `  ${pc.red(`✗ ${error.field}: ${error.message}`)}`);
  for (const record of records) lines.push("", ...recordLines(record));
  return lines.join("\n");
}

function ruleLines(rules: Explanation["rules"]): string[] {
  if (rules.length === 0) return ["  there are no mappings"];
  // Those whose filter matched say more than those whose filter did not.
  const near = rules.filter(({ took, why }) => took || why.startsWith("when"));
  const far = rules.filter((rule) => !near.includes(rule));
  const hidden = far.length > MAX_RULES_SHOWN ? far.slice(0, far.length - MAX_RULES_SHOWN) : [];
  const shownRules = rules.filter((rule) => !hidden.includes(rule));
  const width = Math.min(40, Math.max(...shownRules.map(({ rule }) => rule.length)));
  const lines = shownRules.map(({ rule, took, why }) =>
    took ? `  ${pc.green("✓")} ${rule.padEnd(width)}  ${why}` : pc.dim(`  ✗ ${rule.padEnd(width)}  ${why}`),
  );
  if (hidden.length > 0)
    lines.unshift(pc.dim(`  ✗ ${plural(hidden.length, "other")} whose filter does not match`));
  return lines;
}

function recordLines(record: ExplainedRecord): string[] {
  const { stream, partition, partitions, key, keyHash, timestamp, headers, value, valueBytes } = record;
  const hash = ((keyHash ?? 0) >>> 0).toString(16).padStart(8, "0");
  const line = (title: string, text: string): string => `    ${title.padEnd(11)}${text}`;
  const width = Math.max(...headers.map(([name]) => name.length), 0);
  return [
    `  ${pc.bold(stream)}`,
    line("partition", partition === null ? `any of ${partitions}: no key` : `${partition} of ${partitions}`),
    line("key", key === null ? pc.dim("none: records are spread") : `${key}  ${pc.dim(`murmur2 0x${hash}`)}`),
    line("timestamp", new Date(timestamp).toISOString()),
    ...headers.map(([name, text], index) =>
      line(
        index === 0 ? "headers" : "",
        `${name.padEnd(width)}  ${text === null ? pc.dim("null") : shown(text)}`,
      ),
    ),
    line("value", value === null ? pc.dim("none") : `${shown(value)}  ${pc.dim(roughSize(valueBytes))}`),
  ];
}

function shown(text: string): string {
  const safe = plain(text);
  return safe.length > 200 ? `${safe.slice(0, 200)}…` : safe;
}
