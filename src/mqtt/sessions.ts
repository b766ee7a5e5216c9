/**
 * What the broker remembers for its clients: retained messages, and for each session its subscriptions, the
 * QoS 1 and 2 messages that it has not acknowledged, and the packet ids of QoS 2 publishes under way. It is
 * aedes' persistence (the methods' names are its), in memory and bounded.
 *
 * aedes drops a delivery that another one overtakes (it takes the broker's counter for a duplicate's). So
 * what stands between the counter and the delivery settles at once here: `Settled` instead of a promise.
 */
import { Readable } from "node:stream";
import { FilterTrie } from "../mapping/filter-trie.ts";
import { TopicFilter } from "../mapping/topic-filter.ts";

export interface SessionLimits {
  /** QoS 1 and 2 messages kept for a session; the oldest make way. */
  readonly maxQueuedMessages: number;
  /** Sessions kept; the one that has been away longest makes way. */
  readonly maxSessions: number;
  /** MQTT topics with a retained message; beyond it new ones are not retained. */
  readonly maxRetainedMessages: number;
}

/** The parts of aedes' packets and clients that are used here. */
export interface StoredPacket {
  readonly cmd: string;
  readonly brokerId: string;
  readonly brokerCounter: number;
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  readonly dup: boolean;
  messageId?: number;
}
export interface SessionClient {
  readonly id: string;
}
interface Granted {
  readonly topic: string;
  readonly qos: 0 | 1 | 2;
}
interface Subscriber extends Granted {
  readonly clientId: string;
}
interface Queued {
  packet: StoredPacket;
  /** The connection it was last sent on. */
  sentTo: SessionClient | undefined;
}

class Session {
  readonly subscriptions = new Map<string, Subscriber>();
  /** By the broker's counter, in the order of arrival. */
  readonly outgoing = new Map<number, Queued>();
  readonly outgoingById = new Map<number, Queued>();
  /** QoS 2 packet ids until their PUBREL: a promise while the message is on its way to the disk, then null. */
  readonly incoming = new Map<number, Promise<void> | null>();

  get isEmpty(): boolean {
    return this.subscriptions.size + this.outgoing.size + this.incoming.size === 0;
  }
}

/** Is settled when it is made and calls back at once; enough of a promise for whoever calls `then`. */
class Settled<T> {
  private readonly value: T;

  constructor(value: T) {
    this.value = value;
  }

  // biome-ignore lint/suspicious/noThenProperty: aedes calls `then` for every message; a turn each would cost more than the look-up
  then(ok: (value: T) => void): void {
    ok(this.value);
  }
}

const NOTHING = new Settled<void>(undefined);
const NOT_FOUND = new Error("no such packet");
const ABSENT = {
  // biome-ignore lint/suspicious/noThenProperty: as above
  then(_ok: unknown, failed: (error: Error) => void): void {
    failed(NOT_FOUND);
  },
};

export class SessionStore {
  private readonly limits: SessionLimits;
  private readonly storeIncoming: (client: SessionClient, packet: StoredPacket) => Promise<void>;
  private readonly isConnected: (clientId: string) => boolean;
  private readonly retained = new Map<string, StoredPacket>();
  /** The longest untouched first. */
  private readonly sessions = new Map<string, Session>();
  private readonly trie = new FilterTrie<Subscriber>();
  readonly counts = { queueOverflows: 0, evictedSessions: 0, notRetained: 0 };

  /** `storeIncoming` makes a QoS 2 message durable; it is called once per packet id. */
  constructor(
    limits: SessionLimits,
    storeIncoming: (client: SessionClient, packet: StoredPacket) => Promise<void>,
    isConnected: (clientId: string) => boolean,
  ) {
    this.limits = limits;
    this.storeIncoming = storeIncoming;
    this.isConnected = isConnected;
  }

  get retainedMessages(): number {
    return this.retained.size;
  }

  get size(): number {
    return this.sessions.size;
  }

  // aedes insists on an async function here.
  async setup(): Promise<void> {}

  // ── Retained messages [MQTT-3.3.1-5 … 3.3.1-10]

  storeRetained(packet: StoredPacket): Settled<void> {
    if (packet.payload.length === 0) this.retained.delete(packet.topic);
    else if (this.retained.has(packet.topic) || this.retained.size < this.limits.maxRetainedMessages) {
      this.retained.set(packet.topic, copyOf(packet));
    } else this.counts.notRetained++;
    return NOTHING;
  }

  createRetainedStreamCombi(filters: readonly string[]): Readable {
    return Readable.from(this.retainedUnder(filters.map((filter) => TopicFilter.parse(filter))));
  }

  private *retainedUnder(filters: readonly TopicFilter[]): Generator<StoredPacket> {
    for (const filter of filters) {
      const plain = filter.levels.every((level) => level.kind === "literal");
      if (plain) {
        const packet = this.retained.get(filter.text);
        if (packet !== undefined) yield packet;
      } else {
        for (const packet of this.retained.values()) if (filter.matches(packet.topic)) yield packet;
      }
    }
  }

  // ── Sessions

  private open(clientId: string): Session {
    let session = this.sessions.get(clientId);
    if (session === undefined) {
      if (this.sessions.size >= this.limits.maxSessions) this.evict();
      session = new Session();
    } else this.sessions.delete(clientId);
    this.sessions.set(clientId, session);
    return session;
  }

  private evict(): void {
    for (const clientId of this.sessions.keys()) {
      if (this.isConnected(clientId)) continue;
      this.forget(clientId);
      this.counts.evictedSessions++;
      return;
    }
  }

  private forget(clientId: string): void {
    const session = this.sessions.get(clientId);
    if (session === undefined) return;
    for (const filter of session.subscriptions.keys()) this.unsubscribe(session, filter);
    this.sessions.delete(clientId);
  }

  private dropIfEmpty(clientId: string): void {
    if (this.sessions.get(clientId)?.isEmpty) this.sessions.delete(clientId);
  }

  private unsubscribe(session: Session, filter: string): void {
    const subscriber = session.subscriptions.get(filter);
    if (subscriber === undefined) return;
    session.subscriptions.delete(filter);
    this.trie.remove(TopicFilter.parse(filter).levels, subscriber);
  }

  async addSubscriptions(client: SessionClient, subscriptions: readonly Granted[]): Promise<void> {
    const session = this.open(client.id);
    for (const { topic, qos } of subscriptions) {
      this.unsubscribe(session, topic);
      const subscriber = { clientId: client.id, topic, qos };
      session.subscriptions.set(topic, subscriber);
      this.trie.add(TopicFilter.parse(topic).levels, subscriber);
    }
  }

  async removeSubscriptions(client: SessionClient, filters: readonly string[]): Promise<void> {
    const session = this.sessions.get(client.id);
    if (session !== undefined) for (const filter of filters) this.unsubscribe(session, filter);
    this.dropIfEmpty(client.id);
  }

  async subscriptionsByClient(client: SessionClient): Promise<Granted[]> {
    if (!this.sessions.has(client.id)) return [];
    return [...this.open(client.id).subscriptions.values()].map(({ topic, qos }) => ({ topic, qos }));
  }

  /** A clean session begins: nothing of an earlier one is left [MQTT-3.1.2-6]. */
  async cleanSubscriptions(client: SessionClient): Promise<void> {
    this.forget(client.id);
  }

  /** The sessions that a QoS 1 or 2 message is kept for: each once, with its highest QoS. */
  subscriptionsByTopic(mqttTopic: string): Settled<Subscriber[]> {
    const found = new Map<string, Subscriber>();
    this.trie.match(mqttTopic, (subscriber) => {
      if (subscriber.qos === 0) return;
      const known = found.get(subscriber.clientId);
      if (known === undefined || known.qos < subscriber.qos) found.set(subscriber.clientId, subscriber);
    });
    return new Settled([...found.values()]);
  }

  // ── Messages to a session, kept until it acknowledges

  outgoingEnqueueCombi(subscribers: readonly Subscriber[], packet: StoredPacket): Settled<void> {
    let copy: StoredPacket | undefined;
    for (const { clientId, qos } of subscribers) {
      const session = this.sessions.get(clientId);
      if (session === undefined) continue;
      copy ??= copyOf(packet);
      const { outgoing } = session;
      if (outgoing.size >= this.limits.maxQueuedMessages) {
        this.counts.queueOverflows++;
        const [oldest] = outgoing.keys();
        if (oldest === undefined) continue;
        this.dequeue(session, outgoing.get(oldest) as Queued);
      }
      // [MQTT-3.3.1-9]: to an established subscription without the retain flag; section 3.8.4: the lower QoS.
      const kept = { ...copy, qos: Math.min(qos, packet.qos) as 1 | 2, retain: false };
      outgoing.set(packet.brokerCounter, { packet: kept, sentTo: undefined });
    }
    return NOTHING;
  }

  /** Before a packet is sent: its id is noted. After PUBREC: the PUBREL stands where the message stood. */
  async outgoingUpdate(client: SessionClient, packet: StoredPacket): Promise<void> {
    const session = this.sessions.get(client.id);
    if (session === undefined) return;
    const { outgoing, outgoingById } = session;
    if (packet.cmd === "pubrel") {
      const queued = outgoingById.get(packet.messageId as number);
      if (queued === undefined) return;
      const { brokerCounter } = queued.packet;
      queued.packet = { ...queued.packet, cmd: "pubrel", payload: Buffer.alloc(0), brokerCounter };
      return;
    }
    const queued = outgoing.get(packet.brokerCounter);
    if (queued === undefined) return; // made way when the queue was full: sent, but not again
    // A resumed session counts its ids anew; one that is still out must not be given twice [MQTT-2.3.1-2].
    let messageId = packet.messageId as number;
    while (outgoingById.has(messageId) && outgoingById.get(messageId) !== queued) {
      messageId = (messageId % 65_535) + 1;
    }
    packet.messageId = messageId;
    queued.packet.messageId = messageId;
    queued.sentTo = client;
    outgoingById.set(messageId, queued);
  }

  /** PUBACK or PUBCOMP: the message is done with. */
  async outgoingClearMessageId(
    client: SessionClient,
    packet: StoredPacket,
  ): Promise<StoredPacket | undefined> {
    const session = this.sessions.get(client.id);
    const queued = session?.outgoingById.get(packet.messageId as number);
    if (session === undefined || queued === undefined) return undefined;
    this.dequeue(session, queued);
    this.dropIfEmpty(client.id);
    return queued.packet;
  }

  private dequeue(session: Session, queued: Queued): void {
    session.outgoing.delete(queued.packet.brokerCounter);
    const { messageId } = queued.packet;
    if (messageId !== undefined) session.outgoingById.delete(messageId);
  }

  /** What a session that comes back is owed, in order; what had been sent before is marked [MQTT-3.3.1-1]. */
  outgoingStream(client: SessionClient): Readable {
    return Readable.from(owed([...(this.sessions.get(client.id)?.outgoing.values() ?? [])], client));
  }

  // ── QoS 2 publishes from a client: each packet id is stored once, until its PUBREL [MQTT-4.3.3-2]

  incomingStorePacket(client: SessionClient, packet: StoredPacket): Promise<void> {
    const { incoming } = this.open(client.id);
    const id = packet.messageId as number;
    const stored = this.storeIncoming(client, packet).then(
      () => {
        if (incoming.get(id) === stored) incoming.set(id, null);
      },
      (error: unknown) => {
        if (incoming.get(id) === stored) incoming.delete(id);
        throw error;
      },
    );
    incoming.set(id, stored);
    return stored;
  }

  /** Found once the message is on disk: a retransmission waits for the first one instead of being a second. */
  incomingGetPacket(client: SessionClient, packet: StoredPacket): PromiseLike<StoredPacket> {
    const stored = this.sessions.get(client.id)?.incoming.get(packet.messageId as number);
    if (stored === undefined) return ABSENT as unknown as PromiseLike<StoredPacket>;
    return (stored ?? Promise.resolve()).then(() => packet);
  }

  async incomingDelPacket(client: SessionClient, packet: StoredPacket): Promise<void> {
    this.sessions.get(client.id)?.incoming.delete(packet.messageId as number);
    this.dropIfEmpty(client.id);
  }

  async cleanIncoming(client: SessionClient): Promise<void> {
    // A new map: what is still on its way to the disk must not come back into the session that follows.
    this.sessions.get(client.id)?.incoming.clear();
    this.dropIfEmpty(client.id);
  }

  // ── Wills are held by the connection; nothing outlives the process here.

  async putWill(): Promise<void> {}
  async delWill(): Promise<void> {}
  streamWill(): Readable {
    return Readable.from([]);
  }
}

function* owed(queue: readonly Queued[], client: SessionClient): Generator<StoredPacket> {
  for (const queued of queue) {
    if (queued.sentTo === client) continue; // came in meanwhile and was delivered directly
    yield { ...queued.packet, dup: queued.packet.cmd === "publish" && queued.sentTo !== undefined };
  }
}

/** The payload is a slice of what was read from a socket; what is kept must not hold on to all of that. */
function copyOf(packet: StoredPacket): StoredPacket {
  const { brokerId, brokerCounter, topic, payload, qos, retain } = packet;
  return {
    cmd: "publish",
    brokerId,
    brokerCounter,
    topic,
    payload: Buffer.from(payload),
    qos,
    retain,
    dup: false,
  };
}
