/**
 * The mapping turned round: what becomes of a stream's record on its way to an MQTT topic. Names in its
 * templates: `key`, `payload` (the record's value, as JSON), `headers`, `stream`, `partition`, `offset`, `timestamp`.
 */
import type { StoredRecord } from "../record.ts";
import { MappingSyntaxError } from "./syntax-error.ts";
import { RenderError, type Scope, Template } from "./template.ts";
import type { Level } from "./topic-filter.ts";

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
  /** Levels of the MQTT topic; undefined where one expression gives the whole. */
  private readonly levels: number | undefined;

  /** Throws `MappingSyntaxError`, with `path` naming the field. */
  constructor(definition: DownlinkDefinition) {
    this.definition = definition;
    try {
      this.to = Template.parse(definition.to, RECORD_NAMES);
      const wildcard = definition.to.search(/[+#]/);
      if (wildcard >= 0 && !definition.to.includes("${")) {
        throw new MappingSyntaxError(
          "a message is published to one MQTT topic: no wildcard here",
          wildcard,
          {},
        );
      }
    } catch (error) {
      throw error instanceof MappingSyntaxError ? error.at(["to"]) : error;
    }
    const { literals } = this.to;
    this.levels = literals.length === 1 && literals[0] === "" ? undefined : levelsOf(literals.join("x"));
  }

  /** Throws `RenderError`. A record without a value is an empty message, which with `retain` deletes. */
  message(record: StoredRecord, stream: string, partition: number): DownlinkMessage {
    const { qos, retain, expiry } = this.definition;
    const topic = this.to.renderText(new RecordScope(record, stream, partition));
    // Who writes a key must not choose another device's MQTT topic by it.
    if (this.levels !== undefined && levelsOf(topic) !== this.levels) {
      throw new RenderError(`to: "${topic}" has other levels than ${this.definition.to}`);
    }
    const expiresAt = expiry === undefined ? undefined : record.timestamp + expiry;
    return { topic, payload: record.value ?? Buffer.alloc(0), qos, retain, expiresAt };
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

/** The names of one record; its value is decoded when it is first asked for. */
class RecordScope implements Scope {
  private readonly record: StoredRecord;
  private readonly stream: string;
  private readonly partition: number;
  private payload: { readonly value: unknown } | undefined;

  constructor(record: StoredRecord, stream: string, partition: number) {
    this.record = record;
    this.stream = stream;
    this.partition = partition;
  }

  get(name: string): unknown {
    const { key, headers, offset, timestamp } = this.record;
    switch (name) {
      case "key":
        return key?.toString();
      case "payload":
        this.payload ??= { value: this.decoded() };
        return this.payload.value;
      case "headers":
        return Object.fromEntries(headers.map(({ key: header, value }) => [header, value?.toString()]));
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

  private decoded(): unknown {
    try {
      return JSON.parse(this.record.value?.toString() ?? "");
    } catch {
      throw new RenderError("the value is not JSON");
    }
  }
}
