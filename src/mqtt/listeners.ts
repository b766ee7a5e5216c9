/** The broker's TCP listeners: they bound connections and packets before aedes sees anything. */
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { SluiceError } from "../errors.ts";
import { type Logger, RateLimitedLog } from "../logger.ts";
import { type PortAddress, Ports } from "../ports.ts";
import type { Turns } from "../turns.ts";
import { FramingGuard } from "./framing.ts";
import { type LaneLimits, PublishLane, READ_BYTES } from "./publish-lane.ts";

export type Listener = PortAddress;

export interface ListenerLimits extends LaneLimits {
  readonly maxConnections: number;
}

/** Pieces of up to this together are copied into one buffer before they are written. */
const MAX_JOINED_BYTES = 1 << 14;

export class Listeners {
  private readonly limits: ListenerLimits;
  private readonly onSocket: (socket: Socket, lane: PublishLane) => void;
  private readonly logger: Logger;
  private readonly repeats = new RateLimitedLog();
  private readonly ports: Ports;
  private readonly turns: Turns;
  readonly sockets = new Set<Socket>();
  private isClosed = false;
  refused = 0;

  constructor(
    limits: ListenerLimits,
    onSocket: (socket: Socket, lane: PublishLane) => void,
    logger: Logger,
    turns: Turns,
  ) {
    this.limits = limits;
    this.onSocket = onSocket;
    this.logger = logger;
    this.turns = turns;
    this.ports = new Ports(
      () =>
        createServer(
          { noDelay: true, highWaterMark: READ_BYTES, keepAlive: true, keepAliveInitialDelay: 60_000 },
          (socket) => this.accept(socket),
        ),
      (error, { host, port }) => this.logger.error({ host, port }, `MQTT listener: ${error.message}`),
    );
  }

  /** Where clients reach it, in the order of the listeners. */
  get addresses(): readonly Listener[] {
    return this.ports.addresses;
  }

  /** Opens those that are not open yet, or none: throws `SluiceError` for an address that cannot be had. */
  open(listeners: readonly Listener[]): Promise<void> {
    return this.ports.open(listeners, (error, index) =>
      listenError(error, listeners[index] as Listener, index),
    );
  }

  /** Closes the others, and the connections to them that none of these would take. */
  keepOnly(listeners: readonly Listener[]): void {
    this.ports.keepOnly(listeners);
    for (const socket of this.sockets) if (!this.ports.leadTo(socket)) socket.destroy();
  }

  /** Serves a client: bounds its packets, then hands it on. */
  accept(socket: Socket): void {
    if (this.isClosed || this.sockets.size >= this.limits.maxConnections) {
      this.refused++;
      socket.destroy();
      this.repeats.say("connections", (heldBack) =>
        this.logger.warn({ heldBack }, `refused an MQTT client: ${this.sockets.size} are connected already`),
      );
      return;
    }
    this.sockets.add(socket);
    socket.once("close", () => this.sockets.delete(socket));
    // In front of aedes, which believes any length: whatever it reads has been past the guard.
    const lane = new PublishLane(
      socket,
      new FramingGuard(this.limits.maxPacketBytes),
      this.limits,
      this.turns,
    );
    joinSmallWrites(socket);
    this.onSocket(socket, lane);
  }

  /** Accepts nothing more; who is connected stays so. */
  close(): void {
    this.isClosed = true;
    void this.ports.closeAll();
  }

  /** Resolves when what was written has been sent, and each connection half closed. */
  async flush(): Promise<void> {
    const flushed = [...this.sockets].map(async (socket) => {
      // Its end's callback does not come when it is destroyed meanwhile; `close` does.
      await Promise.race([
        new Promise<void>((resolve) => socket.end(() => resolve())),
        once(socket, "close"),
      ]);
    });
    await Promise.allSettled(flushed);
  }

  destroy(): void {
    for (const socket of this.sockets) socket.destroy();
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
