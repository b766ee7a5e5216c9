/** Payloads checked against a JSON Schema, by Ajv. */
import { createRequire } from "node:module";
import { messageOf } from "../errors.ts";
import { compilePattern } from "./regex.ts";
import { MappingSyntaxError } from "./syntax-error.ts";
import { RenderError } from "./values.ts";

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
    code: { regExp },
  });
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
