/** One mapping rule: its definition, and what it is compiled to. Everything wrong with it is found here. */

import { MappingSyntaxError } from "./syntax-error.ts";
import { Template } from "./template.ts";
import { TopicFilter } from "./topic-filter.ts";

export interface RuleDefinition {
  readonly name: string;
  /** An MQTT topic filter with named wildcards. */
  readonly from: string;
  /** Template for the stream. */
  readonly to: string;
  /** Template for the record's key; without it records are spread. */
  readonly key?: string | undefined;
  /** Templates for record headers. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Template for the record's timestamp; without it the time of arrival. See `timestampOf`. */
  readonly timestamp?: string | undefined;
}

/** What every template may use beside the rule's named wildcards. */
export const MESSAGE_NAMES = [
  "topic",
  "clientId",
  "username",
  "qos",
  "retain",
  "receivedAt",
  "payload",
] as const;

export interface CompiledRule {
  readonly name: string;
  readonly filter: TopicFilter;
  readonly to: Template;
  readonly key: Template | undefined;
  readonly headers: readonly { readonly name: string; readonly value: Template }[];
  readonly timestamp: Template | undefined;
  /** Which parts follow from the MQTT topic alone. */
  readonly fixed: { readonly to: boolean; readonly key: boolean; readonly headers: boolean };
}

/** 1–249 of Kafka's characters; names beginning with "__" are the gateway's own. */
export function isStreamName(name: string): boolean {
  return /^(?!__)[a-zA-Z0-9._-]{1,249}$/.test(name) && name !== "." && name !== "..";
}

/** Throws `MappingSyntaxError`, with `path` naming the field. */
export function compileRule(definition: RuleDefinition): CompiledRule {
  const filter = inField(["from"], () => TopicFilter.parse(definition.from));
  for (const name of filter.names) {
    if ((MESSAGE_NAMES as readonly string[]).includes(name)) {
      throw new MappingSyntaxError(
        `"${name}" cannot name a wildcard, it is a name of its own`,
        definition.from.search(new RegExp(`[+#]${name}(?:/|$)`)) + 1,
        { length: name.length, path: ["from"] },
      );
    }
  }
  const names = [...filter.names, ...MESSAGE_NAMES];
  const template = (text: string, ...path: string[]): Template =>
    inField(path, () => Template.parse(text, names));
  const to = template(definition.to, "to");
  if (to.literal !== undefined && !isStreamName(to.literal)) {
    throw new MappingSyntaxError(
      `"${to.literal}" is no name for a stream: 1 to 249 of a-z, A-Z, 0-9, ".", "_" and "-", not beginning with "__"`,
      0,
      { length: definition.to.length, path: ["to"] },
    );
  }
  const key = definition.key === undefined ? undefined : template(definition.key, "key");
  const timestamp =
    definition.timestamp === undefined ? undefined : template(definition.timestamp, "timestamp");
  const headers = Object.entries(definition.headers ?? {}).map(([name, text]) => ({
    name,
    value: template(text, "headers", name),
  }));
  const fixed = (part: Template): boolean =>
    [...part.names].every((name) => name === "topic" || filter.names.includes(name));
  return {
    name: definition.name,
    filter,
    to,
    key,
    headers,
    timestamp,
    fixed: {
      to: fixed(to),
      key: key === undefined || fixed(key),
      headers: headers.every(({ value }) => fixed(value)),
    },
  };
}

function inField<T>(path: readonly string[], parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw error instanceof MappingSyntaxError ? error.at(path) : error;
  }
}

/** From 1973 on; a smaller number is almost surely seconds. */
const EARLIEST_MS = 1e11;
/** The end of the year 9999. */
const LATEST_MS = 253_402_300_799_999;
const ISO = /^\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?$/i;

/**
 * A rendered timestamp in milliseconds, or what is wrong with it.
 *
 * Numbers (also as text of digits) are milliseconds since the epoch, other text is ISO 8601. Nothing is
 * guessed: a number that looks like seconds and a time of day without its zone are refused, since a record
 * dated 1970 by a wrong guess would be the first that retention deletes.
 */
export function timestampOf(value: unknown): number | string {
  const given = typeof value === "string" && /^\d{1,15}(?:\.\d+)?$/.test(value) ? Number(value) : value;
  if (typeof given === "number") {
    if (given >= EARLIEST_MS && given <= LATEST_MS) return Math.trunc(given);
    return given > 0 && given < EARLIEST_MS
      ? `${given} is no time in milliseconds (is it in seconds?)`
      : `${given} is no time in milliseconds`;
  }
  if (typeof given !== "string") return "neither a number nor text";
  const match = ISO.exec(given);
  const text = given.length > 40 ? `${given.slice(0, 40)}…` : given;
  if (match === null) return `"${text}" is neither milliseconds nor an ISO 8601 date`;
  if (given.length > 10 && match[1] === undefined) return `"${text}" has no time zone (Z or +02:00)`;
  const parsed = Date.parse(given.replace(",", "."));
  return Number.isNaN(parsed) || parsed < 0 ? `"${text}" is no date` : parsed;
}
