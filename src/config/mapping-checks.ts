/**
 * What is wrong with the mappings beyond their shape: every expression compiled, streams that are not declared,
 * rules that no message reaches, templates that could make streams without end. Runs on values that the schema
 * may have refused elsewhere; what has not the right type is passed over here, the schema has said so.
 */
import { FilterTrie } from "../mapping/filter-trie.ts";
import type { Tables } from "../mapping/functions.ts";
import type { SchemaFile } from "../mapping/json-schema.ts";
import { PAYLOAD_KINDS, type PayloadKind } from "../mapping/payload.ts";
import {
  type CompiledRule,
  type CompiledTarget,
  compileRule,
  type RuleDefinition,
  type TargetDefinition,
} from "../mapping/rule.ts";
import { wordsOf } from "./issue-words.ts";
import { type Loose, listOf, mapOf } from "./loose.ts";
import type { Path, Within } from "./yaml-source.ts";

export interface MappingChecksInput {
  readonly mappings: unknown;
  readonly defaults: unknown;
  readonly streams: Loose;
  readonly tables: Tables;
  /** A schema file that has been read; undefined when it cannot be, which has been said. */
  readonly schemaOf: (file: string) => SchemaFile | undefined;
  /** Reports a stream that is not declared. */
  readonly declared: (stream: string, path: Path) => void;
  readonly report: (path: Path, message: string, mend?: string, within?: Within) => void;
}

export class MappingChecks {
  /** Streams that a mapping writes, or could. */
  readonly written = new Set<string>();
  /** Streams that a template could name. */
  readonly patterns: RegExp[] = [];
  private readonly input: MappingChecksInput;
  private readonly defaults: Loose;
  private readonly names: readonly string[];
  /** Filters of rules that take all they match, by the rule's place and name. */
  private readonly taken = new FilterTrie<{ index: number; from: string }>();
  private readonly firstOf = new Map<unknown, number>();
  private readonly said = new Set<string>();

  constructor(input: MappingChecksInput) {
    this.input = input;
    this.defaults = mapOf(input.defaults);
    this.names = Object.keys(input.streams);
  }

  run(): void {
    const { mappings } = this.input;
    for (const [index, mapping] of listOf(mappings).entries()) {
      this.mapping(mapOf(mapping), index);
    }
  }

  private mapping(mapping: Loose, index: number): void {
    const at: Path = ["mappings", index];
    this.name(mapping, index);
    const definition = this.definitionOf(mapping);
    if (definition === undefined) return;
    const rule = compileRule(definition, { tables: this.input.tables }, (error) => {
      this.say(this.pathOf(mapping, at, error.path), error.message, error.mend, error);
    });
    if (rule === undefined) return;
    for (const [which, target] of rule.targets.entries()) {
      const path = which === 0 ? at : [...at, "also", which - 1];
      this.target(target, which === 0 ? mapping : mapOf((mapping.also as unknown[])[which - 1]), path);
    }
    if (mapping.keepOriginal === true && rule.targets.every(({ value }) => value === undefined)) {
      const message = "keeps nothing: without value the record has the payload as it came";
      this.say([...at, "keepOriginal"], message, "leave it out");
    }
    this.reach(rule, mapping, index);
  }

  private name({ name }: Loose, index: number): void {
    if (typeof name !== "string") return;
    const first = this.firstOf.get(name);
    if (first === undefined) this.firstOf.set(name, index);
    else this.report(["mappings", index, "name"], `mappings[${first}] has the name "${name}" already`);
  }

  /** What of a mapping has the right type, the defaults laid under it; undefined without a usable `from`. */
  private definitionOf(mapping: Loose): RuleDefinition | undefined {
    const { from, split, also, schema, payload, keepOriginal } = mapping;
    const isTopics = typeof from === "string" || (isTexts(from) && from.length > 0);
    if (!isTopics) return undefined;
    const given = { ...this.defaults, ...mapping };
    const kind = given.payload as PayloadKind;
    return {
      name: "",
      from: from as string | string[],
      // A `to` that is missing or wrong has been said; the rest is checked all the same.
      ...targetOf({ ...given, headers: { ...mapOf(this.defaults.headers), ...mapOf(mapping.headers) } }),
      to: typeof mapping.to === "string" ? mapping.to : "any",
      ...(typeof split === "string" ? { split } : {}),
      ...(PAYLOAD_KINDS.includes(payload as PayloadKind) ? { payload: kind } : {}),
      ...(typeof keepOriginal === "boolean" ? { keepOriginal } : {}),
      ...(typeof schema === "string" ? { schema: this.input.schemaOf(schema) } : {}),
      ...(Array.isArray(also) ? { also: also.map((one) => ({ to: "any", ...targetOf(mapOf(one)) })) } : {}),
    };
  }

  /** Where a compiled field stands: with the mapping, or with the defaults. */
  private pathOf(mapping: Loose, at: Path, path: readonly string[]): Path {
    const [field = "", name] = path;
    if (field === "also") return [...at, "also", Number(path[1]), ...path.slice(2)];
    const own = mapOf(mapping[field]);
    const isOwn = field === "headers" && name !== undefined ? Object.hasOwn(own, name) : field in mapping;
    if (field === "from" && name !== undefined) return [...at, "from", Number(name)];
    return isOwn || !(field in this.defaults) ? [...at, ...path] : ["defaults", ...path];
  }

  private target(target: CompiledTarget, given: Loose, at: Path): void {
    const path = [...at, "to"];
    const { literal } = target.to;
    if (typeof given.to !== "string") return;
    if (literal === undefined) this.bounded(target, given, at);
    else {
      this.written.add(literal);
      this.input.declared(literal, path);
      for (const field of ["allow", "limit"].filter((field) => field in given)) {
        this.say([...at, field], `says nothing: to always names the stream "${literal}"`, "leave it out");
      }
      const { cleanup, partitions = 1 } = mapOf(this.input.streams[literal]);
      if (cleanup === "compact" && target.key === undefined) {
        const mend = "give this mapping a key, e.g. key: ${topic}";
        this.report(path, `${wordsOf(path)}: ${needsKey(literal)}`, mend);
      }
      const partition = Number(target.partition?.literal);
      if (this.names.includes(literal) && typeof partitions === "number" && partition >= partitions) {
        const last = partitions === 1 ? "has partition 0 only" : `has partitions 0 to ${partitions - 1}`;
        this.say([...at, "partition"], `there is no partition ${partition}: stream "${literal}" ${last}`);
      }
    }
  }

  /** Ten thousand streams by accident are a known misery. */
  private bounded(target: CompiledTarget, given: Loose, at: Path): void {
    const path = [...at, "to"];
    const allowed = isTexts(given.allow) ? given.allow : [];
    for (const [index, name] of allowed.entries()) {
      if (/^(?!__)[a-zA-Z0-9._*-]{1,249}$/.test(name)) continue;
      this.say([...at, "allow", index], `"${name}" is no name for a stream, nor one with * in it`);
    }
    this.patterns.push(target.allow ?? target.toPattern);
    if ("allow" in given || "limit" in given) return;
    this.say(
      path,
      "could make a stream for every name that a message brings",
      "bound it:  allow: [north, south]  or  limit: 20",
    );
  }

  /** A message goes to the first rule that takes it. */
  private reach(rule: CompiledRule, mapping: Loose, index: number): void {
    const own = new FilterTrie<string>();
    const isList = Array.isArray(mapping.from);
    for (const [at, { levels, text }] of rule.filters.entries()) {
      const path: Path = isList ? ["mappings", index, "from", at] : ["mappings", index, "from"];
      const by = this.taken.covering(levels);
      const twin = own.covering(levels);
      own.add(levels, text);
      if (by !== undefined) {
        const message = `matches nothing that is left: mappings[${by.index}] stands before it with "${by.from}"`;
        this.say(path, message, `put it before mappings[${by.index}]`);
      } else if (twin !== undefined) {
        this.say(path, `matches nothing that "${twin}" before it does not match`, "leave it out");
      }
    }
    if (rule.when !== undefined) return;
    for (const { levels, text } of rule.filters) this.taken.add(levels, { index, from: text });
  }

  /** A mistake in the defaults is one mistake, however many mappings take it. */
  private say(path: Path, message: string, mend?: string, within?: Within): void {
    const words = `${wordsOf(path)}: ${message}`;
    if (this.said.has(words)) return;
    this.said.add(words);
    this.report(path, words, mend, within);
  }

  private report(path: Path, message: string, mend?: string, within?: Within): void {
    this.input.report(path, message, mend, within);
  }
}

export function needsKey(stream: string): string {
  return `stream "${stream}" is compacted and takes no record without a key`;
}

/** What of a target has the right type. */
function targetOf(given: Loose): Partial<TargetDefinition> {
  const { headers, partition, allow, limit } = given;
  const texts = ["to", "key", "timestamp", "when", "value"].filter(
    (field) => typeof given[field] === "string",
  );
  const good = Object.entries(mapOf(headers)).filter(([, value]) => typeof value === "string");
  return {
    ...Object.fromEntries(texts.map((field) => [field, given[field]])),
    ...("headers" in given ? { headers: Object.fromEntries(good) as Record<string, string> } : {}),
    ...(typeof partition === "string" || typeof partition === "number" ? { partition } : {}),
    ...(isTexts(allow) ? { allow } : {}),
    ...(typeof limit === "number" ? { limit } : {}),
  };
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((one) => typeof one === "string");
}
