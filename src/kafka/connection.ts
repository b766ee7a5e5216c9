/**
 * One client's connection.
 *
 * Invariants: handlers start in the order in which requests arrive and run concurrently; replies go out in
 * that order, whoever finishes first. No request is begun while `maxInFlight` are in hand, its turn is over
 * (turns.ts), more than `MAX_UNSENT_BYTES` of replies wait for the client, or the server's byte budget is spent;
 * meanwhile nothing is read from the socket, so at most one chunk of it lies here; or two, where its next turn comes
 * at once. Whatever the client does wrong costs this connection and nothing else.
 */
import type { Socket } from "node:net";
import { EndSignal } from "../end-signal.ts";
import { messageOf, ProtocolError } from "../errors.ts";
import { readMemory, SMALL_BYTES } from "../log/reused-memory.ts";
import type { ClientContext } from "./api.ts";
import { FrameReader } from "./frame-reader.ts";
import { encodeReply, parseRequest, type Request } from "./request.ts";
import type { SharedReads } from "./shared-reads.ts";

/** Replies that may wait for a client before its next request is begun. */
const MAX_UNSENT_BYTES = 1 << 20;
/**
 * After so many requests of one client all others have a turn: most are answered at once, 30 to 100 µs each, and
 * thousands of them come in one read. So they have after answers of so many bytes: one that reads a large log takes a
 * gigabyte a second if it may.
 */
export const TURN_REQUESTS = 4;
export const TURN_REPLY_BYTES = 1 << 20;
/** What reading and sending so much is taken for: many steps, half of them by other threads and by the system. */
const TURN_REPLY_MS = 2;
/** Requests in hand while memory is short. */
const MAX_IN_HAND_WHEN_SHORT = 2;
/** So little is copied into one piece: cheaper than having the system call gather the pieces. */
const COPY_BYTES = 16 << 10;
/** Who moves less than this in `stallMs` is as good as frozen: a byte a second holds memory just as long. */
const MIN_PROGRESS_BYTES = 16 << 10;
/** So much of a frame has to come before its whole claim is held: half a request costs nobody else anything. */
const CREDIBLE_BYTES = 64 << 10;
/**
 * What goes to the socket at once; the rest waits here. To a client whose socket takes everything as it comes that is
 * more each time: it wakes once for an answer, not four times.
 */
const MIN_WRITE_BYTES = 256 << 10;
const MAX_WRITE_BYTES = 1 << 20;

/** Metadata and ApiVersions: whoever cannot reach what it is told asks nothing else. */
const ASKS_THE_WAY: ReadonlySet<number> = new Set([3, 18]);

export interface ConnectionStats {
  requests: number;
  receivedBytes: number;
  sentBytes: number;
}

/** What all connections of a server share. */
export interface ConnectionHost {
  readonly maxFrameBytes: number;
  readonly maxInFlight: number;
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
  readonly context: ClientContext;
  readonly socket: Socket;
  private readonly host: ConnectionHost;
  private readonly frames: FrameReader;
  private readonly signal = new EndSignal();
  private inHand: Slot[] = [];
  /** Requests begun and bytes answered in this turn, when it began, and the time that they took. */
  private begun = 0;
  private repliedBytes = 0;
  private turnBeganAt = performance.now();
  private turnTookMs = 0;
  /** It waits for its next turn. */
  private awaitsTurn = false;
  private readonly output: Buffer[] = [];
  /** Held in the budget for the frame that is arriving. */
  private reservedBytes = 0;
  /** Held in the budget for encoded replies that the socket has not taken yet. */
  private unsentBytes = 0;
  private writing = false;
  private writeBytes = MIN_WRITE_BYTES;
  private blocked = false;
  /** Something was answered, and `goOn` follows. */
  private goesOn = false;
  private draining = false;
  private closed = false;
  /** Has asked for more than where to connect. */
  private isUsed = false;
  private movedBytes = 0;
  /** When the client last sent or took a byte. */
  private activeAt = performance.now();
  /** What `stalledMs` saw last, and when that changed. */
  private movedBefore = 0;
  private movedAt = performance.now();
  private readonly advance = (): void => this.beginRequests();
  private readonly goOn = (): void => {
    this.goesOn = false;
    this.send();
    this.closeWhenDrained();
    this.beginRequests();
  };
  private readonly beginTurn = (): void => {
    this.turnBeganAt = performance.now();
    this.awaitsTurn = false;
    this.beginRequests();
  };

  /** `accepted` is paused, and not to be used any more. */
  constructor(
    reads: SharedReads,
    accepted: Socket,
    context: Omit<ClientContext, "signal">,
    host: ConnectionHost,
  ) {
    this.socket = reads.take(accepted, (chunk) => this.received(chunk));
    this.context = { ...context, signal: this.signal };
    this.host = host;
    this.frames = new FrameReader(host.maxFrameBytes);
  }

  /** Begins to read; `onClose` is called once, when the socket is gone. */
  start(onClose: () => void): void {
    // A reset or a broken pipe: the client is gone, "close" follows.
    this.socket.on("error", () => {});
    this.socket.once("close", () => {
      this.closed = true;
      this.signal.end();
      const { memory } = this.context;
      memory.forget(this.advance);
      memory.release(this.reservedBytes + this.unsentBytes);
      this.frames.clear();
      this.output.length = 0;
      onClose();
    });
    this.socket.resume();
  }

  private received(chunk: Buffer): void {
    this.host.stats.receivedBytes += chunk.length;
    this.movedBytes += chunk.length;
    this.activeAt = performance.now();
    if (this.draining) return;
    this.frames.push(chunk);
    this.beginRequests();
    this.frames.keepRest();
  }

  /** Finishes what is in hand, reads nothing more, and closes. */
  drain(): void {
    if (this.draining) return;
    this.draining = true;
    this.socket.pause();
    this.signal.end();
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

  /** Milliseconds for which the client has owed bytes and hardly moved any, as seen by regular calls. */
  stalledMs(now: number): number {
    // With what the system has taken of the write under way.
    const moved = this.movedBytes + this.socket.writableLength - this.untakenBytes;
    if (moved - this.movedBefore >= MIN_PROGRESS_BYTES || this.owedBytes === 0) {
      this.movedBefore = moved;
      this.movedAt = now;
    }
    return now - this.movedAt;
  }

  /** Of what the socket has been given, what the system has not taken; Node's own socket time-outs look at it, too. */
  private get untakenBytes(): number {
    const { _handle } = this.socket as unknown as { _handle?: { writeQueueSize?: number } | null };
    return _handle?.writeQueueSize ?? this.socket.writableLength;
  }

  private get isTurnOver(): boolean {
    return this.begun >= TURN_REQUESTS || this.repliedBytes >= TURN_REPLY_BYTES;
  }

  /** Whether the next one comes with the next turn of the event loop. */
  private endTurn(): boolean {
    this.awaitsTurn = true;
    const tookMs = this.turnTookMs + (this.repliedBytes / TURN_REPLY_BYTES) * TURN_REPLY_MS;
    // From here on it is the next turn's, also what is answered before that begins.
    this.begun = 0;
    this.repliedBytes = 0;
    this.turnTookMs = 0;
    return this.context.turns.end(this, tookMs, performance.now() - this.turnBeganAt, this.beginTurn);
  }

  private mayBegin(): boolean {
    if (this.awaitsTurn || this.isTurnOver) return false;
    const { memory } = this.context;
    const maxInHand = memory.roomBytes > 0 ? this.host.maxInFlight : MAX_IN_HAND_WHEN_SHORT;
    if (this.inHand.length >= maxInHand || this.unsentBytes > MAX_UNSENT_BYTES) return false;
    // A frame already under way holds its share: it must be able to finish, or nobody's could.
    if (this.reservedBytes > 0 || !memory.isSpent) return true;
    // Who owes nothing is not to wait for those who do.
    if (this.inHand.length === 0 && this.unsentBytes === 0 && !memory.isOverdrawn) return true;
    memory.whenRoom(this.advance);
    return false;
  }

  /** Begins as many of the requests that have arrived as may be begun, and regulates the socket by it. */
  private beginRequests(): void {
    if (this.socket.destroyed || this.draining) return;
    const { memory, apis, maxPartitionsPerRequest } = this.context;
    const beganAt = performance.now();
    let may = this.mayBegin();
    try {
      for (; may && !this.socket.destroyed; may = this.mayBegin()) {
        const bytes = this.frames.frameBytes();
        if (bytes === undefined) break;
        if (this.frames.pendingBytes < Math.min(bytes, CREDIBLE_BYTES)) break;
        if (this.reservedBytes === 0) {
          this.reservedBytes = bytes;
          memory.hold(bytes);
        }
        const frame = this.frames.take();
        if (frame === undefined) break;
        // Each partition may be named under a stream of its own, so twice as many elements.
        const request = parseRequest(frame, apis, maxPartitionsPerRequest * 2);
        this.reservedBytes = 0;
        this.begun++;
        void this.answer(request, bytes, frame.length < SMALL_BYTES ? undefined : frame);
      }
    } catch (error) {
      this.host.offence(this, messageOf(error));
      this.socket.destroy();
      return;
    }
    this.turnTookMs += performance.now() - beganAt;
    // To stop reading and begin again at once costs more than what may come in between; that stops it.
    if (this.isTurnOver && !this.awaitsTurn && this.endTurn()) return;
    if (may !== this.blocked) return;
    this.blocked = !may;
    if (may) this.socket.resume();
    else this.socket.pause();
  }

  /** Begins at once; never rejects. A handler's failure ends the connection. */
  private async answer(request: Request, heldBytes: number, frame: Buffer | undefined): Promise<void> {
    const { api, body } = request;
    const slot: Slot = { heldBytes, reply: undefined };
    // A list that grows reserves room for sixteen more: much, where ten thousand have one request in hand.
    if (this.inHand.length === 0) this.inHand = [slot];
    else this.inHand.push(slot);
    this.host.stats.requests++;
    if (!this.isUsed && !ASKS_THE_WAY.has(api.key)) {
      this.isUsed = true;
      this.context.reachability.used(this.context.clientHost);
    }
    try {
      const answer = await api.handle(body, this.context, request);
      const reply = answer === null ? [] : encodeReply(request, answer);
      // Not where one has failed: what it began with these bytes may be under way.
      if (frame !== undefined) readMemory.give(frame);
      this.settle(slot, reply);
    } catch (error) {
      // A handler throws ProtocolError where the protocol wants the connection closed (Produce with acks=0).
      if (error instanceof ProtocolError) this.host.offence(this, error.message);
      else this.host.fault(api.name, error);
      this.socket.destroy();
      this.settle(slot, []);
    }
  }

  /** Takes the answer of one request, and sends whatever is now answered at the front of the queue. */
  private settle(slot: Slot, reply: readonly Buffer[]): void {
    slot.reply = reply;
    const { memory } = this.context;
    if (this.closed) {
      memory.release(slot.heldBytes);
      return;
    }
    const bytes = reply.reduce((sum, piece) => sum + piece.length, 0);
    this.unsentBytes += bytes;
    this.repliedBytes += bytes;
    memory.hold(bytes);
    memory.release(slot.heldBytes);
    for (let front = this.inHand[0]; front?.reply !== undefined; front = this.inHand[0]) {
      this.inHand.shift();
      for (const piece of front.reply) this.output.push(piece);
    }
    if (this.goesOn) return;
    this.goesOn = true;
    // Behind all promises that one commit keeps: what it answers goes out in one write, and the client wakes once.
    process.nextTick(this.goOn);
  }

  private send(): void {
    if (this.writing || this.socket.destroyed || this.output.length === 0) return;
    this.writing = true;
    const pieces: Buffer[] = [];
    const whole: Buffer[] = [];
    let bytes = 0;
    for (let room = this.writeBytes; room > 0 && this.output.length > 0; room = this.writeBytes - bytes) {
      const piece = this.output.shift() as Buffer;
      if (piece.length > room) this.output.unshift(piece.subarray(room));
      else whole.push(piece);
      bytes += Math.min(piece.length, room);
      pieces.push(piece.length > room ? piece.subarray(0, room) : piece);
    }
    const gathered = bytes <= COPY_BYTES ? [Buffer.concat(pieces, bytes)] : pieces;
    const last = gathered.pop() as Buffer;
    this.socket.cork();
    for (const piece of gathered) this.socket.write(piece);
    // What a failed write holds is left alone: nobody says what of it is still under way.
    this.socket.write(last, (error) => this.sent(bytes, error ? [] : whole));
    this.socket.uncork();
    const isTaken = this.socket.writableLength === 0;
    this.writeBytes = isTaken ? Math.min(MAX_WRITE_BYTES, 2 * this.writeBytes) : MIN_WRITE_BYTES;
  }

  /** `whole`: pieces of which nothing is left to be sent. */
  private sent(bytes: number, whole: readonly Buffer[]): void {
    if (this.closed) return;
    for (const piece of whole) readMemory.give(piece);
    this.writing = false;
    this.unsentBytes -= bytes;
    this.movedBytes += bytes;
    this.activeAt = performance.now();
    this.host.stats.sentBytes += bytes;
    this.context.memory.release(bytes);
    this.send();
    this.closeWhenDrained();
    this.beginRequests();
  }

  private closeWhenDrained(): void {
    if (this.draining && this.inHand.length === 0 && this.unsentBytes === 0) this.socket.destroySoon();
  }
}
