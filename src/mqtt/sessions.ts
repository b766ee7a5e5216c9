/**
 * What the broker remembers for its clients, through restarts: sessions with their subscriptions, queued
 * messages and QoS 2 packet ids; retained messages; wills. What must be on disk *with* a message is settled
 * before aedes hears of it: `companions` gives the changes that go into the message's own commit.
 *
 * A session belongs to its client id from the first thing there is to keep until a clean session begins
 * [MQTT-3.1.2-6]. What a connection with a clean session has is kept with the connection only.
 */
import type { Clock } from "../clock.ts";
import type { Log } from "../log/log.ts";
import { FilterTrie } from "../mapping/filter-trie.ts";
import { TopicFilter } from "../mapping/topic-filter.ts";
import type { Companions } from "./ingest.ts";
import type { Connection, Outbox } from "./outbox.ts";
import { Queue, type QueueLimits } from "./queue.ts";
import type { Fact, ProgressValue, WillValue } from "./records.ts";
import { type RetainedLimits, RetainedMessages } from "./retained.ts";
import { type Change, StateStore } from "./state-store.ts";

export interface SessionLimits extends QueueLimits, RetainedLimits {
  /** Sessions kept; the one that has been away longest makes way. */
  readonly maxSessions: number;
  readonly maxSubscriptionsPerSession: number;
  /** QoS 2 messages of a client that have not been released. */
  readonly maxInFlight: number;
}

/** The parts of aedes' packets that are used here. */
export interface StoredPacket {
  readonly cmd: string;
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  messageId?: number;
  /** Milliseconds since the epoch, from which on no queue sends it any more. */
  readonly expiresAt?: number | undefined;
}

/** Who published: a connection, or the client of one that died with the gateway. */
export interface Publisher {
  readonly id: string;
  readonly username?: string | undefined;
}

export interface Granted {
  readonly topic: string;
  readonly qos: 0 | 1 | 2;
}
interface Subscriber extends Granted {
  readonly outbox: Outbox;
}

/**
 * QoS 2 packet ids until their release is on disk: a promise while the message or the release is on its way
 * there, null in between.
 */
export type Incoming = Map<number, Promise<void> | null>;

export class Session {
  readonly clientId: string;
  readonly outbox: Outbox;
  readonly subscriptions = new Map<string, Subscriber>();
  readonly incoming: Incoming = new Map();
  /** By topic filter: the newest write of what its subscription is, until it is on disk. */
  readonly unsaved = new Map<string, Promise<void>>();
  /** A start would not find it, and would take what belongs to it for an earlier one's. */
  isUnwritten = false;
  /** A clean session has begun, or it made way. Whoever still works on it works for nothing. */
  isGone = false;

  constructor(clientId: string, outbox: Outbox) {
    this.clientId = clientId;
    this.outbox = outbox;
  }

  get number(): number {
    return this.outbox.number;
  }
}

export class Sessions {
  readonly limits: SessionLimits;
  readonly store: StateStore;
  readonly retained: RetainedMessages;
  readonly queue: Queue;
  /** The longest away first. */
  private readonly sessions = new Map<string, Session>();
  /** The session that a connection began with, whatever its client id has by now. */
  private readonly bound = new WeakMap<Connection, Session>();
  /** By client id: the newest session whose end is not on disk yet. */
  private readonly ending = new Map<string, Session>();
  /** The numbers of the wills on disk. */
  private readonly wills = new WeakMap<Publisher, number>();
  private readonly trie = new FilterTrie<Subscriber>();
  private queueingFilters = 0;
  private evictedSessions = 0;

  constructor(limits: SessionLimits, log: Log, clock?: Clock) {
    this.limits = limits;
    this.store = new StateStore(log);
    this.retained = new RetainedMessages(limits, this.store);
    this.queue = new Queue(limits, this.store, clock);
  }

  get counts() {
    const { messages, bytes } = this.queue.size;
    return {
      sessions: this.sessions.size,
      evictedSessions: this.evictedSessions,
      queuedMessages: messages,
      queuedBytes: bytes,
      queueOverflows: this.queue.overflows,
      expiredMessages: this.queue.expired,
      retainedMessages: this.retained.size,
      notRetained: this.retained.notRetained,
    };
  }

  // ── Reading back

  /** Reads the state back; returns the wills of the connections that the last gateway left open. */
  async start(): Promise<{ publisher: Publisher; will: WillValue }[]> {
    const byNumber = new Map<number, Session>();
    const progress = new Map<number, ProgressValue>();
    const wills = new Map<number, WillValue>();
    await this.store.start((fact) => this.readBack(fact, byNumber, progress, wills));
    for (const [number, value] of progress) byNumber.get(number)?.outbox.restore(value);
    this.queue.restore(new Map([...byNumber].map(([number, { outbox }]) => [number, outbox])));
    return [...wills].map(([number, will]) => {
      const publisher = { id: will.clientId, username: will.username ?? undefined };
      this.wills.set(publisher, number);
      return { publisher, will };
    });
  }

  private readBack(
    fact: Fact,
    byNumber: Map<number, Session>,
    progress: Map<number, ProgressValue>,
    wills: Map<number, WillValue>,
  ): void {
    switch (fact.kind) {
      case "session": {
        const { clientId } = fact.key;
        const old = this.sessions.get(clientId);
        if (old !== undefined) this.remove(old);
        byNumber.delete(old?.number ?? -1);
        if (fact.value !== null) byNumber.set(fact.value.number, this.add(clientId, fact.value.number));
        break;
      }
      case "retained":
        this.retained.set(fact.key.mqttTopic, fact.value);
        break;
      case "queued":
        this.queue.readBack(fact.key.number, fact.value);
        break;
      case "will":
        if (fact.value === null) wills.delete(fact.key.number);
        else wills.set(fact.key.number, { ...fact.value, payload: Buffer.from(fact.value.payload) });
        break;
      default: {
        // Of a session that is no more: deleted in passing.
        const session = byNumber.get(fact.key.session);
        if (session !== undefined) this.readBackOf(session, fact, progress);
        else if (fact.value !== null) this.queue.deleteLater(fact.kind, fact.key as never);
      }
    }
  }

  private readBackOf(
    session: Session,
    { kind, key, value }: Extract<Fact, { key: { session: number } }>,
    progress: Map<number, ProgressValue>,
  ): void {
    if (kind === "subscription") {
      if (value === null) this.unsubscribe(session, key.filter);
      else this.subscribe(session, { topic: key.filter, qos: value.qos as 0 | 1 | 2 });
    } else if (kind === "received") {
      if (value === null) session.incoming.delete(key.packetId);
      else session.incoming.set(key.packetId, null);
    } else if (value !== null) progress.set(key.session, value);
  }

  // ── A message on its way to the disk

  /** What has to be on disk in the same commit as a message; undefined for an ordinary one. */
  companions(publisher: Publisher | null, packet: StoredPacket, isWill: boolean): Companions | undefined {
    const isQueued = packet.qos > 0 && this.queueingFilters > 0;
    const isReceived = packet.qos === 2 && !isWill && (publisher as Connection | null)?.clean === false;
    const will = isWill ? this.wills.get(publisher as Publisher) : undefined;
    if (!isQueued && !isReceived && !packet.retain && will === undefined) return undefined;
    const changes: Change[] = [];
    const add = (change: Change | undefined): void => {
      if (change !== undefined) changes.push(change);
    };
    return {
      entries: () => {
        if (isReceived) {
          const key = {
            session: this.of(publisher as Connection).number,
            packetId: packet.messageId as number,
          };
          add({ entry: this.store.entry("received", key, {}) });
        }
        if (will !== undefined) {
          this.wills.delete(publisher as Publisher);
          add({ entry: this.store.entry("will", { number: will }, null) });
        }
        if (packet.retain) add(this.retained.change(packet));
        if (isQueued) add(this.queue.change(packet, this.subscribersOf(packet)));
        return changes.map(({ entry }) => entry);
      },
      settle: (error) => {
        for (const change of changes) change.settle?.(error === null);
      },
    };
  }

  /** The sessions that a message is kept for, each once, with the lower of its highest QoS and the message's. */
  private subscribersOf({ topic, qos }: StoredPacket): Map<Outbox, 1 | 2> {
    const found = new Map<Outbox, 1 | 2>();
    this.trie.match(topic, (subscriber) => {
      const lower = Math.min(subscriber.qos, qos) as 1 | 2;
      if ((found.get(subscriber.outbox) ?? 0) < lower) found.set(subscriber.outbox, lower);
    });
    return found;
  }

  // ── Sessions

  /** A connection's session, if there is one that is kept. */
  find(client: Connection): Session | undefined {
    return client.clean ? undefined : (this.bound.get(client) ?? this.named(client.id));
  }

  /** The session that a clean one ends: also one whose end another connection has asked for, and is not on disk. */
  toEnd(clientId: string): Session | undefined {
    return this.sessions.get(clientId) ?? this.ending.get(clientId);
  }

  named(clientId: string): Session | undefined {
    return this.sessions.get(clientId);
  }

  /** The session of a connection that wants one to be kept; made when there is something to keep. */
  of(client: Connection): Session {
    const bound = this.bound.get(client);
    const session = bound ?? this.sessions.get(client.id) ?? this.begin(client.id);
    if (session.isUnwritten && !session.isGone) this.write(session);
    if (bound === undefined) {
      this.bound.set(client, session);
      session.outbox.attach(client);
    }
    return session;
  }

  private begin(clientId: string): Session {
    if (this.sessions.size >= this.limits.maxSessions) this.evict();
    const session = this.add(clientId, this.store.newNumber());
    session.isUnwritten = true;
    return session;
  }

  /** Before whatever belongs to it. If it cannot be written, neither can that; what comes later needs it again. */
  private write(session: Session): void {
    const { clientId, number } = session;
    session.isUnwritten = false;
    this.store.append([this.store.entry("session", { clientId }, { number })], (error) => {
      if (error !== null) session.isUnwritten = true;
    });
  }

  private add(clientId: string, number: number): Session {
    const session = new Session(clientId, this.queue.newOutbox(number));
    this.sessions.set(clientId, session);
    return session;
  }

  private evict(): void {
    for (const session of this.sessions.values()) {
      if (session.outbox.isConnected) continue;
      this.evictedSessions++;
      this.forget(session).catch(() => {}); // then it is there again after a restart, and makes way again
      return;
    }
  }

  /** A session is resumed: it sends what it owes. */
  resume(client: Connection): void {
    const session = this.find(client);
    if (session === undefined) return;
    this.bound.set(client, session);
    const attach = (): void => session.outbox.attach(client);
    // A PUBREL that is due must not go out before its PUBREC is on disk.
    this.queue.saved(session.outbox).then(attach, () => client.conn.destroy());
  }

  /** Resolves when a restart would not find it. */
  async forget(session: Session): Promise<void> {
    const { number, clientId, subscriptions, incoming } = session;
    if (!session.isGone) this.remove(session);
    this.ending.set(clientId, session);
    await this.store.write(this.store.entry("session", { clientId }, null));
    if (this.ending.get(clientId) !== session) return;
    this.ending.delete(clientId);
    for (const filter of subscriptions.keys()) {
      this.queue.deleteLater("subscription", { session: number, filter });
    }
    for (const packetId of incoming.keys()) {
      this.queue.deleteLater("received", { session: number, packetId });
    }
    this.queue.forget(session.outbox);
  }

  private remove(session: Session): void {
    session.isGone = true;
    this.sessions.delete(session.clientId);
    for (const subscriber of session.subscriptions.values()) this.unlist(subscriber);
  }

  subscribe(session: Session, { topic, qos }: Granted): void {
    this.unsubscribe(session, topic);
    const subscriber = { outbox: session.outbox, topic, qos };
    session.subscriptions.set(topic, subscriber);
    if (qos === 0) return;
    this.queueingFilters++;
    this.trie.add(TopicFilter.parse(topic).levels, subscriber);
  }

  unsubscribe(session: Session, filter: string): void {
    const subscriber = session.subscriptions.get(filter);
    if (subscriber === undefined) return;
    session.subscriptions.delete(filter);
    this.unlist(subscriber);
  }

  private unlist(subscriber: Subscriber): void {
    if (subscriber.qos === 0) return;
    this.queueingFilters--;
    this.trie.remove(TopicFilter.parse(subscriber.topic).levels, subscriber);
  }

  /** Resolves when it is on disk what the subscription to a filter is now; null for none. */
  saveSubscription(session: Session, filter: string, value: { qos: number } | null): Promise<void> {
    const { unsaved, number } = session;
    const saving = this.store.write(this.store.entry("subscription", { session: number, filter }, value));
    unsaved.set(filter, saving);
    const saved = (): unknown => unsaved.get(filter) === saving && unsaved.delete(filter);
    saving.then(saved, () => {}); // then it stays, and whoever asks again has it written again
    return saving;
  }

  /** A connection's will, on disk as long as it is open. Resolves when it is. */
  async keepWill(client: Connection & Publisher, will: StoredPacket): Promise<void> {
    const { topic: mqttTopic, qos, retain } = will;
    const { id: clientId, username = null } = client;
    const number = this.store.newNumber();
    this.wills.set(client, number);
    const payload = Buffer.from(will.payload);
    await this.store.write(
      this.store.entry("will", { number }, { clientId, username, mqttTopic, payload, qos, retain }),
    );
  }

  /** A connection has ended. */
  disconnected(client: Connection): void {
    const session = this.find(client);
    session?.outbox.detach(client);
    if (session !== undefined && !session.isGone && !session.outbox.isConnected) {
      this.sessions.delete(client.id);
      this.sessions.set(client.id, session);
    }
    // One that was published is not there any more: this is a DISCONNECT [MQTT-3.1.2-10].
    const will = this.wills.get(client);
    if (will === undefined) return;
    this.wills.delete(client);
    this.store.append([this.store.entry("will", { number: will }, null)], () => {});
  }

  /** The id for a retained message to a session that is kept: not one that its queue will use. */
  retainedPacketId(client: Connection): number {
    return this.of(client).outbox.newRetainedId();
  }

  /** Writes what waits for a reason to be written. */
  close(): Promise<void> {
    return this.queue.flush();
  }
}
