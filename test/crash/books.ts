/**
 * What MQTT clients and a consumer group asked of a gateway and were told: each client's half of the protocol's
 * state (MQTT 3.1.1, sections 4.1, 4.3 and 4.4), and what must be true of the gateway because of it. Part of the
 * oracle, changed by events only, so that the books as they were at any moment can be had again.
 */
import { Violation } from "./violation.ts";

export type QoS = 0 | 1 | 2;

/** A client publishes to an MQTT topic at one QoS only, so that its messages there have one order. */
export interface Message {
  readonly id: number;
  readonly client: string;
  readonly mqttTopic: string;
  readonly qos: QoS;
  readonly retain: boolean;
  readonly isWill: boolean;
  /** An empty payload: the topic's retained message goes. */
  readonly clears: boolean;
  readonly padding: number;
}

/** What comes in, as far as it matters. */
export interface Incoming {
  readonly cmd: string;
  readonly messageId: number;
  readonly qos: QoS;
  readonly retain: boolean;
  readonly payload: string;
  readonly sessionPresent: boolean;
  /** Of CONNACK. */
  readonly returnCode: number;
}

/** What a client says next. */
export interface Answer {
  readonly cmd: "puback" | "pubrec" | "pubrel" | "pubcomp";
  readonly messageId: number;
}

/** A partition of a stream that MQTT messages are mapped to; undefined where the payload was empty. */
export interface SinkContent {
  readonly start: number;
  readonly messages: readonly (number | undefined)[];
}

interface Outgoing {
  readonly message: Message;
  stage: "publish" | "pubrel";
}

export class ClientBook {
  readonly id: string;
  /** By packet id, in the order in which they were sent first. */
  readonly outgoing = new Map<number, Outgoing>();
  /** QoS 2 packet ids that came and were not released. */
  readonly held = new Set<number>();
  /** How often the application was given each message. */
  readonly delivered = new Map<number, number>();
  /** By MQTT topic: the newest message that was given. */
  readonly newest = new Map<string, number>();
  /** Messages that must reach it. */
  readonly owed = new Set<number>();
  /** `since`: the number of messages there were when SUBACK or UNSUBACK came. */
  subscription: { state: "none" | "asked" | "active" | "leaving"; qos: 1 | 2; since: number } = {
    state: "none",
    qos: 1,
    since: 0,
  };
  /** Of the connection that is open, or that died without DISCONNECT; it is to be published once. */
  will: Message | undefined;
  /**
   * It has asked for a clean session; `done`: CONNACK has come, and nothing that a session is kept for has been sent
   * since.
   */
  wipe: "none" | "asked" | "done" = "none";

  constructor(id: string) {
    this.id = id;
  }

  /** The lowest free packet id: used again as soon as that is allowed. */
  nextPacketId(): number {
    let packetId = 1;
    while (this.outgoing.has(packetId)) packetId++;
    return packetId;
  }

  /** For a SUBACK, an UNSUBACK or a PUBCOMP. */
  get isWaiting(): boolean {
    const { state } = this.subscription;
    if (state === "asked" || state === "leaving") return true;
    return [...this.outgoing.values()].some(({ stage }) => stage === "pubrel");
  }
}

interface OffsetFacts {
  /** The newest that was acknowledged or shown. */
  floor: number;
  /** The newest that was asked for. */
  asked: number;
}

export class Books {
  readonly messages: Message[] = [];
  readonly clients = new Map<string, ClientBook>();
  /** Acknowledged, or seen by a subscriber: they must be on their stream. */
  private readonly kept = new Set<number>();
  /** Wills of connections that were open, and may have been published since. */
  private readonly wills = new Set<number>();
  /** By "group": its commits are of all partitions at once. */
  readonly offsets = new Map<string, OffsetFacts>();
  /** By "stream/partition": messages by offset, as readers have seen them. */
  private readonly known = new Map<string, Map<number, number | undefined>>();
  /** By MQTT topic: the newest retained message that is known to be kept. */
  private readonly retainedFloor = new Map<string, number>();

  client(id: string): ClientBook {
    let client = this.clients.get(id);
    if (client === undefined) {
      client = new ClientBook(id);
      this.clients.set(id, client);
    }
    return client;
  }

  published(message: Message, packetId: number): void {
    this.messages[message.id] = message;
    if (message.qos > 0) this.client(message.client).outgoing.set(packetId, { message, stage: "publish" });
    if (message.qos === 2) this.sessionBegins(this.client(message.client));
  }

  private sessionBegins(client: ClientBook): void {
    if (client.wipe === "done") client.wipe = "none";
  }

  /** CONNECT with a clean session goes out: the client has forgotten everything [MQTT-3.1.2-6]. */
  wiping(id: string): void {
    const client = this.client(id);
    client.wipe = "asked";
    client.outgoing.clear();
    client.held.clear();
    client.owed.clear();
    client.subscription = { state: "none", qos: 1, since: this.messages.length };
  }

  /** Its CONNACK has come: so has the gateway. */
  wiped(id: string, sessionPresent: boolean): void {
    this.client(id).wipe = "done";
    if (sessionPresent) throw new Violation(`a clean session of ${id} is an old one`);
  }

  /** It goes with the CONNECT; from CONNACK on it must be published if the connection ends without DISCONNECT. */
  willGiven(will: Message): void {
    this.messages[will.id] = will;
  }

  /** Every connection has ended. */
  gatewayDied(): void {
    for (const client of this.clients.values()) client.will = undefined;
  }

  /** CONNACK has come. */
  connected(id: string, sessionPresent: boolean, will: Message | undefined): void {
    const client = this.client(id);
    client.will = will;
    // What it held belonged to a session that neither side has any more [MQTT-3.2.2-5 of MQTT 5; 3.1.1 leaves it open].
    if (!sessionPresent) client.held.clear();
    if (will !== undefined) this.wills.add(will.id);
    if (client.subscription.state === "active" && !sessionPresent) {
      throw new Violation(`the session of ${id} is gone`);
    }
    if (client.wipe === "done" && sessionPresent) throw new Violation(`the session of ${id} is back`);
  }

  /** DISCONNECT was sent: the will is not to be published, but nobody acknowledges that. */
  disconnected(id: string): void {
    const client = this.client(id);
    if (client.will !== undefined) this.wills.delete(client.will.id);
    client.will = undefined;
  }

  subscribing(id: string, qos: 1 | 2): void {
    const client = this.client(id);
    client.subscription = { state: "asked", qos, since: 0 };
    this.sessionBegins(client);
  }

  unsubscribing(id: string): void {
    const client = this.client(id);
    client.subscription = { ...client.subscription, state: "leaving" };
    client.owed.clear();
  }

  private isKept(message: Message): void {
    if (this.kept.has(message.id)) return;
    this.kept.add(message.id);
    if (message.retain) {
      const floor = this.retainedFloor.get(message.mqttTopic) ?? -1;
      this.retainedFloor.set(message.mqttTopic, Math.max(floor, message.id));
    }
    if (message.qos === 0) return;
    for (const { subscription, owed } of this.clients.values()) {
      if (subscription.state === "active" && subscription.since <= message.id) owed.add(message.id);
    }
  }

  /** What comes to a client, and what it answers. */
  take(id: string, packet: Incoming): Answer[] {
    const client = this.client(id);
    const { cmd, messageId } = packet;
    const { subscription } = client;
    if (cmd === "publish") return this.takeMessage(client, packet);
    if (cmd === "pubrel") {
      client.held.delete(messageId);
      return [{ cmd: "pubcomp", messageId }];
    }
    const out = client.outgoing.get(messageId);
    if (cmd === "puback" || cmd === "pubrec") {
      if (out === undefined) return cmd === "pubrec" ? [{ cmd: "pubrel", messageId }] : [];
      this.isKept(out.message);
      if (cmd === "puback") client.outgoing.delete(messageId);
      else out.stage = "pubrel";
      return cmd === "pubrec" ? [{ cmd: "pubrel", messageId }] : [];
    }
    if (cmd === "pubcomp" && out?.stage === "pubrel") client.outgoing.delete(messageId);
    if (cmd === "suback" && subscription.state === "asked") {
      client.subscription = { ...subscription, state: "active", since: this.messages.length };
    }
    if (cmd === "unsuback" && subscription.state === "leaving") {
      client.subscription = { ...subscription, state: "none", since: this.messages.length };
    }
    return [];
  }

  private takeMessage(client: ClientBook, { messageId, qos, retain, payload }: Incoming): Answer[] {
    const isHeld = qos === 2 && client.held.has(messageId);
    if (qos === 2) client.held.add(messageId);
    // A retained message for a new subscription; a cleared one has no number to know it by.
    if (!isHeld && !retain && payload !== "") this.deliver(client, numberIn(payload), qos);
    if (retain && payload !== "") this.isKept(this.messages[numberIn(payload)] as Message);
    if (qos === 0) return [];
    return [{ cmd: qos === 1 ? "puback" : "pubrec", messageId }];
  }

  private deliver(client: ClientBook, number: number, qos: QoS): void {
    const message = this.messages[number];
    const what = `${client.id} was given message ${number}`;
    if (message === undefined) throw new Violation(`${what}, which nobody sent`);
    const { state, since } = client.subscription;
    if (state === "none" && number >= since) throw new Violation(`${what}, for which it has no subscription`);
    const times = (client.delivered.get(number) ?? 0) + 1;
    client.delivered.set(number, times);
    if (times > 1 && qos !== 1 && message.qos !== 1)
      throw new Violation(`${what} ${times} times at QoS ${qos}`);
    this.isKept(message);
    // Of what was sent before it had subscribed it may get what a publisher sends again.
    if (times > 1 || state !== "active" || number < since) return;
    const before = client.newest.get(message.mqttTopic) ?? -1;
    if (before > number)
      throw new Violation(`${what} after ${before}, which came later to ${message.mqttTopic}`);
    client.newest.set(message.mqttTopic, number);
  }

  // ── Committed offsets

  commitAsked(group: string, offset: number): void {
    const facts = this.offsets.get(group) ?? { floor: -1, asked: -1 };
    this.offsets.set(group, { ...facts, asked: offset });
  }

  /** Acknowledged, or shown to whoever asked. */
  committed(group: string, offset: number): void {
    const facts = this.offsets.get(group) as OffsetFacts;
    this.offsets.set(group, { ...facts, floor: Math.max(facts.floor, offset) });
  }

  /** `found`: by group, what is committed for each partition; -1 for nothing. */
  judgeOffsets(found: ReadonlyMap<string, readonly number[]>): void {
    for (const [group, offsets] of found) {
      const { floor, asked } = this.offsets.get(group) ?? { floor: -1, asked: -1 };
      const [first = -1] = offsets;
      if (offsets.some((offset) => offset !== first)) {
        throw new Violation(`group ${group} has part of a commit: ${offsets.join(", ")}`);
      }
      if (first < floor) throw new Violation(`group ${group} is back at ${first}, it had committed ${floor}`);
      if (first > asked)
        throw new Violation(`group ${group} is at ${first}, and asked for no more than ${asked}`);
    }
  }

  // ── Streams

  /** Messages that must be on their streams now. */
  get keptCount(): number {
    return this.kept.size;
  }

  /**
   * Throws unless everything is there that had to be when `keptCount` was asked for, once where it may be only
   * once, and in order.
   */
  judgeSinks(content: ReadonlyMap<string, readonly SinkContent[]>, keptCount: number): void {
    const counts = new Map<number, number>();
    for (const [stream, partitions] of content) {
      partitions.forEach(({ start, messages }, index) => {
        const newest = new Map<string, number>();
        messages.forEach((number, at) => {
          if (number === undefined) return;
          const message = this.messages[number];
          const what = `${stream}-${index} has message ${number} at offset ${start + at}`;
          if (message === undefined) throw new Violation(`${what}, which nobody sent`);
          const count = (counts.get(number) ?? 0) + 1;
          counts.set(number, count);
          if (count > 1) {
            if (message.qos !== 1 || message.isWill) throw new Violation(`${what} a second time`);
            return;
          }
          const before = newest.get(message.mqttTopic) ?? -1;
          if (before > number) throw new Violation(`${what}, after ${before}`);
          newest.set(message.mqttTopic, number);
        });
      });
    }
    for (const number of [...this.kept].slice(0, keptCount)) {
      if (!counts.has(number) && this.messages[number]?.clears === false) {
        throw new Violation(`message ${number} was acknowledged, or shown, and is on no stream`);
      }
    }
    this.judgeKnown(content);
  }

  private judgeKnown(content: ReadonlyMap<string, readonly SinkContent[]>): void {
    for (const [place, known] of this.known) {
      const [stream = "", index] = place.split("/");
      const found = content.get(stream)?.[Number(index)];
      for (const [offset, number] of known) {
        const now = found?.messages[offset - found.start];
        if (now === number && offset - (found?.start ?? 0) < (found?.messages.length ?? 0)) continue;
        throw new Violation(`${place} showed message ${number} at offset ${offset}, and now ${now}`);
      }
    }
  }

  /** Readers have seen all of this: it must stay. */
  shown(content: ReadonlyMap<string, readonly SinkContent[]>): void {
    for (const [stream, partitions] of content) {
      partitions.forEach(({ start, messages }, index) => {
        const place = `${stream}/${index}`;
        const known = this.known.get(place) ?? new Map<number, number | undefined>();
        this.known.set(place, known);
        messages.forEach((number, at) => {
          known.set(start + at, number);
          // A QoS 0 message's fate is open until somebody has seen it.
          const message = number === undefined ? undefined : this.messages[number];
          if (message !== undefined) this.isKept(message);
        });
      });
    }
  }

  /** Every will of a connection that was cut off has been published. */
  willsPublished(): void {
    for (const number of this.wills) this.isKept(this.messages[number] as Message);
    this.wills.clear();
  }

  // ── Retained messages

  /** `found`: message numbers by MQTT topic, as a new subscription was given them. */
  judgeRetained(found: ReadonlyMap<string, number>): void {
    const topics = new Map<string, Message[]>();
    for (const message of this.messages) {
      if (message?.retain) topics.set(message.mqttTopic, [...(topics.get(message.mqttTopic) ?? []), message]);
    }
    for (const [mqttTopic, messages] of topics) {
      const floor = this.retainedFloor.get(mqttTopic) ?? -1;
      const number = found.get(mqttTopic);
      const isAllowed = (message: Message): boolean =>
        message.id >= floor && (message.clears ? number === undefined : number === message.id);
      if (messages.some(isAllowed) || (floor === -1 && number === undefined)) continue;
      throw new Violation(`${mqttTopic} retains message ${number}, it had come to ${floor}`);
    }
    for (const mqttTopic of found.keys()) {
      if (!topics.has(mqttTopic))
        throw new Violation(`${mqttTopic} retains a message that nobody sent there`);
    }
  }

  /** A new subscription was given these. */
  retainedShown(found: ReadonlyMap<string, number>): void {
    for (const number of found.values()) this.isKept(this.messages[number] as Message);
  }

  /** All clients have been connected long enough: what they are owed must have come. */
  judgeDeliveries(): void {
    for (const { id, owed, delivered } of this.clients.values()) {
      for (const number of owed) {
        if (delivered.has(number) || this.messages[number]?.clears) continue;
        throw new Violation(`${id} was never given message ${number}`);
      }
    }
  }
}

export function payloadOf({ id, clears, padding }: Message): string {
  return clears ? "" : `${id}:${"x".repeat(padding)}`;
}

export function numberIn(payload: string): number {
  return Number.parseInt(payload, 10);
}
