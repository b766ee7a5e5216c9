/**
 * From a PUBLISH to records: the first rule that matches and whose condition holds decides.
 *
 * What follows from the MQTT topic alone (rules, stream, key and its hash, headers) is worked out once and kept
 * in a bounded cache, so that an ordinary message costs one look-up and one small object, whatever the number
 * of rules. What an expression takes from the message itself is worked out per message; the payload is decoded
 * at most once, and only for a rule that looks into it.
 *
 * Nothing is lost to a rule: what cannot be made is an error with its rule, field and position, and the rule's
 * `onError` says where the message goes then.
 */
import { setImmediate as turn } from "node:timers/promises";
import { KEYLESS, type PublishPacket } from "../record.ts";
import { encodeHeaders } from "../wire/record-batch.ts";
import { TwoGenerations } from "./cache.ts";
import { FilterTrie } from "./filter-trie.ts";
import { loadInPieces } from "./json-schema.ts";
import { MessageScope } from "./message-scope.ts";
import {
  type Failed,
  type Mapped,
  type Mapping,
  type Resolved,
  type ResolvedTarget,
  type Trace,
  type UnknownStream,
  type Unmatched,
  unknownStream,
} from "./outcome.ts";
import { murmur2, partitionOf } from "./partitioner.ts";
import { headersOf, RecordBuilder } from "./record-builder.ts";
import {
  type CompiledRule,
  compileRuleOrThrow,
  isStreamName,
  type RuleContext,
  type RuleDefinition,
} from "./rule.ts";
import { Budget, RenderError, writeJson } from "./values.ts";

/** What a slice of compiling may hold up everything else. */
const SLICE_MS = 4;

/** Compiles rules a few at a time, so that a process with other things to do goes on doing them. */
export async function compileInSlices(
  rules: readonly RuleDefinition[],
  context: RuleContext,
): Promise<CompiledRule[]> {
  const compiled: CompiledRule[] = [];
  if (rules.some(({ schema }) => schema !== undefined)) await loadInPieces();
  let until = performance.now() + SLICE_MS;
  for (const rule of rules) {
    compiled.push(compileRuleOrThrow(rule, context));
    if (performance.now() < until) continue;
    await turn();
    until = performance.now() + SLICE_MS;
  }
  // What they are put to comes on top.
  await turn();
  return compiled;
}

const UNMATCHED: Unmatched = { outcome: "unmatched" };
const NONE: readonly Resolved[] = [];

export interface MapperOptions extends RuleContext {
  readonly maxCachedTopics?: number;
  readonly maxCachedBytes?: number;
}

export class Mapper {
  private readonly rules: readonly CompiledRule[];
  private readonly trie = new FilterTrie<number>();
  private readonly partitionsOf: (stream: string) => number;
  private readonly cache: TwoGenerations<readonly Resolved[]>;

  /**
   * `partitionsOf` is asked for each message, so that partitions may be added; 0 for a stream that is not
   * there. Throws `MappingSyntaxError` for a rule that does not compile.
   */
  constructor(
    rules: readonly (RuleDefinition | CompiledRule)[],
    partitionsOf: (stream: string) => number,
    options: MapperOptions = {},
  ) {
    this.partitionsOf = partitionsOf;
    this.rules = rules.map((rule) => ("targets" in rule ? rule : compileRuleOrThrow(rule, options)));
    for (const [index, { filters }] of this.rules.entries()) {
      for (const { levels } of filters) this.trie.add(levels, index);
    }
    this.cache = new TwoGenerations(options.maxCachedTopics ?? 16_384, options.maxCachedBytes ?? 8 << 20);
  }

  /** With a `trace` the same, slower: every rule is asked, and nothing is taken from the cache. */
  map(packet: PublishPacket, trace?: Trace): Mapping {
    if (trace !== undefined) return this.explain(packet, trace);
    const candidates = this.cache.get(packet.mqttTopic) ?? this.resolve(packet.mqttTopic);
    const [first] = candidates;
    if (first === undefined) return UNMATCHED;
    const isCertain = first.plain && first.rule.when === undefined;
    return isCertain ? this.plain(packet, first) : this.ask(packet, candidates);
  }

  /** The way of an ordinary message, and of one that a condition has let through to an ordinary record. */
  private plain(packet: PublishPacket, { rule, targets }: Resolved): Mapped | UnknownStream {
    const { target, stream, key, keyHash, headers } = targets[0] as ResolvedTarget;
    const partitions = this.partitionsOf(stream as string);
    if (partitions === 0) return unknownStream(rule, target, stream as string);
    const record = {
      stream: stream as string,
      partition: key === null ? KEYLESS : partitionOf(keyHash, partitions),
      key: key as Buffer | null,
      value: packet.payload,
      headers: headers as Buffer,
      timestamp: packet.receivedAt,
    };
    return { outcome: "mapped", rule: rule.name, records: [record], problem: undefined };
  }

  private ask(packet: PublishPacket, candidates: readonly Resolved[], trace?: Trace): Mapping {
    const scope = new MessageScope(packet, new Budget());
    let failed: Failed | undefined;
    for (const resolved of candidates) {
      const { rule } = resolved;
      scope.enter(rule, resolved.captured);
      const why = conditionFails(rule, scope);
      if (why === undefined) {
        trace?.rules.push({ rule: rule.name, took: true, why: "it matches" });
        return this.take(packet, resolved, scope, trace);
      }
      trace?.rules.push({ rule: rule.name, took: false, why: `when: ${why.message}` });
      // A field that is not there just does not hold. A payload that is broken must not end as "unmatched".
      if (!why.missing && rule.onError !== "pass") {
        const { position, message } = why;
        failed ??= {
          outcome: "failed",
          rule: rule.name,
          error: { rule: rule.name, field: "when", position, message },
          onError: rule.onError,
        };
      }
    }
    return failed ?? UNMATCHED;
  }

  private take(packet: PublishPacket, resolved: Resolved, scope: MessageScope, trace?: Trace): Mapping {
    const { rule } = resolved;
    if (resolved.plain && trace === undefined) return this.plain(packet, resolved);
    if (rule.skipRetained && packet.retain) {
      return { outcome: "skipped", rule: rule.name, why: "it is a retained message (retained: skip)" };
    }
    return new RecordBuilder(packet, resolved, scope, this.partitionsOf, trace).build();
  }

  private explain(packet: PublishPacket, trace: Trace): Mapping {
    const { mqttTopic } = packet;
    const candidates: Resolved[] = [];
    const why = new Map<CompiledRule, string>();
    for (const rule of this.rules) {
      const filter = rule.filters.find((filter) => filter.matches(mqttTopic));
      if (filter !== undefined) candidates.push(resolveRule(rule, mqttTopic, true));
      else why.set(rule, rule.filters.map((filter) => filter.mismatch(mqttTopic)).join("; "));
    }
    const asked: Trace = { rules: [], fields: trace.fields };
    const mapping = this.ask(packet, candidates, asked);
    let next = 0;
    for (const rule of this.rules) {
      const mismatch = why.get(rule);
      if (mismatch !== undefined) trace.rules.push({ rule: rule.name, took: false, why: mismatch });
      else {
        const verdict = asked.rules[next++];
        if (verdict === undefined) break;
        trace.rules.push(verdict);
        if (verdict.took) break;
      }
    }
    return mapping;
  }

  private resolve(mqttTopic: string): readonly Resolved[] {
    const matching: number[] = [];
    this.trie.match(mqttTopic, (index) => matching.push(index));
    matching.sort((a, b) => a - b);
    const candidates: Resolved[] = [];
    // Two bytes a character for the text, and what a Map entry with its objects takes, roughly.
    let bytes = 2 * mqttTopic.length + 100;
    for (const [at, index] of matching.entries()) {
      // Two filters of one rule.
      if (at > 0 && matching[at - 1] === index) continue;
      const resolved = resolveRule(this.rules[index] as CompiledRule, mqttTopic, false);
      candidates.push(resolved);
      bytes += 100;
      for (const { key, headers } of resolved.targets)
        bytes += 100 + (key?.length ?? 0) + (headers?.length ?? 0);
      if (resolved.rule.when === undefined) break;
    }
    const result = candidates.length === 0 ? NONE : candidates;
    this.cache.set(mqttTopic, result, bytes);
    return result;
  }
}

const FALSE = new RenderError("does not hold", { missing: true });

/** Why a rule does not take a message; undefined when it does. */
function conditionFails({ when }: CompiledRule, scope: MessageScope): RenderError | undefined {
  if (when === undefined) return undefined;
  try {
    const holds = when.evaluate(scope);
    if (typeof holds === "boolean") return holds ? undefined : FALSE;
    return new RenderError(`comes to ${writeJson(holds).slice(0, 60)}, which is neither true nor false`);
  } catch (error) {
    if (error instanceof RenderError) return error;
    throw error;
  }
}

/** What of a rule follows from the MQTT topic; what fails here fails again, and is reported, per message. */
function resolveRule(rule: CompiledRule, mqttTopic: string, tracing: boolean): Resolved {
  const filter = rule.filters.find((filter) => filter.matches(mqttTopic)) as CompiledRule["filters"][number];
  const all = filter.capture(mqttTopic);
  const captured =
    rule.filters.length === 1 ? all : rule.names.map((name) => all[filter.names.indexOf(name)] ?? "");
  const scope = new MessageScope({ mqttTopic }, new Budget());
  scope.enter(rule, captured);
  const targets = rule.targets.map((target): ResolvedTarget => {
    const stream = tracing || !target.fixed.to ? undefined : attempt(() => target.to.renderText(scope));
    const isGood = stream !== undefined && isStreamName(stream) && (target.allow?.test(stream) ?? true);
    let key: Buffer | null | undefined = target.key === undefined ? null : undefined;
    if (target.key !== undefined && target.fixed.key && !tracing) {
      const text = attempt(() => target.key?.renderText(scope));
      // An empty key is an error, to be said of each message.
      if (text) key = Buffer.from(text);
    }
    const headers =
      target.fixed.headers && !tracing
        ? attempt(() => encodeHeaders(headersOf(mqttTopic, target, (template) => template.renderText(scope))))
        : undefined;
    return {
      target,
      stream: isGood ? stream : undefined,
      key,
      keyHash: key == null ? 0 : murmur2(key),
      headers,
    };
  });
  const known = ({ stream, key, headers }: ResolvedTarget): boolean =>
    stream !== undefined && key !== undefined && headers !== undefined;
  return { rule, captured, targets, plain: rule.plain && targets.every(known) };
}

function attempt<T>(make: () => T): T | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof RenderError) return undefined;
    throw error;
  }
}
