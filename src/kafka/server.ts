/**
 * The Kafka server: listens, bounds what all clients together may hold, and closes in order.
 *
 * Under pressure (the byte budget is spent) no new request is begun anywhere, so whoever holds bytes without
 * moving them would hold everybody: such a connection is closed after `stallMs`. Without pressure a frozen
 * client keeps its few buffers until the idle timeout, as in Kafka (`connections.max.idle.ms`).
 */
import { createServer, type Socket } from "node:net";
import { SluiceError } from "../errors.ts";
import { type Logger, RateLimitedLog } from "../logger.ts";
import { isSame, Ports } from "../ports.ts";
import type { Api, BrokerServices, ClientContext, Endpoint } from "./api.ts";
import { apis as registeredApis } from "./apis/index.ts";
import { ByteBudget } from "./byte-budget.ts";
import { Connection, type ConnectionHost, type ConnectionStats } from "./connection.ts";
import { Reachability } from "./reachability.ts";
import { ReadAhead } from "./read-ahead.ts";
import { SharedReads } from "./shared-reads.ts";

export interface KafkaListener {
  readonly bind: Endpoint;
  /** What clients are told to connect to; "auto" is the address on which each of them reached us. */
  readonly advertise: "auto" | Endpoint;
}

export interface KafkaServerOptions
  extends KafkaListener,
    Pick<BrokerServices, "autoCreate" | "dataDir" | "maxPartitionsPerRequest"> {
  /** Besides the first. */
  readonly listeners?: readonly (KafkaListener & { readonly name: string })[];
  readonly maxFrameBytes: number;
  readonly maxConnections: number;
  /** Requests of one connection in hand at once. */
  readonly maxInFlight: number;
  /** Requests and replies that the whole server may hold. */
  readonly maxBufferedBytes: number;
  readonly timing?: Partial<typeof TIMING>;
}

const TIMING = {
  /** Kafka's `connections.max.idle.ms`. */
  idleMs: 600_000,
  /** How long a connection may hold bytes and hardly move any while the byte budget is spent. */
  stallMs: 2_000,
  /** How long `close()` waits for requests in hand. */
  closeMs: 2_000,
};

/** What the gateway gives a server. */
export type KafkaServices = Pick<BrokerServices, "log" | "groups" | "clusterId" | "turns">;

/** Counters since the start; `connections` and `bufferedBytes` are of now. */
export interface KafkaServerStats extends Readonly<ConnectionStats> {
  readonly connections: number;
  readonly acceptedConnections: number;
  readonly refusedConnections: number;
  readonly bufferedBytes: number;
}

export class KafkaServer {
  private options: KafkaServerOptions;
  private services: BrokerServices;
  private readonly logger: Logger;
  private readonly repeated = new RateLimitedLog();
  private readonly timing: typeof TIMING;
  private readonly connections = new Set<Connection>();
  private readonly reads = new SharedReads();
  private host: ConnectionHost;
  private readonly counters = {
    requests: 0,
    receivedBytes: 0,
    sentBytes: 0,
    acceptedConnections: 0,
    refusedConnections: 0,
  };
  private readonly ports: Ports;
  private sweeper: NodeJS.Timeout | undefined;
  private onLastClosed: (() => void) | undefined;
  private closing: Promise<void> | undefined;

  constructor(
    options: KafkaServerOptions,
    services: KafkaServices,
    logger: Logger,
    apis: readonly Api[] = registeredApis,
  ) {
    this.options = options;
    this.logger = logger;
    this.ports = new Ports(
      (bind) =>
        createServer(
          { noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000, pauseOnConnect: true },
          (socket) => this.accept(socket, bind),
        ),
      // Once it listens, an error is a failed accept (out of descriptors): the others are still served.
      (error) =>
        this.repeated.say("accept", (heldBack) =>
          this.logger.error({ err: error, heldBack }, "cannot accept Kafka connections"),
        ),
    );
    this.timing = { ...TIMING, ...options.timing };
    const { autoCreate, dataDir, maxPartitionsPerRequest } = options;
    const memory = new ByteBudget(options.maxBufferedBytes);
    this.services = {
      ...services,
      ...{ logger, repeated: this.repeated, autoCreate, dataDir, maxPartitionsPerRequest },
      ...{ memory, ahead: new ReadAhead(memory) },
      reachability: new Reachability(logger),
      apis: new Map(apis.map((api) => [api.key, api])),
    };
    this.host = {
      maxFrameBytes: options.maxFrameBytes,
      maxInFlight: options.maxInFlight,
      stats: this.counters,
      offence: (connection, reason) => {
        const { clientHost } = connection.context;
        this.repeated.say(`offence ${clientHost}`, (heldBack) =>
          this.logger.warn({ clientHost, reason, heldBack }, "a Kafka client was disconnected"),
        );
      },
      fault: (api, error) =>
        this.repeated.say(`fault ${api}`, (heldBack) =>
          this.logger.error(
            { api, err: error, heldBack },
            "a Kafka request failed; its client was disconnected",
          ),
        ),
    };
  }

  /** Listens. Rejects with `SluiceError` PORT_IN_USE or CANNOT_LISTEN. */
  async start(): Promise<void> {
    await this.open(this.options);
    const intervalMs = Math.min(1_000, this.timing.stallMs / 2, this.timing.idleMs / 2);
    this.sweeper = setInterval(() => this.sweep(), intervalMs).unref();
  }

  /** Listens at these addresses, too. Rejects as `start` does. */
  open(options: Pick<KafkaServerOptions, "bind" | "advertise" | "listeners">): Promise<void> {
    const wanted = listenersOf(options);
    return this.ports.open(
      wanted.map(({ bind }) => bind),
      (error, index) => listenError(error, wanted[index] as (typeof wanted)[number]),
    );
  }

  /**
   * From now on with these options, at their addresses, which are open. Who is connected stays, unless to an
   * address that is gone, and keeps the limits that it connected under, but for the memory of all.
   */
  use(options: KafkaServerOptions): void {
    this.options = options;
    const { autoCreate, dataDir, maxPartitionsPerRequest, maxFrameBytes, maxInFlight } = options;
    this.services = { ...this.services, autoCreate, dataDir, maxPartitionsPerRequest };
    this.services.memory.maxBytes = options.maxBufferedBytes;
    this.host = { ...this.host, maxFrameBytes, maxInFlight };
    this.ports.keepOnly(listenersOf(options).map(({ bind }) => bind));
    for (const connection of this.connections) if (!this.ports.leadTo(connection.socket)) connection.drain();
  }

  /** Stops accepting, finishes the requests in hand within `closeMs`, then closes every connection. */
  close(): Promise<void> {
    this.closing ??= this.shutDown();
    return this.closing;
  }

  /** Where it listens first; the port is the real one if 0 was asked for. */
  get address(): Endpoint {
    const [address] = this.ports.addresses;
    if (address === undefined) throw new Error("the Kafka server is not listening");
    return address;
  }

  /** All of them, the first included. */
  get addresses(): readonly Endpoint[] {
    return this.ports.addresses;
  }

  get stats(): KafkaServerStats {
    return {
      ...this.counters,
      connections: this.connections.size,
      bufferedBytes: this.services.memory.heldBytes,
    };
  }

  private accept(socket: Socket, bind: Endpoint): void {
    const { maxConnections } = this.options;
    if (this.connections.size >= maxConnections) {
      this.counters.refusedConnections++;
      socket.on("error", () => {});
      socket.destroy();
      this.repeated.say("refused", (heldBack) =>
        this.logger.warn({ maxConnections, heldBack }, "too many Kafka connections: a new one was refused"),
      );
      return;
    }
    const local = { host: plainAddress(socket.localAddress), port: socket.localPort ?? 0 };
    const listener = listenersOf(this.options).find((one) => isSame(one.bind, bind)) ?? this.options;
    const context = {
      ...this.services,
      clientHost: plainAddress(socket.remoteAddress),
      advertised: listener.advertise === "auto" ? local : listener.advertise,
    };
    this.serve(socket, context);
  }

  /** Apart from what knows the accepted socket: nothing here may keep that in memory. */
  private serve(accepted: Socket, context: Omit<ClientContext, "signal">): void {
    const connection = new Connection(this.reads, accepted, context, this.host);
    this.counters.acceptedConnections++;
    this.connections.add(connection);
    connection.start(() => {
      this.connections.delete(connection);
      if (this.connections.size === 0) this.onLastClosed?.();
    });
  }

  private sweep(): void {
    const now = performance.now();
    this.services.ahead.sweep(now);
    for (const connection of this.connections) {
      const stalled = connection.stalledMs(now) >= this.timing.stallMs;
      if (stalled && this.services.memory.isSpent) {
        this.host.offence(
          connection,
          `held ${connection.owedBytes} bytes and hardly moved any while memory was short`,
        );
        connection.destroy();
      } else if (connection.idleMs(now) >= this.timing.idleMs) {
        connection.destroy();
      }
    }
  }

  private async shutDown(): Promise<void> {
    clearInterval(this.sweeper);
    const closed = this.ports.closeAll();
    for (const connection of this.connections) connection.drain();
    const late = setTimeout(() => {
      for (const connection of this.connections) connection.destroy();
    }, this.timing.closeMs);
    await closed;
    if (this.connections.size > 0) await new Promise<void>((resolve) => (this.onLastClosed = resolve));
    clearTimeout(late);
  }
}

/**
 * A dual-stack socket shows IPv4 clients as ::ffff:192.0.2.1, which an IPv4-only client cannot dial. A link-local
 * address has the zone of this machine behind it (%eth0), which means nothing to others.
 */
export function plainAddress(address: string | undefined): string {
  return (address ?? "").replace(/^::ffff:(?=\d+\.)/i, "").replace(/%.*$/, "");
}

function listenersOf({
  bind,
  advertise,
  listeners = [],
}: Pick<KafkaServerOptions, "bind" | "advertise" | "listeners">): (KafkaListener & { name?: string })[] {
  return [{ bind, advertise }, ...listeners];
}

function listenError(
  error: NodeJS.ErrnoException,
  { bind: { host, port }, name }: KafkaListener & { name?: string },
): SluiceError {
  const inUse = error.code === "EADDRINUSE";
  return new SluiceError(
    inUse ? "PORT_IN_USE" : "CANNOT_LISTEN",
    inUse
      ? `port ${port} on ${host} is taken by another program, so the Kafka server cannot listen there`
      : `the Kafka server cannot listen on ${host}:${port}: ${error.message}`,
    {
      mend: `Set ${name === undefined ? "kafka.bind" : `bind of kafka.listeners "${name}"`} to another address or port.`,
      exitCode: 69,
      cause: error,
    },
  );
}
