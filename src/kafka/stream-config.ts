/**
 * A stream's settings under Kafka's names, for the APIs that create, describe and alter.
 *
 * Kafka has more settings than the log has. Those whose only value here is also what tools set or expect are
 * fixed: that value is taken, another is refused, so that nothing is promised that is not kept. Some say only how Kafka
 * does what is done here in another way: they are taken and have no effect.
 */
import { MAX_WINDOW_BYTES } from "../log/append-checks.ts";
import type { StreamOrigin, StreamSettings } from "../log/log.ts";
import { DEFAULT_SETTINGS } from "../log/stream-state.ts";
import { ErrorCode, Refusal } from "./error-code.ts";

/** `ConfigType` of DescribeConfigs. */
export const ConfigType = { BOOLEAN: 1, STRING: 2, INT: 3, LONG: 5, DOUBLE: 6, LIST: 7 } as const;
/** `ConfigSource` of DescribeConfigs and CreateTopics. */
export const ConfigSource = { DYNAMIC_TOPIC: 1, STATIC_BROKER: 4, DEFAULT: 5 } as const;
/** `AlterConfigOp.OpType` */
const Operation = { SET: 0, DELETE: 1, APPEND: 2, SUBTRACT: 3 } as const;

interface Setting {
  readonly type: number;
  /** Kafka's name of the broker's setting that it takes its default from, if it is not its own or has other units. */
  readonly synonym?: string;
  /** Where the log has it; without one it is fixed, or has no effect. */
  readonly field?: keyof StreamSettings;
  readonly hasNoEffect?: true;
  /** The values that there are: these texts (several of them where it is a list), or numbers from … to. */
  readonly values: readonly string[] | { readonly min: number; readonly max: number };
}

const INT32_MAX = 0x7fffffff;
const LONG_MAX = "9223372036854775807";
const { BOOLEAN, STRING, INT, LONG, DOUBLE, LIST } = ConfigType;
const long = (min: number) => ({ min, max: Number.MAX_SAFE_INTEGER });

/** Bounds as in Kafka's `LogConfig`, but for a batch's size: no more than one commit takes. */
const SETTINGS = new Map<string, Setting>([
  [
    "cleanup.policy",
    { type: LIST, synonym: "log.cleanup.policy", field: "cleanup", values: ["compact", "delete"] },
  ],
  ["retention.ms", { type: LONG, field: "retentionMs", values: long(-1) }],
  [
    "retention.bytes",
    { type: LONG, synonym: "log.retention.bytes", field: "retentionBytes", values: long(-1) },
  ],
  [
    "segment.bytes",
    { type: INT, synonym: "log.segment.bytes", field: "segmentBytes", values: { min: 14, max: INT32_MAX } },
  ],
  ["segment.ms", { type: LONG, field: "segmentMs", values: long(1) }],
  [
    "delete.retention.ms",
    { type: LONG, synonym: "log.cleaner.delete.retention.ms", field: "deleteRetentionMs", values: long(0) },
  ],
  [
    "min.cleanable.dirty.ratio",
    {
      type: DOUBLE,
      synonym: "log.cleaner.min.cleanable.ratio",
      field: "minDirtyRatio",
      values: { min: 0, max: 1 },
    },
  ],
  [
    "max.message.bytes",
    {
      type: INT,
      synonym: "message.max.bytes",
      field: "maxMessageBytes",
      values: { min: 0, max: MAX_WINDOW_BYTES },
    },
  ],
  [
    "message.timestamp.type",
    {
      type: STRING,
      synonym: "log.message.timestamp.type",
      field: "timestampType",
      values: ["CreateTime", "LogAppendTime"],
    },
  ],
  ["compression.type", { type: STRING, synonym: "compression.type", values: ["producer"] }],
  // A Pi's clock may be years off before it has heard of the network's time: no record is lost to that.
  [
    "message.timestamp.after.max.ms",
    { type: LONG, synonym: "log.message.timestamp.after.max.ms", values: [LONG_MAX] },
  ],
  [
    "message.timestamp.before.max.ms",
    { type: LONG, synonym: "log.message.timestamp.before.max.ms", values: [LONG_MAX] },
  ],
  ["max.compaction.lag.ms", { type: LONG, synonym: "log.cleaner.max.compaction.lag.ms", values: [LONG_MAX] }],
  ["min.compaction.lag.ms", { type: LONG, synonym: "log.cleaner.min.compaction.lag.ms", values: ["0"] }],
  ["min.insync.replicas", { type: INT, synonym: "min.insync.replicas", values: ["1"] }],
  ["remote.storage.enable", { type: BOOLEAN, values: ["false"] }],
  [
    "unclean.leader.election.enable",
    { type: BOOLEAN, synonym: "unclean.leader.election.enable", values: ["false"] },
  ],
  // How files are laid out, and when they are removed. Kafka Streams 2.1 sets the first for its repartition topics.
  ["segment.index.bytes", noEffect(INT, 4)],
  ["segment.jitter.ms", noEffect(LONG, 0)],
  ["index.interval.bytes", noEffect(INT, 0)],
  ["preallocate", noEffect(BOOLEAN)],
  ["file.delete.delay.ms", noEffect(LONG, 0)],
  // Whatever they are: each record is synced before it is acknowledged.
  ["flush.messages", noEffect(LONG, 1)],
  ["flush.ms", noEffect(LONG, 0)],
  // They go with settings that are fixed above.
  ["compression.gzip.level", noEffect(INT, -1)],
  ["compression.lz4.level", noEffect(INT, 1)],
  ["compression.zstd.level", noEffect(INT, -131_072)],
  ["local.retention.ms", noEffect(LONG, -2)],
  ["local.retention.bytes", noEffect(LONG, -2)],
  ["remote.log.copy.disable", noEffect(BOOLEAN)],
  ["remote.log.delete.on.disable", noEffect(BOOLEAN)],
]);

function noEffect(type: number, min = 0): Setting {
  const max = type === LONG ? Number.MAX_SAFE_INTEGER : INT32_MAX;
  return { type, values: type === BOOLEAN ? ["false", "true"] : { min, max }, hasNoEffect: true };
}

export interface SettingEntry {
  readonly name: string;
  readonly value: string | null;
}

export interface SettingChange extends SettingEntry {
  readonly configOperation: number;
}

function settingOf(name: string): Setting {
  const setting = SETTINGS.get(name);
  if (setting === undefined) throw new Refusal(ErrorCode.INVALID_CONFIG, `unknown setting ${name}`);
  return setting;
}

/** The settings that the entries ask for. Throws `Refusal` on one that is unknown or cannot be so. */
export function parseSettings(entries: readonly SettingEntry[]): Partial<StreamSettings> {
  const settings: Record<string, number | string> = {};
  for (const { name, value } of entries) {
    const setting = settingOf(name);
    const parsed = value === null ? undefined : parse(value, setting);
    if (parsed === undefined) {
      const words = `${name} cannot be ${value} here, only ${possible(setting)}`;
      throw new Refusal(ErrorCode.INVALID_CONFIG, words);
    }
    if (setting.field !== undefined) settings[setting.field] = parsed;
  }
  return settings as Partial<StreamSettings>;
}

/** What IncrementalAlterConfigs makes of the settings that there are; throws as `parseSettings`. */
export function alterSettings(
  current: StreamSettings,
  changes: readonly SettingChange[],
): Partial<StreamSettings> {
  if (new Set(changes.map(({ name }) => name)).size < changes.length) {
    throw new Refusal(ErrorCode.INVALID_REQUEST, "a setting is named twice");
  }
  const without = changes.find((one) => one.value === null && one.configOperation !== Operation.DELETE);
  if (without !== undefined) throw new Refusal(ErrorCode.INVALID_REQUEST, `${without.name} without a value`);
  const settings: Record<string, number | string> = {};
  for (const { name, value, configOperation } of changes) {
    if (configOperation === Operation.DELETE) {
      // Of any name, as in Kafka: MirrorMaker 2 takes back each setting that its source has by default.
      const field = SETTINGS.get(name)?.field;
      if (field !== undefined) settings[field] = DEFAULT_SETTINGS[field];
      continue;
    }
    const { field, type } = settingOf(name);
    if (configOperation === Operation.SET) {
      Object.assign(settings, parseSettings([{ name, value }]));
    } else if (configOperation === Operation.APPEND || configOperation === Operation.SUBTRACT) {
      if (type !== LIST) throw new Refusal(ErrorCode.INVALID_CONFIG, `${name} is not a list`);
      const named = listOf(value ?? "");
      const present = listOf(String(current[field as keyof StreamSettings]));
      const left =
        configOperation === Operation.APPEND
          ? [...present, ...named]
          : present.filter((one) => !named.includes(one));
      Object.assign(settings, parseSettings([{ name, value: left.join(",") }]));
    } else {
      throw new Refusal(ErrorCode.INVALID_REQUEST, `unknown operation ${configOperation}`);
    }
  }
  return settings as Partial<StreamSettings>;
}

const listOf = (text: string): string[] => text.split(",").map((one) => one.trim().toLowerCase());

/** Each setting that is taken, with what it may be in words. */
export function possibleSettings(): { readonly name: string; readonly values: string }[] {
  return Array.from(SETTINGS, ([name, setting]) => {
    const values = setting.field === undefined && !setting.hasNoEffect ? "nothing else" : possible(setting);
    return { name, values: setting.hasNoEffect ? `${values}; without effect` : values };
  });
}

function possible({ values, type }: Setting): string {
  if ("min" in values) return `${values.min} to ${values.max}`;
  return values.join(" or ") + (type === LIST ? ", or both" : "");
}

function parse(text: string, { values, type }: Setting): number | string | undefined {
  if (!("min" in values)) {
    const named = type === LIST ? listOf(text) : [text.toLowerCase()];
    const known = values.filter((one) => named.includes(one.toLowerCase()));
    return new Set(named).size === known.length ? known.join(",") : undefined;
  }
  // Java tools say "without limit" as Long.MAX_VALUE.
  const value = text === LONG_MAX && type === LONG ? Number.MAX_SAFE_INTEGER : Number(text);
  const isNumber = type === DOUBLE ? /^\d+(\.\d+)?$/.test(text) : /^-?\d+$/.test(text);
  return isNumber && value >= values.min && value <= values.max ? value : undefined;
}

/** One setting as DescribeConfigs and CreateTopics tell it. */
export interface DescribedSetting {
  readonly name: string;
  readonly value: string;
  readonly readOnly: boolean;
  readonly configSource: number;
  readonly configType: number;
  /** What it is and would otherwise be, the first that counts first. */
  readonly synonyms: readonly Synonym[];
}

interface Synonym extends SettingEntry {
  readonly source: number;
}

const MADE_BY: Readonly<Record<StreamOrigin, string>> = {
  config: "configuration",
  protocol: "client",
  internal: "gateway",
};

/** Who made a stream, told beside its settings: Kafka has no place for it. */
export const ORIGIN_SETTING = "sluice.origin";

export function describeOrigin(origin: StreamOrigin): DescribedSetting {
  const { DEFAULT: configSource } = ConfigSource;
  const described = { readOnly: true, configSource, configType: STRING, synonyms: [] };
  return { name: ORIGIN_SETTING, value: MADE_BY[origin], ...described };
}

/** Every setting of a stream that has an effect; the log keeps resolved ones, so those that are as by default count as such. */
export function describeSettings(settings: StreamSettings): DescribedSetting[] {
  const told = [...SETTINGS].filter(([, { hasNoEffect }]) => !hasNoEffect);
  return told.map(([name, { type, synonym, field, values }]) => {
    const fallback = String(field === undefined ? (values as readonly string[])[0] : DEFAULT_SETTINGS[field]);
    const value = field === undefined ? fallback : String(settings[field]);
    const { DEFAULT, DYNAMIC_TOPIC } = ConfigSource;
    const isOwn = value !== fallback;
    const own = isOwn ? [{ name, value, source: DYNAMIC_TOPIC }] : [];
    const others = synonym === undefined ? [] : [{ name: synonym, value: fallback, source: DEFAULT }];
    return {
      ...{ name, value, configType: type, readOnly: field === undefined },
      configSource: isOwn ? DYNAMIC_TOPIC : DEFAULT,
      synonyms: [...own, ...others],
    };
  });
}
