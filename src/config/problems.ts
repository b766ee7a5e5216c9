/**
 * What is wrong with a configuration, and how it is shown: where it stands, the line, a caret, the mend; all
 * of it at once, in the order of the file.
 */
import { distance } from "fastest-levenshtein";
import { SluiceError } from "../errors.ts";
import { plain } from "../plain.ts";

/** `EX_CONFIG` of sysexits.h. */
export const CONFIG_EXIT_CODE = 78;

/** Where a piece of configuration came from: a stretch of the file, an environment variable, a flag. */
export interface Place {
  /** `config/gateway.yaml:21:10`, `SLUICE_MQTT__MAX_PACKET`, `--data`. */
  readonly label: string;
  /** Undefined where there is no line to show, as for a file that cannot be read. */
  readonly source?: {
    /** Undefined for what is no file. */
    readonly line?: number;
    readonly text: string;
    /** First marked character, from 0. */
    readonly column: number;
    /** Marked characters, at least 1. */
    readonly length: number;
  };
}

export interface Problem {
  readonly place: Place;
  readonly message: string;
  /** Shown beside the caret. */
  readonly mend?: string | undefined;
}

/** The configuration cannot be used. The message holds every problem, ready to print. */
export class ConfigError extends SluiceError {
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    super("CONFIG", `${formatProblems(problems)}\n${countOf(problems.length)}`, {
      exitCode: CONFIG_EXIT_CODE,
    });
    this.problems = problems;
  }
}

export function formatProblems(problems: readonly Problem[]): string {
  const width = Math.max(...problems.map((problem) => problem.place.label.length));
  return problems.map((problem) => formatProblem(problem, width)).join("\n");
}

function formatProblem({ place, message, mend }: Problem, width: number): string {
  const heading = `${place.label.padEnd(width)}  ${message}`;
  const { source } = place;
  if (source === undefined) return mend === undefined ? heading : `${heading}\n  ${mend}`;
  const gutter = source.line === undefined ? "  | " : `  ${source.line} | `;
  const margin = gutter.replace(/\d/g, " ").replace(/\| $/, "| ");
  const { text, column, length } = excerptOf(source);
  // A tab before the caret stays a tab, or the caret would stand elsewhere.
  const indent = text.slice(0, column).replace(/[^\t]/g, " ");
  return `${heading}\n${gutter}${text}\n${margin}${indent}${"^".repeat(length)}${mend ? `  ${mend}` : ""}`;
}

const MAX_LINE = 160;
const BEFORE = 60;

/** The line, or what stands around the mark in a long one; tabs stay tabs, so that the caret is where it belongs. */
function excerptOf({ text, column, length }: NonNullable<Place["source"]>) {
  const line = text.split("\t").map(plain).join("\t");
  if (line.length <= MAX_LINE) return { text: line, column, length };
  const from = column > BEFORE ? column - BEFORE : 0;
  const [open, close] = [from > 0 ? "…" : "", from + MAX_LINE < line.length ? "…" : ""];
  const shown = line.slice(from, from + MAX_LINE);
  const start = column - from;
  return {
    text: open + shown + close,
    column: open.length + start,
    length: Math.max(1, Math.min(length, shown.length - start)),
  };
}

function countOf(problems: number): string {
  return problems === 1 ? "1 problem" : `${problems} problems`;
}

/** The candidate that was probably meant, if one is near enough to say so. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(3, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const [given, other] = [word.toLowerCase(), candidate.toLowerCase()];
    // Who writes the beginning of a word has meant it.
    const begins = given.length >= 3 && other.startsWith(given);
    const steps = begins ? Math.min(3, distance(given, other)) : distance(given, other);
    // Two short words are always near each other: half of the letters must agree, or one begin the other.
    const alike = steps <= other.length / 2 || given.startsWith(other) || other.startsWith(given);
    if (alike && steps < bestDistance) {
      best = candidate;
      bestDistance = steps;
    }
  }
  return best;
}

/** What other programs call a thing, and it is called here. */
const OTHER_WORDS: Readonly<Record<string, string>> = {
  topic: "from",
  mqttTopic: "from",
  filter: "from",
  source: "from",
  stream: "to",
  kafkaTopic: "to",
  target: "to",
  destination: "to",
  condition: "when",
  if: "when",
  transform: "value",
  rules: "mappings",
  topics: "streams",
};

/** The option that was probably meant. */
export function meantOption(word: string, known: readonly string[]): string | undefined {
  const other = Object.hasOwn(OTHER_WORDS, word) ? OTHER_WORDS[word] : undefined;
  return other !== undefined && known.includes(other) ? other : nearest(word, known);
}

/** `; did you mean "from"?`, or nothing. */
export function didYouMean(word: string, candidates: Iterable<string>): string {
  const meant = nearest(word, candidates);
  return meant === undefined ? "" : `; did you mean "${meant}"?`;
}
