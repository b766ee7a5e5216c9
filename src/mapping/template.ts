/**
 * Text with `${expression}` in it; `$${` stands for a plain `${`. Everything is checked when a template is
 * parsed; rendering fails only for what a message lacks or what cannot be done with what it has.
 */
import { Expression } from "./expression.ts";
import type { ExpressionContext, Scope } from "./scope.ts";
import { MappingSyntaxError } from "./syntax-error.ts";
import { Budget, RenderError, textOf } from "./values.ts";

export type { Scope } from "./scope.ts";
export { RenderError } from "./values.ts";

export class Template {
  readonly text: string;
  /** The names it looks into, each once, without their fields. */
  readonly names: readonly string[];
  private readonly parts: readonly (string | Expression)[];

  private constructor(text: string, parts: readonly (string | Expression)[]) {
    this.text = text;
    this.parts = parts;
    const names = parts.flatMap((part) => (typeof part === "string" ? [] : part.names));
    this.names = names.length < 2 ? names : [...new Set(names)];
  }

  /** Throws `MappingSyntaxError`; a list of names stands for a context that has nothing else. */
  static parse(text: string, context: ExpressionContext | readonly string[]): Template {
    return new Template(text, partsOf(text, "names" in context ? context : { names: context }));
  }

  /** The text when there is no expression in it, otherwise undefined. */
  get literal(): string | undefined {
    const [first = "", ...others] = this.parts;
    return typeof first === "string" && others.length === 0 ? first : undefined;
  }

  /** What it always comes to; undefined where that follows from a message, or cannot be made. */
  get constant(): string | undefined {
    if (this.names.length > 0) return undefined;
    try {
      return this.renderText({ get: () => undefined, budget: new Budget() });
    } catch {
      return undefined;
    }
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
    if (first !== undefined && typeof first !== "string" && others.length === 0) return valueIn(first, scope);
    return this.renderText(scope);
  }

  /** The value as text; lists and maps become JSON. Throws `RenderError`. */
  renderText(scope: Scope): string {
    let text = "";
    for (const part of this.parts) text += typeof part === "string" ? part : textOf(valueIn(part, scope));
    return text;
  }
}

function valueIn(expression: Expression, scope: Scope): unknown {
  const value = expression.evaluate(scope);
  if (value === null) throw new RenderError(`${expression.text} is null`, { missing: true });
  return value;
}

function partsOf(text: string, context: ExpressionContext): (string | Expression)[] {
  return piecesOf(text).map((piece) => {
    if (typeof piece === "string") return piece;
    const { inner, position } = piece;
    if (inner.trim() !== "") return Expression.parse(inner, context, position);
    throw new MappingSyntaxError("there is no expression between ${ and }", position - 2, {
      length: inner.length + 3,
      mend: `available: ${context.names.join(", ")}`,
    });
  });
}

/** The literal parts of a template whose expressions nobody has looked at, an empty one for each of them. */
export function literalsOf(text: string): string[] {
  return piecesOf(text).map((piece) => (typeof piece === "string" ? piece : ""));
}

/** What stands outside of `${…}` and what within, with its place. */
function piecesOf(text: string): (string | { readonly inner: string; readonly position: number })[] {
  const pieces: ReturnType<typeof piecesOf> = [];
  let literal = "";
  let position = 0;
  for (;;) {
    const dollar = text.indexOf("$", position);
    if (dollar < 0) break;
    literal += text.slice(position, dollar);
    if (text.startsWith("$${", dollar)) {
      literal += "${";
      position = dollar + 3;
    } else if (text[dollar + 1] === "{") {
      if (literal !== "") pieces.push(literal);
      literal = "";
      const end = endOfExpression(text, dollar);
      pieces.push({ inner: text.slice(dollar + 2, end), position: dollar + 2 });
      position = end + 1;
    } else {
      literal += "$";
      position = dollar + 1;
    }
  }
  literal += text.slice(position);
  if (literal !== "") pieces.push(literal);
  return pieces;
}

/** Where the `}` is that closes the `${` at `open`: not one within a text or a map. */
function endOfExpression(text: string, open: number): number {
  let depth = 0;
  for (let at = open + 2; at < text.length; at++) {
    const character = text[at] as string;
    if (character === '"' || character === "'") {
      for (at++; at < text.length && text[at] !== character; at++) if (text[at] === "\\") at++;
    } else if (character === "{") depth++;
    else if (character === "}" && --depth < 0) return at;
  }
  throw new MappingSyntaxError("this ${ is not closed", open, {
    length: 2,
    mend: "close it with }, or write $${ for a plain ${",
  });
}
