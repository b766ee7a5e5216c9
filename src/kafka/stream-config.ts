/**
 * A stream's settings under Kafka's names, for the APIs that create, describe and alter.
 *
 * Kafka has more settings than the log has. Those whose only value here is also what tools set or expect are
 * listed as fixed: that value is taken, another is refused, so that nothing is promised that is not kept.
 */
import type { StreamSettings } from "../log/log.ts";

/** `ConfigType` of DescribeConfigs. */
export const ConfigType = { BOOLEAN: 1, STRING: 2, INT: 3, LONG: 5, DOUBLE: 6, LIST: 7 } as const;

interface Setting {
  readonly field: keyof StreamSettings;
  readonly type: number;
  /** Undefined for text that is no value of this setting. */
  parse(text: string): number | string | undefined;
}

function integer(
  field: keyof StreamSettings,
  type: number,
  min: number,
  max = Number.MAX_SAFE_INTEGER,
): Setting {
  return {
    field,
    type,
    parse(text) {
      // Java tools say "without limit" as Long.MAX_VALUE.
      const value = text === "9223372036854775807" ? Number.MAX_SAFE_INTEGER : Number(text);
      return /^-?\d+$/.test(text) && value >= min && value <= max ? value : undefined;
    },
  };
}

const INT32_MAX = 0x7fffffff;

/** Bounds as in Kafka's `LogConfig`. */
const SETTINGS: Readonly<Record<string, Setting>> = {
  "cleanup.policy": {
    field: "cleanup",
    type: ConfigType.LIST,
    parse: (text) => (text === "delete" || text === "compact" ? text : undefined),
  },
  "retention.ms": integer("retentionMs", ConfigType.LONG, -1),
  "retention.bytes": integer("retentionBytes", ConfigType.LONG, -1),
  "segment.bytes": integer("segmentBytes", ConfigType.INT, 14, INT32_MAX),
  "segment.ms": integer("segmentMs", ConfigType.LONG, 1),
  "delete.retention.ms": integer("deleteRetentionMs", ConfigType.LONG, 0),
  "max.message.bytes": integer("maxMessageBytes", ConfigType.INT, 0, INT32_MAX),
};

const FIXED: Readonly<Record<string, { readonly value: string; readonly type: number }>> = {
  "compression.type": { value: "producer", type: ConfigType.STRING },
  "message.timestamp.type": { value: "CreateTime", type: ConfigType.STRING },
  "min.cleanable.dirty.ratio": { value: "0.5", type: ConfigType.DOUBLE },
  "min.insync.replicas": { value: "1", type: ConfigType.INT },
  "unclean.leader.election.enable": { value: "false", type: ConfigType.BOOLEAN },
};

export interface SettingEntry {
  readonly name: string;
  readonly value: string | null;
}

/** The settings that the entries ask for, or what is wrong with one of them, in words. */
export function parseSettings(entries: readonly SettingEntry[]): Partial<StreamSettings> | string {
  const settings: Record<string, number | string> = {};
  for (const { name, value } of entries) {
    if (value === null) return `${name} has no value`;
    const fixed = Object.hasOwn(FIXED, name) ? FIXED[name] : undefined;
    if (fixed !== undefined) {
      if (value.toLowerCase() === fixed.value.toLowerCase()) continue;
      return `${name} can only be ${fixed.value} here`;
    }
    const setting = Object.hasOwn(SETTINGS, name) ? SETTINGS[name] : undefined;
    if (setting === undefined) return `unknown setting ${name}`;
    const parsed = setting.parse(value);
    if (parsed === undefined) return `${name} cannot be "${value}" here`;
    settings[setting.field] = parsed;
  }
  return settings as Partial<StreamSettings>;
}

/** Every setting of a stream under Kafka's names. */
export function describeSettings(
  settings: StreamSettings,
): { readonly name: string; readonly value: string; readonly type: number; readonly readOnly: boolean }[] {
  return [
    ...Object.entries(SETTINGS).map(([name, { field, type }]) => ({
      name,
      value: String(settings[field]),
      type,
      readOnly: false,
    })),
    ...Object.entries(FIXED).map(([name, { value, type }]) => ({ name, value, type, readOnly: true })),
  ];
}
