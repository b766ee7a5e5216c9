/** Payloads checked against a JSON Schema, by Ajv. */
import { createRequire } from "node:module";
import { setImmediate as turn } from "node:timers/promises";
import { messageOf } from "../errors.ts";
import { compilePattern } from "./regex.ts";
import { MappingSyntaxError } from "./syntax-error.ts";
import { Budget, RenderError, textOf } from "./values.ts";

/** A JSON Schema that has been read. */
export interface SchemaFile {
  /** As the configuration names it. */
  readonly file: string;
  readonly document: unknown;
}

/** Throws `RenderError` with what does not fit. */
export type Validate = (payload: unknown) => void;

interface Problem {
  readonly instancePath: string;
  readonly message?: string;
}
type Ajv = new (
  options: object,
) => {
  /** Ours: called by each function that a schema becomes. */
  spend?: () => void;
  removeKeyword(name: string): void;
  addKeyword(definition: object): void;
  compile(schema: unknown): ((value: unknown) => boolean) & { errors?: Problem[] | null };
  errorsText(errors: Problem[]): string;
};

const require = createRequire(import.meta.url);

/** Ajv's patterns by RE2: a schema's regular expression cannot stall the broker either. */
const regExp = Object.assign(
  (pattern: string) => {
    const compiled = compilePattern(pattern);
    return { test: (text: string) => compiled.test(text) };
  },
  { code: "re2" },
);

/** Ajv's own compares each item with each: one packet of them would stall the broker for a minute. */
const UNIQUE_ITEMS = {
  keyword: "uniqueItems",
  type: "array",
  schemaType: "boolean",
  error: { message: "must NOT have duplicate items" },
  validate: (wanted: boolean, items: readonly unknown[]): boolean =>
    !wanted || new Set(items.map(canonical)).size === items.length,
};

/** The same text for what JSON Schema takes for equal. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (typeof value === "object" && value !== null && !(value instanceof Uint8Array)) {
    const map = value as Record<string, unknown>;
    const fields = Object.keys(map).sort();
    return `{${fields.map((name) => `${JSON.stringify(name)}:${canonical(map[name])}`).join()}}`;
  }
  return typeof value === "string" ? JSON.stringify(value) : textOf(value);
}

/**
 * A schema that refers to itself in two branches of a choice looks at what is nested 60 deep 2^60 times. So each function
 * that Ajv makes, one for each `$ref` that is not a plain one, counts.
 */
function counting(code: string): string {
  const counted = code.replace(/return function validate\d+\(data, \{.*?\}=\{\}\)\{/, "$&self.spend();");
  if (counted === code) throw new Error("it cannot be bounded");
  return counted;
}

const AJV_PARTS: readonly string[] = [
  "ajv/dist/compile/codegen",
  "ajv/dist/compile/validate",
  "ajv/dist/core",
  "ajv/dist/vocabularies/applicator",
  "ajv/dist/vocabularies/validation",
  "ajv",
];

/** Ajv in pieces, before the first schema, for a process that has other things to do meanwhile. */
export async function loadInPieces(): Promise<void> {
  for (const part of AJV_PARTS) {
    require(part);
    await turn();
  }
}

/** Throws `MappingSyntaxError` for what is no JSON Schema. */
export function compileSchema({ file, document }: SchemaFile): Validate {
  const dialect = String((document as { $schema?: unknown } | null)?.$schema ?? "");
  // Loaded by the first schema: a gateway without any does not carry it.
  const { default: Draft } = require(dialect.includes("2020-12") ? "ajv/dist/2020" : "ajv") as {
    default: Ajv;
  };
  // Formats are not checked, as JSON Schema has it by default; unknown keywords are misspelt ones.
  const ajv = new Draft({
    strict: true,
    strictTypes: false,
    strictTuples: false,
    strictRequired: false,
    validateFormats: false,
    code: { regExp, process: counting },
  });
  let calls = 0;
  ajv.spend = () => {
    if (++calls > Budget.STEPS) throw new RenderError(`takes more than ${Budget.STEPS} steps`);
  };
  ajv.removeKeyword("uniqueItems");
  ajv.addKeyword(UNIQUE_ITEMS);
  let validate: ReturnType<InstanceType<Ajv>["compile"]>;
  try {
    validate = ajv.compile(document);
  } catch (error) {
    throw new MappingSyntaxError(`${file} is no JSON Schema: ${messageOf(error)}`, 0, {
      length: file.length,
    });
  }
  return (payload) => {
    let valid: boolean;
    calls = 0;
    try {
      valid = validate(payload);
    } catch (error) {
      throw new RenderError(`the payload cannot be checked by ${file}: ${messageOf(error)}`);
    }
    if (valid) return;
    const [first] = validate.errors ?? [];
    const where = `payload${(first?.instancePath ?? "").replaceAll("/", ".")}`;
    throw new RenderError(`${where} ${first?.message ?? "does not fit"} (${file})`);
  };
}
