/** The names of one message for the rules it is shown to; the payload is decoded when it is first asked for. */
import type { PublishPacket } from "../record.ts";
import { decodePayload, type PayloadKind } from "./payload.ts";
import type { CompiledRule } from "./rule.ts";
import type { Scope } from "./scope.ts";
import { type Budget, RenderError } from "./values.ts";

export class MessageScope implements Scope {
  readonly budget: Budget;
  /** The element that a record is made of, where a rule splits. */
  item: unknown;
  index: number | undefined;
  private readonly packet: Partial<PublishPacket> & Pick<PublishPacket, "mqttTopic">;
  private names: readonly string[] = [];
  private captured: readonly string[] = [];
  private kind: PayloadKind = "auto";
  private payload:
    | { readonly kind: PayloadKind; readonly value?: unknown; readonly error?: RenderError }
    | undefined;

  constructor(packet: Partial<PublishPacket> & Pick<PublishPacket, "mqttTopic">, budget: Budget) {
    this.packet = packet;
    this.budget = budget;
  }

  /** From here on the names are this rule's. */
  enter(rule: CompiledRule, captured: readonly string[]): void {
    this.names = rule.names;
    this.captured = captured;
    this.kind = rule.payload;
    this.item = undefined;
    this.index = undefined;
  }

  get(name: string): unknown {
    switch (name) {
      case "payload":
        return this.decoded();
      case "topic":
        return this.packet.mqttTopic;
      case "clientId":
      case "username":
      case "qos":
      case "retain":
      case "receivedAt":
        return this.packet[name];
      default: {
        const at = this.names.indexOf(name);
        if (at >= 0) return this.captured[at];
        return name === "item" ? this.item : this.index;
      }
    }
  }

  private decoded(): unknown {
    if (this.payload?.kind !== this.kind) {
      const { kind } = this;
      const bytes = this.packet.payload as Buffer;
      try {
        this.payload = { kind, value: decodePayload(kind, bytes) };
      } catch (error) {
        if (!(error instanceof RenderError)) throw error;
        this.payload = { kind, error };
      }
    }
    if (this.payload?.error !== undefined) throw this.payload.error;
    return this.payload?.value;
  }
}
