/**
 * From a PUBLISH to a record: the first rule that matches decides.
 *
 * What follows from the MQTT topic alone (rule, stream, key and its hash, headers) is worked out once and kept
 * in a bounded cache, so that an ordinary message costs one look-up and one small object, whatever the number
 * of rules. What a template takes from the message itself is rendered per message; the payload is decoded at
 * most once, and only for a rule that looks into it.
 *
 * A message is never lost to a template: where key, header or timestamp cannot be made, the record goes
 * without it (the time of arrival for the timestamp), says so in a header, and the outcome carries the problem.
 */
import { messageOf } from "../errors.ts";
import { KEYLESS, type MappedRecord, type PublishPacket, type RecordHeader } from "../record.ts";
import { encodeHeaders } from "../wire/record-batch.ts";
import { FilterTrie } from "./filter-trie.ts";
import { murmur2, partitionOf } from "./partitioner.ts";
import { type CompiledRule, compileRule, isStreamName, type RuleDefinition, timestampOf } from "./rule.ts";
import { RenderError, type Scope, type Template } from "./template.ts";

/** In every record: where it came from. */
export const TOPIC_HEADER = "mqtt.topic";
/** In a record whose mapping failed in part, or that went to the fallback stream: why. */
export const ERROR_HEADER = "sluice.mapping.error";
/** In a record that came while the machine's clock was not set: its time of arrival is a guess, and too early. */
export const CLOCK_MARK: RecordHeader = { key: "sluice.clock", value: Buffer.from("unset") };

export interface Mapped extends MappedRecord {
  readonly outcome: "mapped";
  readonly rule: string;
  /** What could not be made and was left out, in words; undefined for an ordinary record. */
  readonly problem: string | undefined;
}

/** The rule's stream is not there (yet): nothing but its name and the message's rule are known. */
export interface UnknownStream {
  readonly outcome: "unknown stream";
  readonly rule: string;
  readonly stream: string;
}

/** The rule gives no usable stream. */
export interface Failed {
  readonly outcome: "failed";
  readonly rule: string;
  readonly problem: string;
}

export interface Unmatched {
  readonly outcome: "unmatched";
}

export type Mapping = Mapped | UnknownStream | Failed | Unmatched;

/** What is known of an MQTT topic. Undefined fields have to be made from each message. */
interface Resolved {
  readonly rule: CompiledRule;
  /** What the named wildcards stand for. */
  readonly captured: readonly string[];
  readonly stream: string | undefined;
  readonly key: Buffer | null | undefined;
  readonly keyHash: number;
  readonly headers: Buffer | undefined;
}

const UNMATCHED: Unmatched = { outcome: "unmatched" };
const MAX_PROBLEM_LENGTH = 500;

export class Mapper {
  private readonly rules: readonly CompiledRule[];
  private readonly trie = new FilterTrie<number>();
  private readonly partitionsOf: (stream: string) => number;
  private readonly cache: TwoGenerations<Resolved | null>;

  /**
   * `partitionsOf` is asked for each keyed message, so that partitions may be added; 0 for a stream that is
   * not there. Throws `MappingSyntaxError` for a rule that does not compile.
   */
  constructor(
    rules: readonly RuleDefinition[],
    partitionsOf: (stream: string) => number,
    options: { maxCachedTopics?: number; maxCachedBytes?: number } = {},
  ) {
    this.partitionsOf = partitionsOf;
    this.rules = rules.map(compileRule);
    for (const [index, { filter }] of this.rules.entries()) this.trie.add(filter.levels, index);
    this.cache = new TwoGenerations(options.maxCachedTopics ?? 16_384, options.maxCachedBytes ?? 8 << 20);
  }

  map(packet: PublishPacket): Mapping {
    let resolved = this.cache.get(packet.mqttTopic);
    if (resolved === undefined) resolved = this.resolve(packet.mqttTopic);
    if (resolved === null) return UNMATCHED;
    const { rule, stream, key, headers } = resolved;
    if (stream === undefined || key === undefined || headers === undefined || rule.timestamp !== undefined) {
      return this.mapEach(packet, resolved);
    }
    const partitions = this.partitionsOf(stream);
    if (partitions === 0) return { outcome: "unknown stream", rule: rule.name, stream };
    return {
      outcome: "mapped",
      rule: rule.name,
      stream,
      partition: key === null ? KEYLESS : partitionOf(resolved.keyHash, partitions),
      key,
      value: packet.payload,
      headers,
      timestamp: packet.receivedAt,
      problem: undefined,
    };
  }

  /** The way of a message that has something of its own in stream, key, headers or timestamp. */
  private mapEach(packet: PublishPacket, resolved: Resolved): Mapping {
    const { rule } = resolved;
    const scope = new MessageScope(packet, rule, resolved.captured);
    const problems: string[] = [];
    const stream = resolved.stream ?? textOrProblem("to", rule.to, scope, problems);
    if (stream === undefined || !isStreamName(stream)) {
      const problem = problems[0] ?? `to: "${stream}" is no name for a stream`;
      return { outcome: "failed", rule: rule.name, problem: problem.slice(0, MAX_PROBLEM_LENGTH) };
    }
    const partitions = this.partitionsOf(stream);
    if (partitions === 0) return { outcome: "unknown stream", rule: rule.name, stream };
    let { key, keyHash } = resolved;
    if (key === undefined) {
      const text = textOrProblem("key", rule.key as Template, scope, problems);
      key = text === undefined ? null : Buffer.from(text);
      keyHash = key === null ? 0 : murmur2(key);
    }
    const timestamp = timestampFor(rule, scope, problems) ?? packet.receivedAt;
    let { headers } = resolved;
    if (headers === undefined || problems.length > 0) headers = headersOf(packet, rule, scope, problems);
    return {
      outcome: "mapped",
      rule: rule.name,
      stream,
      partition: key === null ? KEYLESS : partitionOf(keyHash, partitions),
      key,
      value: packet.payload,
      headers,
      timestamp,
      problem: problems.length > 0 ? problems.join("; ").slice(0, MAX_PROBLEM_LENGTH) : undefined,
    };
  }

  private resolve(mqttTopic: string): Resolved | null {
    let lowest = this.rules.length;
    this.trie.match(mqttTopic, (index) => {
      if (index < lowest) lowest = index;
    });
    const rule = this.rules[lowest];
    const resolved = rule === undefined ? null : resolve(rule, mqttTopic);
    // Two bytes a character for the text, and what a Map entry with its objects takes, roughly.
    const bytes =
      2 * mqttTopic.length + 200 + (resolved?.key?.length ?? 0) + (resolved?.headers?.length ?? 0);
    this.cache.set(mqttTopic, resolved, bytes);
    return resolved;
  }
}

/** The headers of a record that no rule shaped. */
export function fallbackHeaders(mqttTopic: string, problem: string | undefined): Buffer {
  return encodeHeaders([
    { key: TOPIC_HEADER, value: Buffer.from(mqttTopic) },
    ...(problem === undefined ? [] : [{ key: ERROR_HEADER, value: Buffer.from(problem) }]),
  ]);
}

/** What of a rule follows from the MQTT topic; what fails here fails again, and is reported, per message. */
function resolve(rule: CompiledRule, mqttTopic: string): Resolved {
  const captured = rule.filter.capture(mqttTopic);
  const scope = new MessageScope({ mqttTopic }, rule, captured);
  const problems: string[] = [];
  const stream = rule.fixed.to ? textOrProblem("to", rule.to, scope, problems) : undefined;
  let key: Buffer | null | undefined;
  if (rule.key === undefined) key = null;
  else if (rule.fixed.key) key = Buffer.from(rule.key.renderText(scope));
  return {
    rule,
    captured,
    stream: stream !== undefined && isStreamName(stream) ? stream : undefined,
    key,
    keyHash: key == null ? 0 : murmur2(key),
    headers: rule.fixed.headers ? headersOf({ mqttTopic }, rule, scope, problems) : undefined,
  };
}

function headersOf(
  packet: Pick<PublishPacket, "mqttTopic">,
  rule: CompiledRule,
  scope: Scope,
  problems: string[],
): Buffer {
  const headers: RecordHeader[] = [{ key: TOPIC_HEADER, value: Buffer.from(packet.mqttTopic) }];
  for (const { name, value } of rule.headers) {
    const text = textOrProblem(`headers.${name}`, value, scope, problems);
    if (text !== undefined) headers.push({ key: name, value: Buffer.from(text) });
  }
  if (problems.length > 0) {
    const problem = problems.join("; ").slice(0, MAX_PROBLEM_LENGTH);
    headers.push({ key: ERROR_HEADER, value: Buffer.from(problem) });
  }
  return encodeHeaders(headers);
}

function textOrProblem(
  field: string,
  template: Template,
  scope: Scope,
  problems: string[],
): string | undefined {
  try {
    return template.renderText(scope);
  } catch (error) {
    if (!(error instanceof RenderError)) throw error;
    problems.push(`${field}: ${messageOf(error)}`);
    return undefined;
  }
}

function timestampFor(rule: CompiledRule, scope: Scope, problems: string[]): number | undefined {
  if (rule.timestamp === undefined) return undefined;
  try {
    const timestamp = timestampOf(rule.timestamp.render(scope));
    if (typeof timestamp === "number") return timestamp;
    problems.push(`timestamp: ${timestamp}`);
  } catch (error) {
    if (!(error instanceof RenderError)) throw error;
    problems.push(`timestamp: ${messageOf(error)}`);
  }
  return undefined;
}

/** The names of one message; the payload is decoded when it is first asked for. */
class MessageScope implements Scope {
  private readonly packet: Partial<PublishPacket> & Pick<PublishPacket, "mqttTopic">;
  private readonly rule: CompiledRule;
  private readonly captured: readonly string[];
  private payload: { readonly value: unknown } | { readonly problem: string } | undefined;

  constructor(
    packet: Partial<PublishPacket> & Pick<PublishPacket, "mqttTopic">,
    rule: CompiledRule,
    captured: readonly string[],
  ) {
    this.packet = packet;
    this.rule = rule;
    this.captured = captured;
  }

  get(name: string): unknown {
    switch (name) {
      case "topic":
        return this.packet.mqttTopic;
      case "payload":
        return this.decoded();
      case "clientId":
      case "username":
      case "qos":
      case "retain":
      case "receivedAt":
        return this.packet[name];
      default:
        return this.captured[this.rule.filter.names.indexOf(name)];
    }
  }

  private decoded(): unknown {
    if (this.payload === undefined) {
      try {
        this.payload = { value: JSON.parse((this.packet.payload as Buffer).toString()) };
      } catch {
        this.payload = { problem: "the payload is not JSON" };
      }
    }
    if ("problem" in this.payload) throw new RenderError(this.payload.problem);
    return this.payload.value;
  }
}

/**
 * A bounded cache that costs one look-up for what is in use: entries are born into the young generation; when
 * that has its half of the bound, it becomes the old one and what the old one still held is forgotten.
 */
class TwoGenerations<V> {
  private readonly maxEntries: number;
  private readonly maxBytes: number;
  private young = new Map<string, { readonly value: V; readonly bytes: number }>();
  private old: typeof this.young = new Map();
  private youngBytes = 0;

  constructor(maxEntries: number, maxBytes: number) {
    this.maxEntries = maxEntries / 2;
    this.maxBytes = maxBytes / 2;
  }

  get(key: string): V | undefined {
    const entry = this.young.get(key);
    if (entry !== undefined) return entry.value;
    const kept = this.old.get(key);
    if (kept !== undefined) this.set(key, kept.value, kept.bytes);
    return kept?.value;
  }

  set(key: string, value: V, bytes: number): void {
    if (this.young.size >= this.maxEntries || this.youngBytes + bytes > this.maxBytes) {
      this.old = this.young;
      this.young = new Map();
      this.youngBytes = 0;
    }
    this.young.set(key, { value, bytes });
    this.youngBytes += bytes;
  }
}
