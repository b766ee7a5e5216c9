/**
 * Text with `${name}` and `${name.path}` in it: the plain look-ups of the mapping's templates, for devices,
 * which have no need of its expressions.
 */
import type { Parsed } from "../config/units.ts";

export type Scope = Readonly<Record<string, unknown>>;

const REFERENCE = /\$\{([^}]*)\}/g;
const EXAMPLE = `for example \${device}`;
const PATH = /^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$/;

/** The names (first steps of paths) that a text refers to, or what is wrong with it. */
export function referencesOf(text: string): Parsed<readonly string[]> {
  const names: string[] = [];
  for (const [whole, inner] of text.matchAll(REFERENCE)) {
    const path = (inner as string).trim();
    if (!PATH.test(path)) return { problem: `has ${whole}, which is no name`, mend: EXAMPLE };
    names.push(path.split(".")[0] as string);
  }
  const rest = text.replace(REFERENCE, "");
  if (rest.includes("${")) return { problem: "has a ${ that is never closed", mend: EXAMPLE };
  return { value: names };
}

/** A look-up of a path such as `position.lat`; undefined where there is nothing. */
export function compilePath(path: string): (scope: Scope) => unknown {
  const [first = "", ...steps] = path.trim().split(".");
  if (steps.length === 0) return (scope) => scope[first];
  return (scope) => {
    let value = scope[first];
    for (const step of steps) value = (value as Record<string, unknown> | undefined)?.[step];
    return value;
  };
}

/** Fills a text that `referencesOf` has found sound; objects come as JSON. */
export function compileText(text: string): (scope: Scope) => string {
  const literals = text.split(REFERENCE).filter((_, index) => index % 2 === 0);
  const paths = [...text.matchAll(REFERENCE)].map(([, path]) => compilePath(path as string));
  if (paths.length === 0) return () => text;
  return (scope) => {
    let filled = literals[0] as string;
    for (let index = 0; index < paths.length; index++) {
      const value = (paths[index] as (scope: Scope) => unknown)(scope);
      filled += (typeof value === "object" ? JSON.stringify(value) : String(value)) + literals[index + 1];
    }
    return filled;
  };
}

/** The path, when a text is one reference and nothing else: then it can keep its type. */
export function loneReference(text: string): string | undefined {
  return /^\$\{([^}]*)\}$/.exec(text)?.[1];
}
