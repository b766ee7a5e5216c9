/** Times and durations as messages give them. Nothing is guessed. */

/** From 1973 on; a smaller number is almost surely seconds. */
const EARLIEST_MS = 1e11;
/** The end of the year 9999. */
const LATEST_MS = 253_402_300_799_999;
const ISO = /^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?\s?(Z|[+-]\d\d(?::?\d\d)?)?)?$/i;
const NUMBER = /^-?\d{1,20}(?:\.\d+)?$/;

/** What `time(value, unit)` knows; `iso` is a date as text. */
const FACTORS: Readonly<Record<string, number>> = { s: 1_000, ms: 1, us: 1e-3, µs: 1e-3, ns: 1e-6 };
export const TIME_UNITS: readonly string[] = [...Object.keys(FACTORS), "iso"];

/**
 * A time in milliseconds, or what is wrong with it.
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
      ? `${given} is no time in milliseconds (is it in seconds? then time(…, "s"))`
      : `${given} is no time in milliseconds`;
  }
  if (typeof given === "bigint") return `${given} is no time in milliseconds`;
  if (typeof given !== "string") return "neither a number nor text";
  return isoOf(given, "neither milliseconds nor an ISO 8601 date");
}

/** The same in a unit that is said. */
export function timeOf(value: unknown, unit: string): number | string {
  if (unit === "iso") return typeof value === "string" ? isoOf(value, "no ISO 8601 date") : "no text";
  const factor = FACTORS[unit];
  if (factor === undefined) return `there is no unit "${unit}"; units are ${TIME_UNITS.join(", ")}`;
  const isNumber = typeof value === "number" || typeof value === "bigint";
  if (!isNumber && !(typeof value === "string" && NUMBER.test(value))) return `no number of ${unit}`;
  // 1767225600.123 s comes to …122.9999 in binary.
  const time = Math.floor(Number((Number(value) * factor).toPrecision(15)));
  return time >= 0 && time <= LATEST_MS ? time : `${value} ${unit} is no time before the year 10000`;
}

function isoOf(given: string, otherwise: string): number | string {
  const match = ISO.exec(given);
  const text = given.length > 40 ? `${given.slice(0, 40)}…` : given;
  if (match === null) return `"${text}" is ${otherwise}`;
  if (given.length > 10 && match[1] === undefined) return `"${text}" has no time zone (Z or +02:00)`;
  const zoned = given
    .replace(",", ".")
    .replace(/ (?=\d)/, "T")
    .replace(/\s/, "")
    .replace(/([+-]\d\d)$/, (zone) => (given.length > 10 ? `${zone}:00` : zone));
  const parsed = Date.parse(zoned);
  return Number.isNaN(parsed) || parsed < 0 ? `"${text}" is no date` : parsed;
}

const DURATION_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** `1h30m`, `250ms`, `7d` in milliseconds; undefined for anything else. */
export function parseDuration(text: string): number | undefined {
  if (!/^(?:\d{1,15}(?:\.\d{1,9})?(?:ms|s|m|h|d))+$/.test(text)) return undefined;
  let sum = 0;
  for (const [, amount, unit] of text.matchAll(/([\d.]+)(ms|s|m|h|d)/g)) {
    sum += Number(amount) * (DURATION_MS[unit as string] as number);
  }
  return sum;
}
