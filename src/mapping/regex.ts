/**
 * Regular expressions: RE2, whose time is linear in the text, whatever the pattern.
 */
import { createRequire } from "node:module";
import type { RE2JS } from "re2js";
import { messageOf } from "../errors.ts";
import { type Call, define } from "./function-spec.ts";
import { MAX_LENGTH, RenderError } from "./values.ts";

/** About 100 ns a character. */
const REGEX_COST = 64;
const MAX_PATTERN = 1_000;
/** The automaton that a pattern unfolds to: what each character may have to look at. */
const MAX_PROGRAM = 2_000;
const require = createRequire(import.meta.url);

/** Throws an Error that says what is wrong. */
export function compilePattern(pattern: string): RE2JS {
  if (pattern.length > MAX_PATTERN) throw new Error(`a pattern has at most ${MAX_PATTERN} characters`);
  // Loaded by the first pattern: a gateway without any does not carry it.
  const { RE2JS } = require("re2js") as typeof import("re2js");
  let compiled: RE2JS;
  try {
    compiled = RE2JS.compile(pattern);
  } catch (error) {
    throw new Error(messageOf(error).replace(/^error parsing regexp: /, ""));
  }
  if (compiled.programSize() > MAX_PROGRAM) throw new Error("the pattern unfolds to too large an automaton");
  return compiled;
}

/** Patterns that are made from a message; those that stand in the configuration are compiled once. */
const patterns = new Map<string, RE2JS>();

function patternOf(pattern: string): RE2JS {
  let compiled = patterns.get(pattern);
  if (compiled === undefined) {
    try {
      compiled = compilePattern(pattern);
    } catch (error) {
      throw new RenderError(`has a bad pattern: ${messageOf(error)}`);
    }
    if (patterns.size >= 100) patterns.clear();
    patterns.set(pattern, compiled);
  }
  return compiled;
}

function defineRegex(
  name: string,
  signature: string,
  call: (pattern: RE2JS, text: string, ...rest: never[]) => unknown,
): void {
  const run =
    (pattern?: RE2JS): Call =>
    (args, budget) => {
      const [text, source, ...rest] = args as [string, string];
      const compiled = pattern ?? patternOf(source);
      budget?.spend(Math.ceil((text.length * Math.min(compiled.programSize(), 200)) / 16));
      return call(compiled, text, ...(rest as never[]));
    };
  define(name, signature, () => undefined, {
    cost: REGEX_COST,
    call: run(),
    prepare: ([, pattern], _, refuse) => {
      if (typeof pattern !== "string") return undefined;
      try {
        return run(compilePattern(pattern));
      } catch (error) {
        const mend = "RE2 patterns have neither look-around nor back-references";
        const needs = /[(]\?[=!<]|\\[1-9]/.test(pattern);
        throw refuse(1, `not a regular expression: ${messageOf(error)}`, needs ? mend : undefined);
      }
    },
  });
}

defineRegex("matches", "text, text", (pattern, text) => pattern.test(text));
defineRegex("extract", "text, text, number?", (pattern, text, group?: number) => {
  const match = pattern.matcher(text);
  const wanted = group === undefined ? Math.min(1, pattern.groupCount()) : Number(group);
  if (!Number.isInteger(wanted) || wanted < 0 || wanted > pattern.groupCount()) {
    throw new RenderError(`asks for group ${wanted}, but the pattern has ${pattern.groupCount()}`);
  }
  const found = match.find() ? match.group(wanted) : null;
  if (found === null) throw new RenderError(`finds no match in "${text.slice(0, 60)}"`, { missing: true });
  return found;
});
defineRegex("replaceRegex", "text, text, text", (pattern, text, by: string) => {
  if (text.length * (by.length + 1) > 64 * MAX_LENGTH)
    throw new RenderError(`makes more than ${MAX_LENGTH} characters`);
  return pattern.matcher(text).replaceAll(by);
});
