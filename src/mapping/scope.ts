/** What an expression is evaluated in, and names and paths: by far the most common expressions. */
import type { Tables } from "./functions.ts";
import { didYouMean, MappingSyntaxError } from "./syntax-error.ts";
import { type Budget, Missing, textOf } from "./values.ts";

/** Where names get their values; a Map is one. Undefined means that there is none. */
export interface Scope {
  get(name: string): unknown;
  /** What evaluation is paid from; without one nothing is counted. */
  readonly budget?: Budget | undefined;
}

export type Evaluate = (scope: Scope) => unknown;

export interface ExpressionContext {
  /** Names that a scope will have. */
  readonly names: readonly string[];
  readonly tables?: Tables | undefined;
}

const PATH =
  /^\s*([A-Za-z_]\w*)((?:\s*\.\s*[A-Za-z_]\w*|\s*\[\s*(?:\d{1,9}|"(?:[^"\\]|\\["\\])*"|'[^'\\]*')\s*\])*)\s*$/;
const STEP = /\.\s*([A-Za-z_]\w*)|\[\s*(\d{1,9})|\[\s*(["'])((?:[^"\\]|\\.)*?)\3\s*\]/g;
const LITERALS = new Set(["true", "false", "null"]);

/** A name or a path as a look-up of own properties; undefined for any other expression. */
export function parsePath(
  text: string,
  context: ExpressionContext,
  offset: number,
): { name: string; evaluate: Evaluate } | undefined {
  const [, name, steps = ""] = PATH.exec(text) ?? [];
  if (name === undefined || LITERALS.has(name)) return undefined;
  const position = offset + text.indexOf(name);
  if (!context.names.includes(name)) throw unknownName(name, position, context.names);
  const fields = [...steps.matchAll(STEP)].map(([, field, index, , quoted = ""]) =>
    field !== undefined ? field : index !== undefined ? Number(index) : quoted.replace(/\\(["\\])/g, "$1"),
  );
  const missing = new Missing(text, text.indexOf(name), text.length, offset);
  if (fields.length === 0) {
    return { name, evaluate: (scope) => present(scope.get(name), missing) };
  }
  const [field] = fields;
  if (fields.length === 1 && typeof field === "string") {
    return { name, evaluate: (scope) => fieldOf(scope.get(name), field, missing) };
  }
  const evaluate: Evaluate = (scope) => {
    let value = scope.get(name);
    for (const field of fields) {
      value = typeof field === "number" ? elementOf(value, field, missing) : fieldOf(value, field, missing);
    }
    return value;
  };
  return { name, evaluate };
}

export function present(value: unknown, missing: Missing): unknown {
  if (value === undefined) throw missing.error;
  return value;
}

export function fieldOf(value: unknown, field: string, missing: Missing): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value) || !Object.hasOwn(value, field)) {
    throw missing.error;
  }
  return (value as Record<string, unknown>)[field];
}

export function elementOf(value: unknown, index: unknown, missing: Missing): unknown {
  if (Array.isArray(value) || value instanceof Uint8Array) {
    // A map says itself what it is as a number: nothing that a sensor sends may be asked.
    const at = typeof index === "string" || Object(index) === index ? Number.NaN : Number(index);
    if (!Number.isInteger(at) || at < 0 || at >= value.length) throw missing.error;
    return value[at];
  }
  return fieldOf(value, Object(index) === index ? textOf(index) : String(index), missing);
}

export function unknownName(name: string, position: number, known: readonly string[]): MappingSyntaxError {
  if (name === "item" || name === "index") {
    const message = `"${name}" is known in a mapping with split only`;
    return new MappingSyntaxError(message, position, { length: name.length });
  }
  return new MappingSyntaxError(`"${name}" is not known here${didYouMean(name, known)}`, position, {
    length: name.length,
    mend: `available: ${known.join(", ")}`,
  });
}
