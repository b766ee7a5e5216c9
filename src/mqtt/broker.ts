/**
 * The MQTT broker: aedes behind an interface of our own, with the log in front of every acknowledgement.
 *
 * MQTT 3.1 and 3.1.1, QoS 0/1/2, retained messages, wills. A QoS 1 PUBACK and a QoS 2 PUBREC are sent when the
 * message is on disk and not before. QoS 0 and 1 of a connected client come by the lane (`publish-lane.ts`); what
 * of them goes by aedes all the same, and wills, are appended in `authorizePublish`, the only hook that it runs
 * before it acknowledges; QoS 2 where the packet id is stored, once per id. Whatever goes wrong
 * with a client costs that client its connection, unacknowledged, and nobody else anything.
 */
import { once } from "node:events";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { Aedes, type AedesOptions, type Client, type ConnectPacket } from "aedes";
import type { Clock } from "../clock.ts";
import { LogError, messageOf, SluiceError } from "../errors.ts";
import type { Log } from "../log/log.ts";
import { type Logger, RateLimitedLog } from "../logger.ts";
import { Turns } from "../turns.ts";
import {
  type Access,
  BAD_LOGIN,
  connectProblem,
  EVERYBODY,
  mayConnect,
  mayStay,
  STOPPING,
} from "./access.ts";
import { type ConnectedClient, tooManyProblem } from "./connected-client.ts";
import { Deliveries } from "./deliveries.ts";
import { appendTogether, type Companions, type Done, type Ingest } from "./ingest.ts";
import { DEFAULT_MQTT_LIMITS, type MqttLimits } from "./limits.ts";
import { type Listener, Listeners } from "./listeners.ts";
import type { Connection } from "./outbox.ts";
import { ONLY_PRESENT, Persistence } from "./persistence.ts";
import type { LanePublish, PublishLane } from "./publish-lane.ts";
import type { WillValue } from "./records.ts";
import { type Publisher, Sessions, type StoredPacket } from "./sessions.ts";
import {
  filterProblem,
  grantedQos,
  isOfBroker,
  MAX_TOPIC_LEVELS,
  publishProblem,
  topicProblem,
} from "./topic-rules.ts";

export interface MqttBrokerOptions {
  readonly listeners: readonly Listener[];
  /** Everybody may connect when left out. */
  readonly access?: Access;
  readonly limits?: Partial<MqttLimits>;
  readonly clock?: Clock;
}

/** A message of the gateway's own. */
export interface OwnMessage {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  /** Milliseconds since the epoch, from which on no session gets it any more. */
  readonly expiresAt?: number | undefined;
}

export interface MqttStats {
  /** Clients connected now. */
  readonly connections: number;
  /** Connections refused at the limit. */
  readonly refusedConnections: number;
  /** Clients closed for what they sent: malformed, oversized, not allowed, no CONNECT in time. */
  readonly rejectedClients: number;
  /** Subscribers closed because they took nothing for `drainTimeoutMs`. */
  readonly frozenSubscribers: number;
  readonly sessions: number;
  readonly retainedMessages: number;
  /** QoS 1 and 2 messages that sessions still need, each once, and what they take. */
  readonly queuedMessages: number;
  readonly queuedBytes: number;
  /** Messages that made way in a full session's queue. */
  readonly queueOverflows: number;
  /** Messages that their session came for too late. */
  readonly expiredMessages: number;
  readonly evictedSessions: number;
  /** Messages not retained because `maxRetainedMessages` others are. */
  readonly notRetained: number;
}

const COMES_AGAIN = new LogError("READ_ONLY", "one before it was not taken");

type Publish = Parameters<NonNullable<AedesOptions["authorizePublish"]>>[1];
type Forwarded = { topic: string; qos: number; retain: boolean; brokerId?: string | null };

export class MqttBroker {
  private readonly options: MqttBrokerOptions;
  /** One object that all parts look at; `use` changes it. */
  private readonly limits: MqttLimits;
  private access: Access;
  private readonly log: Log;
  private readonly ingest: Ingest;
  private readonly logger: Logger;
  private readonly repeats = new RateLimitedLog();
  private readonly sessions: Sessions;
  private readonly tcp: Listeners;
  private readonly deliveries: Deliveries;
  private readonly clients = new Map<string, Client>();
  private readonly counts = { rejectedClients: 0, frozenSubscribers: 0 };
  private aedes: Aedes | undefined;
  private stopping: Promise<void> | undefined;

  /** `turns`: of all clients of the gateway. */
  constructor(
    options: MqttBrokerOptions,
    log: Log,
    ingest: Ingest,
    logger: Logger,
    turns: Turns = new Turns(),
  ) {
    this.options = options;
    this.limits = { ...DEFAULT_MQTT_LIMITS, ...options.limits };
    this.access = options.access ?? EVERYBODY;
    this.log = log;
    this.ingest = ingest;
    this.logger = logger;
    this.tcp = new Listeners(this.limits, (socket, lane) => this.serve(socket, lane), logger, turns);
    this.deliveries = new Deliveries(this.limits.maxPendingDeliveryBytes);
    this.sessions = new Sessions(this.limits, log, options.clock);
  }

  /**
   * Reads back what it remembered, publishes the wills of clients that died with the gateway, and opens all
   * listeners, or none: throws `SluiceError` for an address that cannot be had.
   */
  async start(): Promise<void> {
    const { limits } = this;
    const wills = await this.sessions.start();
    const aedes = new Aedes({
      mq: this.deliveries,
      persistence: new Persistence(this.sessions, {
        store: (client, packet) => this.storeIncoming(client, packet),
        refusalTold: (error) => new Promise((resolve) => this.tellLater(error, resolve)),
      }),
      concurrency: 0,
      connectTimeout: limits.connectTimeoutMs,
      drainTimeout: limits.drainTimeoutMs,
      maxInflightInbound: limits.maxInFlight,
      maxClientsIdLength: limits.maxClientIdBytes,
      maxTopicLevels: MAX_TOPIC_LEVELS,
      preConnect: (client, packet, done) => this.preConnect(client as ConnectedClient, packet, done),
      authenticate: (_client, username, password, done) => {
        this.mayConnect(username, password).then(
          (may) => done(may ? null : BAD_LOGIN, may),
          (error) => done(error, false),
        );
      },
      authorizePublish: (client, packet, done) =>
        this.authorizePublish(client as ConnectedClient | null, packet, done),
      authorizeSubscribe: (client, subscription, done) => {
        if (subscription === ONLY_PRESENT) {
          done(null, null);
          return;
        }
        const { topic } = subscription;
        const problem = filterProblem(topic) ?? tooManyProblem(client as ConnectedClient, topic, limits);
        done(problem === undefined ? null : new Error(problem), subscription);
      },
      authorizeForward: (client, packet) => this.authorizeForward(client as ConnectedClient, packet),
    });
    this.aedes = aedes;
    this.listenToEvents(aedes);
    await aedes.listen();
    try {
      for (const { publisher, will } of wills) await this.publishWill(publisher, will);
      await this.open(this.options.listeners);
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** Serves a client whose connection did not come by a listener. */
  accept(connection: Duplex): void {
    this.tcp.accept(connection as Socket);
  }

  /** Opens the listeners that are not open yet, or none: throws `SluiceError` for an address that cannot be had. */
  open(listeners: readonly Listener[]): Promise<void> {
    return this.tcp.open(listeners);
  }

  /** Again when the users have changed meanwhile. */
  private async mayConnect(username: string | undefined, password: Buffer | undefined): Promise<boolean> {
    for (;;) {
      const { access } = this;
      const may = await mayConnect(access, username, password);
      if (access === this.access) return may;
    }
  }

  /**
   * From now on these listeners, which are open, users and limits. Clients stay, but for those of a listener that
   * is gone, and those whose user is gone or has another password; a packet's size and the time to CONNECT are those of the limits that a client connected under.
   */
  use({ listeners, access = EVERYBODY, limits }: MqttBrokerOptions): void {
    const before = this.access;
    this.access = access;
    for (const client of this.clients.values()) {
      const { username } = client as ConnectedClient;
      if (!mayStay(before, access, username)) client.close();
    }
    Object.assign(this.limits, limits);
    const { connectTimeoutMs: connectTimeout, maxInFlight: maxInflightInbound, drainTimeoutMs } = this.limits;
    const aedes = this.aedes as Aedes & { opts: AedesOptions };
    Object.assign(aedes, { connectTimeout, maxInflightInbound });
    aedes.opts.drainTimeout = drainTimeoutMs;
    this.tcp.keepOnly(listeners);
  }

  /** Where clients reach it, in the order of the listeners. */
  get addresses(): readonly Listener[] {
    return this.tcp.addresses;
  }

  get stats(): MqttStats {
    return {
      connections: this.clients.size,
      refusedConnections: this.tcp.refused,
      ...this.counts,
      ...this.sessions.counts,
    };
  }

  /**
   * Within `stopTimeoutMs`: stops accepting, lets what is in a commit be acknowledged, disconnects, and waits
   * for the wills' records. What a client publishes meanwhile is left unacknowledged.
   */
  close(): Promise<void> {
    this.stopping ??= this.stop();
    return this.stopping;
  }

  private async stop(): Promise<void> {
    const { aedes } = this;
    const deadline = AbortSignal.timeout(this.limits.stopTimeoutMs);
    const expired = once(deadline, "abort").catch(() => undefined);
    const within = <T>(work: Promise<T>): Promise<unknown> => Promise.race([work, expired]);
    this.tcp.close();
    if (aedes === undefined || aedes.closed) return;
    await within(this.ingest.drained());
    await turn(); // the last acknowledgement is written one turn after its commit
    await within(this.tcp.flush());
    await within(new Promise<void>((resolve) => aedes.close(resolve)));
    // aedes calls back before the last wills have been published: each client's departure comes after its will.
    while (this.clients.size > 0 && !deadline.aborted) await turn();
    await within(this.ingest.drained());
    await within(this.sessions.close());
    this.tcp.destroy();
    if (deadline.aborted) this.logger.warn("MQTT clients were cut off: stopping took too long");
  }

  private listenToEvents(aedes: Aedes): void {
    aedes.on("client", (client) => this.clients.set(client.id, client));
    aedes.on("clientDisconnect", (client) => {
      this.clients.delete(client.id);
      this.sessions.disconnected(client as unknown as Connection);
    });
    const gone = new WeakSet<Client>();
    const failed = (client: Client, error: Error): void => {
      const { code } = error as NodeJS.ErrnoException;
      if (gone.has(client)) return; // every delivery that was under way to it fails in its turn
      gone.add(client);
      if (code === "ECONNRESET" || code === "EPIPE" || error instanceof SluiceError) return;
      const frozen = error.message === "drain timeout";
      this.counts[frozen ? "frozenSubscribers" : "rejectedClients"]++;
      this.repeats.say(frozen ? "frozen" : "rejected", (heldBack) =>
        this.logger.warn({ clientId: client.id, heldBack }, `closed an MQTT client: ${error.message}`),
      );
    };
    aedes.on("clientError", failed);
    aedes.on("connectionError", failed);
    (aedes as NodeJS.EventEmitter).on("error", (error) =>
      this.logger.error(`MQTT broker: ${messageOf(error)}`),
    );
  }

  private serve(socket: Socket, lane: PublishLane): void {
    const client = this.aedes?.handle(socket) as ConnectedClient | undefined;
    client?.once("connected", () =>
      lane.open({
        take: (publish) => this.take(client, publish, lane),
        alive: () => client._keepaliveTimer?.refresh(),
        waitForDrain: (drained) => client.waitForDrain(drained),
        mayPublishTo: (mqttTopic) =>
          topicProblem(mqttTopic) === undefined && mqttTopic.split("/").length <= MAX_TOPIC_LEVELS,
      }),
    );
  }

  private preConnect(
    client: ConnectedClient,
    packet: ConnectPacket,
    done: (error: Error | null, ok: boolean) => void,
  ): void {
    const problem =
      this.stopping === undefined ? connectProblem(packet, this.limits.maxClientIdBytes) : STOPPING;
    if (problem?.returnCode !== undefined) client.conn.write(Buffer.from([0x20, 2, 0, problem.returnCode]));
    client.username = packet.username;
    done(problem === undefined ? null : new Error(problem.words), problem === undefined);
  }

  private authorizePublish(
    client: ConnectedClient | null,
    packet: Publish,
    done: (error?: Error | null) => void,
  ): void {
    // Of what is to be dropped only QoS 2 comes here; it is where its packet id would be stored.
    const problemOf = packet.qos === 2 ? topicProblem : publishProblem;
    // [MQTT-2.3.1-1]
    const problem = packet.messageId === 0 ? "wherever, with the packet id 0" : problemOf(packet.topic);
    if (problem !== undefined) {
      done(new Error(`a publish to ${problem}`));
      return;
    }
    const isWill = client !== null && client.will === packet;
    // Unacknowledged: the client sends it again.
    if ((this.stopping !== undefined || client?.isRefused) && !isWill) return;
    if (packet.qos === 2 && !isWill)
      done(); // appended where its packet id is stored
    else {
      this.append(client, packet as StoredPacket, isWill, (error) => {
        if (error === null) done();
        else this.refuse(client, error, () => done(error));
      });
    }
  }

  /** A PUBLISH of QoS 0 or 1 that did not go by aedes; returns for how many sessions it is kept. */
  private take(client: ConnectedClient, publish: LanePublish, lane: PublishLane): number {
    if (this.stopping !== undefined || client.isRefused) return 0; // as above
    const before = this.sessions.queue.deliveries;
    if (isOfBroker(publish.topic)) {
      this.ingest.dropForbidden(publish.topic, () => {
        lane.acknowledge(publish);
        lane.finish(publish);
      });
      return 0;
    }
    this.append(client, publish, false, (error) => {
      if (error !== null) {
        this.refuse(client, error, () => client.conn.destroy(error));
        return;
      }
      lane.acknowledge(publish);
      if (this.deliveries.isIdle) lane.finish(publish);
      else this.aedes?.publish(publish as Publish, () => lane.finish(publish));
    });
    return this.sessions.queue.deliveries - before;
  }

  private storeIncoming(publisher: Connection, packet: StoredPacket): Promise<void> {
    const client = publisher as Connection & ConnectedClient;
    return new Promise((resolve, reject) => {
      if (this.stopping !== undefined) return; // as above
      if (client.isRefused) {
        reject(COMES_AGAIN);
        return;
      }
      if (isOfBroker(packet.topic)) {
        this.ingest.dropForbidden(packet.topic, resolve);
        return;
      }
      this.append(client, packet, false, (error) => {
        if (error === null) {
          resolve();
          return;
        }
        client.isRefused = true;
        reject(error);
      });
    });
  }

  /** The will of a client that died with the gateway. If the log refuses it, it is tried at the next start. */
  private publishWill(publisher: Publisher, will: WillValue): Promise<void> {
    const { mqttTopic: topic, payload, qos, retain } = will;
    const packet: StoredPacket = { cmd: "publish", topic, payload, qos: qos as 0 | 1 | 2, retain };
    return new Promise((resolve) => this.append(publisher, packet, true, () => resolve()));
  }

  /**
   * Publishes messages of the gateway's own, which no mapping sees: what sessions are owed and what is retained
   * goes to disk in one commit with `more`, then live subscribers get them. Resolves when these have taken what
   * they may be behind by, or are gone; rejects with LogError when nothing of it was written. The MQTT topics
   * are ones that `publishProblem` has nothing against.
   */
  async publish(messages: readonly OwnMessage[], more: readonly Companions[]): Promise<void> {
    const packets = messages.map((message): StoredPacket => ({ cmd: "publish", ...message }));
    const own = packets.flatMap((packet) => this.sessions.companions(null, packet, false) ?? []);
    await appendTogether(this.log, [...own, ...more]);
    const aedes = this.aedes as Aedes;
    await Promise.all(
      packets.map(
        (packet) =>
          new Promise<void>((resolve) =>
            aedes.publish({ ...packet, dup: false } as Publish, () => resolve()),
          ),
      ),
    );
  }

  private append(publisher: Publisher | null, packet: StoredPacket, isWill: boolean, done: Done): void {
    this.ingest.accept(
      {
        mqttTopic: packet.topic,
        payload: packet.payload,
        qos: packet.qos,
        retain: packet.retain,
        clientId: publisher?.id ?? "",
        username: publisher?.username,
        receivedAt: this.ingest.now(),
        companions: this.sessions.companions(publisher, packet, isWill),
      },
      done,
    );
  }

  /** Tells a client that its message was not taken, which ends its connection. */
  private refuse(client: ConnectedClient | null, error: LogError, tell: () => void): void {
    if (client !== null) client.isRefused = true;
    this.tellLater(error, tell);
  }

  /** Told at once it would be back at once, and so would all others, for as long as the disk is away. */
  private tellLater({ code }: LogError, tell: () => void): void {
    const { refusalDelayMs } = this.limits;
    const isTheDisks = code === "READ_ONLY" || code === "DISK_FULL";
    if (isTheDisks) setTimeout(tell, refusalDelayMs * (0.5 + Math.random())).unref();
    else tell();
  }

  /**
   * What aedes forwards to a client, at the lower of the message's and the subscription's QoS [MQTT-3.8.4-6];
   * null for what a session that is kept gets from its queue. aedes itself would send a retained message, and
   * QoS 2 to a wildcard subscription, at too high a QoS.
   */
  private authorizeForward<P extends Forwarded>(client: ConnectedClient, packet: P): P | null {
    if (packet.qos === 0) return packet;
    // The broker's own are of QoS 0: this was dropped.
    if (isOfBroker(packet.topic)) return null;
    if (client.clean && packet.qos === 1 && !packet.retain) return packet;
    const qos = Math.min(packet.qos, grantedQos(client.subscriptions, packet.topic));
    if (client.clean || qos === 0) return qos === packet.qos ? packet : { ...packet, qos };
    // A retained message for a new subscription comes without the broker's name on it.
    if (packet.brokerId) return null;
    return { ...packet, qos, messageId: this.sessions.retainedPacketId(client as unknown as Connection) };
  }
}
