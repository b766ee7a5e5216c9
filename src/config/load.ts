/**
 * From files, environment and flags to one frozen `Config`. A flag wins over the environment, the environment
 * over the file, the file over the default. Either everything is right, or a `ConfigError` says all that is
 * wrong at once; nothing is repaired in silence, and the file is never written.
 */
import { readFile } from "node:fs/promises";
import { messageOf } from "../errors.ts";
import { crossCheck } from "./cross-checks.ts";
import { applyOverrides, keysOf, type Override, readEnvironment, schemaAt } from "./environment.ts";
import { type Checked, problemsOf } from "./issue-words.ts";
import { ConfigError, type Problem } from "./problems.ts";
import { type Config, configSchema } from "./schema.ts";
import { type Path, YamlSource } from "./yaml-source.ts";

export const DEFAULT_CONFIG_FILE = "config/gateway.yaml";

export interface ConfigInputs {
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** From flags, made by `flag()`. */
  readonly flags?: readonly Override[];
}

export interface LoadedConfig {
  readonly config: Config;
  readonly file: string;
  /** Sentences for the log: what was set but is not known. */
  readonly warnings: readonly string[];
}

/** Throws `ConfigError`, also when the file cannot be read. */
export async function loadConfig(file: string, inputs: ConfigInputs = {}): Promise<LoadedConfig> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    const message = missing ? "there is no such file" : `cannot be read: ${messageOf(error)}`;
    throw new ConfigError([
      { place: { label: file }, message, mend: "name the configuration with --config <file>" },
    ]);
  }
  return parseConfig(text, file, inputs);
}

/** `file` is what places are called by. Throws `ConfigError`. */
export function parseConfig(
  text: string,
  file: string,
  { env = {}, flags = [] }: ConfigInputs = {},
): LoadedConfig {
  const source = new YamlSource(file, text);
  if (source.problems.length > 0) throw new ConfigError(source.problems);

  const environment = readEnvironment(env, configSchema, source.value);
  const overrides = [...environment.overrides, ...flags];
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

  const result = configSchema.safeParse(value);
  const problems = [
    ...environment.problems,
    ...problemsOf(result.error?.issues ?? [], checked),
    ...crossCheck(checked),
  ];
  if (!result.success || problems.length > 0) throw new ConfigError(inOrder(problems));
  return { config: deepFreeze(result.data), file, warnings: environment.warnings };
}

/** The configuration with `offset` added to every port that is fixed; refused beyond 65535. */
export function shiftPorts(config: Config, offset: number): Config {
  const shift = <A extends { host: string; port: number }>(address: A): A => {
    const port = address.port === 0 ? 0 : address.port + offset;
    if (port >= 0 && port <= 65_535) return { ...address, port };
    const message = `brings port ${address.port} to ${port}, which is none`;
    throw new ConfigError([{ place: { label: `--port-offset ${offset}` }, message }]);
  };
  const { mqtt, kafka } = config;
  return deepFreeze({
    ...config,
    mqtt: { ...mqtt, listeners: mqtt.listeners.map((one) => ({ ...one, bind: shift(one.bind) })) },
    kafka: {
      ...kafka,
      bind: shift(kafka.bind),
      advertise: kafka.advertise === "auto" ? kafka.advertise : shift(kafka.advertise),
    },
  });
}

/** In the order of the file; what stands outside of it comes after. */
function inOrder(problems: readonly Problem[]): Problem[] {
  const position = ({ place: { source } }: Problem) => [
    source?.line ?? Number.POSITIVE_INFINITY,
    source?.column ?? 0,
  ];
  return [...problems].sort((a, b) => {
    const [lineA, columnA] = position(a) as [number, number];
    const [lineB, columnB] = position(b) as [number, number];
    return lineA === lineB ? columnA - columnB : lineA - lineB;
  });
}

function isPrefix(prefix: Path, path: Path): boolean {
  return prefix.every((key, index) => key === path[index]);
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return value;
  for (const item of Object.values(value)) deepFreeze(item);
  return Object.freeze(value);
}
