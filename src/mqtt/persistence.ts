/**
 * The broker's memory as aedes calls for it; the methods' names are aedes' (see aedes-persistence). Queued and
 * retained messages were on disk with their record before aedes hears of them, so here it finds nothing left
 * to store, and nothing to forward to a session that is kept: the session's outbox sends by itself.
 */
import { Readable } from "node:stream";
import type { LogError } from "../errors.ts";
import type { Connection } from "./outbox.ts";
import type { Granted, Incoming, Publisher, Sessions, StoredPacket } from "./sessions.ts";

/** Settles at once: aedes drops a delivery that another one overtakes while it waits for a promise. */
class Settled<T> {
  private readonly value: T;

  constructor(value: T) {
    this.value = value;
  }

  // biome-ignore lint/suspicious/noThenProperty: aedes calls `then` for every message; a turn each would let them overtake
  then(ok: (value: T) => void): void {
    ok(this.value);
  }
}

const DONE = new Settled<undefined>(undefined);
const NOBODY = new Settled<never[]>([]);
/**
 * What a session without subscriptions subscribes to, which is nothing: only who has some is told by aedes that
 * its session is present [MQTT-3.2.2-2], and a client that hears the contrary may publish anew at QoS 2 what it
 * has published. `authorizeSubscribe` has to know it.
 */
export const ONLY_PRESENT: Granted = { topic: "$", qos: 0 };
const NOT_FOUND = new Error("no such packet");

/** What becomes of QoS 2 messages from clients. */
export interface Incomings {
  /** Makes a message durable, its packet id with it; rejects with LogError when nothing was written. */
  store(client: Connection, packet: StoredPacket): Promise<void>;
  /** Resolves when the client may hear of it. */
  refusalTold(error: LogError): Promise<void>;
}

export class Persistence {
  private readonly sessions: Sessions;
  private readonly incomings: Incomings;
  private readonly incomingOfClean = new WeakMap<Connection, Incoming>();

  /** `incomings.store` is called once per packet id, and again when it failed. */
  constructor(sessions: Sessions, incomings: Incomings) {
    this.sessions = sessions;
    this.incomings = incomings;
  }

  // aedes insists on an async function here.
  async setup(): Promise<void> {}

  // ── Subscriptions

  async addSubscriptions(client: Connection, subscriptions: readonly Granted[]): Promise<void> {
    const { sessions } = this;
    const { limits } = sessions;
    const session = sessions.of(client);
    const writes: Promise<void>[] = [];
    for (const { topic, qos } of subscriptions) {
      // One that is asked for again is not acknowledged before it is on disk, either.
      const isSaved = session.subscriptions.get(topic)?.qos === qos && !session.unsaved.has(topic);
      if (session.isGone || isSaved) continue;
      if (Math.max(session.subscriptions.size, session.unsaved.size) >= limits.maxSubscriptionsPerSession) {
        throw new Error(`more than ${limits.maxSubscriptionsPerSession} subscriptions in a session`);
      }
      sessions.subscribe(session, { topic, qos });
      writes.push(sessions.saveSubscription(session, topic, { qos }));
    }
    await Promise.all(writes);
  }

  async removeSubscriptions(client: Connection, filters: readonly string[]): Promise<void> {
    const { sessions } = this;
    const session = sessions.find(client);
    if (session === undefined || session.isGone) return;
    const { subscriptions, unsaved } = session;
    const known = filters.filter((filter) => subscriptions.has(filter) || unsaved.has(filter));
    const writes = known.map((filter) => {
      sessions.unsubscribe(session, filter);
      return sessions.saveSubscription(session, filter, null);
    });
    await Promise.all(writes);
  }

  async subscriptionsByClient({ id }: { readonly id: string }): Promise<Granted[]> {
    const subscriptions = this.sessions.named(id)?.subscriptions;
    if (subscriptions === undefined) return [];
    return subscriptions.size === 0
      ? [ONLY_PRESENT]
      : [...subscriptions.values()].map(({ topic, qos }) => ({ topic, qos }));
  }

  /** A clean session begins: nothing of an earlier one is left [MQTT-3.1.2-6]. */
  async cleanSubscriptions({ id }: { readonly id: string }): Promise<void> {
    const session = this.sessions.toEnd(id);
    if (session !== undefined) await this.sessions.forget(session);
  }

  // ── Messages to clients

  subscriptionsByTopic(): Settled<never[]> {
    return NOBODY;
  }

  outgoingEnqueueCombi(): Settled<undefined> {
    return DONE;
  }

  storeRetained(): Settled<undefined> {
    return DONE;
  }

  createRetainedStreamCombi(filters: readonly string[]): Readable {
    return Readable.from(this.sessions.retained.under(filters));
  }

  /** A connection is ready for what its session is owed. */
  outgoingStream(client: Connection): Readable {
    this.sessions.resume(client);
    return Readable.from([]);
  }

  /** PUBREC: resolves when the PUBREL may go out. */
  async outgoingUpdate(client: Connection, { messageId }: StoredPacket): Promise<void> {
    const session = this.sessions.find(client);
    if (session !== undefined) await this.sessions.queue.released(session.outbox, messageId as number);
  }

  /** PUBACK or PUBCOMP; or, without a packet id, what is not forwarded because it is queued. */
  async outgoingClearMessageId(client: Connection, { cmd, messageId }: StoredPacket): Promise<void> {
    const session = messageId === undefined ? undefined : this.sessions.find(client);
    if (session !== undefined) this.sessions.queue.completed(session.outbox, cmd, messageId as number);
  }

  // ── QoS 2 publishes from a client: each packet id once, until its PUBREL [MQTT-4.3.3-2]

  /** A clean session's live and die with its connection. */
  private incomingOf(client: Connection): Incoming {
    const session = this.sessions.find(client);
    const incoming = session?.incoming ?? this.incomingOfClean.get(client) ?? new Map();
    if (client.clean) this.incomingOfClean.set(client, incoming);
    return incoming;
  }

  async incomingStorePacket(client: Connection, packet: StoredPacket): Promise<void> {
    const { maxInFlight } = this.sessions.limits;
    const incoming = client.clean ? this.incomingOf(client) : this.sessions.of(client).incoming;
    const id = packet.messageId as number;
    const known = incoming.get(id);
    // Both were looked for before either was stored: the later one is no second message, either.
    if (known !== undefined) return known ?? undefined;
    if (incoming.size >= maxInFlight) throw new Error(`${maxInFlight} QoS 2 messages were not released`);
    const stored = this.incomings.store(client, packet).then(
      () => {
        if (incoming.get(id) === stored) incoming.set(id, null);
      },
      (error: unknown) => {
        if (incoming.get(id) === stored) incoming.delete(id);
        throw error;
      },
    );
    incoming.set(id, stored);
    try {
      await stored;
    } catch (error) {
      // Only the connection waits for that: over a new one the message may come again at once, before the next.
      await this.incomings.refusalTold(error as LogError);
      throw error;
    }
  }

  /**
   * Found once the message is on disk: a retransmission waits for the first one instead of being a second. A
   * PUBREL waits for nothing: were it taken for one of an unknown id because an earlier one fails, the id would
   * stay, and its next message be taken for this one.
   */
  async incomingGetPacket(client: Connection, packet: StoredPacket): Promise<StoredPacket> {
    const stored = this.incomingOf(client).get(packet.messageId as number);
    if (stored === undefined) throw NOT_FOUND;
    if (packet.cmd !== "pubrel") await stored;
    return packet;
  }

  /** PUBREL: resolves when the PUBCOMP may go out. */
  async incomingDelPacket(client: Connection, packet: StoredPacket): Promise<void> {
    const packetId = packet.messageId as number;
    const incoming = this.incomingOf(client);
    const session = this.sessions.find(client);
    if (session === undefined || !incoming.has(packetId)) {
      incoming.delete(packetId);
      return;
    }
    const { store } = this.sessions;
    const released = store.write(store.entry("received", { session: session.number, packetId }, null));
    // A PUBREL that comes again, over another connection, waits for the first.
    incoming.set(packetId, released);
    try {
      await released;
      if (incoming.get(packetId) === released) incoming.delete(packetId);
    } catch {
      if (incoming.get(packetId) === released) incoming.set(packetId, null);
      // aedes would send the PUBCOMP all the same, and a restart would take the id's next message for this one.
      client.conn.destroy();
      await new Promise(() => {});
    }
  }

  async cleanIncoming(): Promise<void> {}

  // ── Wills. Whoever publishes one deletes it in the same commit; aedes would name the client id, which may
  // be another connection's by then.

  async putWill(client: Connection & Publisher, will: StoredPacket): Promise<void> {
    if (!client.closed) await this.sessions.keepWill(client, will);
  }

  async delWill(): Promise<void> {}

  streamWill(): Readable {
    return Readable.from([]);
  }
}
