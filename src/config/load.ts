/**
 * From files, environment and flags to one frozen `Config`. A flag wins over the environment, the environment
 * over the file, the file over the default. Either everything is right, or a `ConfigError` says all that is
 * wrong at once; nothing is repaired in silence, and the file is never written.
 */
import { createHash } from "node:crypto";
import { messageOf } from "../errors.ts";
import type { RuleDefinition } from "../mapping/rule.ts";
import { Attachments } from "./attachments.ts";
import { crossCheck } from "./cross-checks.ts";
import { applyOverrides, keysOf, readEnvironment, schemaAt } from "./environment.ts";
import { IncludedSources, readIncluded } from "./included.ts";
import { type Checked, placeOf, problemsOf } from "./issue-words.ts";
import { type ConfigInputs, deepFreeze, type LoadedConfig } from "./loaded.ts";
import { ConfigError, type Problem } from "./problems.ts";
import { type Config, configSchema, type ParsedConfig } from "./schema.ts";
import { readTextFile } from "./text-file.ts";
import { type Path, YamlSource } from "./yaml-source.ts";

/** Throws `ConfigError`, also when the file cannot be read. */
export async function loadConfig(file: string, inputs: ConfigInputs = {}): Promise<LoadedConfig> {
  let text: string;
  try {
    text = readTextFile(file);
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    const message = missing ? "there is no such file" : messageOf(error);
    const mend = missing
      ? "name the configuration: sluice check <file>, sluice up --config <file>"
      : undefined;
    throw new ConfigError([{ place: { label: file }, message, mend }]);
  }
  const main = mainSource(text, file);
  return parseSources(main, await readIncluded(main), inputs);
}

/** One text that includes no files; `file` is what places are called by. Throws `ConfigError`. */
export function parseConfig(text: string, file: string, inputs: ConfigInputs = {}): LoadedConfig {
  return parseSources(mainSource(text, file), [], inputs);
}

function mainSource(text: string, file: string): YamlSource {
  const source = new YamlSource(file, text);
  if (source.problems.length > 0) throw new ConfigError(source.problems);
  return source;
}

function parseSources(
  main: YamlSource,
  included: readonly YamlSource[],
  { env = {}, flags = [] }: ConfigInputs,
): LoadedConfig {
  const source = new IncludedSources(main, included);
  if (source.problems.length > 0) throw new ConfigError(source.problems);
  const files = [...included, main].map(({ file }) => file);

  const environment = readEnvironment(env, configSchema, source.value);
  const overrides = [...environment.overrides, ...flags];
  const misplaced = overrides
    .filter(({ path }) => path[0] === "include")
    .map(({ place }) => ({ place, message: "include can be set in the file only" }));
  const value = applyOverrides(source.value ?? {}, overrides);
  const checked: Checked = {
    source,
    value,
    overridePlace: (path) => overrides.findLast((override) => isPrefix(override.path, path))?.place,
    keysAt: (path) => {
      const schema = schemaAt(configSchema, path);
      return schema === undefined ? [] : keysOf(schema, undefined);
    },
  };

  const attachments = new Attachments(main.file);
  const result = configSchema.safeParse(value);
  const cross = crossCheck(checked, attachments);
  const problems = [
    ...environment.problems,
    ...misplaced,
    ...problemsOf(result.error?.issues ?? [], checked),
    ...cross.problems,
  ];
  if (!result.success || problems.length > 0) throw new ConfigError(inOrder(problems, files));
  const version = versionOf([...included, main], attachments);
  return {
    config: deepFreeze(completed(result.data, attachments, version)),
    file: main.file,
    files: [...files, ...attachments.files],
    version,
    tableVersions: Object.fromEntries(
      Object.entries(result.data.tables).map(([name, table]) => [name, attachments.versionOf(table)]),
    ),
    testPlaces: result.data.tests.map((_, index) => source.placeOfValue(["tests", index]).label),
    partitionPlaces: Object.fromEntries(
      Object.keys(result.data.streams).map((name) => [
        name,
        placeOf(["streams", name, "partitions"], checked),
      ]),
    ),
    warnings: environment.warnings,
    notes: cross.notes,
  };
}

/** With the defaults in the mappings, the version in their headers if it is to be there, and tables and schemas read. */
function completed(
  { mappings, tables, defaults, ...rest }: ParsedConfig,
  attachments: Attachments,
  version: string,
): Config {
  const everywhere = rest.versionHeader === undefined ? {} : { [rest.versionHeader]: version };
  const rules = mappings.map(({ name, schema, also, ...mapping }): RuleDefinition => {
    const [first = ""] = typeof mapping.from === "string" ? [mapping.from] : mapping.from;
    const others = also?.map(({ headers, ...target }) => ({
      ...target,
      ...(headers === undefined ? {} : { headers: { ...headers, ...everywhere } }),
    }));
    return {
      ...defaults,
      ...mapping,
      name: name ?? first,
      headers: { ...defaults.headers, ...mapping.headers, ...everywhere },
      ...(others === undefined ? {} : { also: others }),
      ...(schema === undefined ? {} : { schema: attachments.schema(schema) }),
    };
  });
  const read = Object.entries(tables).map(([name, file]) => [name, attachments.table(file)] as const);
  return { ...rest, mappings: rules, tables: new Map(read) };
}

function versionOf(sources: readonly YamlSource[], attachments: Attachments): string {
  const hash = createHash("sha256");
  for (const { text } of sources) hash.update(`${Buffer.byteLength(text)}\n`).update(text);
  return hash.update(attachments.hash).digest("hex").slice(0, 12);
}

/** In the order of the files, and within them; what stands outside of them comes after. */
function inOrder(problems: readonly Problem[], files: readonly string[]): Problem[] {
  const position = ({ place: { label, source } }: Problem): readonly [number, number, number] => {
    const file = files.findIndex((name) => label.startsWith(`${name}:`));
    return source?.line === undefined ? [files.length, 0, 0] : [file, source.line, source.column];
  };
  const placed = problems.map((problem) => ({ problem, at: position(problem) }));
  placed.sort(({ at: a }, { at: b }) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
  return placed.map(({ problem }) => problem);
}

function isPrefix(prefix: Path, path: Path): boolean {
  return prefix.every((key, index) => key === path[index]);
}
