/**
 * Settings that stand outside of the file: environment variables and flags.
 *
 * `SLUICE_MQTT__MAX_PACKET=1MiB` sets `mqtt.maxPacket`: `__` goes one level down, `_` is what camelCase
 * capitalises; lists go by index (`SLUICE_MQTT__LISTENERS__0__BIND`), and a whole list or map is written as
 * YAML (`[{type: tcp, bind: "0.0.0.0:1883"}]`). Which names exist is read off the schema, so that nothing is
 * listed twice.
 */
import { parse } from "yaml";
import type { z } from "zod";
import { messageOf } from "../errors.ts";
import type { Override } from "./loaded.ts";
import { isMap } from "./loose.ts";
import { nearest, type Place, type Problem } from "./problems.ts";
import type { Path } from "./yaml-source.ts";

const PREFIX = "SLUICE_";

/**
 * The variables that name a setting. One that names none is only warned of: Kubernetes and Docker links set
 * `SLUICE_PORT=tcp://…` on their own for a service called sluice, and must not keep it from starting.
 */
export function readEnvironment(
  env: Readonly<Record<string, string | undefined>>,
  schema: z.ZodType,
  file: unknown,
): { overrides: Override[]; problems: Problem[]; warnings: string[] } {
  const overrides: Override[] = [];
  const problems: Problem[] = [];
  const warnings: string[] = [];
  // Sorted: a whole list comes before its elements, whatever order the environment is in.
  for (const [name, text] of Object.entries(env).sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (!name.startsWith(PREFIX) || text === undefined || text === "") continue;
    const place: Place = {
      label: name,
      source: { text: `${name}=${text}`, column: name.length + 1, length: text.length },
    };
    const found = resolve(name.slice(PREFIX.length).split("__"), schema, file);
    if ("unknown" in found) {
      warnings.push(
        `environment variable ${name} names no setting${found.meant ? `; did you mean ${found.meant}?` : ""}`,
      );
      continue;
    }
    try {
      const value = unwrap(found.schema).def.type === "string" ? text : parse(text);
      overrides.push({ path: found.path, value, place });
    } catch (error) {
      problems.push({ place, message: `not valid YAML: ${messageOf(error).split("\n")[0]}` });
    }
  }
  return { overrides, problems, warnings };
}

/** A copy of `value` with the overrides laid over it. */
export function applyOverrides(value: unknown, overrides: readonly Override[]): unknown {
  let result = value;
  for (const { path, value } of overrides) result = replaceAt(result, path, value);
  return result;
}

type Resolved =
  | { readonly path: Path; readonly schema: z.ZodType }
  | { readonly unknown: true; readonly meant: string | undefined };

function resolve(segments: readonly string[], root: z.ZodType, file: unknown): Resolved {
  const path: string[] = [];
  let schema = root;
  let value = file;
  for (const segment of segments) {
    const keys = keysOf(schema, value);
    const key = keys.find((candidate) => spelled(candidate) === segment);
    const child = key === undefined ? undefined : childOf(unwrap(schema), key);
    if (key === undefined || child === undefined) {
      const meant = nearest(segment, keys.map(spelled));
      return { unknown: true, meant: meant && PREFIX + [...path.map(spelled), meant].join("__") };
    }
    path.push(key);
    schema = child;
    value = isMap(value) || Array.isArray(value) ? (value as Record<string, unknown>)[key] : undefined;
  }
  return { path: path.map((key) => (/^\d+$/.test(key) ? Number(key) : key)), schema };
}

/** `maxPacket` → `MAX_PACKET`; characters that no variable can have become `_`. */
function spelled(key: string): string {
  return key
    .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
    .replace(/[^A-Za-z0-9]/g, "_")
    .toUpperCase();
}

/** The schema of what stands at `path`. */
export function schemaAt(root: z.ZodType, path: Path): z.ZodType | undefined {
  return path.reduce<z.ZodType | undefined>(
    (schema, key) => schema && childOf(unwrap(schema), String(key)),
    root,
  );
}

/** Keys that may stand here: the schema's, or, where people choose them, the file's. */
export function keysOf(schema: z.ZodType, value: unknown): string[] {
  const bare = unwrap(schema);
  if (bare.def.type === "object") return Object.keys((bare as unknown as z.ZodObject).shape);
  // One beyond the end, so that a list can be made or added to.
  if (bare.def.type === "array") {
    return Array.from({ length: (Array.isArray(value) ? value.length : 0) + 1 }, (_, index) => String(index));
  }
  return bare.def.type === "record" && isMap(value) ? Object.keys(value) : [];
}

function childOf(bare: z.ZodType, key: string): z.ZodType | undefined {
  if (bare.def.type === "object")
    return (bare as unknown as z.ZodObject<Record<string, z.ZodType>>).shape[key];
  if (bare.def.type === "array") return (bare as unknown as z.ZodArray<z.ZodType>).element;
  if (bare.def.type === "record") return (bare as unknown as z.ZodRecord<z.ZodString, z.ZodType>).valueType;
  return undefined;
}

/** The schema beneath its defaults, options, preprocessing and transforms. */
function unwrap(schema: z.ZodType): z.ZodType {
  const def = schema.def as {
    innerType?: z.ZodType;
    in?: z.ZodType;
    out?: z.ZodType;
    options?: z.ZodType[];
  };
  // Of a choice, the one that has keys.
  const map = def.options?.find((option) => option.def.type === "object");
  if (map !== undefined) return map;
  const inner = def.innerType ?? (def.in?.def.type === "transform" ? def.out : def.in);
  return inner === undefined ? schema : unwrap(inner);
}

function replaceAt(value: unknown, path: Path, replacement: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return replacement;
  const child = isMap(value) || Array.isArray(value) ? (value as Record<string, unknown>)[key] : undefined;
  const replaced = replaceAt(child, rest, replacement);
  if (typeof key !== "number") return { ...(isMap(value) ? value : {}), [key]: replaced };
  const list = Array.isArray(value) ? [...value] : [];
  list[key] = replaced;
  return list;
}
