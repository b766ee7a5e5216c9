/**
 * The mapping turned round: what becomes of a stream's record on its way to an MQTT topic. Names in its
 * expressions: `key`, `payload` (the record's value), `headers`, `stream`, `partition`, `offset`, `timestamp`.
 */
import type { StoredRecord } from "../record.ts";
import { Expression } from "./expression.ts";
import type { Tables } from "./functions.ts";
import { decodePayload, type PayloadKind } from "./payload.ts";
import type { Scope } from "./scope.ts";
import { MappingSyntaxError } from "./syntax-error.ts";
import { Template } from "./template.ts";
import type { Level } from "./topic-filter.ts";
import { Budget, bytesOf, RenderError } from "./values.ts";

export interface DownlinkDefinition {
  readonly name: string;
  /** A stream. */
  readonly from: string;
  /** Template for the MQTT topic. */
  readonly to: string;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  /** Milliseconds from the record's timestamp; undefined: for ever. */
  readonly expiry?: number | undefined;
  /** An expression: is it for this record? */
  readonly when?: string | undefined;
  /** An expression for the message's payload; the record's value, untouched, when left out. */
  readonly value?: string | undefined;
  /** How expressions see the record's value. */
  readonly payload?: PayloadKind | undefined;
}

/** What every template may use. */
export const RECORD_NAMES = [
  "key",
  "payload",
  "headers",
  "stream",
  "partition",
  "offset",
  "timestamp",
] as const;

export interface DownlinkMessage {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number | undefined;
}

export class DownlinkRule {
  readonly definition: DownlinkDefinition;
  private readonly to: Template;
  private readonly when: Expression | undefined;
  private readonly value: Expression | undefined;
  /** Levels of the MQTT topic; undefined where one expression gives the whole. */
  private readonly levels: number | undefined;

  /** Throws `MappingSyntaxError`, with `path` naming the field. */
  constructor(definition: DownlinkDefinition, tables?: Tables) {
    this.definition = definition;
    const context = { names: RECORD_NAMES, tables };
    this.to = inField("to", () => topicTemplate(definition.to, Template.parse(definition.to, context)));
    const expression = (field: "when" | "value"): Expression | undefined => {
      const text = definition[field];
      return text === undefined ? undefined : inField(field, () => Expression.parse(text, context));
    };
    this.when = expression("when");
    this.value = expression("value");
    const { literals } = this.to;
    this.levels = literals.length === 1 && literals[0] === "" ? undefined : levelsOf(literals.join("x"));
  }

  /**
   * Undefined where `when` does not hold. Throws `RenderError`. A record without a value is an empty message,
   * which with `retain` deletes.
   */
  message(record: StoredRecord, stream: string, partition: number): DownlinkMessage | undefined {
    const { qos, retain, expiry, payload: kind = "auto" } = this.definition;
    const scope = new RecordScope(record, stream, partition, kind);
    if (!this.holds(scope)) return undefined;
    const topic = this.to.renderText(scope);
    // Who writes a key must not choose another device's MQTT topic by it.
    if (this.levels !== undefined && levelsOf(topic) !== this.levels) {
      throw new RenderError(`to: "${topic}" has other levels than ${this.definition.to}`);
    }
    const value = this.value === undefined ? record.value : bytesOf(this.value.evaluate(scope));
    // A producer may say any time; the queue keeps this as an int64.
    const expiresAt =
      expiry === undefined ? undefined : Math.min(record.timestamp + expiry, Number.MAX_SAFE_INTEGER);
    return { topic, payload: value ?? Buffer.alloc(0), qos, retain, expiresAt };
  }

  private holds(scope: RecordScope): boolean {
    if (this.when === undefined) return true;
    try {
      const holds = this.when.evaluate(scope);
      if (typeof holds === "boolean") return holds;
    } catch (error) {
      // A field that is not there just does not hold.
      if (error instanceof RenderError && error.missing) return false;
      throw error;
    }
    throw new RenderError("when: comes to something that is neither true nor false");
  }

  /** The MQTT topics that it may publish to: an expression stands for one level, or alone for any topic. */
  get topics(): readonly Level[] {
    if (this.levels === undefined) return [{ kind: "rest", name: undefined }];
    // U+0000 is in no MQTT topic.
    const text = this.to.literals.map((part) => (part === "" ? "\0" : part)).join("");
    return text
      .split("/")
      .map((part) =>
        part.includes("\0") ? { kind: "one", name: undefined } : { kind: "literal", text: part },
      );
  }
}

/** Whether an MQTT topic can match both. */
export function overlap(a: readonly Level[], b: readonly Level[]): boolean {
  const [first, other] = [a[0], b[0]];
  if (first?.kind === "rest" || other?.kind === "rest") return true;
  if (first === undefined || other === undefined) {
    // `a/#` matches `a`, too.
    return first === other;
  }
  const fits = first.kind === "one" || other.kind === "one" || first.text === other.text;
  return fits && overlap(a.slice(1), b.slice(1));
}

const levelsOf = (topic: string): number => topic.split("/").length;

function topicTemplate(text: string, template: Template): Template {
  const wildcard = text.search(/[+#]/);
  if (wildcard < 0 || template.literal === undefined) return template;
  throw new MappingSyntaxError("a message is published to one MQTT topic: no wildcard here", wildcard);
}

function inField<T>(field: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw error instanceof MappingSyntaxError ? error.at([field]) : error;
  }
}

/** The names of one record; its value is decoded when it is first asked for. */
class RecordScope implements Scope {
  readonly budget = new Budget();
  private readonly record: StoredRecord;
  private readonly stream: string;
  private readonly partition: number;
  private readonly kind: PayloadKind;
  private payload: { readonly value: unknown } | undefined;

  constructor(record: StoredRecord, stream: string, partition: number, kind: PayloadKind) {
    this.record = record;
    this.stream = stream;
    this.partition = partition;
    this.kind = kind;
  }

  get(name: string): unknown {
    const { key, value, headers, offset, timestamp } = this.record;
    switch (name) {
      case "key":
        return key?.toString();
      case "payload":
        this.payload ??= { value: value === null ? null : decodePayload(this.kind, value) };
        return this.payload.value;
      case "headers":
        return Object.fromEntries(headers.map(({ key: header, value: text }) => [header, text?.toString()]));
      case "stream":
        return this.stream;
      case "partition":
        return this.partition;
      case "offset":
        return offset;
      default:
        return timestamp;
    }
  }
}
