/** What one server was asked, step by step, and what came out at the other end, freed of what must differ. */
import type { Finished } from "../support/process.ts";

export interface Judged {
  readonly brokers: string;
  /** Kafka's `log.dirs`, or ours. */
  readonly dataDir: string;
}

/** What differs between any two runs. In order: earlier ones make room for later ones. */
const NORMALISED: readonly (readonly [RegExp, string])[] = [
  [/\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g, "<uuid>"],
  [/\b(TopicId: |topicId[=:] ?|topic_id=|Cluster ?I[Dd]: |id=)[\w-]{22}(?![\w-])/g, "$1<id>"],
  [/\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.,]\d{1,3}(?:Z|[+-]\d\d:?\d\d)?/g, "<date>"],
  [/\b1[5-9]\d{11}\b/g, "<time>"],
  [/(producerId[:=] ?)\d+/g, "$1<number>"],
  [/(console-consumer-)\d+/g, "$1<number>"],
  [/(adminclient-)\d+/g, "$1<number>"],
  [/(correlation id |Epoch: )\d+/g, "$1<number>"],
  // A log line's thread.
  [/^(! )\[[^\]]+\] (?=(?:WARN|ERROR) )/gm, "$1"],
  // The error is the protocol's, its words are each server's own; the tool for topics prints them by themselves.
  [/(org\.apache\.kafka\.common\.errors\.\w+Exception):.*/g, "$1"],
  [/(Error while executing topic command :).*/g, "$1"],
];

export class Transcript {
  readonly steps = new Map<string, readonly string[]>();
  private readonly judged: Judged;

  constructor(judged: Judged) {
    this.judged = judged;
  }

  /** Text that was printed under one step's name. */
  add(step: string, text: string): void {
    if (this.steps.has(step)) throw new Error(`the step "${step}" is there twice`);
    const lines = this.normalised(text.replace(/[ \t]+/g, " "))
      .split("\n")
      .map((line) => line.trimEnd())
      // Where a tool failed inside is its own affair, and whether and how often it tried again a matter of time.
      .filter(
        (line) => line !== "" && !/^(! )? ?(at |\.\.\. \d+ more)| reported a recoverable issue /.test(line),
      )
      .filter((line, index, all) => line !== all[index - 1]);
    this.steps.set(step, lines);
  }

  /** A tool's end; `sorted` where the order of its lines has no meaning. */
  finished(step: string, { code, stdout, stderr }: Finished, sorted = false): void {
    const lines = stdout.split("\n");
    const errors = stderr.split("\n").flatMap((line) => (line.trim() === "" ? [] : [`! ${line}`]));
    this.add(
      step,
      [...(code === 0 ? [] : [`exit code ${code}`]), ...(sorted ? lines.sort() : lines), ...errors].join(
        "\n",
      ),
    );
  }

  /** What a script of another language printed: `## step`, then its lines. */
  sections(text: string): void {
    for (const section of text.split(/^## /m).slice(1)) {
      const end = section.indexOf("\n");
      this.add(section.slice(0, end).trim(), section.slice(end + 1));
    }
  }

  private normalised(text: string): string {
    const { brokers, dataDir } = this.judged;
    const port = brokers.split(":")[1] as string;
    let result = text
      .replaceAll(dataDir, "<data>")
      .replaceAll(brokers, "<broker>")
      .replaceAll(port, "<port>");
    for (const [pattern, word] of NORMALISED) result = result.replace(pattern, word);
    return result;
  }
}
