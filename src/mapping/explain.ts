/** Why a message becomes what it becomes: every rule's word, every field's value, and the records as they would be written. */
import { KEYLESS, type PublishPacket } from "../record.ts";
import { decodeHeaders } from "../wire/record-batch.ts";
import type { Mapper } from "./mapper.ts";
import type { MappingError, Trace } from "./outcome.ts";
import { murmur2 } from "./partitioner.ts";

/** Where messages go that become no record; undefined: nowhere. */
export interface Destinations {
  readonly fallback?: string | undefined;
  readonly deadLetters?: string | undefined;
}

export interface ExplainedRecord {
  readonly stream: string;
  readonly partitions: number;
  /** null: the stream chooses, as there is no key. */
  readonly partition: number | null;
  readonly key: string | null;
  /** murmur2 of the key, as Kafka's clients compute it. */
  readonly keyHash: number | null;
  readonly timestamp: number;
  readonly headers: readonly (readonly [name: string, value: string | null])[];
  readonly value: string | null;
  readonly valueBytes: number;
}

export interface Explanation {
  readonly topic: string;
  readonly outcome: "mapped" | "failed" | "skipped" | "unmatched" | "unknown stream";
  /** What becomes of it, in words. */
  readonly words: string;
  readonly error?: MappingError | undefined;
  readonly rules: Trace["rules"];
  readonly fields: readonly { readonly field: string; readonly text: string; readonly value: string }[];
  readonly records: readonly ExplainedRecord[];
}

const MAX_VALUE_LENGTH = 10_000;

export function explain(
  mapper: Mapper,
  packet: PublishPacket,
  partitionsOf: (stream: string) => number,
  { fallback, deadLetters }: Destinations,
): Explanation {
  const trace: Trace = { rules: [], fields: [] };
  const mapping = mapper.map(packet, trace);
  const { outcome } = mapping;
  const said = {
    topic: packet.mqttTopic,
    outcome,
    rules: trace.rules,
    fields: trace.fields.map(({ field, text, value }) => ({ field, text, value: textOf(value) })),
    records: [],
  };
  switch (mapping.outcome) {
    case "mapped": {
      const records = mapping.records.map(({ stream, partition, key, value, headers, timestamp }) => ({
        stream,
        partitions: partitionsOf(stream),
        partition: partition === KEYLESS ? null : partition,
        key: key?.toString() ?? null,
        keyHash: key === null ? null : murmur2(key),
        timestamp,
        headers: decodeHeaders(headers).map(
          ({ key: name, value: text }) => [name, text?.toString() ?? null] as const,
        ),
        value: value?.toString().slice(0, MAX_VALUE_LENGTH) ?? null,
        valueBytes: value?.length ?? 0,
      }));
      const words = records.length === 1 ? "becomes a record" : `becomes ${records.length} records`;
      return { ...said, words, error: mapping.problem, records };
    }
    case "failed": {
      const { error, onError } = mapping;
      const isKept = onError !== "drop" && deadLetters !== undefined;
      const words = isKept ? `is a dead letter on ${deadLetters}` : "is dropped, and counted";
      return { ...said, words, error };
    }
    case "skipped":
      return { ...said, words: `becomes no record: ${mapping.why}` };
    case "unknown stream":
      return { ...said, words: `would need the stream ${mapping.stream}, which is not there yet` };
    case "unmatched":
      return {
        ...said,
        words:
          fallback === undefined
            ? "is dropped, and counted: no mapping takes it"
            : `goes to ${fallback}, the fallback: no mapping takes it`,
      };
  }
}

function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  if (value instanceof Uint8Array) return Buffer.from(value).toString();
  const replacer = (_: string, one: unknown) => (typeof one === "bigint" ? Number(one) : one);
  return (JSON.stringify(value, replacer) ?? String(value)).slice(0, MAX_VALUE_LENGTH);
}
