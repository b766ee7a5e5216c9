/**
 * What no single value can tell: whether the parts of a configuration fit each other. Runs on values that the
 * schema may have refused elsewhere, so that one misspelt key does not hide an undeclared stream; what has
 * not the right type is passed over here, the schema has said so.
 */

import { type Checked, placeOf } from "./issue-words.ts";
import { checkMappingNames, literalOf } from "./mapping-syntax.ts";
import { didYouMean, type Problem } from "./problems.ts";
import { type Config, configSchema } from "./schema.ts";
import { type Address, formatAddress, formatSize } from "./units.ts";
import type { Path } from "./yaml-source.ts";

type Loose = Record<string, unknown>;

/** The names Kafka takes for a topic. */
const STREAM_NAME = /^[a-zA-Z0-9._-]{1,249}$/;

export function crossCheck(checked: Checked): Problem[] {
  const config = mapOf(checked.value);
  const sections = sectionsOf(config);
  const report = (path: Path, message: string, mend?: string): Problem => ({
    place: placeOf(path, checked),
    message,
    mend,
  });
  return [
    ...checkStreamNames(config, checked),
    ...checkMappings(config, report),
    ...checkListeners(sections, report),
    ...checkSizes(sections, report),
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

function checkMappings(config: Loose, report: Report): Problem[] {
  const declared = Object.keys(mapOf(config.streams));
  const names = new Map<string, number>();
  return listOf(config.mappings).flatMap((mapping, index) => {
    const problems: Problem[] = [];
    const { name, to } = mapOf(mapping);
    if (typeof name === "string") {
      const first = names.get(name);
      if (first !== undefined)
        problems.push(
          report(["mappings", index, "name"], `mappings[${first}] has the name "${name}" already`),
        );
      else names.set(name, index);
    }
    const stream = typeof to === "string" ? literalOf(to) : undefined;
    if (stream !== undefined && !declared.includes(stream)) {
      const meant = didYouMean(stream, declared);
      const message = `stream "${stream}" is not declared under streams${meant}`;
      problems.push(
        report(
          ["mappings", index, "to"],
          message,
          meant === "" ? `add  ${stream}: {}  to streams` : undefined,
        ),
      );
    }
    for (const { path, problem, mend } of checkMappingNames(mapOf(mapping))) {
      problems.push(
        report(["mappings", index, ...path], `mappings[${index}].${path.join(".")} ${problem}`, mend),
      );
    }
    return problems;
  });
}

/** Two that would open the same port; port 0 gives each one of its own. */
function checkListeners({ mqtt, kafka }: Sections, report: Report): Problem[] {
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
    return [
      report(
        path,
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
function checkSizes({ mqtt, streams }: Sections, report: Report): Problem[] {
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
