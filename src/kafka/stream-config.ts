/**
 * A stream's settings under Kafka's names, for the APIs that create, describe and alter.
 *
 * Kafka has more settings than the log has. Those whose only value here is also what tools set or expect are
 * fixed: that value is taken, another is refused, so that nothing is promised that is not kept.
 */
import type { StreamSettings } from "../log/log.ts";
import { ErrorCode, Refusal } from "./error-code.ts";

/** `ConfigType` of DescribeConfigs. */
export const ConfigType = { BOOLEAN: 1, STRING: 2, INT: 3, LONG: 5, DOUBLE: 6, LIST: 7 } as const;
/** `ConfigSource` of DescribeConfigs and CreateTopics. */
export const ConfigSource = { DYNAMIC_TOPIC: 1, STATIC_BROKER: 4, DEFAULT: 5 } as const;

interface Setting {
  readonly type: number;
  /** Where the log has it; without one it is fixed. */
  readonly field?: keyof StreamSettings;
  /** The values that there are: these texts, or integers from … to. */
  readonly values: readonly string[] | { readonly min: number; readonly max: number };
}

const INT32_MAX = 0x7fffffff;
const { BOOLEAN, STRING, INT, LONG, DOUBLE, LIST } = ConfigType;
const long = (min: number) => ({ min, max: Number.MAX_SAFE_INTEGER });

/** Bounds as in Kafka's `LogConfig`. */
const SETTINGS = new Map<string, Setting>([
  ["cleanup.policy", { type: LIST, field: "cleanup", values: ["delete", "compact"] }],
  ["retention.ms", { type: LONG, field: "retentionMs", values: long(-1) }],
  ["retention.bytes", { type: LONG, field: "retentionBytes", values: long(-1) }],
  ["segment.bytes", { type: INT, field: "segmentBytes", values: { min: 14, max: INT32_MAX } }],
  ["segment.ms", { type: LONG, field: "segmentMs", values: long(1) }],
  ["delete.retention.ms", { type: LONG, field: "deleteRetentionMs", values: long(0) }],
  ["max.message.bytes", { type: INT, field: "maxMessageBytes", values: { min: 0, max: INT32_MAX } }],
  ["compression.type", { type: STRING, values: ["producer"] }],
  ["message.timestamp.type", { type: STRING, values: ["CreateTime"] }],
  ["min.cleanable.dirty.ratio", { type: DOUBLE, values: ["0.5"] }],
  ["min.insync.replicas", { type: INT, values: ["1"] }],
  ["unclean.leader.election.enable", { type: BOOLEAN, values: ["false"] }],
]);

export interface SettingEntry {
  readonly name: string;
  readonly value: string | null;
}

/** The settings that the entries ask for. Throws `Refusal` on one that is unknown or cannot be so. */
export function parseSettings(entries: readonly SettingEntry[]): Partial<StreamSettings> {
  const settings: Record<string, number | string> = {};
  for (const { name, value } of entries) {
    const setting = SETTINGS.get(name);
    if (setting === undefined) throw new Refusal(ErrorCode.INVALID_CONFIG, `unknown setting ${name}`);
    const parsed = value === null ? undefined : parse(value, setting);
    if (parsed === undefined) throw new Refusal(ErrorCode.INVALID_CONFIG, `${name} cannot be ${value} here`);
    if (setting.field !== undefined) settings[setting.field] = parsed;
  }
  return settings as Partial<StreamSettings>;
}

function parse(text: string, { values }: Setting): number | string | undefined {
  if (!("min" in values)) return values.find((one) => one.toLowerCase() === text.toLowerCase());
  // Java tools say "without limit" as Long.MAX_VALUE.
  const value = text === "9223372036854775807" ? Number.MAX_SAFE_INTEGER : Number(text);
  return /^-?\d+$/.test(text) && value >= values.min && value <= values.max ? value : undefined;
}

/** One setting as DescribeConfigs and CreateTopics tell it. */
export interface DescribedSetting {
  readonly name: string;
  readonly value: string;
  readonly readOnly: boolean;
  readonly configSource: number;
  readonly configType: number;
}

/** Every setting of a stream. The log keeps resolved ones, so all that can be set are shown as the stream's own. */
export function describeSettings(settings: StreamSettings): DescribedSetting[] {
  return Array.from(SETTINGS, ([name, { type, field, values }]) => ({
    name,
    value: String(field === undefined ? (values as readonly string[])[0] : settings[field]),
    readOnly: field === undefined,
    configSource: field === undefined ? ConfigSource.DEFAULT : ConfigSource.DYNAMIC_TOPIC,
    configType: type,
  }));
}
