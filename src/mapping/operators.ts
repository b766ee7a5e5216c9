/** CEL's binary operators over the values of payloads. */
import type { Scope } from "./scope.ts";
import { isEqual, kindOf, kindWords, MAX_LENGTH, type RenderError, textOf } from "./values.ts";

type Binary = (left: unknown, right: unknown, scope: Scope) => unknown;

/** What looking at each field of a map costs, in characters. */
const FIELD = 64;

/** Of an argument: what a function may have to look at. */
export function costOf(value: unknown): number {
  return kindOf(value) === "map" ? FIELD * Object.keys(value as object).length : sizeOf(value);
}

/** Of text, bytes or a list; 0 for the rest. */
export function sizeOf(value: unknown): number {
  return typeof value === "string" || Array.isArray(value) || value instanceof Uint8Array ? value.length : 0;
}

/** Pays for a value that was made, and refuses one that is too large. */
export function bounded(value: unknown, scope: Scope, failure: (message: string) => RenderError): unknown {
  const size = sizeOf(value);
  if (size > MAX_LENGTH) throw failure(`makes more than ${MAX_LENGTH} characters`);
  if (size > 64) scope.budget?.spend(size >> 5);
  return value;
}

export function binaryOperator(op: string, failure: (message: string) => RenderError): Binary {
  const arithmetic = (numbers: (a: number, b: number) => number): Binary => {
    return (a, b) => {
      if (typeof a === "number" && typeof b === "number") return numbers(a, b);
      if (kindOf(a) === "number" && kindOf(b) === "number") return numbers(Number(a), Number(b));
      throw failure(`needs two numbers, not ${kindWords(a)} and ${kindWords(b)}`);
    };
  };
  const divide = (numbers: (a: number, b: number) => number): Binary =>
    arithmetic((a, b) => {
      if (b === 0) throw failure("divides by zero");
      return numbers(a, b);
    });
  const compare = (holds: (a: number | string, b: number | string) => boolean): Binary => {
    return (a, b) => {
      const kind = kindOf(a);
      if (kind === kindOf(b) && (kind === "number" || kind === "text" || kind === "bool")) {
        return holds(a as number, b as number);
      }
      throw failure(`cannot compare ${kindWords(a)} with ${kindWords(b)}`);
    };
  };
  switch (op) {
    case "==":
      return (a, b, scope) => isEqual(a, b, scope.budget);
    case "!=":
      return (a, b, scope) => !isEqual(a, b, scope.budget);
    case "<":
      return compare((a, b) => a < b);
    case "<=":
      return compare((a, b) => a <= b);
    case ">":
      return compare((a, b) => a > b);
    case ">=":
      return compare((a, b) => a >= b);
    case "+":
      return plus(failure);
    case "-":
      return arithmetic((a, b) => a - b);
    case "*":
      return arithmetic((a, b) => a * b);
    case "/":
      return divide((a, b) => a / b);
    case "%":
      return divide((a, b) => a % b);
    default:
      return (a, b, scope) => {
        if (kindOf(b) === "map") return Object.hasOwn(b as object, textOf(a));
        if (!Array.isArray(b)) throw failure(`needs a list or a map behind "in", not ${kindWords(b)}`);
        scope.budget?.spend(b.length);
        return b.some((item) => isEqual(a, item, scope.budget));
      };
  }
}

function plus(failure: (message: string) => RenderError): Binary {
  return (a, b, scope) => {
    if (typeof a === "number" && typeof b === "number") return a + b;
    const kind = kindOf(a);
    if (kind === kindOf(b)) {
      const made = (value: unknown) => bounded(value, scope, failure);
      if (kind === "number") return Number(a) + Number(b);
      if (kind === "text") return made((a as string) + (b as string));
      if (kind === "list") return made([...(a as unknown[]), ...(b as unknown[])]);
      if (kind === "bytes") return made(Buffer.concat([a as Uint8Array, b as Uint8Array]));
    }
    const hint = kind === "text" || kindOf(b) === "text" ? "; string(…) makes text of a number" : "";
    throw failure(`cannot add ${kindWords(a)} and ${kindWords(b)}${hint}`);
  };
}
