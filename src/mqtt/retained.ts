/**
 * Retained messages: the last one of each MQTT topic [MQTT-3.3.1-5 … 3.3.1-11], on disk in the same commit as
 * its record and visible from then on. Bounded by count and bytes; what does not fit is counted, and then its
 * MQTT topic has none, rather than one that is out of date.
 */
import { TopicFilter } from "../mapping/topic-filter.ts";
import type { Change, StateStore } from "./state-store.ts";

export interface RetainedLimits {
  /** MQTT topics with a retained message. */
  readonly maxRetainedMessages: number;
  /** Payloads and MQTT topics of them all. */
  readonly maxRetainedBytes: number;
}

export interface RetainedMessage {
  readonly cmd: "publish";
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: 0 | 1 | 2;
  readonly retain: true;
}

type Publish = Pick<RetainedMessage, "topic" | "payload" | "qos">;

export class RetainedMessages {
  private readonly limits: RetainedLimits;
  private readonly store: StateStore;
  /** Undefined where the first one is on its way to the disk. */
  private readonly messages = new Map<string, RetainedMessage | undefined>();
  private bytes = 0;
  notRetained = 0;

  constructor(limits: RetainedLimits, store: StateStore) {
    this.limits = limits;
    this.store = store;
  }

  get size(): number {
    return this.messages.size;
  }

  /** What a PUBLISH with the retain flag changes; undefined for nothing. To be appended at once. */
  change({ topic, payload, qos }: Publish): Change | undefined {
    const { maxRetainedMessages, maxRetainedBytes } = this.limits;
    const known = this.messages.has(topic);
    const old = this.messages.get(topic);
    const bytes = sizeOf({ topic, payload }) - (old === undefined ? 0 : sizeOf(old));
    const fits =
      (known || this.messages.size < maxRetainedMessages) && this.bytes + bytes <= maxRetainedBytes;
    const isKept = payload.length > 0 && fits;
    if (!fits && payload.length > 0) this.notRetained++;
    if (!isKept && !known) return undefined;
    if (!known) this.messages.set(topic, undefined);
    return {
      entry: this.store.entry("retained", { mqttTopic: topic }, isKept ? { payload, qos } : null),
      settle: (isDurable) => {
        if (isDurable) this.set(topic, isKept ? { payload, qos } : null);
        else if (this.messages.get(topic) === undefined) this.messages.delete(topic);
      },
    };
  }

  /** What is on disk: now, and when it is read back. Null for none. */
  set(topic: string, kept: { readonly payload: Buffer; readonly qos: number } | null): void {
    const old = this.messages.get(topic);
    if (old !== undefined) this.bytes -= sizeOf(old);
    if (kept === null) {
      this.messages.delete(topic);
      return;
    }
    // A copy: the payload is a slice of all that was read with it.
    const payload = Buffer.from(kept.payload);
    const message = { cmd: "publish", topic, payload, qos: kept.qos as 0 | 1 | 2, retain: true } as const;
    this.messages.set(topic, message);
    this.bytes += sizeOf(message);
  }

  *under(filters: readonly string[]): Generator<RetainedMessage> {
    for (const filter of filters.map((text) => TopicFilter.parse(text))) {
      const isPlain = filter.levels.every((level) => level.kind === "literal");
      for (const message of isPlain ? [this.messages.get(filter.text)] : this.messages.values()) {
        if (message !== undefined && (isPlain || filter.matches(message.topic))) yield message;
      }
    }
  }
}

/** What a message that is kept takes. */
export const sizeOf = ({ topic, payload }: Pick<Publish, "topic" | "payload">): number =>
  2 * topic.length + payload.length;
