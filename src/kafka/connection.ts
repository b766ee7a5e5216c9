/**
 * One client's connection.
 *
 * Invariants: handlers start in the order in which requests arrive and run concurrently; replies go out in
 * that order, whoever finishes first. No request is begun while `maxInFlight` are in hand, while more than
 * `MAX_UNSENT_BYTES` of replies wait for the client, or while the server's byte budget is spent; meanwhile
 * nothing is read from the socket, so at most one chunk of it lies here. Whatever the client does wrong costs
 * this connection and nothing else.
 */
import { setMaxListeners } from "node:events";
import type { Socket } from "node:net";
import { messageOf, ProtocolError } from "../errors.ts";
import type { Fields, Partially, Shape } from "../wire/schema.ts";
import type { Api, RequestContext } from "./api.ts";
import type { ByteBudget } from "./byte-budget.ts";
import { FrameReader } from "./frame-reader.ts";
import { encodeReply, parseRequest, type Request, unknownApiVersionsReply } from "./request.ts";

/** Replies that may wait for a client before its next request is begun. */
const MAX_UNSENT_BYTES = 1 << 20;
/** What goes to the socket at once; the rest waits here, so that a slow client's progress can be seen. */
const WRITE_BYTES = 256 << 10;

/** What is known of a client from the moment it connects. */
export type ConnectionContext = Omit<RequestContext, "version" | "correlationId" | "clientId" | "signal">;

export interface ConnectionStats {
  requests: number;
  receivedBytes: number;
  sentBytes: number;
}

/** What all connections of a server share. */
export interface ConnectionHost {
  readonly apis: ReadonlyMap<number, Api>;
  readonly maxFrameBytes: number;
  readonly maxInFlight: number;
  /** Array elements in one request. */
  readonly maxElements: number;
  readonly memory: ByteBudget;
  readonly stats: ConnectionStats;
  /** Says why a connection was closed. */
  offence(connection: Connection, reason: string): void;
  /** Says that a handler failed: a fault of ours. */
  fault(api: string, error: unknown): void;
}

/** A request in hand; `reply` is set when its answer is encoded. */
interface Slot {
  readonly heldBytes: number;
  reply: readonly Buffer[] | undefined;
}

export class Connection {
  readonly context: ConnectionContext;
  private readonly socket: Socket;
  private readonly host: ConnectionHost;
  private readonly frames: FrameReader;
  private readonly ended = new AbortController();
  private readonly inHand: Slot[] = [];
  private readonly output: Buffer[] = [];
  /** Held in the budget for the frame that is arriving. */
  private reservedBytes = 0;
  /** Held in the budget for encoded replies that the socket has not taken yet. */
  private unsentBytes = 0;
  private writing = false;
  private advancing = false;
  private blocked = false;
  private draining = false;
  private closed = false;
  private movedBytes = 0;
  /** When the client last sent or took a byte. */
  private activeAt = performance.now();
  /** What `stalledMs` saw last, and when that changed. */
  private movedBefore = 0;
  private movedAt = performance.now();
  private readonly advance = (): void => this.beginRequests();

  constructor(socket: Socket, context: ConnectionContext, host: ConnectionHost) {
    this.socket = socket;
    this.context = context;
    this.host = host;
    this.frames = new FrameReader(host.maxFrameBytes);
  }

  /** Begins to read; `onClose` is called once, when the socket is gone. */
  start(onClose: () => void): void {
    setMaxListeners(0, this.ended.signal); // one per request that waits, bounded by maxInFlight
    this.socket.on("data", (chunk: Buffer) => {
      this.host.stats.receivedBytes += chunk.length;
      this.movedBytes += chunk.length;
      this.activeAt = performance.now();
      if (this.draining) return;
      this.frames.push(chunk);
      this.beginRequests();
    });
    // A reset or a broken pipe: the client is gone, "close" follows.
    this.socket.on("error", () => {});
    this.socket.once("close", () => {
      this.closed = true;
      this.ended.abort();
      const { memory } = this.host;
      memory.forget(this.advance);
      memory.release(this.reservedBytes + this.unsentBytes);
      this.frames.clear();
      this.output.length = 0;
      onClose();
    });
  }

  /** Finishes what is in hand, reads nothing more, and closes. */
  drain(): void {
    if (this.draining) return;
    this.draining = true;
    this.socket.pause();
    this.ended.abort();
    this.closeWhenDrained();
  }

  destroy(): void {
    this.socket.destroy();
  }

  /** Bytes that this client makes the server hold by not sending or not taking them. */
  get owedBytes(): number {
    return this.unsentBytes + (this.blocked ? 0 : this.reservedBytes);
  }

  /** Milliseconds since a byte moved with nothing in hand that could explain it. */
  idleMs(now: number): number {
    return this.inHand.length > 0 && this.unsentBytes === 0 ? 0 : now - this.activeAt;
  }

  /** Milliseconds for which the client has owed bytes without moving any, as seen by regular calls. */
  stalledMs(now: number): number {
    if (this.movedBytes !== this.movedBefore || this.owedBytes === 0) {
      this.movedBefore = this.movedBytes;
      this.movedAt = now;
    }
    return now - this.movedAt;
  }

  private mayBegin(): boolean {
    const { maxInFlight, memory } = this.host;
    if (this.inHand.length >= maxInFlight || this.unsentBytes > MAX_UNSENT_BYTES) return false;
    // A frame already under way holds its share: it must be able to finish, or nobody's could.
    if (this.reservedBytes > 0 || !memory.isSpent) return true;
    memory.whenRoom(this.advance);
    return false;
  }

  /** Begins as many of the requests that have arrived as may be begun, and regulates the socket by it. */
  private beginRequests(): void {
    if (this.advancing || this.socket.destroyed || this.draining) return;
    this.advancing = true;
    let may = this.mayBegin();
    try {
      for (; may && !this.socket.destroyed; may = this.mayBegin()) {
        const bytes = this.frames.frameBytes();
        if (bytes === undefined) break;
        if (this.reservedBytes === 0) {
          this.reservedBytes = bytes;
          this.host.memory.hold(bytes);
        }
        const frame = this.frames.take();
        if (frame === undefined) break;
        this.reservedBytes = 0;
        this.begin(frame);
      }
    } catch (error) {
      this.host.offence(this, messageOf(error));
      this.socket.destroy();
      return;
    } finally {
      this.advancing = false;
    }
    if (may !== this.blocked) return;
    this.blocked = !may;
    if (may) this.socket.resume();
    else this.socket.pause();
  }

  /** Throws `ProtocolError` for what is no request; a handler's failure ends the connection by itself. */
  private begin(frame: Buffer): void {
    const slot: Slot = { heldBytes: frame.length, reply: undefined };
    this.inHand.push(slot);
    this.host.stats.requests++;
    let request: Request;
    try {
      request = parseRequest(frame, this.host.apis, this.host.maxElements);
    } catch (error) {
      this.host.memory.release(slot.heldBytes);
      throw error;
    }
    const { api, version, correlationId, clientId, body } = request;
    if (body === undefined) {
      this.settle(slot, unknownApiVersionsReply(request));
      return;
    }
    const context = { ...this.context, version, correlationId, clientId, signal: this.ended.signal };
    const answered = (answer: Partially<Shape<Fields>> | null): void =>
      this.settle(slot, answer === null ? [] : encodeReply(request, answer));
    const failed = (error: unknown): void => {
      // A handler throws ProtocolError where the protocol wants the connection closed (Produce with acks=0).
      if (error instanceof ProtocolError) this.host.offence(this, error.message);
      else this.host.fault(api.name, error);
      this.socket.destroy();
      this.settle(slot, []);
    };
    try {
      const answer = api.handle(body, context);
      if (answer instanceof Promise) answer.then(answered).catch(failed);
      else answered(answer);
    } catch (error) {
      failed(error);
    }
  }

  /** Takes the answer of one request, and sends whatever is now answered at the front of the queue. */
  private settle(slot: Slot, reply: readonly Buffer[]): void {
    if (slot.reply !== undefined) return;
    slot.reply = reply;
    const { memory } = this.host;
    if (this.closed) {
      memory.release(slot.heldBytes);
      return;
    }
    const bytes = reply.reduce((sum, piece) => sum + piece.length, 0);
    this.unsentBytes += bytes;
    memory.hold(bytes);
    memory.release(slot.heldBytes);
    for (let front = this.inHand[0]; front?.reply !== undefined; front = this.inHand[0]) {
      this.inHand.shift();
      for (const piece of front.reply) this.output.push(piece);
    }
    this.send();
    this.closeWhenDrained();
    this.beginRequests();
  }

  private send(): void {
    if (this.writing || this.socket.destroyed || this.output.length === 0) return;
    this.writing = true;
    let bytes = 0;
    this.socket.cork();
    for (let piece = this.output.shift(); piece !== undefined; piece = this.output.shift()) {
      const room = WRITE_BYTES - bytes;
      if (piece.length > room) {
        this.output.unshift(piece.subarray(room));
        piece = piece.subarray(0, room);
      }
      bytes += piece.length;
      const last = bytes === WRITE_BYTES || this.output.length === 0;
      this.socket.write(piece, last ? () => this.sent(bytes) : undefined);
      if (last) break;
    }
    this.socket.uncork();
  }

  private sent(bytes: number): void {
    if (this.closed) return;
    this.writing = false;
    this.unsentBytes -= bytes;
    this.movedBytes += bytes;
    this.activeAt = performance.now();
    this.host.stats.sentBytes += bytes;
    this.host.memory.release(bytes);
    this.send();
    this.closeWhenDrained();
    this.beginRequests();
  }

  private closeWhenDrained(): void {
    if (this.draining && this.inHand.length === 0 && this.unsentBytes === 0) this.socket.destroySoon();
  }
}
