/**
 * Whether downlinks fit the streams and the mappings. A downlink's messages are not mapped again, but a device
 * or a bridge that repeats what it gets sends them in as its own: where a mapping would then bring them to the
 * stream they came from, they would go round for ever. So that is refused here.
 */
import { DownlinkRule, overlap } from "../mapping/downlink-rule.ts";
import type { Tables } from "../mapping/functions.ts";
import { patternOf } from "../mapping/rule.ts";
import { MappingSyntaxError } from "../mapping/syntax-error.ts";
import { literalsOf } from "../mapping/template.ts";
import { type Level, TopicFilter } from "../mapping/topic-filter.ts";
import { type Loose, listOf, mapOf } from "./loose.ts";
import type { Path, Within } from "./yaml-source.ts";

type Report = (path: Path, message: string, mend?: string, within?: Within) => void;

interface Downlink {
  readonly index: number;
  readonly name: string;
  readonly from: string;
  readonly topics: readonly Level[];
}

/** A mapping, or the fallback stream, by what it takes and where that may go. */
interface Way {
  readonly words: string;
  readonly filters: readonly (readonly Level[])[];
  readonly leadsTo: (stream: string) => boolean;
  /** It may leave a message that matches to the next one. */
  readonly isConditional: boolean;
}

/** `config` may be wrong elsewhere; what has not the right type is passed over. */
export function checkDownlinks(
  config: Loose,
  tables: Tables,
  declared: (stream: string, path: Path) => void,
  report: Report,
): void {
  const downlinks = listOf(config.downlinks).flatMap((one, index) => {
    const { from, to, name, when, value } = mapOf(one);
    if (typeof from === "string") declared(from, ["downlinks", index, "from"]);
    if (typeof from !== "string" || typeof to !== "string") return [];
    try {
      const texts = { when: textOrNone(when), value: textOrNone(value) };
      const { topics } = new DownlinkRule({ name: "", from, to, qos: 1, retain: false, ...texts }, tables);
      return [{ index, from, topics, name: typeof name === "string" ? name : from }];
    } catch (error) {
      if (!(error instanceof MappingSyntaxError)) throw error;
      const path = ["downlinks", index, ...error.path];
      report(path, `downlinks[${index}].${error.path.join(".")}: ${error.message}`, error.mend, error);
      return [];
    }
  });
  const ways = waysOf(config);
  for (const downlink of downlinks) {
    const round = loopFrom(downlink, downlinks, ways, []);
    if (round === undefined) continue;
    report(
      ["downlinks", downlink.index, "to"],
      `downlinks[${downlink.index}]: what comes from "${downlink.from}" would go round: ${round.join(", ")}`,
      "use an MQTT topic that no mapping brings back to this stream",
    );
  }
}

/** The ways, in words, on which what a downlink publishes comes back to its stream. */
function loopFrom(
  origin: Downlink,
  downlinks: readonly Downlink[],
  ways: readonly Way[],
  visited: readonly number[],
  current = origin,
): string[] | undefined {
  for (const way of ways) {
    if (!way.filters.some((filter) => overlap(filter, current.topics))) continue;
    if (way.leadsTo(origin.from)) return [way.words];
    for (const next of downlinks) {
      if (next.index === origin.index || visited.includes(next.index) || !way.leadsTo(next.from)) continue;
      const rest = loopFrom(origin, downlinks, ways, [...visited, next.index], next);
      if (rest !== undefined) return [way.words, `downlinks[${next.index}]`, ...rest];
    }
    // What it takes for certain reaches no later one.
    if (!way.isConditional && way.filters.some((filter) => covers(filter, current.topics))) return undefined;
  }
  return undefined;
}

function waysOf({ mappings, fallback }: Loose): Way[] {
  const ways = listOf(mappings).map((one, index): Way => {
    const rule = mapOf(one);
    const streams = [rule, ...listOf(rule.also).map(mapOf)].map(({ to }) => to);
    return {
      words: `mappings[${index}]`,
      filters: (Array.isArray(rule.from) ? rule.from : [rule.from]).flatMap(levelsOf),
      leadsTo: (stream) => streams.some((to) => typeof to === "string" && mayName(to, stream)),
      isConditional: rule.when !== undefined || rule.retained === "skip",
    };
  });
  if (typeof fallback !== "string") return ways;
  const rest: Level = { kind: "rest", name: undefined };
  const leadsTo = (stream: string): boolean => stream === fallback;
  return [...ways, { words: "fallback", filters: [[rest]], leadsTo, isConditional: false }];
}

function levelsOf(filter: unknown): (readonly Level[])[] {
  if (typeof filter !== "string") return [];
  try {
    return [TopicFilter.parse(filter).levels];
  } catch {
    return [];
  }
}

/** Whether a template may come to this name; an expression may give anything. */
function mayName(template: string, stream: string): boolean {
  try {
    return patternOf([literalsOf(template)]).test(stream);
  } catch {
    // Not closed, which has been said.
    return false;
  }
}

/** Whether a filter takes every MQTT topic that fits `topics`. */
function covers([first, ...others]: readonly Level[], topics: readonly Level[]): boolean {
  const [given, ...rest] = topics;
  if (first?.kind === "rest") return true;
  if (first === undefined || given === undefined) return first === given;
  const takes =
    first.kind === "one" ? given.kind !== "rest" : given.kind === "literal" && given.text === first.text;
  return takes && covers(others, rest);
}

function textOrNone(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
