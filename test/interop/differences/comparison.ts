/**
 * Two transcripts side by side, and the table of docs/kafka.md in which every difference has its reason: one that
 * is not listed fails, and so does a row that is no longer true.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { repository } from "../support/tools.ts";
import type { Transcript } from "./transcript.ts";

const DOCUMENT = join(repository, "docs/kafka.md");
const HEADING = "## Differences from Apache Kafka 4";

export interface Difference {
  readonly step: string;
  /** Lines that only the one, or only the other, printed at that place. */
  readonly kafka: string;
  readonly sluice: string;
}

export interface Listed extends Omit<Difference, "step"> {
  readonly steps: readonly string[];
  readonly reason: string;
}

/** Runs of lines that are not in both, by the longest common subsequence. */
function hunks(a: readonly string[], b: readonly string[]): [string[], string[]][] {
  const width = b.length + 1;
  const longest = new Uint32Array((a.length + 1) * width);
  const at = (i: number, j: number) => longest[i * width + j] as number;
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      longest[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const found: [string[], string[]][] = [];
  let current: [string[], string[]] | undefined;
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      i++;
      j++;
      current = undefined;
      continue;
    }
    if (current === undefined) {
      current = [[], []];
      found.push(current);
    }
    if (j >= b.length || (i < a.length && at(i + 1, j) >= at(i, j + 1))) current[0].push(a[i++] as string);
    else current[1].push(b[j++] as string);
  }
  return found;
}

export function differences(kafka: Transcript, sluice: Transcript): Difference[] {
  const steps = new Set([...kafka.steps.keys(), ...sluice.steps.keys()]);
  return [...steps].flatMap((step) =>
    hunks(kafka.steps.get(step) ?? [], sluice.steps.get(step) ?? []).map(([theirs, ours]) => ({
      step,
      kafka: theirs.join("\n"),
      sluice: ours.join("\n"),
    })),
  );
}

/** In a table's cell: a line each, as code. */
const cell = (text: string): string =>
  text === ""
    ? "nothing"
    : text
        .split("\n")
        .map((line) => `\`${line.replaceAll("|", "\\|")}\``)
        .join("<br>");

const uncell = (text: string): string =>
  text === "nothing"
    ? ""
    : text
        .split("<br>")
        .map((line) => line.slice(1, -1).replaceAll("\\|", "|"))
        .join("\n");

/** The rows of the document's table. */
export function listed(): Listed[] {
  const text = readFileSync(DOCUMENT, "utf8");
  const [section = ""] = text.slice(text.indexOf(HEADING) + HEADING.length).split("\n## ");
  return section
    .split("\n")
    .filter((line) => /^\| (?!step)/.test(line) && !/^\| -/.test(line))
    .map((line) => {
      const [steps = "", kafka = "", sluice = "", reason = ""] = line
        .slice(2, -2)
        .split(/(?<!\\)\|/)
        .map((field) => field.trim());
      return { steps: steps.split("<br>"), kafka: uncell(kafka), sluice: uncell(sluice), reason };
    });
}

export interface Verdict {
  /** Rows that would have to be added, ready for the document. */
  readonly unlisted: readonly string[];
  /** Rows, or steps of rows, in which nothing differs that way any more. */
  readonly stale: readonly string[];
}

/** Holds the differences of the steps whose names begin with `prefix` against the document. */
export function judge(
  found: readonly Difference[],
  prefix: string,
  rows: readonly Listed[] = listed(),
): Verdict {
  const same = (row: Listed, { kafka, sluice }: Difference) => row.kafka === kafka && row.sluice === sluice;
  const missing = new Map<string, { readonly example: Difference; readonly steps: string[] }>();
  for (const difference of found) {
    if (rows.some((row) => row.steps.includes(difference.step) && same(row, difference))) continue;
    const words = `${difference.kafka}\0${difference.sluice}`;
    const others = missing.get(words);
    if (others === undefined) missing.set(words, { example: difference, steps: [difference.step] });
    else others.steps.push(difference.step);
  }
  const unlisted = Array.from(
    missing.values(),
    ({ example, steps }) =>
      `| ${steps.join("<br>")} | ${cell(example.kafka)} | ${cell(example.sluice)} | why? |`,
  );
  const stale = rows.flatMap((row) =>
    row.steps
      .filter((step) => step.startsWith(prefix))
      .filter((step) => !found.some((difference) => difference.step === step && same(row, difference)))
      .map((step) => `| ${step} | ${cell(row.kafka)} | ${cell(row.sluice)} | ${row.reason} |`),
  );
  return { unlisted, stale };
}
