/**
 * Text with `${expression}` in it; `$${` stands for a plain `${`.
 *
 * The grammar is CEL's, of which exactly names and paths are accepted (`device`, `payload.ts`,
 * `payload["x y"]`, `payload.list[0]`): they are compiled to look-ups of own properties, so that a field
 * named `constructor` is a field like any other. Everything is checked when a template is parsed; rendering
 * fails only for what a message lacks.
 *
 * Not there: operators, functions, and everything else of CEL.
 */
import { closest, distance } from "fastest-levenshtein";
import { messageOf, SluiceError } from "../errors.ts";
import { MappingSyntaxError } from "./syntax-error.ts";

/** Where names get their values; a Map is one. Undefined and null both mean that there is none. */
export interface Scope {
  get(name: string): unknown;
}

/** A message lacks what the template asks for. */
export class RenderError extends SluiceError {
  constructor(message: string) {
    super("MAPPING_RENDER", message);
  }
}

interface Path {
  readonly name: string;
  readonly fields: readonly string[];
  /** As written, for messages. */
  readonly text: string;
}

const IDENTIFIER = /[A-Za-z_][A-Za-z0-9_]*/y;
const SPACE = /[ \t\r\n]*/y;
const INDEX = /\d{1,9}/y;
const QUOTED = /"(?:[^"\\]|\\.)*"|'[^'\\]*'/y;

export class Template {
  readonly text: string;
  /** The names it looks into, without their fields. */
  readonly names: ReadonlySet<string>;
  private readonly parts: readonly (string | Path)[];

  private constructor(text: string, parts: readonly (string | Path)[]) {
    this.text = text;
    this.parts = parts;
    this.names = new Set(parts.flatMap((part) => (typeof part === "string" ? [] : [part.name])));
  }

  /** Throws `MappingSyntaxError`; `names` are those that a scope will have. */
  static parse(text: string, names: readonly string[]): Template {
    return new Template(text, new Parser(text, names).parts());
  }

  /** The text when there is no expression in it, otherwise undefined. */
  get literal(): string | undefined {
    const [first = "", ...others] = this.parts;
    return typeof first === "string" && others.length === 0 ? first : undefined;
  }

  /** The literal parts, with an empty one where an expression stands. */
  get literals(): string[] {
    return this.parts.map((part) => (typeof part === "string" ? part : ""));
  }

  /**
   * The value: of a template that is one expression alone the expression's own (a number stays a number),
   * otherwise text. Throws `RenderError` where a value is missing or null.
   */
  render(scope: Scope): unknown {
    const [first, ...others] = this.parts;
    if (first !== undefined && typeof first !== "string" && others.length === 0) return lookUp(first, scope);
    return this.renderText(scope);
  }

  /** The value as text; what is neither text, number nor boolean becomes JSON. */
  renderText(scope: Scope): string {
    let text = "";
    for (const part of this.parts) text += typeof part === "string" ? part : textOf(lookUp(part, scope));
    return text;
  }
}

function lookUp(path: Path, scope: Scope): unknown {
  let value = scope.get(path.name);
  for (const field of path.fields) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, field)) value = undefined;
    else value = (value as Record<string, unknown>)[field];
  }
  if (value === undefined || value === null) throw new RenderError(`${path.text} has no value`);
  return value;
}

function textOf(value: unknown): string {
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

class Parser {
  private readonly text: string;
  private readonly known: readonly string[];
  private position = 0;

  constructor(text: string, known: readonly string[]) {
    this.text = text;
    this.known = known;
  }

  parts(): (string | Path)[] {
    const parts: (string | Path)[] = [];
    let literal = "";
    while (this.position < this.text.length) {
      if (this.text.startsWith("$${", this.position)) {
        literal += "${";
        this.position += 3;
      } else if (this.text.startsWith("${", this.position)) {
        if (literal !== "") parts.push(literal);
        literal = "";
        parts.push(this.expression());
      } else {
        literal += this.text[this.position++];
      }
    }
    if (literal !== "") parts.push(literal);
    return parts;
  }

  private expression(): Path {
    const open = this.position;
    this.position += 2;
    this.take(SPACE);
    const from = this.position;
    const name = this.take(IDENTIFIER);
    if (name === "") throw this.unexpected(open);
    const fields: string[] = [];
    for (;;) {
      const end = this.position;
      this.take(SPACE);
      const next = this.text[this.position];
      if (next === "}") {
        this.position++;
        this.checkName(name, from);
        return { name, fields, text: this.text.slice(from, end) };
      }
      if (next !== "." && next !== "[") throw this.unexpected(open);
      this.position++;
      this.take(SPACE);
      fields.push(next === "." ? this.field(open) : this.bracketed(open));
    }
  }

  private field(open: number): string {
    const field = this.take(IDENTIFIER);
    if (field === "") throw this.unexpected(open);
    return field;
  }

  private bracketed(open: number): string {
    const from = this.position;
    const index = this.take(INDEX);
    const quoted = index === "" ? this.take(QUOTED) : "";
    this.take(SPACE);
    if ((index === "" && quoted === "") || this.text[this.position] !== "]") throw this.unexpected(open);
    this.position++;
    if (index !== "") return String(Number(index));
    if (quoted.startsWith("'")) return quoted.slice(1, -1);
    try {
      return JSON.parse(quoted) as string;
    } catch (error) {
      throw new MappingSyntaxError(`not a text: ${messageOf(error)}`, from, { length: quoted.length });
    }
  }

  private take(pattern: RegExp): string {
    pattern.lastIndex = this.position;
    const found = pattern.exec(this.text)?.[0] ?? "";
    this.position += found.length;
    return found;
  }

  private unexpected(open: number): MappingSyntaxError {
    if (this.position >= this.text.length) {
      return new MappingSyntaxError("this ${ is not closed", open, {
        length: 2,
        mend: "close it with }, or write $${ for a plain ${",
      });
    }
    return new MappingSyntaxError(
      `"${this.text[this.position]}" is not understood here: an expression is a name or a path, as in \${device} or \${payload.ts}`,
      this.position,
      { mend: `available: ${this.known.join(", ")}` },
    );
  }

  private checkName(name: string, position: number): void {
    if (this.known.includes(name)) return;
    const near = this.known.length === 0 ? "" : closest(name, [...this.known]);
    const guess = near !== "" && distance(name, near) <= Math.max(1, name.length / 3);
    throw new MappingSyntaxError(
      `"${name}" is not known here${guess ? `; did you mean "${near}"?` : ""}`,
      position,
      { length: name.length, mend: `available: ${this.known.join(", ")}` },
    );
  }
}
