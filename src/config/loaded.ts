/**
 * A configuration that has been loaded, and what it is loaded from: all that who only has one needs to know. What
 * reads it (load.ts, with YAML, zod and the like) a gateway leaves to a thread that ends, see load-aside.ts.
 */
import { ConfigError, type Place, type Problem } from "./problems.ts";
import type { Config } from "./schema.ts";
import type { Path } from "./yaml-source.ts";

/** One setting from outside of the file. */
export interface Override {
  readonly path: Path;
  readonly value: unknown;
  readonly place: Place;
}

/** A flag as an override: `flag("--data", ["dataDir"], "/var/lib/sluice")`. */
export function flag(name: string, path: Path, value: string): Override {
  const text = `${name} ${value}`;
  return {
    path,
    value,
    place: { label: name, source: { text, column: name.length + 1, length: Math.max(1, value.length) } },
  };
}

export const DEFAULT_CONFIG_FILE = "config/gateway.yaml";

export interface ConfigInputs {
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** From flags, made by `flag()`. */
  readonly flags?: readonly Override[];
}

export interface LoadedConfig {
  readonly config: Config;
  readonly file: string;
  /** All that was read, `file` among them; tables and schemas, too. */
  readonly files: readonly string[];
  /** A hash of what the files say: the same text, the same version. */
  readonly version: string;
  /** A hash of each table, by its name. */
  readonly tableVersions: Readonly<Record<string, string>>;
  /** Where each of `tests` stands: file, line, column. */
  readonly testPlaces: readonly string[];
  /** Where each stream says its partitions: only the log knows whether they are fewer than there are. */
  readonly partitionPlaces: Readonly<Record<string, Place>>;
  /** Sentences for the log: what was set but is not known. */
  readonly warnings: readonly string[];
  /** What is no mistake, but worth a look. */
  readonly notes: readonly Problem[];
}

/** The configuration with `offset` added to every port that is fixed; refused beyond 65535. */
export function shiftPorts(config: Config, offset: number): Config {
  const shift = <A extends { host: string; port: number }>(address: A): A => {
    const port = address.port === 0 ? 0 : address.port + offset;
    if (port >= 0 && port <= 65_535) return { ...address, port };
    const message = `brings port ${address.port} to ${port}, which is none`;
    throw new ConfigError([{ place: { label: `--port-offset ${offset}` }, message }]);
  };
  const shiftKafka = <L extends Pick<Config["kafka"], "bind" | "advertise">>(one: L): L => ({
    ...one,
    bind: shift(one.bind),
    advertise: one.advertise === "auto" ? one.advertise : shift(one.advertise),
  });
  const { mqtt, kafka } = config;
  return deepFreeze({
    ...config,
    mqtt: { ...mqtt, listeners: mqtt.listeners.map((one) => ({ ...one, bind: shift(one.bind) })) },
    kafka: { ...shiftKafka(kafka), listeners: kafka.listeners.map(shiftKafka) },
  });
}

export function deepFreeze<T>(value: T): T {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return value;
  for (const item of Object.values(value)) deepFreeze(item);
  return Object.freeze(value);
}
