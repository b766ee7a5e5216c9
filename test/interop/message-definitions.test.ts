/**
 * Our declarations against Kafka's own: the JSON files under `common/message/` in kafka-clients' jar.
 * KAFKA_MESSAGES names the folder into which they were unpacked.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Api } from "../../src/kafka/api.ts";
import { apis } from "../../src/kafka/apis/index.ts";
import { ZERO_UUID } from "../../src/wire/buffer.ts";
import { type Field, type Fields, inVersions } from "../../src/wire/schema.ts";
import { KAFKA } from "../kafka/api-table.ts";

const folder = process.env.KAFKA_MESSAGES;

interface Definition {
  readonly name: string;
  readonly type: string;
  readonly versions?: string;
  readonly nullableVersions?: string;
  readonly taggedVersions?: string;
  readonly tag?: number;
  readonly default?: string | number | boolean;
  readonly fields?: readonly Definition[];
}

interface File {
  readonly apiKey: number;
  readonly name: string;
  readonly listeners?: readonly string[];
  readonly validVersions: string;
  readonly flexibleVersions: string;
  readonly fields: readonly Definition[];
  readonly commonStructs?: readonly Definition[];
}

function load(name: string): File {
  const text = readFileSync(join(folder as string, `${name}.json`), "utf8");
  return JSON.parse(text.replace(/^\s*\/\/.*$/gm, "").replace(/(?<=[,[{\]}])\s*\/\/.*$/gm, ""));
}

const camel = (name: string): string => (name[0] as string).toLowerCase() + name.slice(1);

/** Requests tell every default; answers those of tagged fields, which decide what is written. */
type Side = "request" | "response";

/** A default as text: what is read where the version lacks the field. */
function kafkaDefault({ type, default: given }: Definition, inner: unknown): string {
  if (given === "null") return "null";
  if (type.startsWith("[]") || inner !== undefined) return "empty";
  if (given !== undefined && given !== "") return String(Number.isNaN(Number(given)) ? given : Number(given));
  if (type === "bool") return "false";
  if (type === "uuid") return ZERO_UUID;
  return ["string", "bytes", "records"].includes(type) ? "empty" : "0";
}

function ourDefault({ kind, options }: Field): string {
  if (options.default === null) return "null";
  if (kind === "array" || kind === "struct") return "empty";
  if (options.default !== undefined) return String(options.default);
  if (kind === "bool") return "false";
  if (kind === "uuid") return ZERO_UUID;
  return ["string", "bytes", "records"].includes(kind) ? "empty" : "0";
}

/** One line per field of a version, in wire order, nested by indentation; tagged fields by their tag. */
function kafkaLines(
  file: File,
  fields: readonly Definition[],
  version: number,
  side: Side,
  indent = "",
): string[] {
  return inTagOrder(
    fields.filter((field) => inVersions(field.versions, version)),
    (field) => (field.taggedVersions && inVersions(field.taggedVersions, version) ? field.tag : undefined),
  ).flatMap((field) => {
    const isArray = field.type.startsWith("[]");
    const type = field.type.replace("[]", "");
    const inner = field.fields ?? file.commonStructs?.find(({ name }) => name === type)?.fields;
    const kind = inner === undefined ? type : "struct";
    const nullable = field.nullableVersions !== undefined && inVersions(field.nullableVersions, version);
    const isTagged = field.taggedVersions !== undefined && inVersions(field.taggedVersions, version);
    const tag = isTagged ? ` tag ${field.tag}` : "";
    const zero = side === "request" || isTagged ? ` = ${kafkaDefault(field, inner)}` : "";
    return [
      `${indent}${camel(field.name)} ${isArray ? "[]" : ""}${kind}${nullable ? "?" : ""}${tag}${zero}`,
      ...(inner === undefined ? [] : kafkaLines(file, inner, version, side, `${indent}  `)),
    ];
  });
}

function ourLines(fields: Fields, version: number, flexible: boolean, side: Side, indent = ""): string[] {
  const present = Object.entries(fields).filter(
    ([, { options }]) => inVersions(options.versions, version) && (options.tag === undefined || flexible),
  );
  return inTagOrder(present, ([, { options }]) => options.tag).flatMap(([name, field]) => {
    const of = field.kind === "array" ? (field.of as Field) : field;
    const { nullable, tag } = field.options;
    const mark = nullable !== undefined && inVersions(nullable, version) ? "?" : "";
    const label = tag === undefined ? "" : ` tag ${tag}`;
    const zero = side === "request" || tag !== undefined ? ` = ${ourDefault(field)}` : "";
    return [
      `${indent}${name} ${field.kind === "array" ? "[]" : ""}${of.kind}${mark}${label}${zero}`,
      ...(of.fields === undefined ? [] : ourLines(of.fields, version, flexible, side, `${indent}  `)),
    ];
  });
}

function inTagOrder<T>(items: readonly T[], tagOf: (item: T) => number | undefined): T[] {
  return [...items].sort((a, b) => (tagOf(a) ?? -1) - (tagOf(b) ?? -1));
}

const cases = apis.flatMap((api: Api) => {
  // What Kafka 4 has dropped (Produce 0–2) is in no definition any more.
  const { min, max } = api.versions;
  return Array.from({ length: max - min + 1 }, (_, index) => ({ api, name: api.name, version: min + index }));
});

/** What a version lacks is read as its default: the requests' fields that are only in some versions. */
function absentDefaults(fields: Fields, path = ""): Map<string, string> {
  const found = new Map<string, string>();
  for (const [name, field] of Object.entries(fields)) {
    found.set(path + name, ourDefault(field));
    const inner = field.kind === "array" ? (field.of as Field).fields : field.fields;
    for (const [at, zero] of absentDefaults(inner ?? {}, `${path}${name}.`)) found.set(at, zero);
  }
  return found;
}

function kafkaDefaults(file: File, fields: readonly Definition[], path = ""): Map<string, string> {
  const found = new Map<string, string>();
  for (const field of fields) {
    const inner =
      field.fields ?? file.commonStructs?.find(({ name }) => name === field.type.replace("[]", ""))?.fields;
    found.set(path + camel(field.name), kafkaDefault(field, inner));
    for (const [at, zero] of kafkaDefaults(file, inner ?? [], `${path}${camel(field.name)}.`)) {
      found.set(at, zero);
    }
  }
  return found;
}

describe.skipIf(folder === undefined)("our declarations and Kafka's own definitions", () => {
  it.each(cases)("are the same for $name $version", ({ api, name, version }) => {
    for (const side of ["request", "response"] as const) {
      const file = load(`${name}${side === "request" ? "Request" : "Response"}`);
      const schema = api[side];
      const flexible = version >= schema.flexibleFrom;
      expect(file.apiKey).toBe(api.key);
      expect(inVersions(file.validVersions, version)).toBe(true);
      expect(inVersions(file.flexibleVersions, version)).toBe(flexible);
      expect(ourLines(schema.fields, version, flexible, side)).toEqual(
        kafkaLines(file, file.fields, version, side),
      );
    }
  });

  it("know every API of Kafka's brokers, and its versions", () => {
    const served = readdirSync(folder as string)
      .filter((name) => name.endsWith("Request.json"))
      .map((name) => load(name.replace(".json", "")))
      .filter(({ listeners }) => listeners?.includes("broker"))
      .map(({ apiKey, name, validVersions }) => [apiKey, `${name.replace(/Request$/, "")} ${validVersions}`]);
    expect(KAFKA).toEqual(Object.fromEntries(served));
  });

  it.each(apis)("have the same defaults for what a version of $name lacks", ({ name, request }) => {
    const file = load(`${name}Request`);
    const theirs = kafkaDefaults(file, file.fields);
    for (const [at, zero] of absentDefaults(request.fields)) {
      expect(`${at} = ${zero}`).toBe(`${at} = ${theirs.get(at)}`);
    }
  });
});
