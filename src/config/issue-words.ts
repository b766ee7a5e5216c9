/**
 * What the schema finds wrong, in words: zod says `expected string, received object`; a person needs to hear
 * that YAML read an unquoted {device} as a map, and what to write instead.
 */
import type { z } from "zod";
import type { Source } from "./included.ts";
import { didYouMean, meantOption, type Place, type Problem } from "./problems.ts";
import { parseDuration } from "./units.ts";
import type { Path, Within } from "./yaml-source.ts";

/** What the words are made from. */
export interface Checked {
  readonly source: Source;
  /** What the schema was given: the file's values with the overrides laid over them. */
  readonly value: unknown;
  /** The place of what stands outside of the file, if `path` comes from there. */
  overridePlace(path: Path): Place | undefined;
  /** Names that may be used in the map at `path`. */
  keysAt(path: Path): string[];
}

/** Of a choice, what is wrong with the one that was meant: the one that fails further inside. */
function meant(issue: z.core.$ZodIssue): z.core.$ZodIssue[] {
  if (issue.code !== "invalid_union") return [issue];
  const inside = (one: z.core.$ZodIssue) => one.path.length > 0 || one.code === "unrecognized_keys";
  const branch = issue.errors.find((errors) => errors.length > 0 && errors.every(inside));
  if (branch === undefined) return [issue];
  return branch.flatMap((one) => meant({ ...one, path: [...issue.path, ...one.path] }));
}

/** One problem for each thing that a person has to mend. */
export function problemsOf(given: readonly z.core.$ZodIssue[], checked: Checked): Problem[] {
  const issues = given.flatMap(meant);
  const unknown = issues.flatMap((issue) =>
    issue.code === "unrecognized_keys" ? issue.keys.map((key) => [...(issue.path as Path), key]) : [],
  );
  return issues.flatMap((issue): Problem[] => {
    const path = issue.path as Path;
    if (issue.code === "unrecognized_keys") {
      return issue.keys.map((key) => unknownKey(path, key, checked));
    }
    if (valueAt(checked.value, path) === undefined) {
      // A misspelt key is also a missing one; that is one mistake.
      const name = String(path.at(-1));
      const misspelt = unknown.some(
        (other) =>
          wordsOf(other.slice(0, -1)) === wordsOf(path.slice(0, -1)) &&
          meantOption(String(other.at(-1)), checked.keysAt(path.slice(0, -1))) === name,
      );
      return misspelt
        ? []
        : [
            {
              place: placeOf(path, checked),
              message: `${wordsOf(path.slice(0, -1))} needs "${name}"`,
              mend: name === "version" ? "write  version: 1" : undefined,
            },
          ];
    }
    return [{ place: placeOf(path, checked), ...wordsOfIssue(issue, path, checked) }];
  });
}

/** `mappings[0].key`; "the configuration" for the whole. */
export function wordsOf(path: Path): string {
  if (path.length === 0) return "the configuration";
  return path
    .map((key, index) => (typeof key === "number" ? `[${key}]` : index === 0 ? key : `.${key}`))
    .join("");
}

/** Where the value at `path` came from, or the stretch of its text that is meant. */
export function placeOf(path: Path, checked: Checked, within?: Within): Place {
  return checked.overridePlace(path) ?? checked.source.placeOfValue(path, within);
}

export function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (value, key) =>
      typeof value === "object" && value !== null ? (value as Record<string, unknown>)[key] : undefined,
    value,
  );
}

function unknownKey(parent: Path, key: string, checked: Checked): Problem {
  const path = [...parent, key];
  const known = checked.keysAt(parent);
  const option = meantOption(key, known);
  const meant = option === undefined ? "" : `; did you mean "${option}"?`;
  return {
    place: checked.overridePlace(path) ?? checked.source.placeOfKey(path),
    message: `unknown option "${key}" in ${wordsOf(parent)}${meant}`,
    mend: meant === "" ? (homeOf(key, parent, checked) ?? `it takes ${known.join(", ")}`) : undefined,
  };
}

/** Where an option belongs that stands at the top. */
function homeOf(key: string, parent: Path, checked: Checked): string | undefined {
  if (parent.length > 0) return undefined;
  const homes: readonly (readonly [string, Path])[] = [
    ["mqtt", ["mqtt"]],
    ["kafka", ["kafka"]],
    ["a stream: streams: { name: … }", ["streams", "any"]],
    ["a mapping", ["mappings", 0]],
  ];
  const home = homes.find(([, path]) => checked.keysAt(path).includes(key));
  return home && `it is an option of ${home[0]}`;
}

type Words = Pick<Problem, "message" | "mend">;

function wordsOfIssue(issue: z.core.$ZodIssue, path: Path, checked: Checked): Words {
  const where = wordsOf(path);
  const value = valueAt(checked.value, path);
  switch (issue.code) {
    case "invalid_type":
      return wordsOfType(issue.expected, path, checked);
    case "invalid_value":
      if (issue.values.some((one) => typeof one !== "string" && String(one) === value)) {
        return { message: `${where} must be a number, not text`, mend: `write it without quotes: ${value}` };
      }
      return {
        message: `${where} must be ${listOf(issue.values)}, not ${JSON.stringify(value)}${didYouMean(String(value), issue.values.map(String))}`,
      };
    case "too_small":
    case "too_big": {
      const [bound, word] =
        issue.code === "too_small" ? [issue.minimum, "at least"] : [issue.maximum, "at most"];
      if (issue.origin === "string") {
        return {
          message:
            value === "" ? `${where} must not be empty` : `${where} must be ${word} ${bound} characters long`,
        };
      }
      if (issue.origin === "array")
        return { message: `${where} must have ${word} ${bound} ${bound === 1 ? "entry" : "entries"}` };
      return { message: `${where} must be ${word} ${bound}, not ${value}` };
    }
    case "invalid_union":
      return wordsOfType("string", path, checked, issue.message);
    default: {
      const mend = issue.code === "custom" ? (issue.params?.mend as string | undefined) : undefined;
      return { message: `${where} ${issue.message}`, mend };
    }
  }
}

/** What the words need of a type: what it is called, and how to come from what was written to it. */
const TYPE_NAMES: Record<string, string> = {
  string: "text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  object: "a map",
  record: "a map",
  array: "a list",
};

function wordsOfType(expected: string, path: Path, checked: Checked, must?: string): Words {
  const where = wordsOf(path);
  const value = valueAt(checked.value, path);
  const wish = must ?? `must be ${TYPE_NAMES[expected] ?? expected}`;
  const fromFile = checked.overridePlace(path) === undefined;
  const name = typeof path.at(-1) === "number" ? "" : `${path.at(-1)}: `;
  const comment = fromFile ? checked.source.swallowedComment(path) : undefined;
  if (comment !== undefined) {
    return {
      message: `${where} is empty: YAML reads # as the start of a comment`,
      mend: `write it as  ${name}"${comment}"`,
    };
  }
  if (value === null) return { message: `${where} ${wish}, but it is empty` };
  const text = fromFile ? checked.source.textOf(path) : String(value);
  if (fromFile && typeof value === "object" && checked.source.isFlowMap(path) && expected === "string") {
    return {
      message: `${where} ${wish}, but YAML read ${text} as a map`,
      mend: /^\{\s*[\w.]+\s*\}$/.test(text)
        ? `write it as  ${name}$${text.replace(/\s/g, "")}`
        : `quote it: ${text.includes("'") ? "with |- and the text on a line of its own" : `'${text}'`}`,
    };
  }
  if (typeof value === "object") {
    const kind = Array.isArray(value) ? "a list" : "a map";
    return { message: `${where} ${wish}, but it is ${kind}`, mend: mendOfCollection(expected, value, name) };
  }
  if (typeof value === "string")
    return {
      message: `${where} ${wish}, not ${JSON.stringify(value)}`,
      mend: mendOfText(expected, value, name),
    };
  const read = typeof value === "number" ? "a number" : "true or false";
  if (expected === "string")
    return { message: `${where} ${wish}, but YAML read ${text} as ${read}`, mend: `quote it: "${text}"` };
  return { message: `${where} ${wish}, not ${text}` };
}

function mendOfCollection(expected: string, value: object, name: string): string | undefined {
  if (expected === "array") return "write it as a list: each entry on a line that starts with -";
  if (!Array.isArray(value)) return undefined;
  const [first] = value;
  if (expected === "string" && value.length === 1 && typeof first === "string")
    return `write it as  ${name}${first}`;
  const isMap = expected === "object" || expected === "record";
  return isMap && typeof first === "string" ? `write it as a map, e.g.  ${first}: {}` : undefined;
}

function mendOfText(expected: string, value: string, name: string): string | undefined {
  if (name === "retention: " && "value" in parseDuration(value))
    return `write it as  retention: { time: ${value} }`;
  if (expected === "boolean" && /^(yes|on|y)$/i.test(value)) return "write true";
  if (expected === "boolean" && /^(no|off|n)$/i.test(value)) return "write false";
  if (/^(int|number)$/.test(expected) && /^\d+$/.test(value)) return `write it without quotes: ${value}`;
  if (expected === "array") return "write it as a list: [ … ], or each on a line that starts with -";
  return undefined;
}

function listOf(values: readonly unknown[]): string {
  const words = values.map(String);
  return words.length === 1 ? String(words[0]) : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
}
