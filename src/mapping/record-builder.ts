/** The records of one message that a rule has taken. */
import { messageOf } from "../errors.ts";
import { KEYLESS, type MappedRecord, type PublishPacket, type RecordHeader } from "../record.ts";
import { encodeHeaders } from "../wire/record-batch.ts";
import type { MessageScope } from "./message-scope.ts";
import {
  type Mapping,
  type MappingError,
  type Resolved,
  type ResolvedTarget,
  type Trace,
  type UnknownStream,
  unknownStream,
} from "./outcome.ts";
import { murmur2, partitionOf } from "./partitioner.ts";
import { type CompiledTarget, isStreamName } from "./rule.ts";
import type { Template } from "./template.ts";
import { timestampOf } from "./time.ts";
import { bytesOf, kindWords, RenderError, textOf } from "./values.ts";

/** In every record: where it came from. */
export const TOPIC_HEADER = "mqtt.topic";
/** In a record whose `value` was reshaped, with `keepOriginal`: what the payload was. */
export const ORIGINAL_HEADER = "mqtt.payload";
/** In a record that goes without what could not be made (`onError: pass`), and in dead letters: why. */
export const ERROR_HEADER = "sluice.mapping.error";

/** In a record that came while the machine's clock was not set: its time of arrival is a guess, and too early. */
export const CLOCK_MARK: RecordHeader = { key: "sluice.clock", value: Buffer.from("unset") };

/** Records that one message may become, and what they may take together: one commit has to hold them. */
const MAX_RECORDS = 10_000;
const MAX_BYTES = 2 << 20;
const MAX_PROBLEM_LENGTH = 500;

/** Before they are encoded; `render` gives undefined for one that is left out. */
export function headersOf(
  mqttTopic: string,
  { headers }: CompiledTarget,
  render: (template: Template, name: string) => string | undefined,
): RecordHeader[] {
  const all: RecordHeader[] = [{ key: TOPIC_HEADER, value: Buffer.from(mqttTopic) }];
  for (const { name, value } of headers) {
    const text = render(value, name);
    if (text !== undefined) all.push({ key: name, value: Buffer.from(text) });
  }
  return all;
}

export class RecordBuilder {
  private readonly packet: PublishPacket;
  private readonly resolved: Resolved;
  private readonly scope: MessageScope;
  private readonly partitionsOf: (stream: string) => number;
  private readonly trace: Trace | undefined;
  private readonly problems: MappingError[] = [];
  /** What no `onError: pass` can pass on. */
  private fatal: MappingError | undefined;

  constructor(
    packet: PublishPacket,
    resolved: Resolved,
    scope: MessageScope,
    partitionsOf: (stream: string) => number,
    trace: Trace | undefined,
  ) {
    this.packet = packet;
    this.resolved = resolved;
    this.scope = scope;
    this.partitionsOf = partitionsOf;
    this.trace = trace;
  }

  build(): Mapping {
    const { rule, targets } = this.resolved;
    const { scope } = this;
    if (rule.schema !== undefined) {
      const { schema } = rule;
      this.attempt("schema", undefined, () => schema(scope.get("payload")));
    }
    const items = rule.split === undefined ? undefined : this.split();
    if (items?.length === 0) return { outcome: "skipped", rule: rule.name, why: "split gives no elements" };
    const records: MappedRecord[] = [];
    let bytes = 0;
    for (let at = 0; at < (items?.length ?? 1) && this.goesOn; at++) {
      scope.item = items?.[at];
      scope.index = items === undefined ? undefined : at;
      for (const target of targets) {
        const record = this.applies(target) ? this.record(target) : undefined;
        if (record === undefined) continue;
        if ("outcome" in record) return record;
        records.push(record);
        bytes += (record.key?.length ?? 0) + (record.value?.length ?? 0) + record.headers.length;
      }
      if (bytes > MAX_BYTES) this.stop("value", `the records come to more than ${MAX_BYTES} bytes together`);
    }
    const error = this.fatal ?? (rule.onError === "pass" ? undefined : this.problems[0]);
    if (error !== undefined) return { outcome: "failed", rule: rule.name, error, onError: rule.onError };
    return { outcome: "mapped", rule: rule.name, records, problem: this.problems[0] };
  }

  private get goesOn(): boolean {
    return this.fatal === undefined && (this.problems.length === 0 || this.resolved.rule.onError === "pass");
  }

  private stop(field: string, message: string): undefined {
    this.fatal ??= { rule: this.resolved.rule.name, field, position: undefined, message };
    return undefined;
  }

  private split(): readonly unknown[] | undefined {
    const { rule } = this.resolved;
    return this.attempt("split", rule.split?.text, () => {
      const list = rule.split?.evaluate(this.scope);
      if (!Array.isArray(list)) throw new RenderError(`needs a list, not ${kindWords(list)}`);
      if (list.length > MAX_RECORDS) {
        throw new RenderError(`gives ${list.length} records, and a message may become ${MAX_RECORDS}`);
      }
      return list;
    });
  }

  private applies({ target: { when, prefix } }: ResolvedTarget): boolean {
    if (when === undefined) return true;
    const holds = this.attempt(`${prefix}when`, when.text, () => {
      try {
        return when.evaluate(this.scope);
      } catch (error) {
        // As with a rule's own: what is not there does not hold.
        if (error instanceof RenderError && error.missing) return false;
        throw error;
      }
    });
    return holds === true;
  }

  private record(known: ResolvedTarget): MappedRecord | UnknownStream | undefined {
    const { packet, scope } = this;
    const { target } = known;
    const at = (field: string): string => target.prefix + field;
    const stream = known.stream ?? this.stream(target);
    if (stream === undefined) return undefined;
    const partitions = this.partitionsOf(stream);
    if (partitions === 0) return unknownStream(this.resolved.rule, target, stream);
    let { key, keyHash } = known;
    if (key === undefined) {
      const text = this.attempt(at("key"), target.key?.text, () => keyOf(target.key as Template, scope));
      key = text === undefined ? null : Buffer.from(text);
      keyHash = key === null ? 0 : murmur2(key);
    }
    let partition = key === null ? KEYLESS : partitionOf(keyHash, partitions);
    if (target.partition !== undefined) {
      const { partition: template } = target;
      const given = this.attempt(at("partition"), template.text, () => numberOf(template, scope, partitions));
      partition = given ?? partition;
    }
    const { timestamp: time, value: expression } = target;
    const timestamp =
      time === undefined
        ? undefined
        : this.attempt(at("timestamp"), time.text, () => {
            const timestamp = timestampOf(time.render(scope));
            if (typeof timestamp === "string") throw new RenderError(timestamp);
            return timestamp;
          });
    const value =
      expression === undefined
        ? packet.payload
        : this.attempt(at("value"), expression.text, () => bytesOf(expression.evaluate(scope)));
    return {
      stream,
      partition,
      key,
      value: value === undefined ? packet.payload : value,
      headers: this.headers(known),
      timestamp: timestamp ?? packet.receivedAt,
    };
  }

  private stream(target: CompiledTarget): string | undefined {
    const field = `${target.prefix}to`;
    const stream = this.attempt(field, target.to.text, () => target.to.renderText(this.scope));
    // Of this there is nothing to pass on.
    if (stream === undefined) this.fatal ??= this.problems.at(-1);
    else if (!isStreamName(stream))
      return this.stop(field, `"${stream.slice(0, 100)}" is no name for a stream`);
    else if (target.allow?.test(stream) === false) {
      return this.stop(field, `stream "${stream}" is not among those that allow names`);
    }
    return stream;
  }

  private headers({ target, headers }: ResolvedTarget): Buffer {
    const { packet, scope } = this;
    const keepsOriginal = this.resolved.rule.keepOriginal && target.value !== undefined;
    if (headers !== undefined && !keepsOriginal && this.problems.length === 0) return headers;
    const all = headersOf(packet.mqttTopic, target, (template, name) =>
      this.attempt(`${target.prefix}headers.${name}`, template.text, () => template.renderText(scope)),
    );
    if (keepsOriginal) all.push({ key: ORIGINAL_HEADER, value: packet.payload });
    if (this.problems.length > 0) all.push({ key: ERROR_HEADER, value: Buffer.from(wordsOf(this.problems)) });
    return encodeHeaders(all);
  }

  /** Undefined where it cannot be made, which is noted. */
  private attempt<T>(field: string, text: string | undefined, make: () => T): T | undefined {
    try {
      const value = make();
      if (text !== undefined) this.trace?.fields.push({ field: this.numbered(field), text, value });
      return value;
    } catch (error) {
      if (!(error instanceof RenderError)) throw error;
      const message = messageOf(error).slice(0, MAX_PROBLEM_LENGTH);
      this.problems.push({ rule: this.resolved.rule.name, field, position: error.position, message });
      return undefined;
    }
  }

  private numbered(field: string): string {
    return this.scope.index === undefined ? field : `[${this.scope.index}].${field}`;
  }
}

function keyOf(template: Template, scope: MessageScope): string {
  const text = template.renderText(scope);
  if (text === "") throw new RenderError("comes to an empty text", { missing: true });
  return text;
}

function numberOf(template: Template, scope: MessageScope, partitions: number): number {
  const value = template.render(scope);
  const partition = typeof value === "string" && /^\d{1,9}$/.test(value) ? Number(value) : value;
  if (
    typeof partition === "number" &&
    Number.isInteger(partition) &&
    partition >= 0 &&
    partition < partitions
  ) {
    return partition;
  }
  throw new RenderError(
    `comes to ${textOf(value).slice(0, 40)}, and the stream has partitions 0 to ${partitions - 1}`,
  );
}

/** `key: payload.id has no value; headers.unit: …` */
function wordsOf(problems: readonly MappingError[]): string {
  return problems
    .map(({ field, message }) => `${field}: ${message}`)
    .join("; ")
    .slice(0, MAX_PROBLEM_LENGTH);
}
