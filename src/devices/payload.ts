/** What a device sends: a payload's specification, compiled once, filled at every reading. */

import { type Scope, Template } from "../mapping/template.ts";
import type { BinaryField, PayloadSpec } from "./schema.ts";

export type PayloadWriter = (scope: Scope) => Buffer;

/** `names`: those that the scope will have. */
export function compilePayload(spec: PayloadSpec, names: readonly string[]): PayloadWriter {
  if (spec.text !== undefined) {
    const text = Template.parse(spec.text, names);
    return (scope) => Buffer.from(text.renderText(scope));
  }
  if (spec.binary !== undefined) return compileBinary(spec.binary.fields, spec.binary.endian, names);
  const json = compileJson(spec.json, names);
  return (scope) => Buffer.from(JSON.stringify(json(scope)));
}

/** Values are put in as values, never as text into JSON: what comes out always parses. */
function compileJson(shape: unknown, names: readonly string[]): (scope: Scope) => unknown {
  if (typeof shape === "string") {
    // A template that is one expression alone keeps the expression's type.
    const template = Template.parse(shape, names);
    return (scope) => template.render(scope);
  }
  if (Array.isArray(shape)) {
    const items = shape.map((item) => compileJson(item, names));
    return (scope) => items.map((item) => item(scope));
  }
  if (typeof shape === "object" && shape !== null) {
    const members = Object.entries(shape).map(([key, inner]) => [key, compileJson(inner, names)] as const);
    return (scope) => Object.fromEntries(members.map(([key, inner]) => [key, inner(scope)]));
  }
  return () => shape;
}

/** How a field is put in, by its type; what Node calls it has the byte order behind. */
const CODECS = {
  u8: { bytes: 1, name: "UInt8" },
  i8: { bytes: 1, name: "Int8" },
  u16: { bytes: 2, name: "UInt16" },
  i16: { bytes: 2, name: "Int16" },
  u32: { bytes: 4, name: "UInt32" },
  i32: { bytes: 4, name: "Int32" },
  f32: { bytes: 4, name: "Float" },
  f64: { bytes: 8, name: "Double" },
} as const;

/** Whole, and clamped to what the type holds; what is not a number (a text, say) is 0, as a register would show. */
function fitted(type: BinaryField["type"], value: number): number {
  if (type.startsWith("f")) return value;
  const span = 256 ** CODECS[type].bytes;
  const low = type.startsWith("i") ? -span / 2 : 0;
  return Math.min(Math.max(Math.round(value) || 0, low), low + span - 1);
}

function compileBinary(
  specs: readonly BinaryField[],
  endian: "big" | "little",
  names: readonly string[],
): PayloadWriter {
  let size = 0;
  const fields = specs.map(({ type, of, scale }) => {
    const { bytes, name } = CODECS[type];
    const order = bytes === 1 ? "" : endian === "big" ? "BE" : "LE";
    const write = `write${name}${order}` as "writeInt16BE"; // any of its like
    const at = size;
    size += bytes;
    return { type, at, write, scale, template: Template.parse(`\${${of}}`, names) };
  });
  return (scope) => {
    const target = Buffer.alloc(size);
    for (const { type, at, write, scale, template } of fields) {
      target[write](fitted(type, Number(template.render(scope)) * scale), at);
    }
    return target;
  };
}
