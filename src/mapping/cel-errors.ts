/** The CEL parser's errors in this project's words. */
import { MappingSyntaxError } from "./syntax-error.ts";

const TOKENS: Readonly<Record<string, string>> = {
  EOF: "the end",
  RPAREN: '")"',
  RBRACKET: '"]"',
  RBRACE: '"}"',
  LPAREN: '"("',
  LBRACKET: '"["',
  LBRACE: '"{"',
  COMMA: '","',
  COLON: '":"',
  DOT: '"."',
  QUESTION: '"?"',
  IDENTIFIER: "a name",
  NUMBER: "a number",
  STRING: "a text",
};

export function syntaxError(error: unknown, text: string, offset: number): MappingSyntaxError {
  const { summary, code, range } = error as {
    summary?: string;
    code?: string;
    range?: { start: number; end: number };
  };
  if (summary === undefined || range === undefined) throw error;
  const start = Math.min(range.start, text.length);
  const at = (message: string, mend?: string): MappingSyntaxError =>
    new MappingSyntaxError(message, offset + start, {
      length: Math.max(1, Math.min(range.end, text.length) - start),
      mend,
    });
  const rest = text.slice(start);
  if (/^=[^=]/.test(rest)) return at('a single "=" sets nothing here', "compare with ==");
  if (/^&[^&]/.test(rest) || /^\|[^|]/.test(rest))
    return at(`"${rest[0]}" is written twice`, `${rest[0]}${rest[0]}`);
  if (/^\$\{/.test(rest)) {
    const inner = /^\$\{\s*([^}]*?)\s*\}/.exec(rest)?.[1];
    return at("this is an expression already", `without \${ }${inner ? `: ${inner}` : ""}`);
  }
  const word = /^[A-Za-z_]\w*/.exec(rest)?.[0];
  if (word !== undefined && /^(and|or|not)$/i.test(word)) {
    const operator = { and: "&&", or: "||", not: "!" }[word.toLowerCase()];
    return at(`"${word}" is no operator`, `write ${operator}`);
  }
  switch (code) {
    case "unterminated_string":
      return at("this text is not closed", `close it with ${rest[0]}`);
    case "reserved_identifier":
      return at(`"${word}" is a word of the language and cannot be a name`, "call it something else");
    case "invalid_macro_argument":
      return at("here a name is needed for what each element is called");
    case "limit_exceeded":
      return at(`the expression is too large: ${limitWords(summary)}`);
    case "expected_token": {
      const [, wanted = "", got = ""] = /^Expected (\w+), got (\w+)/.exec(summary) ?? [];
      const found = got === "EOF" ? "the end" : `"${text.slice(start, range.end)}"`;
      return at(`here ${TOKENS[wanted] ?? wanted.toLowerCase()} is needed, not ${found}`);
    }
    case "unexpected_token":
      if (/EOF$/.test(summary)) return at("the expression ends too early");
      return at(`"${text.slice(start, range.end)}" is not understood here`);
    case "unexpected_character":
      return at(`"${rest[0] ?? ""}" is not understood here`);
    default:
      return at(summary[0] === undefined ? "not understood" : summary[0].toLowerCase() + summary.slice(1));
  }
}

function limitWords(summary: string): string {
  const [, limit = "", most] = /Exceeded (\w+) \((\d+)\)/.exec(summary) ?? [];
  if (limit === "maxDepth") return `it nests more than ${most} deep`;
  return limit === "maxAstNodes"
    ? `it has more than ${most} parts`
    : `a list, map or call has more than ${most} parts`;
}
