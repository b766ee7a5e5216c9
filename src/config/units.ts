/**
 * Sizes, times and addresses as people write them: `256KiB`, `7d`, `127.0.0.1:1883`.
 *
 * A parser gives the number, or says in words what is wrong; it never guesses. A bare number is refused
 * because nobody remembers whether a time-out was in seconds or milliseconds; 0 needs no unit. For every
 * whole number n of bytes or milliseconds `parse(format(n)) === n`.
 */

/** The value, or why there is none (`problem` completes "maxPacket …") and what to write instead. */
export type Parsed<T> = { readonly value: T } | { readonly problem: string; readonly mend?: string };

/** What `-1` means in Kafka's topic configuration. */
export const UNLIMITED = -1;

export interface Address {
  /** Without the brackets of an IPv6 address. */
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
}

type Units = ReadonlyArray<readonly [unit: string, factor: number]>;

/** From the smallest to the largest, so that a formatter can take the largest that divides. */
const SIZE_UNITS: Units = [
  ["B", 1],
  ["KiB", 2 ** 10],
  ["MiB", 2 ** 20],
  ["GiB", 2 ** 30],
  ["TiB", 2 ** 40],
];
const TIME_UNITS: Units = [
  ["ms", 1],
  ["s", 1_000],
  ["m", 60_000],
  ["h", 3_600_000],
  ["d", 86_400_000],
];

/** Bytes. */
export function parseSize(text: string | number): Parsed<number> {
  return parseQuantity(text, SIZE_UNITS, {
    kind: "size",
    usual: "KiB",
    smallest: "bytes",
    example: "256KiB",
  });
}

/** Milliseconds. */
export function parseDuration(text: string | number): Parsed<number> {
  return parseQuantity(text, TIME_UNITS, {
    kind: "time",
    usual: "s",
    smallest: "milliseconds",
    example: "10s",
  });
}

export function formatSize(bytes: number): string {
  return formatQuantity(bytes, SIZE_UNITS);
}

export function formatDuration(milliseconds: number): string {
  return formatQuantity(milliseconds, TIME_UNITS);
}

/** About three digits, for a screen: `1.4 GiB`. */
export function roughSize(bytes: number): string {
  const [unit, factor] = SIZE_UNITS.findLast(([, factor]) => bytes >= factor) ?? ["B", 1];
  const value = bytes / factor;
  return `${factor === 1 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${unit}`;
}

/** About three digits, for a screen: `0.96 ms`, `12.3 ms`, `1.2 s`; a dash for NaN. */
export function roughDuration(milliseconds: number): string {
  if (Number.isNaN(milliseconds)) return "–";
  if (milliseconds >= 999.5) return `${grouped(Number((milliseconds / 1_000).toFixed(1)))} s`;
  return `${milliseconds.toFixed(milliseconds < 9.995 ? 2 : milliseconds < 99.95 ? 1 : 0)} ms`;
}

/** 1234567 → 1,234,567, whatever the machine's language. */
export function grouped(value: number): string {
  return value.toLocaleString("en-US");
}

/** `1 stream`, `3 streams`. */
export function plural(count: number, noun: string): string {
  return `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** `host:port`, `[IPv6]:port`; a host must be stated, so that nobody opens a port to the world unawares. */
export function parseAddress(text: string): Parsed<Address> {
  const [, v6, name, digits] = /^(?:\[([0-9a-fA-F:.%\w]+)\]|([^\s:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = v6 ?? name;
  const port = Number(digits);
  if (host === undefined) {
    const bare = /^:?(\d{1,5})$/.exec(text)?.[1];
    if (bare !== undefined) {
      return {
        problem: "needs a host before the port",
        mend: `"127.0.0.1:${bare}" for this machine only, "0.0.0.0:${bare}" for the network`,
      };
    }
    const isHost = /^[\w.-]+$/.test(text);
    return {
      problem: `must be host:port, not ${JSON.stringify(text)}`,
      mend: isHost ? `add the port: "${text}:…"` : 'for example "127.0.0.1:1883"',
    };
  }
  if (port > 65_535) return { problem: `has port ${port}, but the last one is 65535` };
  return { value: { host, port } };
}

/** An address that can be typed on this machine: what listens on every address is reached on its own. */
export function reachable({ host, port }: Address): Address {
  return { host: host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host, port };
}

export function formatAddress({ host, port }: Address): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function parseQuantity(
  text: string | number,
  units: Units,
  words: { kind: string; usual: string; smallest: string; example: string },
): Parsed<number> {
  if (text === 0 || text === "0") return { value: 0 };
  const [, digits, unit] = /^(\d+(?:\.\d+)?)\s*([a-zA-Zµ]*)$/.exec(String(text).trim()) ?? [];
  if (digits === undefined) {
    return { problem: `must be a ${words.kind} such as ${words.example}, not ${JSON.stringify(text)}` };
  }
  if (unit === "") {
    const asWritten = formatQuantity(Number(digits), units);
    const mend =
      Number(digits) < 1_000
        ? `for example ${digits}${words.usual}`
        : `as ${words.smallest} that is ${asWritten}`;
    return { problem: "needs a unit", mend };
  }
  const factor = units.find(([name]) => name === unit)?.[1];
  if (factor === undefined) {
    const meant = units.find(([name]) => likeness(name) === likeness(unit as string))?.[0];
    const known = units.map(([name]) => name).join(", ");
    return {
      problem: `has an unknown unit "${unit}"`,
      mend: meant ? `write ${digits}${meant}` : `units are ${known}`,
    };
  }
  const exact = Number(digits) * factor;
  // 1.1d comes to 95040000.00000001 in binary; what was meant is the whole number.
  const value = digits.includes(".") ? Number(exact.toPrecision(15)) : exact;
  if (!Number.isSafeInteger(value)) {
    return { problem: `must come to a whole number of ${units[0]?.[0]} below 2^53, which ${text} does not` };
  }
  return { value };
}

/** `256kb`, `256KB` and `256K` are taken for KiB when a mend is offered (never when a value is read). */
function likeness(unit: string): string {
  const lower = unit.toLowerCase();
  if (/^[kmgt](i?b)?$/.test(lower)) return lower === "m" && unit === "m" ? "m" : `${lower[0]}ib`;
  return (
    { sec: "s", secs: "s", seconds: "s", min: "m", mins: "m", minutes: "m", hours: "h", days: "d" }[lower] ??
    lower
  );
}

function formatQuantity(value: number, units: Units): string {
  if (value === 0) return "0";
  const [unit, factor] = units.findLast(([, factor]) => value % factor === 0) ?? ["", 1];
  return `${value / factor}${unit}`;
}
