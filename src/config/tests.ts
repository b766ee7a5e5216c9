/**
 * The `tests:` of a configuration: what is published, and what is to become of it. They run without a gateway,
 * in `sluice check` and before a running gateway takes a configuration over.
 */
import { isDeepStrictEqual } from "node:util";
import type { z } from "zod";
import { SluiceError } from "../errors.ts";
import { Mapper } from "../mapping/mapper.ts";
import type { Mapping } from "../mapping/outcome.ts";
import { KEYLESS, type MappedRecord, type PublishPacket } from "../record.ts";
import { decodeHeaders } from "../wire/record-batch.ts";
import { loadConfig } from "./load.ts";
import type { ConfigInputs, LoadedConfig } from "./loaded.ts";
import type { Config } from "./schema.ts";
import type { expectedSchema } from "./test-schema.ts";

type Test = Config["tests"][number];
type Expected = z.output<typeof expectedSchema>;

export interface TestResult {
  readonly name: string;
  /** `config/gateway.yaml:41:5` */
  readonly place: string;
  /** Empty: passed. */
  readonly differences: readonly Difference[];
}

export interface Difference {
  readonly what: string;
  readonly expected: string;
  readonly actual: string;
}

/** A moment on which nothing depends. */
const ARRIVAL_MS = Date.UTC(2026, 0, 1, 12);
const MAX_SHOWN = 200;

/** Runs them all, in their order. */
export function runTests({ config, testPlaces }: LoadedConfig): TestResult[] {
  const { mappings, tables, tests, streams, kafka } = config;
  if (tests.length === 0) return [];
  const created = kafka.autoCreate.enabled ? kafka.autoCreate.partitions : 0;
  const mapper = new Mapper(mappings, (stream) => streams[stream]?.partitions ?? created, { tables });
  return tests.map((one, index) => ({
    name: one.name ?? one.publish.topic,
    place: testPlaces[index] ?? "",
    differences: differencesOf(one.expect, mapper.map(packetOf(one.publish))),
  }));
}

/** Throws when one fails. */
export function requireTests(loaded: LoadedConfig): void {
  const results = runTests(loaded);
  const failed = results.filter(({ differences }) => differences.length > 0);
  if (failed.length === 0) return;
  const count = `${failed.length} of ${results.length} tests failed`;
  throw new SluiceError("TESTS_FAILED", `${failed.map(resultText).join("\n")}\n${count}`);
}

/** As `loadConfig`, with the tests run; rejects when one fails. */
export async function loadTested(file: string, inputs: ConfigInputs = {}): Promise<LoadedConfig> {
  const loaded = await loadConfig(file, inputs);
  requireTests(loaded);
  return loaded;
}

export function resultText({ place, name, differences }: TestResult): string {
  const width = Math.max(0, ...differences.map(({ what }) => what.length));
  const lines = differences.flatMap(({ what, expected, actual }) => [
    `    ${what.padEnd(width)}  expected  ${expected}`,
    `    ${"".padEnd(width)}  was       ${actual}`,
  ]);
  return [`${place}  ${name}`, ...lines].join("\n");
}

function packetOf({ topic, payload, payloadBase64, ...rest }: Test["publish"]): PublishPacket {
  const text = typeof payload === "string" ? payload : payload === undefined ? "" : JSON.stringify(payload);
  const bytes = payloadBase64 === undefined ? Buffer.from(text) : Buffer.from(payloadBase64, "base64");
  const { clientId, username, qos, retain, at = ARRIVAL_MS } = rest;
  return { mqttTopic: topic, payload: bytes, clientId, username, qos, retain, receivedAt: at };
}

function differencesOf(expect: Test["expect"], mapping: Mapping): Difference[] {
  const actual = outcomeWords(mapping);
  if (typeof expect === "string") {
    return mapping.outcome === expect ? [] : [{ what: "outcome", expected: expect, actual }];
  }
  const wanted = (Array.isArray(expect) ? expect : [expect]) as Expected[];
  const [first] = wanted as [Expected];
  if (first.error !== undefined) return errorDifferences(first, mapping, actual);
  const words = wanted.length === 1 ? "a record" : `${wanted.length} records`;
  if (mapping.outcome !== "mapped") return [{ what: "outcome", expected: words, actual }];
  const { records, rule } = mapping;
  if (records.length !== wanted.length) return [{ what: "outcome", expected: words, actual }];
  return wanted.flatMap((one, index) => {
    const prefix = wanted.length === 1 ? "" : `[${index}].`;
    return recordDifferences(one, records[index] as MappedRecord, rule, prefix);
  });
}

function errorDifferences({ error = "", rule }: Expected, mapping: Mapping, actual: string): Difference[] {
  const problem =
    mapping.outcome === "failed" ? mapping.error : mapping.outcome === "mapped" ? mapping.problem : undefined;
  if (problem === undefined) return [{ what: "outcome", expected: `an error: ${error}`, actual }];
  const words = `${problem.field}: ${problem.message}`;
  const differences: Difference[] = [];
  if (!words.includes(error)) differences.push({ what: "error", expected: error, actual: words });
  if (rule !== undefined && rule !== problem.rule) {
    differences.push({ what: "rule", expected: rule, actual: problem.rule });
  }
  return differences;
}

function recordDifferences(
  { stream, key, partition, headers, value, timestamp, rule }: Expected,
  record: MappedRecord,
  ruleName: string,
  prefix: string,
): Difference[] {
  const differences: Difference[] = [];
  const compare = (what: string, expected: unknown, actual: unknown): void => {
    if (expected === undefined || isDeepStrictEqual(expected, actual)) return;
    differences.push({ what: prefix + what, expected: shown(expected), actual: shown(actual) });
  };
  const text = record.value?.toString() ?? null;
  compare("rule", rule, ruleName);
  compare("stream", stream, record.stream);
  compare("key", key, record.key?.toString() ?? null);
  compare(
    "partition",
    partition,
    record.partition === KEYLESS ? "any: the record has no key" : record.partition,
  );
  compare("timestamp", timestamp, record.timestamp);
  compare("value", value, typeof value === "string" || value === null ? text : jsonOf(text));
  const actual = new Map(
    decodeHeaders(record.headers).map(({ key: name, value: bytes }) => [name, bytes?.toString() ?? null]),
  );
  for (const [name, wanted] of Object.entries(headers ?? {})) {
    compare(`headers.${name}`, wanted, actual.get(name) ?? null);
  }
  return differences;
}

function jsonOf(text: string | null): unknown {
  try {
    return JSON.parse(text ?? "");
  } catch {
    return text;
  }
}

function shown(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
}

/** What became of a message, in words. */
function outcomeWords(mapping: Mapping): string {
  switch (mapping.outcome) {
    case "mapped": {
      const { records, rule } = mapping;
      const streams = records.map(({ stream }) => stream).join(", ");
      const what = records.length === 1 ? "a record" : `${records.length} records`;
      return records.length === 0 ? `no record (rule "${rule}")` : `${what} on ${streams} (rule "${rule}")`;
    }
    case "failed":
      return `an error: ${mapping.error.field}: ${mapping.error.message} (rule "${mapping.rule}")`;
    case "skipped":
      return `skipped: ${mapping.why} (rule "${mapping.rule}")`;
    case "unknown stream":
      return `a record on ${mapping.stream}, which is not there (rule "${mapping.rule}")`;
    case "unmatched":
      return "unmatched";
  }
}
