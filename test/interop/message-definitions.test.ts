/**
 * Our declarations against Kafka's own: the JSON files under `common/message/` in kafka-clients' jar.
 * KAFKA_MESSAGES names the folder into which they were unpacked.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Api } from "../../src/kafka/api.ts";
import { apis } from "../../src/kafka/apis/index.ts";
import { type Field, type Fields, inVersions } from "../../src/wire/schema.ts";

const folder = process.env.KAFKA_MESSAGES;

interface Definition {
  readonly name: string;
  readonly type: string;
  readonly versions?: string;
  readonly nullableVersions?: string;
  readonly taggedVersions?: string;
  readonly tag?: number;
  readonly fields?: readonly Definition[];
}

interface File {
  readonly apiKey: number;
  readonly flexibleVersions: string;
  readonly fields: readonly Definition[];
  readonly commonStructs?: readonly Definition[];
}

function load(name: string): File {
  const text = readFileSync(join(folder as string, `${name}.json`), "utf8");
  return JSON.parse(text.replace(/^\s*\/\/.*$/gm, "").replace(/(?<=[,[{\]}])\s*\/\/.*$/gm, ""));
}

const camel = (name: string): string => (name[0] as string).toLowerCase() + name.slice(1);

/** One line per field of a version, in wire order, nested by indentation; tagged fields by their tag. */
function kafkaLines(file: File, fields: readonly Definition[], version: number, indent = ""): string[] {
  return inTagOrder(
    fields.filter((field) => inVersions(field.versions, version)),
    (field) => (field.taggedVersions && inVersions(field.taggedVersions, version) ? field.tag : undefined),
  ).flatMap((field) => {
    const isArray = field.type.startsWith("[]");
    const type = field.type.replace("[]", "");
    const inner = field.fields ?? file.commonStructs?.find(({ name }) => name === type)?.fields;
    const kind = inner === undefined ? type : "struct";
    const nullable = field.nullableVersions !== undefined && inVersions(field.nullableVersions, version);
    const tag = field.taggedVersions && inVersions(field.taggedVersions, version) ? ` tag ${field.tag}` : "";
    return [
      `${indent}${camel(field.name)} ${isArray ? "[]" : ""}${kind}${nullable ? "?" : ""}${tag}`,
      ...(inner === undefined ? [] : kafkaLines(file, inner, version, `${indent}  `)),
    ];
  });
}

function ourLines(fields: Fields, version: number, flexible: boolean, indent = ""): string[] {
  const present = Object.entries(fields).filter(
    ([, { options }]) => inVersions(options.versions, version) && (options.tag === undefined || flexible),
  );
  return inTagOrder(present, ([, { options }]) => options.tag).flatMap(([name, field]) => {
    const of = field.kind === "array" ? (field.of as Field) : field;
    const { nullable, tag } = field.options;
    const mark = nullable !== undefined && inVersions(nullable, version) ? "?" : "";
    return [
      `${indent}${name} ${field.kind === "array" ? "[]" : ""}${of.kind}${mark}${tag === undefined ? "" : ` tag ${tag}`}`,
      ...(of.fields === undefined ? [] : ourLines(of.fields, version, flexible, `${indent}  `)),
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

describe.skipIf(folder === undefined)("our declarations and Kafka's own definitions", () => {
  it.each(cases)("are the same for $name $version", ({ api, name, version }) => {
    for (const side of ["request", "response"] as const) {
      const file = load(`${name}${side === "request" ? "Request" : "Response"}`);
      const schema = api[side];
      const flexible = version >= schema.flexibleFrom;
      expect(file.apiKey).toBe(api.key);
      expect(inVersions(file.flexibleVersions, version)).toBe(flexible);
      expect(ourLines(schema.fields, version, flexible)).toEqual(kafkaLines(file, file.fields, version));
    }
  });
});
