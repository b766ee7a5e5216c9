/**
 * What no single value can tell: whether the parts of a configuration fit each other. Runs on values that the
 * schema may have refused elsewhere, so that one misspelt key does not hide an undeclared stream; what has
 * not the right type is passed over here, the schema has said so.
 */

import { type CompiledRule, compileRule, type RuleDefinition } from "../mapping/rule.ts";
import { MappingSyntaxError } from "../mapping/syntax-error.ts";
import { type Checked, placeOf, valueAt, wordsOf } from "./issue-words.ts";
import { didYouMean, type Problem } from "./problems.ts";
import { type Config, configSchema } from "./schema.ts";
import { type Address, formatAddress, formatSize } from "./units.ts";
import type { Path, Within } from "./yaml-source.ts";

type Loose = Record<string, unknown>;

/** The names Kafka takes for a topic. */
const STREAM_NAME = /^[a-zA-Z0-9._-]{1,249}$/;

export function crossCheck(checked: Checked): Problem[] {
  const config = mapOf(checked.value);
  const report = (path: Path, message: string, mend?: string): Problem => ({
    place: placeOf(path, checked),
    message,
    mend,
  });
  return [
    ...checkStreamNames(config, checked),
    ...checkMappings(config, checked),
    ...checkFallback(config, report),
    ...checkListeners(config, report),
    ...checkSizes(config, report),
  ];
}

type Report = (path: Path, message: string, mend?: string) => Problem;

function checkStreamNames(config: Loose, checked: Checked): Problem[] {
  return Object.keys(mapOf(config.streams)).flatMap((name) => {
    const wrong = wrongStreamName(name);
    if (wrong === undefined) return [];
    const path = ["streams", name];
    return [
      {
        place: checked.overridePlace(path) ?? checked.source.placeOfKey(path),
        message: `stream name "${name}" ${wrong}`,
      },
    ];
  });
}

/** Completes "stream name … "; undefined for a good name. */
function wrongStreamName(name: string): string | undefined {
  if (name === "." || name === "..") return "means a folder";
  if (name.startsWith("__")) return "is reserved: names with __ in front are the gateway's own";
  if (name.length > 249) return "is longer than 249 characters";
  return STREAM_NAME.test(name) ? undefined : "may have letters, digits, dots, _ and - only";
}

function checkMappings(config: Loose, checked: Checked): Problem[] {
  const declared = mapOf(config.streams);
  const firstOf = new Map<string, number>();
  return listOf(config.mappings).flatMap((mapping, index) => {
    const at = ["mappings", index];
    const { name } = mapOf(mapping);
    const problems = checkRule(mapOf(mapping), declared, (path, message, mend, within) => ({
      place: placeOf([...at, ...path], checked, within),
      message: `${wordsOf([...at, ...path])}: ${message}`,
      mend,
    }));
    if (typeof name !== "string") return problems;
    const first = firstOf.get(name);
    if (first === undefined) firstOf.set(name, index);
    else {
      const place = placeOf([...at, "name"], checked);
      problems.push({ place, message: `mappings[${first}] has the name "${name}" already` });
    }
    return problems;
  });
}

function checkFallback({ fallback, streams }: Loose, report: Report): Problem[] {
  if (typeof fallback !== "string") return [];
  const declared = mapOf(streams);
  const wrong =
    undeclared(fallback, Object.keys(declared)) ??
    (isCompacted(fallback, declared)
      ? { message: `${needsKey(fallback)}, and what no mapping matches has none`, mend: undefined }
      : undefined);
  return wrong === undefined ? [] : [report(["fallback"], `fallback: ${wrong.message}`, wrong.mend)];
}

function isCompacted(stream: string, declared: Loose): boolean {
  return Object.hasOwn(declared, stream) && mapOf(declared[stream]).cleanup === "compact";
}

function needsKey(stream: string): string {
  return `stream "${stream}" is compacted and takes no record without a key`;
}

function undeclared(
  stream: string,
  declared: readonly string[],
): Pick<Problem, "message" | "mend"> | undefined {
  if (declared.includes(stream)) return undefined;
  const meant = didYouMean(stream, declared);
  const mend = meant === "" ? `add  ${stream}: {}  to streams` : undefined;
  return { message: `stream "${stream}" is not declared under streams${meant}`, mend };
}

/** Each field by itself, so that every one that is wrong is said; without a good `from` no name is known. */
function checkRule(
  { from, to, key, headers, timestamp }: Loose,
  declared: Loose,
  report: (path: string[], message: string, mend?: string, within?: Within) => Problem,
): Problem[] {
  if (typeof from !== "string") return [];
  const problems: Problem[] = [];
  const compile = (part: Partial<RuleDefinition>): CompiledRule | undefined => {
    try {
      return compileRule({ name: "", from, to: "any", ...part });
    } catch (error) {
      if (!(error instanceof MappingSyntaxError)) throw error;
      problems.push(report([...error.path], error.message, error.mend, error));
      return undefined;
    }
  };
  if (compile({}) === undefined) return problems;
  const stream = typeof to === "string" ? compile({ to })?.to.literal : undefined;
  const wrong = stream === undefined ? undefined : undeclared(stream, Object.keys(declared));
  if (wrong !== undefined) problems.push(report(["to"], wrong.message, wrong.mend));
  if (typeof key === "string") compile({ key });
  else if (key === undefined && stream !== undefined && isCompacted(stream, declared)) {
    problems.push(report(["to"], needsKey(stream), "give this mapping a key, e.g. key: ${topic}"));
  }
  if (typeof timestamp === "string") compile({ timestamp });
  for (const [name, value] of Object.entries(mapOf(headers))) {
    if (typeof value === "string") compile({ headers: { [name]: value } });
  }
  return problems;
}

/** Two that would open the same port; port 0 gives each one of its own. */
function checkListeners(config: Loose, report: Report): Problem[] {
  const { mqtt, kafka } = sectionsOf(config);
  const all: { path: Path; words: string; bind: Address }[] = (mqtt?.listeners ?? []).map(
    ({ bind }, index) => ({
      path: ["mqtt", "listeners", index, "bind"],
      words: `mqtt.listeners[${index}].bind`,
      bind,
    }),
  );
  if (kafka !== undefined) all.push({ path: ["kafka", "bind"], words: "kafka.bind", bind: kafka.bind });
  return all.flatMap(({ path, words, bind }, index) => {
    const other = all.slice(0, index).find((one) => bind.port !== 0 && overlap(one.bind, bind));
    if (other === undefined) return [];
    // A default stands nowhere; then the other one is shown.
    const shown = valueAt(config, path) === undefined ? other.path : path;
    return [
      report(
        shown,
        `${words} is ${formatAddress(bind)}, but ${other.words} has this port`,
        "use another port",
      ),
    ];
  });
}

function overlap(one: Address, other: Address): boolean {
  const isAny = ({ host }: Address) => host === "0.0.0.0" || host === "::";
  return one.port === other.port && (one.host === other.host || isAny(one) || isAny(other));
}

/** A publish larger than its stream takes would never be acknowledged, and sent again for ever. */
function checkSizes(config: Loose, report: Report): Problem[] {
  const { mqtt, streams } = sectionsOf(config);
  if (mqtt === undefined || streams === undefined) return [];
  return Object.entries(streams)
    .filter(([, stream]) => stream.maxMessage < mqtt.maxPacket)
    .map(([name]) =>
      report(
        ["streams", name, "maxMessage"],
        `streams.${name}.maxMessage is smaller than mqtt.maxPacket, which is ${formatSize(mqtt.maxPacket)}: larger messages could never be stored`,
      ),
    );
}

/** The sections that are right in themselves, with their defaults. */
type Sections = { readonly [K in "mqtt" | "streams" | "kafka"]: Config[K] | undefined };

function sectionsOf(config: Loose): Sections {
  const { mqtt, streams, kafka } = configSchema.shape;
  return {
    mqtt: mqtt.safeParse(config.mqtt).data,
    streams: streams.safeParse(config.streams).data,
    kafka: kafka.safeParse(config.kafka).data,
  };
}

function mapOf(value: unknown): Loose {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Loose) : {};
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
