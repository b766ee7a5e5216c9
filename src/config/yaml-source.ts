/**
 * A YAML file as text with positions: what it says as plain values, what YAML itself finds wrong with it (in
 * this project's words, the known traps by name), and where a path of the values stands.
 */
import {
  type Alias,
  CST,
  type Document,
  isAlias,
  isCollection,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  Parser,
  parseDocument,
  visit,
  type YAMLError,
} from "yaml";
import { messageOf } from "../errors.ts";
import type { Place, Problem } from "./problems.ts";

export type Path = readonly (string | number)[];

/** A stretch of a text value, in UTF-16 units. */
export interface Within {
  readonly position: number;
  readonly length: number;
}

/** What aliases may expand to, counted in nodes: a few letters of YAML must not become gigabytes. */
const MAX_ALIASES = 10_000;

export class YamlSource {
  readonly file: string;
  /** Plain values; null where the text is no YAML at all. */
  readonly value: unknown;
  /** Not empty: `value` is not what the author meant, and checking it would only add to the noise. */
  readonly problems: readonly Problem[];
  readonly text: string;
  private readonly document: Document.Parsed;
  private readonly lines = new LineCounter();

  constructor(file: string, text: string) {
    this.file = file;
    this.text = text;
    this.document = parseDocument(text, { prettyErrors: false, lineCounter: this.lines });
    const problems = this.findProblems();
    try {
      this.value = problems.length === 0 ? this.document.toJS({ maxAliasCount: MAX_ALIASES }) : null;
    } catch (error) {
      problems.push({
        place: this.placeAt(0, 0),
        message: /alias count/i.test(messageOf(error))
          ? `the file's references (*name) expand to more than ${MAX_ALIASES} values: anchors within anchors multiply`
          : `the file's references (*name) cannot be followed: ${messageOf(error)}`,
        mend: "write the values out",
      });
      this.value = null;
    }
    this.problems = problems;
  }

  /** Where the value at `path` stands, or the nearest thing around it that is there. */
  placeOfValue(path: Path, within?: Within): Place {
    const node = this.find(path);
    if (node === undefined && path.length > 0) return this.placeOfValue(path.slice(0, -1));
    if (within !== undefined && isScalar(node) && node.range != null) {
      // As it is written, unless quoting changed it.
      const start = this.text.slice(node.range[0], node.range[1]).indexOf(String(node.value));
      const from = node.range[0] + start + within.position;
      if (start >= 0) return this.placeAt(from, from + within.length);
    }
    // A block map or list goes on for lines; its first key stands for it.
    if (isCollection(node) && !node.flow) {
      const first = node.items[0];
      return this.placeOfNode(isPair(first) ? first.key : first);
    }
    // Of a value that is not there (`from:`, `from: #`) the key is shown.
    if (isEmpty(node)) return this.placeOfKey(path);
    return this.placeOfNode(node);
  }

  /** Where the key at the end of `path` stands. */
  placeOfKey(path: Path): Place {
    const pair = this.findPair(path);
    return pair === undefined ? this.placeOfValue(path.slice(0, -1)) : this.placeOfNode(pair.key);
  }

  /** The value's own text, on one line; empty for a value that is not there. */
  textOf(path: Path): string {
    const node = this.find(path);
    if (node?.range == null || isEmpty(node)) return "";
    return this.text.slice(node.range[0], node.range[1]).trim();
  }

  /** What follows a `#` right behind the key of a value that is not there: `from: #rest`. */
  swallowedComment(path: Path): string | undefined {
    const key = this.findPair(path)?.key;
    if (!isNode(key) || key.range == null || !isEmpty(this.find(path))) return undefined;
    return /^\s*:[ \t]+(#[^\r\n]*)/.exec(this.text.slice(key.range[1]))?.[1]?.trimEnd();
  }

  isFlowMap(path: Path): boolean {
    const node = this.find(path);
    return isMap(node) && node.flow === true;
  }

  private find(path: Path): Node | undefined {
    let node: unknown = this.document.contents;
    for (const key of path) {
      if (isAlias(node)) node = node.resolve(this.document);
      node = isMap(node) ? pairOf(node.items, key)?.value : isSeq(node) ? node.items[Number(key)] : undefined;
    }
    return isNode(node) ? node : undefined;
  }

  private findPair(path: Path): Pair | undefined {
    const parent = this.find(path.slice(0, -1));
    return isMap(parent) ? pairOf(parent.items, path.at(-1) as string | number) : undefined;
  }

  private placeOfNode(node: unknown): Place {
    const range = isNode(node) ? node.range : undefined;
    return this.placeAt(range?.[0] ?? 0, range?.[1] ?? 0);
  }

  private placeAt(start: number, end: number): Place {
    const { line, col } = this.lines.linePos(Math.min(start, this.text.length));
    const lineStart = this.lines.lineStarts[line - 1] ?? 0;
    const text = this.text.slice(lineStart, this.lines.lineStarts[line] ?? undefined).replace(/[\r\n]+$/, "");
    const column = Math.max(0, col - 1);
    const length = Math.max(1, Math.min(end - start, text.length - column));
    return { label: `${this.file}:${line}:${column + 1}`, source: { line, text, column, length } };
  }

  private findProblems(): Problem[] {
    const errors = [...this.document.errors, ...this.document.warnings].sort((a, b) => a.pos[0] - b.pos[0]);
    const syntax = errors.find((error) => error.code !== "DUPLICATE_KEY");
    // Everything behind a syntax error is read differently from what was meant: the first one is the only
    // one to be believed.
    if (syntax !== undefined) return [this.syntaxProblem(syntax)];
    const duplicates = errors.map((error) => this.duplicateProblem(error));
    return [...duplicates, ...this.aliasProblems(), ...this.keyProblems()];
  }

  private duplicateProblem(error: YAMLError): Problem {
    const key = /^("[^"]*"|'[^']*'|[^:\s]+)/.exec(this.text.slice(error.pos[0]))?.[1] ?? "";
    const place = this.placeAt(error.pos[0], error.pos[0] + key.length);
    return { place, message: `"${key}" is written twice in the same map`, mend: "keep one of them" };
  }

  private aliasProblems(): Problem[] {
    const found: Problem[] = [];
    const report = (alias: Alias) => {
      const text = this.text.slice(alias.range?.[0], alias.range?.[1]);
      found.push({
        place: this.placeOfNode(alias),
        message: `YAML reads * at the start of a value as a reference, and there is no "&${alias.source}"`,
        mend: `quote it: "${text}"`,
      });
    };
    visit(this.document, { Alias: (_, alias) => void (alias.resolve(this.document) ?? report(alias)) });
    return found;
  }

  private keyProblems(): Problem[] {
    const found: Problem[] = [];
    visit(this.document, {
      Pair: (_, { key }) => {
        const named = isAlias(key) ? key.resolve(this.document) : key;
        const isBinary = isScalar(named) && named.value instanceof Uint8Array;
        if (!isCollection(named) && !isBinary) return;
        const kind = isMap(named) ? "a map" : isBinary ? "bytes" : "a list";
        const message = `YAML reads this as ${kind}, which cannot be the name of anything`;
        const mend = "write a plain name, or quote it";
        found.push({ place: this.placeOfNode(key), message, mend });
      },
    });
    return found;
  }

  private syntaxProblem(error: YAMLError): Problem {
    const [start] = error.pos;
    const before = this.text.slice(0, start);
    const after = this.text.slice(start);
    const template = before.endsWith("$") ? /^\{[^}\r\n]*\}?/.exec(after)?.[0] : undefined;
    if (template !== undefined) {
      return {
        place: this.placeAt(start - 1, start + template.length),
        message: `inside { } or [ ] YAML reads the { of $${template} as the start of a map`,
        mend: `quote it: "$${template}"`,
      };
    }
    const map = /\{[\w.]+\}$/.exec(before)?.[0];
    if (map !== undefined && /^[^\s,}\]]/.test(after)) {
      const rest = /^[^\s,}\]]*/.exec(after)?.[0] ?? "";
      return {
        place: this.placeAt(start - map.length, start + rest.length),
        message: `YAML reads ${map} as a map, and nothing may follow it`,
        mend: `write it as  $${map}${rest}`,
      };
    }
    const seq = /\[[0-9a-fA-F:.]+\]$/.exec(before)?.[0];
    const port = /^:\d+/.exec(after)?.[0];
    if (seq !== undefined && port !== undefined) {
      return {
        place: this.placeAt(start - seq.length, start + port.length),
        message: `YAML reads ${seq} as a list`,
        mend: `quote it: "${seq}${port}"`,
      };
    }
    const opened = unclosedIn(this.text, error);
    if (opened !== undefined) {
      const { offset, source } = opened;
      return {
        place: this.placeAt(offset, offset + 1),
        message: `this ${source} is not closed`,
        mend: `close it with ${CLOSING[source] ?? source}`,
      };
    }
    return {
      place: this.placeAt(...error.pos),
      message: `not valid YAML: ${error.message}`,
      ...WORDS[error.code],
    };
  }
}

const CLOSING: Readonly<Record<string, string>> = { "{": "}", "[": "]" };

type Opened = Pick<CST.SourceToken, "offset" | "source">;

/** The bracket or quote whose end YAML misses, where it was opened; undefined for another kind of error. */
function unclosedIn(text: string, { message, pos: [end] }: YAMLError): Opened | undefined {
  const isQuote = /^Missing closing (["'])quote/.test(message);
  const bracket = /end with a ([}\]])$/.exec(message)?.[1];
  if (!isQuote && bracket === undefined) return undefined;
  let found: Opened | undefined;
  const look = (token: CST.Token | null | undefined): void => {
    if (token?.type === "flow-collection" && bracket !== undefined) {
      const { start } = token;
      // The innermost of those that stay open.
      if (start.offset < end && CLOSING[start.source] !== token.end[0]?.source) found = start;
    } else if (
      isQuote &&
      (token?.type === "double-quoted-scalar" || token?.type === "single-quoted-scalar")
    ) {
      const { offset, source } = token;
      if (offset < end && end <= offset + source.length + 1) found = { offset, source: source[0] as string };
    }
  };
  for (const document of new Parser().parse(text)) {
    if (document.type !== "document") continue;
    CST.visit(document, ({ key, value }) => {
      look(key);
      look(value);
    });
  }
  return found;
}

/** What YAML's own words leave unsaid to someone who writes a configuration, by error code. */
const WORDS: Partial<Record<YAMLError["code"], { readonly message?: string; readonly mend: string }>> = {
  TAB_AS_INDENT: { message: "YAML takes no tabs for indentation", mend: "use spaces" },
  MULTIPLE_DOCS: {
    message: "a configuration is one YAML document",
    mend: "remove this line and what follows",
  },
  BAD_SCALAR_START: {
    message: "YAML does not let an unquoted value start with this character",
    mend: "quote the value",
  },
  BLOCK_AS_IMPLICIT_KEY: {
    message: 'a second ": " on one line: YAML reads it as a map within the map',
    mend: "quote the value, or start a new line",
  },
  MISSING_CHAR: { mend: "close what was opened, or mend the indentation" },
  BAD_INDENT: { mend: "close what was opened, or mend the indentation" },
};

function pairOf(items: readonly unknown[], key: string | number): Pair | undefined {
  return items
    .filter(isPair)
    .find((pair) => (isScalar(pair.key) ? String(pair.key.value) : pair.key) === String(key));
}

function isEmpty(node: Node | undefined): boolean {
  return isScalar(node) && node.value === null && (node.source === undefined || node.source === "");
}
