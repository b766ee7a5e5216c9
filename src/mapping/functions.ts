/**
 * The functions of expressions: CEL's own that make sense for payloads, and what a gateway needs. Each may be
 * called in either way: `upper(device)` or `device.upper()`.
 *
 * What they cost is paid before they run, by the size of their arguments; what they make is bounded by the caller.
 */
import { createHash } from "node:crypto";
import { type Call, define } from "./function-spec.ts";
import "./calendar.ts";
import "./regex.ts";
import { didYouMean } from "./syntax-error.ts";
import { parseDuration, TIME_UNITS, timeOf, timestampOf } from "./time.ts";
import { bytesOf, kindOf, kindWords, MAX_LENGTH, RenderError, setField, textOf } from "./values.ts";

export { type FunctionSpec, findFunction, functionNames, type Tables } from "./function-spec.ts";

// -- Text

define("upper upperAscii", "text", (text: string) => text.toUpperCase());
define("lower lowerAscii", "text", (text: string) => text.toLowerCase());
define("trim", "text", (text: string) => text.trim());
define("contains", "text, text", (text: string, part: string) => text.includes(part), { cost: 4 });
define("startsWith", "text, text", (text: string, part: string) => text.startsWith(part));
define("endsWith", "text, text", (text: string, part: string) => text.endsWith(part));
define(
  "indexOf",
  "text, text, number?",
  (text: string, part: string, from = 0) => text.indexOf(part, Number(from)),
  { cost: 4 },
);
define("lastIndexOf", "text, text", (text: string, part: string) => text.lastIndexOf(part), { cost: 4 });
define("substring", "text, number, number?", (text: string, from: number, to = text.length) => {
  const [start, end] = [Number(from), Number(to)];
  if (start < 0 || end < start || end > text.length) {
    throw new RenderError(`asks for characters ${start} to ${end} of ${text.length}`);
  }
  return text.slice(start, end);
});
define(
  "split",
  "text, text, number?",
  (text: string, by: string, most?: number) => {
    const parts = text.split(by);
    if (most === undefined || most < 1 || parts.length <= most) return parts;
    return [...parts.slice(0, Number(most) - 1), parts.slice(Number(most) - 1).join(by)];
  },
  { cost: 4 },
);
define("join", "list, text?", (list: unknown[], by = "") => {
  let length = 0;
  const texts = list.map((item) => {
    const text = textOf(item);
    length += text.length + by.length;
    if (length > MAX_LENGTH) throw new RenderError(`makes more than ${MAX_LENGTH} characters`);
    return text;
  });
  return texts.join(by);
});
define(
  "replace",
  "text, text, text, number?",
  (text: string, old: string, by: string, most?: number) => {
    const parts = text.split(old);
    const found = Math.min(parts.length - 1, most === undefined ? Number.POSITIVE_INFINITY : Number(most));
    if (text.length + found * (by.length - old.length) > MAX_LENGTH) {
      throw new RenderError(`makes more than ${MAX_LENGTH} characters`);
    }
    return (
      parts.slice(0, found + 1).join(by) +
      parts
        .slice(found + 1)
        .map((part) => old + part)
        .join("")
    );
  },
  { cost: 4 },
);

// -- Numbers

define("round", "number, number?", (value: number, digits = 0) => {
  const factor = 10 ** Math.max(-15, Math.min(15, Math.trunc(Number(digits))));
  // 1.005 lies a little below: what was written is meant.
  const scaled = Number(value) * factor;
  const rounded = Math.sign(scaled) * Math.round(Number(Math.abs(scaled).toPrecision(15)));
  return (rounded || 0) / factor;
});
define("floor", "number", (value: number) => Math.floor(Number(value)));
define("ceil", "number", (value: number) => Math.ceil(Number(value)));
define("abs", "number", (value: number) => Math.abs(Number(value)));
define("int", "value", (value: unknown) => {
  const number = numberFrom(value);
  return typeof number === "bigint" ? number : Math.trunc(number);
});
define("number double", "value", numberFrom);
define("min", "value, value…", (...args: unknown[]) => extreme(args, (a, b) => a < b));
define("max", "value, value…", (...args: unknown[]) => extreme(args, (a, b) => a > b));
define("sum", "list", (list: unknown[]) =>
  list.reduce<number>((sum, item) => sum + Number(numberFrom(item)), 0),
);
define("avg", "list", (list: unknown[]) => {
  if (list.length === 0) throw new RenderError("has no elements");
  return list.reduce<number>((sum, item) => sum + Number(numberFrom(item)), 0) / list.length;
});

function numberFrom(value: unknown): number | bigint {
  if (typeof value === "number" || typeof value === "bigint") return value;
  if (typeof value === "boolean") return value ? 1 : 0;
  if (typeof value !== "string") throw new RenderError(`makes no number of ${kindWords(value)}`);
  const text = value.trim();
  if (/^0x[0-9a-f]{1,13}$/i.test(text)) return Number(text);
  if (text.length <= 400 && /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/.test(text)) {
    const number = Number(text);
    if (Number.isFinite(number)) {
      return /^[+-]?\d+$/.test(text) && !Number.isSafeInteger(number)
        ? BigInt(text.replace("+", ""))
        : number;
    }
  }
  throw new RenderError(`makes no number of "${text.slice(0, 40)}"`);
}

function extreme(args: readonly unknown[], wins: (a: number, b: number) => boolean): unknown {
  const [first] = args;
  const all = args.length === 1 && Array.isArray(first) ? first : args;
  if (all.length === 0) throw new RenderError("has no elements");
  let best = numberFrom(all[0]) as number;
  for (const item of all) {
    const number = numberFrom(item) as number;
    if (wins(number, best)) best = number;
  }
  return best;
}

// -- Kinds

define("size", "sized", (value: string | Uint8Array | unknown[] | object) =>
  typeof value === "string" || Array.isArray(value) || value instanceof Uint8Array
    ? value.length
    : Object.keys(value).length,
);
define("string", "value", (value: unknown) => textOf(value));
define("bytes", "data", (value: string | Uint8Array) => bytesOf(value));
define("bool", "value", (value: unknown) => {
  if (typeof value === "boolean") return value;
  const word = textOf(value).trim().toLowerCase();
  if (["true", "on", "yes", "1", "open", "online"].includes(word)) return true;
  if (["false", "off", "no", "0", "closed", "offline"].includes(word)) return false;
  throw new RenderError(`takes "${word.slice(0, 40)}" for neither true nor false`);
});
define("type", "value", (value: unknown) => kindOf(value));
define(
  "json",
  "data",
  (value: string | Uint8Array) => {
    try {
      return JSON.parse(textOf(value));
    } catch {
      throw new RenderError("is not JSON");
    }
  },
  { cost: 8 },
);

// -- Maps

define("keys", "map", (map: object) => Object.keys(map));
define(
  "merge",
  "map, map…",
  (...args: unknown[]) => {
    const merged = {};
    for (const map of args) {
      for (const [name, value] of Object.entries(map as object)) setField(merged, name, value);
    }
    return merged;
  },
  { cost: 4 },
);
define(
  "without",
  "map, text, text…",
  (map: object, ...names: unknown[]) => {
    const left = {};
    for (const [name, value] of Object.entries(map)) if (!names.includes(name)) setField(left, name, value);
    return left;
  },
  { cost: 4 },
);

// -- Time: milliseconds since the epoch

define(
  "time timestamp",
  "value, text?",
  (value: unknown, unit?: string) => {
    const time = unit === undefined ? timestampOf(value) : timeOf(value, unit);
    if (typeof time === "string") throw new RenderError(`: ${time}`);
    return time;
  },
  {
    prepare: ([, unit], _, refuse) => {
      if (typeof unit === "string" && !TIME_UNITS.includes(unit)) {
        throw refuse(1, `there is no unit "${unit}"`, `units are ${TIME_UNITS.join(", ")}`);
      }
      return undefined;
    },
  },
);
define("iso", "number", (time: number) => {
  if (!(Math.abs(Number(time)) <= 8.64e15)) throw new RenderError(`: ${time} is no time in milliseconds`);
  return new Date(Number(time)).toISOString();
});
define("duration", "text", (text: string) => {
  const duration = parseDuration(text);
  if (duration === undefined)
    throw new RenderError(`: "${text.slice(0, 40)}" is no duration such as 90s or 1h30m`);
  return duration;
});

// -- Bytes

define("base64", "data", (value: string | Uint8Array) => Buffer.from(value as string).toString("base64"));
define(
  "base64Decode",
  "text",
  (text: string) => {
    if (!/^[A-Za-z0-9+/_-]*={0,2}$/.test(text)) throw new RenderError("is not base64");
    return Buffer.from(text, "base64");
  },
  { cost: 2 },
);
define("hex", "data", (value: string | Uint8Array) => Buffer.from(value as string).toString("hex"));
define(
  "hexDecode",
  "text",
  (text: string) => {
    if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) throw new RenderError("is not hex");
    return Buffer.from(text, "hex");
  },
  { cost: 2 },
);

const HASHES = ["sha256", "sha1", "sha512", "md5"];
define(
  "hash",
  "data, text?",
  (value: string | Uint8Array, algorithm = "sha256") => {
    if (!HASHES.includes(algorithm))
      throw new RenderError(`knows no "${algorithm}"; it knows ${HASHES.join(", ")}`);
    return createHash(algorithm).update(value).digest("hex");
  },
  {
    cost: 4,
    prepare: ([, algorithm], _, refuse) => {
      if (typeof algorithm === "string" && !HASHES.includes(algorithm)) {
        throw refuse(1, `there is no hash "${algorithm}"`, `hashes are ${HASHES.join(", ")}`);
      }
      return undefined;
    },
  },
);

/** Of what a sensor packs into bytes: `readUint(payload, 0, 2)`, `readInt(payload, 2, 2, "little")`. */
function defineRead(
  name: string,
  read: (bytes: Buffer, at: number, length: number, little: boolean) => number,
): void {
  define(
    name,
    "bytes, number, number, text?",
    (bytes: Uint8Array, at: number, length: number, order = "big") => {
      const isWhole = Number.isInteger(at) && Number.isInteger(length);
      if (!(isWhole && at >= 0 && length >= 1 && length <= 8 && at + length <= bytes.length)) {
        throw new RenderError(`asks for ${length} bytes at ${at} of ${bytes.length}`);
      }
      return read(
        Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
        at,
        length,
        order === "little",
      );
    },
  );
}
const whole = (length: number): number => {
  if (length > 6) throw new RenderError("reads whole numbers of 1 to 6 bytes");
  return length;
};
defineRead("readUint", (bytes, at, length, little) =>
  little ? bytes.readUIntLE(at, whole(length)) : bytes.readUIntBE(at, whole(length)),
);
defineRead("readInt", (bytes, at, length, little) =>
  little ? bytes.readIntLE(at, whole(length)) : bytes.readIntBE(at, whole(length)),
);
defineRead("readFloat", (bytes, at, length, little) => {
  if (length === 4) return little ? bytes.readFloatLE(at) : bytes.readFloatBE(at);
  if (length === 8) return little ? bytes.readDoubleLE(at) : bytes.readDoubleBE(at);
  throw new RenderError("reads numbers of 4 or 8 bytes");
});

// -- Tables beside the configuration

const lookupIn =
  (table: ReadonlyMap<string, unknown>, name: string): Call =>
  ([, key, otherwise]) => {
    const row = table.get(textOf(key));
    if (row !== undefined) return row;
    if (otherwise !== undefined) return otherwise;
    throw new RenderError(`: "${textOf(key).slice(0, 60)}" is not in table ${name}`, { missing: true });
  };

define("lookup", "text, value, value?", () => undefined, {
  prepare: ([name], tables, refuse) => {
    if (typeof name !== "string")
      throw refuse(0, "the table's name has to stand here as text", 'lookup("sites", device)');
    const table = tables.get(name);
    if (table !== undefined) return lookupIn(table, name);
    const meant = didYouMean(name, [...tables.keys()]);
    throw refuse(
      0,
      `there is no table "${name}"${meant}`,
      meant === "" ? `declare it: tables: { ${name}: ./${name}.csv }` : undefined,
    );
  },
});
