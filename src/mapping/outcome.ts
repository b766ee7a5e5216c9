/** What the mapper makes of a message. */
import type { MappedRecord } from "../record.ts";
import type { CompiledRule, CompiledTarget, OnError } from "./rule.ts";

/** What could not be made of a message. */
export interface MappingError {
  readonly rule: string;
  /** `key`, `headers.site`, `also[0].value` … */
  readonly field: string;
  /** Where in the field's text, from 0, in UTF-16 units; undefined where no place is to blame. */
  readonly position: number | undefined;
  readonly message: string;
}

/** The message's records, for one commit: all of them or none. */
export interface Mapped {
  readonly outcome: "mapped";
  readonly rule: string;
  readonly records: readonly MappedRecord[];
  /** What was left out under `onError: pass`. */
  readonly problem: MappingError | undefined;
}

/** A rule's stream is not there (yet). */
export interface UnknownStream {
  readonly outcome: "unknown stream";
  readonly rule: string;
  readonly stream: string;
  /** Bounds what a `to` with expressions may make: at most so many streams whose names it could give. */
  readonly limit: { readonly streams: number; readonly pattern: RegExp } | undefined;
  readonly onError: OnError;
}

export interface Failed {
  readonly outcome: "failed";
  readonly rule: string;
  readonly error: MappingError;
  /** `pass` where nothing could be passed on. */
  readonly onError: OnError;
}

/** The rule wants no record of this message. */
export interface Skipped {
  readonly outcome: "skipped";
  readonly rule: string;
  readonly why: string;
}

export interface Unmatched {
  readonly outcome: "unmatched";
}

export type Mapping = Mapped | UnknownStream | Failed | Skipped | Unmatched;

/** Filled by `map` for who asks: what each rule said, and what the fields of the one that took it came to. */
export interface Trace {
  readonly rules: { readonly rule: string; readonly took: boolean; readonly why: string }[];
  readonly fields: { readonly field: string; readonly text: string; readonly value: unknown }[];
}

/** What is known of a target from an MQTT topic. Undefined parts have to be made from each message. */
export interface ResolvedTarget {
  readonly target: CompiledTarget;
  readonly stream: string | undefined;
  readonly key: Buffer | null | undefined;
  readonly keyHash: number;
  readonly headers: Buffer | undefined;
}

export interface Resolved {
  readonly rule: CompiledRule;
  /** What the rule's names stand for. */
  readonly captured: readonly string[];
  readonly targets: readonly ResolvedTarget[];
  /** Once its condition holds the record follows from the topic, but for payload and time. */
  readonly plain: boolean;
}

export function unknownStream(rule: CompiledRule, target: CompiledTarget, stream: string): UnknownStream {
  const { limit, toPattern: pattern } = target;
  return {
    outcome: "unknown stream",
    rule: rule.name,
    stream,
    limit: limit === undefined ? undefined : { streams: limit, pattern },
    onError: rule.onError,
  };
}
