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

type Put = (target: Buffer, value: number, at: number) => void;

/** Bytes, and how they are put in; integers are clamped to what the type holds. */
function codecOf(type: BinaryField["type"], big: boolean): { bytes: number; put: Put } {
  if (type === "f32") {
    return { bytes: 4, put: (b, v, at) => (big ? b.writeFloatBE(v, at) : b.writeFloatLE(v, at)) };
  }
  if (type === "f64") {
    return { bytes: 8, put: (b, v, at) => (big ? b.writeDoubleBE(v, at) : b.writeDoubleLE(v, at)) };
  }
  const bytes = Number(type.slice(1)) / 8;
  const signed = type.startsWith("i");
  const span = 2 ** (8 * bytes);
  const low = signed ? -span / 2 : 0;
  const high = low + span - 1;
  return {
    bytes,
    put(target, value, at) {
      // Not a number (a text, say): 0, as a sensor's register would show.
      const whole = Math.min(Math.max(Math.round(value) || 0, low), high);
      if (signed) big ? target.writeIntBE(whole, at, bytes) : target.writeIntLE(whole, at, bytes);
      else big ? target.writeUIntBE(whole, at, bytes) : target.writeUIntLE(whole, at, bytes);
    },
  };
}

function compileBinary(
  specs: readonly BinaryField[],
  endian: "big" | "little",
  names: readonly string[],
): PayloadWriter {
  let size = 0;
  const fields = specs.map(({ type, of, scale }) => {
    const { bytes, put } = codecOf(type, endian === "big");
    const at = size;
    size += bytes;
    return { at, put, scale, template: Template.parse(`\${${of}}`, names) };
  });
  return (scope) => {
    const target = Buffer.alloc(size);
    for (const { at, put, scale, template } of fields)
      put(target, Number(template.render(scope)) * scale, at);
    return target;
  };
}
