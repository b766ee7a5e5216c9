/** One mapping rule: its definition, and what it is compiled to. Everything wrong with it is found here. */
import { Expression } from "./expression.ts";
import type { Tables } from "./functions.ts";
import { compileSchema, type SchemaFile, type Validate } from "./json-schema.ts";
import type { PayloadKind } from "./payload.ts";
import type { ExpressionContext } from "./scope.ts";
import { MappingSyntaxError } from "./syntax-error.ts";
import { Template } from "./template.ts";
import { TopicFilter } from "./topic-filter.ts";

/** Dead letters, nowhere (counted), or on without what could not be made. */
export type OnError = "deadLetter" | "drop" | "pass";

/** One record that a message becomes. Texts are templates, `when` and `value` expressions. */
export interface TargetDefinition {
  readonly to: string;
  readonly key?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Milliseconds or ISO 8601, see `timestampOf`; without it the time of arrival. */
  readonly timestamp?: string | undefined;
  /** Instead of the one that follows from the key. */
  readonly partition?: string | number | undefined;
  readonly when?: string | undefined;
  /** The record's value; without it the payload, untouched. */
  readonly value?: string | undefined;
  /** Streams that a `to` with expressions may name; `*` stands for anything. */
  readonly allow?: readonly string[] | undefined;
  /** Streams that a `to` with expressions may make. */
  readonly limit?: number | undefined;
}

export interface RuleDefinition extends TargetDefinition {
  readonly name: string;
  /** MQTT topic filters with named wildcards. */
  readonly from: string | readonly string[];
  readonly payload?: PayloadKind | undefined;
  /** An expression for a list, each element of which becomes a record. */
  readonly split?: string | undefined;
  readonly retained?: "keep" | "skip" | undefined;
  readonly onError?: OnError | undefined;
  /** Keeps the payload in a header where `value` replaces it. */
  readonly keepOriginal?: boolean | undefined;
  readonly schema?: SchemaFile | undefined;
  /** Further records of the same message; what one leaves out is the rule's. */
  readonly also?: readonly Partial<TargetDefinition>[] | undefined;
}

export interface RuleContext {
  readonly tables?: Tables | undefined;
}

/** What every expression may use beside the rule's named wildcards. */
export const MESSAGE_NAMES = [
  "topic",
  "clientId",
  "username",
  "qos",
  "retain",
  "receivedAt",
  "payload",
] as const;
/** And beside those, where a rule splits. */
export const SPLIT_NAMES = ["item", "index"] as const;

export interface CompiledTarget {
  /** Stands before the field's name in errors: nothing, or `also[0].`. */
  readonly prefix: string;
  readonly to: Template;
  readonly key: Template | undefined;
  readonly headers: readonly { readonly name: string; readonly value: Template }[];
  readonly timestamp: Template | undefined;
  readonly partition: Template | undefined;
  readonly when: Expression | undefined;
  readonly value: Expression | undefined;
  /** Undefined: any stream. */
  readonly allow: RegExp | undefined;
  readonly limit: number | undefined;
  /** Names that `to` can give. */
  readonly toPattern: RegExp;
  /** Which parts follow from the MQTT topic alone. */
  readonly fixed: { readonly to: boolean; readonly key: boolean; readonly headers: boolean };
}

export interface CompiledRule {
  readonly name: string;
  readonly filters: readonly TopicFilter[];
  /** Named wildcards that every filter gives. */
  readonly names: readonly string[];
  readonly when: Expression | undefined;
  readonly payload: PayloadKind;
  readonly split: Expression | undefined;
  readonly skipRetained: boolean;
  readonly onError: OnError;
  readonly keepOriginal: boolean;
  readonly schema: Validate | undefined;
  /** The rule's own, then those of `also`. */
  readonly targets: readonly CompiledTarget[];
  /** But for its condition, nothing of the message itself is looked at beside its topic. */
  readonly plain: boolean;
}

/** 1–249 of Kafka's characters; names beginning with "__" are the gateway's own. */
export function isStreamName(name: string): boolean {
  return /^(?!__)[a-zA-Z0-9._-]{1,249}$/.test(name) && name !== "." && name !== "..";
}

/**
 * Calls `report` with everything that is wrong, `path` naming the field, and gives undefined then; without a
 * `report` the first error is thrown.
 */
export function compileRule(
  definition: RuleDefinition,
  context: RuleContext = {},
  report?: (error: MappingSyntaxError) => void,
): CompiledRule | undefined {
  const compiler = new RuleCompiler(definition, context, report);
  const rule = compiler.compile();
  return compiler.failed ? undefined : rule;
}

/** The same, throwing the first error. */
export function compileRuleOrThrow(definition: RuleDefinition, context: RuleContext = {}): CompiledRule {
  return compileRule(definition, context) as CompiledRule;
}

/** Of a `to` that names its stream: nothing is made from it. */
const NO_PATTERN = /^\b$/;
const NOTHING = Template.parse("", []);

class RuleCompiler {
  failed = false;
  private readonly definition: RuleDefinition;
  private readonly report: ((error: MappingSyntaxError) => void) | undefined;
  private readonly tables: Tables | undefined;
  private context: ExpressionContext = { names: [] };
  private names: readonly string[] = [];

  constructor(
    definition: RuleDefinition,
    context: RuleContext,
    report: ((error: MappingSyntaxError) => void) | undefined,
  ) {
    this.definition = definition;
    this.tables = context.tables;
    this.report = report;
  }

  compile(): CompiledRule | undefined {
    const { definition } = this;
    const filters = this.filters();
    // Without good filters no name is known, and everything that uses one would be wrong.
    if (filters === undefined) return undefined;
    const [first, ...others] = filters as [TopicFilter, ...TopicFilter[]];
    this.names = first.names.filter((name) => others.every((other) => other.names.includes(name)));
    const names = [...this.names, ...MESSAGE_NAMES];
    this.context = { names, tables: this.tables };
    const split = this.expression(definition.split, "split");
    if (definition.split !== undefined)
      this.context = { names: [...names, ...SPLIT_NAMES], tables: this.tables };
    const own = this.target(definition, []);
    const also = (definition.also ?? []).map((target, index) => {
      const { key, headers, timestamp, value } = definition;
      const given = target.key === undefined && target.partition !== undefined ? {} : { key };
      const whole = { to: "", headers, timestamp, value, ...given, ...target };
      return this.target(whole, ["also", String(index)], target);
    });
    const schema = this.inField(["schema"], () => definition.schema && compileSchema(definition.schema));
    const targets = [own, ...also];
    const skipRetained = definition.retained === "skip";
    // The rule's own condition is asked before it is taken, and with other names than a target's.
    const when = own.when;
    return {
      name: definition.name,
      filters,
      names: this.names,
      when,
      payload: definition.payload ?? "auto",
      split,
      skipRetained,
      onError: definition.onError ?? "deadLetter",
      keepOriginal: definition.keepOriginal ?? false,
      schema,
      targets: targets.map((target, index) => (index === 0 ? { ...target, when: undefined } : target)),
      plain:
        targets.length === 1 &&
        !skipRetained &&
        [split, schema, own.value, own.timestamp, own.partition].every((part) => part === undefined),
    };
  }

  private inField<T>(path: readonly string[], parse: () => T): T | undefined {
    try {
      return parse();
    } catch (error) {
      if (!(error instanceof MappingSyntaxError)) throw error;
      this.failed = true;
      const placed = error.at([...path, ...error.path]);
      if (this.report === undefined) throw placed;
      this.report(placed);
      return undefined;
    }
  }

  private filters(): TopicFilter[] | undefined {
    const { from, split } = this.definition;
    const isList = typeof from !== "string";
    const reserved: readonly string[] =
      split === undefined ? MESSAGE_NAMES : [...MESSAGE_NAMES, ...SPLIT_NAMES];
    const filters = (isList ? from : [from]).map((text, index) =>
      this.inField(isList ? ["from", String(index)] : ["from"], () => {
        const filter = TopicFilter.parse(text);
        const taken = filter.names.find((name) => reserved.includes(name));
        if (taken === undefined) return filter;
        const position = text.search(new RegExp(`[+#]${taken}(?:/|$)`)) + 1;
        throw new MappingSyntaxError(`"${taken}" cannot name a wildcard, it is a name of its own`, position, {
          length: taken.length,
        });
      }),
    );
    return filters.length > 0 && filters.every((filter) => filter !== undefined) ? filters : undefined;
  }

  /** `given`: of an `also`, what it says itself; the rest has been checked with the rule. */
  private target(
    target: TargetDefinition,
    path: readonly string[],
    given: Partial<TargetDefinition> = target,
  ): CompiledTarget {
    const own = <K extends keyof TargetDefinition>(field: K) => (field in given ? [...path, field] : [field]);
    const to = this.to(target, [...path, "to"]);
    const key = this.template(target.key, own("key"));
    if (key?.constant === "") {
      this.inField(own("key"), () => {
        throw new MappingSyntaxError("this key is always empty: all records would have the same", 0, {
          length: target.key?.length ?? 1,
          mend: "leave it out to spread records, or write key: ${topic}",
        });
      });
    }
    const headers = Object.entries(target.headers ?? {}).map(([name, text]) => ({
      name,
      value: this.template(text, [...own("headers"), name]) ?? NOTHING,
    }));
    const fixed = (part: Template | undefined): boolean =>
      part === undefined || part.names.every((name) => name === "topic" || this.names.includes(name));
    return {
      prefix: path.length === 0 ? "" : `also[${path[1]}].`,
      to,
      key,
      headers,
      timestamp: this.template(target.timestamp, own("timestamp")),
      partition: this.partition(target, [...path, "partition"]),
      when: this.condition(target.when, [...path, "when"], path.length === 0),
      value: this.expression(target.value, ...own("value")),
      allow: target.allow === undefined ? undefined : patternOf(target.allow.map((one) => one.split("*"))),
      limit: target.limit,
      toPattern: to.literal === undefined ? patternOf([to.literals]) : NO_PATTERN,
      fixed: { to: fixed(to), key: fixed(key), headers: headers.every(({ value }) => fixed(value)) },
    };
  }

  private to({ to }: TargetDefinition, path: readonly string[]): Template {
    const template = this.inField(path, () => {
      const template = Template.parse(to, this.context);
      if (template.literal !== undefined && !isStreamName(template.literal)) {
        throw new MappingSyntaxError(
          `"${template.literal}" is no name for a stream: 1 to 249 of a-z, A-Z, 0-9, ".", "_" and "-", not beginning with "__"`,
          0,
          { length: to.length },
        );
      }
      return template;
    });
    return template ?? NOTHING;
  }

  private partition({ partition }: TargetDefinition, path: readonly string[]): Template | undefined {
    return partition === undefined ? undefined : this.template(String(partition), path);
  }

  /** A rule's own condition is asked before it splits. */
  private condition(text: string | undefined, path: readonly string[], own: boolean): Expression | undefined {
    const { context } = this;
    if (own) this.context = { ...context, names: [...this.names, ...MESSAGE_NAMES] };
    const condition = this.expression(text, ...path);
    this.context = context;
    return condition;
  }

  private template(text: string | undefined, path: readonly string[]): Template | undefined {
    return text === undefined ? undefined : this.inField(path, () => Template.parse(text, this.context));
  }

  private expression(text: string | undefined, ...path: string[]): Expression | undefined {
    return text === undefined ? undefined : this.inField(path, () => Expression.parse(text, this.context));
  }
}

/** One of several texts, each given as the literal parts between which anything may stand. */
export function patternOf(choices: readonly (readonly string[])[]): RegExp {
  const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`^(?:${choices.map((parts) => parts.map(escaped).join(".*")).join("|")})$`);
}
