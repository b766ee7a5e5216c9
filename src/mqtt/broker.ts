/**
 * The MQTT broker: aedes behind an interface of our own, with the log in front of every acknowledgement.
 *
 * MQTT 3.1 and 3.1.1, QoS 0/1/2, retained messages, wills. A QoS 1 PUBACK and a QoS 2 PUBREC are sent when the
 * message is on disk and not before: QoS 0 and 1 (and wills) are appended in `authorizePublish`, the only hook
 * that aedes runs before it acknowledges; QoS 2 where the packet id is stored, once per id. Whatever goes wrong
 * with a client costs that client its connection, unacknowledged, and nobody else anything.
 */
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { setImmediate as turn } from "node:timers/promises";
import { Aedes, type AedesOptions, type Client, type ConnectPacket } from "aedes";
import { messageOf, SluiceError } from "../errors.ts";
import { type Logger, RateLimitedLog } from "../logger.ts";
import { MappingSyntaxError } from "../mapping/syntax-error.ts";
import { TopicFilter } from "../mapping/topic-filter.ts";
import { Deliveries } from "./deliveries.ts";
import { FramingGuard } from "./framing.ts";
import type { Ingest } from "./ingest.ts";
import { type SessionClient, type SessionLimits, SessionStore, type StoredPacket } from "./sessions.ts";

export interface MqttLimits extends SessionLimits {
  /** The largest packet, fixed header included. */
  readonly maxPacketBytes: number;
  readonly maxConnections: number;
  /** QoS 2 messages of a client that have not been released; QoS 0 and 1 are bounded by `READ_AHEAD_BYTES`. */
  readonly maxInFlight: number;
  /** From the TCP connection to CONNECT. */
  readonly connectTimeoutMs: number;
  /** How long a subscriber may take nothing before it is disconnected. */
  readonly drainTimeoutMs: number;
  /** What may be on its way to subscribers before publishers wait for them. */
  readonly maxPendingDeliveryBytes: number;
  readonly maxClientIdBytes: number;
  /** The bound of `close()`. */
  readonly stopTimeoutMs: number;
}

export const DEFAULT_MQTT_LIMITS: MqttLimits = {
  maxPacketBytes: 256 << 10,
  maxConnections: 10_000,
  maxInFlight: 1_024,
  connectTimeoutMs: 10_000,
  drainTimeoutMs: 2_000,
  maxPendingDeliveryBytes: 16 << 20,
  maxClientIdBytes: 256,
  stopTimeoutMs: 3_000,
  maxQueuedMessages: 1_000,
  maxSessions: 10_000,
  maxRetainedMessages: 100_000,
};

export interface Listener {
  readonly host: string;
  /** 0 for any free one. */
  readonly port: number;
}

export interface MqttBrokerOptions {
  readonly listeners: readonly Listener[];
  readonly limits?: Partial<MqttLimits>;
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
  /** Messages that made way in a full session's queue. */
  readonly queueOverflows: number;
  readonly evictedSessions: number;
  /** Messages not retained because `maxRetainedMessages` others are. */
  readonly notRetained: number;
}

/** How much of one client's stream is read ahead while its messages wait for their commit. */
const READ_AHEAD_BYTES = 1 << 18;
/** Pieces of up to this together are copied into one buffer before they are written. */
const MAX_JOINED_BYTES = 1 << 14;
const SYS = "$SYS";

type ConnectedClient = Client & {
  username?: string | undefined;
  will?: unknown;
  subscriptions: Record<string, { readonly qos: 0 | 1 | 2 }>;
};
type Publish = Parameters<NonNullable<AedesOptions["authorizePublish"]>>[1];

export class MqttBroker {
  private readonly listeners: readonly Listener[];
  private readonly limits: MqttLimits;
  private readonly ingest: Ingest;
  private readonly logger: Logger;
  private readonly repeats = new RateLimitedLog();
  private readonly sessions: SessionStore;
  private readonly servers: Server[] = [];
  private readonly sockets = new Set<Socket>();
  private readonly clients = new Map<string, Client>();
  private readonly counts = { refusedConnections: 0, rejectedClients: 0, frozenSubscribers: 0 };
  private aedes: Aedes | undefined;
  private stopping: Promise<void> | undefined;

  constructor(options: MqttBrokerOptions, ingest: Ingest, logger: Logger) {
    this.listeners = options.listeners;
    this.limits = { ...DEFAULT_MQTT_LIMITS, ...options.limits };
    this.ingest = ingest;
    this.logger = logger;
    this.sessions = new SessionStore(
      this.limits,
      (client, packet) => this.storeIncoming(client, packet),
      (clientId) => this.clients.has(clientId),
    );
  }

  /** Opens all listeners, or none: throws `SluiceError` for an address that cannot be had. */
  async start(): Promise<void> {
    const { limits } = this;
    const aedes = new Aedes({
      mq: new Deliveries(limits.maxPendingDeliveryBytes),
      persistence: this.sessions,
      concurrency: 0,
      connectTimeout: limits.connectTimeoutMs,
      drainTimeout: limits.drainTimeoutMs,
      maxInflightInbound: limits.maxInFlight,
      maxClientsIdLength: limits.maxClientIdBytes,
      // Packets sent right after CONNECT; `READ_AHEAD_BYTES` bounds them.
      queueLimit: READ_AHEAD_BYTES,
      preConnect: (client, packet, done) => this.preConnect(client as ConnectedClient, packet, done),
      authorizePublish: (client, packet, done) =>
        this.authorizePublish(client as ConnectedClient | null, packet, done),
      authorizeSubscribe: (_client, subscription, done) => {
        const problem = filterProblem(subscription.topic);
        done(problem === undefined ? null : new Error(problem), subscription);
      },
      authorizeForward: (client, packet) => capQos(client as ConnectedClient, packet),
    });
    this.aedes = aedes;
    this.listenToEvents(aedes);
    await aedes.listen();
    try {
      for (const [index, listener] of this.listeners.entries()) await this.listen(listener, index);
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** Where clients reach it, in the order of the listeners. */
  get addresses(): readonly Listener[] {
    return this.servers.map((server) => {
      const { address, port } = server.address() as AddressInfo;
      return { host: address, port };
    });
  }

  get stats(): MqttStats {
    return {
      connections: this.clients.size,
      ...this.counts,
      ...this.sessions.counts,
      sessions: this.sessions.size,
      retainedMessages: this.sessions.retainedMessages,
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
    for (const server of this.servers) server.close();
    if (aedes === undefined || aedes.closed) return;
    await within(this.ingest.drained());
    await turn(); // the last acknowledgement is written one turn after its commit
    const flushed = [...this.sockets].map(async (socket) => {
      // Its end's callback does not come when it is destroyed meanwhile; `close` does.
      await Promise.race([
        new Promise<void>((resolve) => socket.end(() => resolve())),
        once(socket, "close"),
      ]);
    });
    await within(Promise.allSettled(flushed));
    await within(new Promise<void>((resolve) => aedes.close(resolve)));
    // aedes calls back before the last wills have been published: each client's departure comes after its will.
    while (this.clients.size > 0 && !deadline.aborted) await turn();
    await within(this.ingest.drained());
    for (const socket of this.sockets) socket.destroy();
    if (deadline.aborted) this.logger.warn("MQTT clients were cut off: stopping took too long");
  }

  private async listen(listener: Listener, index: number): Promise<void> {
    const server = createServer(
      { noDelay: true, highWaterMark: READ_AHEAD_BYTES, keepAlive: true, keepAliveInitialDelay: 60_000 },
      (socket) => this.accept(socket),
    );
    const { host, port } = listener;
    server.listen(port, host);
    try {
      await once(server, "listening");
    } catch (error) {
      throw listenError(error as NodeJS.ErrnoException, listener, index);
    }
    server.on("error", (error) => this.logger.error({ host, port }, `MQTT listener: ${error.message}`));
    this.servers.push(server);
  }

  private accept(socket: Socket): void {
    if (this.stopping !== undefined || this.sockets.size >= this.limits.maxConnections) {
      this.counts.refusedConnections++;
      socket.destroy();
      this.repeats.say("connections", (heldBack) =>
        this.logger.warn({ heldBack }, `refused an MQTT client: ${this.sockets.size} are connected already`),
      );
      return;
    }
    this.sockets.add(socket);
    socket.once("close", () => this.sockets.delete(socket));
    // In front of aedes, which believes any length: every chunk it reads goes past the guard.
    const guard = new FramingGuard(this.limits.maxPacketBytes);
    const read = socket.read;
    socket.read = (size) => {
      const chunk = read.call(socket, size) as Buffer | null;
      const problem = chunk === null ? undefined : guard.check(chunk);
      if (problem === undefined) return chunk;
      socket.destroy(new Error(problem));
      return null;
    };
    joinSmallWrites(socket);
    this.aedes?.handle(socket);
  }

  private listenToEvents(aedes: Aedes): void {
    aedes.on("client", (client) => this.clients.set(client.id, client));
    aedes.on("clientDisconnect", (client) => this.clients.delete(client.id));
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

  private preConnect(
    client: ConnectedClient,
    packet: ConnectPacket,
    done: (error: Error | null, ok: boolean) => void,
  ): void {
    const { clientId, clean, will, username } = packet;
    let problem: string | undefined;
    if (this.stopping !== undefined) problem = "the gateway is stopping";
    else if (clientId === "" && clean === false)
      problem = "a kept session without a client id"; // [MQTT-3.1.3-8]
    else if (Buffer.byteLength(clientId) > this.limits.maxClientIdBytes) {
      problem = `a client id of more than ${this.limits.maxClientIdBytes} bytes`;
    }
    if (problem !== undefined) {
      client.conn.write(Buffer.from([0x20, 2, 0, 2])); // CONNACK, identifier rejected
    } else if (will !== undefined) {
      const topicProblem = publishProblem(will.topic);
      if (topicProblem !== undefined) problem = `a will to ${topicProblem}`;
    }
    client.username = username;
    done(problem === undefined ? null : new Error(problem), problem === undefined);
  }

  private authorizePublish(
    client: ConnectedClient | null,
    packet: Publish,
    done: (error?: Error | null) => void,
  ): void {
    // [MQTT-2.3.1-1]
    const problem = packet.messageId === 0 ? "wherever, with the packet id 0" : publishProblem(packet.topic);
    if (problem !== undefined) {
      done(new Error(`a publish to ${problem}`));
      return;
    }
    const isWill = client !== null && client.will === packet;
    if (this.stopping !== undefined && !isWill) return; // unacknowledged: the client sends it again
    if (packet.qos === 2 && !isWill)
      done(); // appended where its packet id is stored
    else this.append(client, packet, done);
  }

  private storeIncoming(client: SessionClient, packet: StoredPacket): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.stopping !== undefined) return; // as above
      this.append(client as ConnectedClient, packet, (error) => {
        if (error) reject(error);
        else resolve();
      });
    });
  }

  private append(
    client: ConnectedClient | null,
    packet: Pick<Publish, "topic" | "payload" | "qos" | "retain">,
    done: (error?: Error | null) => void,
  ): void {
    const { payload } = packet;
    this.ingest.accept(
      {
        mqttTopic: packet.topic,
        payload: typeof payload === "string" ? Buffer.from(payload) : payload,
        qos: packet.qos,
        retain: packet.retain,
        clientId: client?.id ?? "",
        username: client?.username,
        receivedAt: Date.now(),
      },
      done,
    );
  }
}

/**
 * mqtt-packet writes an acknowledgement as three buffers; a `writev` of three costs more than a `write` of their
 * four bytes, and the acknowledgements of one commit would be thousands of pieces.
 */
function joinSmallWrites(socket: Socket): void {
  const writev = socket._writev;
  if (writev === undefined) return;
  socket._writev = (chunks, callback) => {
    const buffers: Buffer[] = [];
    let bytes = 0;
    for (const { chunk } of chunks) {
      if (!Buffer.isBuffer(chunk) || bytes + chunk.length > MAX_JOINED_BYTES) break;
      bytes += chunk.length;
      buffers.push(chunk);
    }
    if (buffers.length < chunks.length) writev.call(socket, chunks, callback);
    else socket._write(Buffer.concat(buffers, bytes), "buffer" as BufferEncoding, callback);
  };
}

/** Why nobody may publish there, in words that follow "a publish to", or undefined. */
function publishProblem(mqttTopic: string): string | undefined {
  if (mqttTopic === "") return "an empty MQTT topic"; // [MQTT-4.7.3-1]
  if (/[+#\0]/.test(mqttTopic)) return "an MQTT topic with a wildcard or U+0000"; // [MQTT-3.3.2-2], [MQTT-4.7.3-2]
  if (mqttTopic.startsWith(SYS)) return `${SYS}, which is the broker's own`; // section 4.7.2
  return undefined;
}

function filterProblem(filter: string): string | undefined {
  try {
    const { names } = TopicFilter.parse(filter);
    return names.length === 0 ? undefined : "a subscription to a wildcard with a name";
  } catch (error) {
    if (error instanceof MappingSyntaxError) return `a subscription: ${error.message}`;
    throw error;
  }
}

/**
 * The lower of the message's and the subscription's QoS [MQTT-3.8.4-6]. aedes sees to it but in two places: a
 * retained message, and QoS 2 to a wildcard subscription of QoS 1.
 */
function capQos<P extends { topic: string; qos: number; retain: boolean }>(
  client: ConnectedClient,
  packet: P,
): P {
  if (packet.qos === 0 || (packet.qos === 1 && !packet.retain)) return packet;
  let granted = 0;
  for (const [filter, { qos }] of Object.entries(client.subscriptions)) {
    if (qos > granted && TopicFilter.parse(filter).matches(packet.topic)) granted = qos;
  }
  return granted < packet.qos ? { ...packet, qos: granted } : packet;
}

function listenError(error: NodeJS.ErrnoException, { host, port }: Listener, index: number): SluiceError {
  const setting = `mqtt.listeners[${index}].bind`;
  const words: Record<string, string> = {
    EADDRINUSE: `port ${port} on ${host} is in use by another program`,
    EACCES: `port ${port} needs more rights than this process has`,
    EADDRNOTAVAIL: `${host} is no address of this machine`,
  };
  return new SluiceError(
    error.code ?? "LISTEN",
    `MQTT cannot listen: ${words[error.code ?? ""] ?? error.message}`,
    { mend: `choose another address with ${setting}`, exitCode: 69, cause: error },
  );
}
