/**
 * The straight way of what sensors send: takes each whole PUBLISH of QoS 0 or 1 out of what a client sent before
 * aedes parses it, and writes the PUBACKs of one commit as one piece. Everything else goes on to aedes, byte by
 * byte as it came: SUBSCRIBE, QoS 2, and a PUBLISH that has anything odd about it, so that one place answers those.
 * Behind CONNECT nothing is read until the client is connected.
 *
 * Why: for aedes a PUBLISH is half a dozen objects and closures, three writes and two turns of the event loop,
 * more work than mapping, encoding and the journal together. And here a connection does not wait for its own
 * commit: what follows is taken meanwhile, up to `maxInFlight` messages and `READ_AHEAD_BYTES`; beyond that
 * nothing is read, and TCP slows the client.
 *
 * PUBACKs go out in the order of the PUBLISH packets [MQTT-4.6.0-2], though one that no rule takes has no commit to
 * wait for, and one that makes a new stream waits for that: from CONNACK on all of QoS 1 goes this way.
 */
import type { Socket } from "node:net";
import type { Turns } from "../turns.ts";
import type { FramingGuard } from "./framing.ts";
import { isText, uint16 } from "./strings.ts";

/**
 * How much of one client's stream is read ahead while its messages wait for their commit. What one that floods has in
 * a commit all others wait for; at twice as much sensors beside it got a third less done.
 */
export const READ_AHEAD_BYTES = 1 << 17;
/** What one read of a socket brings at most (libuv), and what lies unread in it before no more is read. */
export const READ_BYTES = 1 << 16;
/**
 * After so much of one client all others have a turn (turns.ts). What no rule takes waits for no commit: without this,
 * one that floods had its system call after system call taken (libuv: 32 in one go), and others waited 10 ms for each
 * step. A small packet is work, too: what the lane takes counts for `MIN_COST` at least, what aedes gets for more, and
 * a SUBSCRIBE, at some 100 µs, for most; and a message that sessions are owed is most of all what becomes of it in
 * their queues. All of a turn is some 1 or 2 ms.
 */
export const TURN_BYTES = 1 << 15;
const MIN_COST = 128;
const PASSED_COST = 256;
const SUBSCRIBE_COST = 2_048;
const QUEUED_COST = 2_048;
/** What a turn of work that is nowhere to be measured is taken for: aedes', and that of queues after the commit. */
const UNSEEN_TURN_MS = 1;
/** MQTT 3.1.1, section 2.2.1. */
const CONNECT = 1;
const SUBSCRIBE = 8;
const UNSUBSCRIBE = 10;
/** Pieces of one packet are joined when there are so many. */
const MAX_PIECES = 64;
const PUBACK_BYTES = 4;
/** CONNACK with the return code "unacceptable protocol version" (section 3.2.2.3). */
const OTHER_LEVEL = Buffer.from([0x20, 2, 0, 1]);
/** The queue of those that wait forgets its head when that has so many. */
const MAX_DONE = 1_024;
const NO_BYTES = Buffer.alloc(0);

/** With aedes' names for what it has, so that it can go on as it is. */
export interface LanePublish {
  readonly cmd: "publish";
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: 0 | 1;
  readonly retain: boolean;
  readonly dup: false;
  /** The packet id; 0 at QoS 0. */
  readonly messageId: number;
  /** What the packet took of the stream. */
  readonly bytes: number;
  /** It may be acknowledged, when those before it may. */
  isDone: boolean;
}

/** The client whose lane it is, once aedes has connected it. */
export interface LaneClient {
  /**
   * Takes a message; then `acknowledge` and `finish`, or the end of the connection. Returns for how many sessions it
   * is kept.
   */
  take(publish: LanePublish): number;
  /** Something has come: for its keep alive. */
  alive(): void;
  /** Calls back when it has read what was written to it; its connection is ended when it does not. */
  waitForDrain(drained: () => void): void;
  /** Whether it may publish there; if not, aedes is asked, and ends the connection with the reason. */
  mayPublishTo(mqttTopic: string): boolean;
}

export interface LaneLimits {
  readonly maxPacketBytes: number;
  /** Messages whose commit is awaited. */
  readonly maxInFlight: number;
}

export class PublishLane {
  private readonly socket: Socket;
  private readonly guard: FramingGuard;
  private readonly limits: LaneLimits;
  private readonly turns: Turns;
  private readonly maxPacketBytes: number;
  private readonly readSocket: (size?: number) => Buffer | null;
  /** Of what lies in the socket, how much was read and put back. */
  private putBackBytes = 0;
  private client: LaneClient | undefined;
  private inFlight = 0;
  private inFlightBytes = 0;
  /** There is more to read than may be taken now. */
  private isHeldUp = false;
  private isDraining = false;
  /** What was taken since all others had a turn, by its cost. */
  private turnBytes = 0;
  /** When that was, and the time that taking it took. */
  private turnBeganAt = performance.now();
  private turnTookMs = 0;
  private isTurnOver = false;
  private hasConnect = false;
  /** The beginning of a PUBLISH, up to the end of what was read. */
  private pieces: Buffer[] = [];
  private piecesBytes = 0;
  private neededBytes = 0;
  /** QoS 1 messages in the order in which they came; those before `oldest` are acknowledged. */
  private waiting: LanePublish[] = [];
  private oldest = 0;
  /** Packet ids whose PUBACK is due. */
  private acknowledged: number[] = [];
  /** Waits for the PUBACKs of all that was taken; nothing is read until then. */
  private behindAcks: (() => void) | undefined;
  /** A sensor mostly has one topic: decoded and checked once. */
  private topicBytes: Uint8Array = NO_BYTES;
  private topic = "";

  /** From now on `socket.read` gives what is not taken here, and that only past the guard. */
  constructor(socket: Socket, guard: FramingGuard, limits: LaneLimits, turns: Turns) {
    this.socket = socket;
    this.guard = guard;
    this.limits = limits;
    this.turns = turns;
    // A packet that is being read when the limit changes is read under the old one.
    this.maxPacketBytes = limits.maxPacketBytes;
    this.readSocket = socket.read.bind(socket);
    socket.read = (size) => (size === 0 ? this.readSocket(0) : this.read());
  }

  /** The client is connected. */
  open(client: LaneClient): void {
    this.client = client;
    this.goOn();
  }

  /** A message is on disk, or has no place to go. PUBACKs of one turn are written together. */
  acknowledge(publish: LanePublish): void {
    if (publish.qos === 0) return;
    publish.isDone = true;
    const { waiting, acknowledged } = this;
    const before = acknowledged.length;
    for (; waiting[this.oldest]?.isDone; this.oldest++) {
      acknowledged.push((waiting[this.oldest] as LanePublish).messageId);
    }
    if (this.oldest === waiting.length || this.oldest >= MAX_DONE) {
      this.waiting = waiting.slice(this.oldest);
      this.oldest = 0;
    }
    if (before === 0 && acknowledged.length > 0) queueMicrotask(() => this.writeAcks());
  }

  /** A message is where it goes, or on its way to those who may be waited for no longer. */
  finish({ bytes }: LanePublish): void {
    this.inFlight--;
    this.inFlightBytes -= bytes;
    if (this.isHeldUp) this.goOn();
  }

  private writeAcks(): void {
    this.writeDueAcks();
    const { behindAcks } = this;
    if (behindAcks === undefined || this.waiting.length > 0) return;
    this.behindAcks = undefined;
    behindAcks();
  }

  private writeDueAcks(): void {
    const { socket, acknowledged } = this;
    this.acknowledged = [];
    if (socket.destroyed || socket.writableEnded || acknowledged.length === 0) return;
    const bytes = Buffer.allocUnsafe(acknowledged.length * PUBACK_BYTES);
    let at = 0;
    for (const id of acknowledged) {
      bytes[at++] = 0x40;
      bytes[at++] = 2;
      bytes[at++] = id >> 8;
      bytes[at++] = id & 0xff;
    }
    socket.write(bytes);
  }

  /**
   * Ends the connection when what was taken before is acknowledged: a client that did not hear of it would send it
   * again over the next connection, and after it again what ended this one.
   */
  private end(problem: string): void {
    const { guard, socket } = this;
    this.behindAcks = () => {
      if (guard.isOfOtherLevel) socket.write(OTHER_LEVEL); // [MQTT-3.1.2-2]
      socket.destroy(new Error(problem));
    };
    this.writeAcks();
  }

  /** Has aedes read again, once for all that ends in this turn. */
  private goOn(): void {
    this.isHeldUp = false;
    queueMicrotask(() => {
      if (!this.socket.destroyed) this.socket.emit("readable");
    });
  }

  /** What is for aedes, or null when that is nothing at present. */
  private read(): Buffer | null {
    const { client } = this;
    if (client === undefined) return this.readConnect();
    const beganAt = performance.now();
    if (this.socket.writableNeedDrain && !this.isDraining) this.waitForDrain(client);
    let isAlive = false;
    let rest: Buffer | null = null;
    while (rest === null && !this.isFull()) {
      const chunk = this.readPiece();
      if (chunk === null) break;
      isAlive = true;
      const whole = this.pieces.length === 0 ? chunk : this.joined(chunk);
      if (whole !== undefined) rest = this.takeFrom(whole, client);
    }
    if (isAlive) {
      client.alive();
      this.turns.present(this, beganAt);
    }
    this.turnTookMs += performance.now() - beganAt;
    if (this.turnBytes >= TURN_BYTES && !this.isTurnOver) this.endTurn();
    return rest;
  }

  private endTurn(): void {
    this.isTurnOver = true;
    const sinceMs = performance.now() - this.turnBeganAt;
    this.turns.end(this, this.turnTookMs, sinceMs, () => {
      this.turnBytes = 0;
      this.turnBeganAt = performance.now();
      this.turnTookMs = 0;
      this.isTurnOver = false;
      if (this.isHeldUp) this.goOn();
    });
  }

  /** The first packet, and nothing of what may come behind it before the client is connected. */
  private readConnect(): Buffer | null {
    const chunk = this.hasConnect ? null : this.readPiece();
    if (chunk === null) return null;
    const connect = this.pass(chunk, 0, () => true);
    this.hasConnect = this.guard.isBetweenPackets;
    return connect;
  }

  /**
   * What was put back alone, or else as much as one read of the socket brings. Never all that lies there: that would
   * be joined, a copy each time, and have the socket read on for every piece of it that is put back again.
   */
  private readPiece(): Buffer | null {
    const bytes =
      this.putBackBytes > 0 ? this.putBackBytes : Math.min(this.socket.readableLength, READ_BYTES);
    this.putBackBytes = 0;
    return bytes > 0 ? this.readSocket(bytes) : this.readSocket();
  }

  private putBack(rest: Buffer): void {
    this.putBackBytes = rest.length;
    this.socket.unshift(rest);
  }

  private isFull(): boolean {
    this.isHeldUp =
      this.behindAcks !== undefined ||
      this.isDraining ||
      this.turnBytes >= TURN_BYTES ||
      this.inFlight >= this.limits.maxInFlight ||
      this.inFlightBytes >= READ_AHEAD_BYTES;
    return this.isHeldUp;
  }

  /** For work that is done elsewhere. */
  private spend(cost: number): void {
    this.turnBytes += cost;
    this.turnTookMs += (cost / TURN_BYTES) * UNSEEN_TURN_MS;
  }

  private waitForDrain(client: LaneClient): void {
    this.isDraining = true;
    client.waitForDrain(() => {
      this.isDraining = false;
      this.goOn();
    });
  }

  /** The pieces with this one, when that is at least one packet. */
  private joined(chunk: Buffer): Buffer | undefined {
    this.pieces.push(chunk);
    this.piecesBytes += chunk.length;
    const isWhole = this.piecesBytes >= this.neededBytes;
    if (!isWhole && this.pieces.length < MAX_PIECES) return undefined;
    const whole = Buffer.concat(this.pieces, this.piecesBytes);
    this.pieces = isWhole ? [] : [whole];
    return isWhole ? whole : undefined;
  }

  /** Takes what it can; returns what is for aedes, and puts back what is behind that. */
  private takeFrom(chunk: Buffer, client: LaneClient): Buffer | null {
    const { length } = chunk;
    for (let at = 0; at < length; ) {
      if (!this.guard.isBetweenPackets) return this.pass(chunk, at);
      if (this.isFull()) {
        this.putBack(chunk.subarray(at));
        return null;
      }
      const firstByte = chunk[at] as number;
      if (firstByte >> 4 === CONNECT) {
        this.end("a second CONNECT"); // [MQTT-3.1.0-2]
        return null;
      }
      if (!isPlainPublish(firstByte)) return this.pass(chunk, at);
      const size = packetBytes(chunk, at);
      if (size < 0 || size > this.maxPacketBytes) return this.pass(chunk, at);
      const end = at + size;
      if (size === 0 || end > length) {
        this.pieces = [chunk.subarray(at)];
        this.piecesBytes = length - at;
        this.neededBytes = size === 0 ? this.piecesBytes + 1 : size;
        return null;
      }
      if (!this.take(chunk, at, end, client)) return this.passBehindAcks(chunk, at);
      at = end;
    }
    return null;
  }

  /** One that aedes ends the connection for, most likely. */
  private passBehindAcks(chunk: Buffer, at: number): Buffer | null {
    this.writeAcks();
    if (this.waiting.length === 0) return this.pass(chunk, at);
    this.putBack(chunk.subarray(at));
    this.behindAcks = () => this.goOn();
    return null;
  }

  /** For aedes, from here to the next packet that is not, or that is for another turn; whatever begins here is. */
  private pass(chunk: Buffer, at: number, stopsAt = this.stopsAt): Buffer | null {
    const { guard } = this;
    if (guard.isBetweenPackets) this.spend(costOf(chunk[at] as number));
    const problem = guard.check(chunk, at, stopsAt);
    if (problem !== undefined) {
      this.end(problem);
      return null;
    }
    if (guard.end < chunk.length) this.putBack(chunk.subarray(guard.end));
    return chunk.subarray(at, guard.end);
  }

  private readonly stopsAt = (firstByte: number): boolean => {
    if (isPlainPublish(firstByte) || firstByte >> 4 === CONNECT || this.turnBytes >= TURN_BYTES) return true;
    this.spend(costOf(firstByte));
    return false;
  };

  /** False for one that is not as it should be. */
  private take(chunk: Buffer, at: number, end: number, client: LaneClient): boolean {
    const first = chunk[at] as number;
    let topicAt = at + 2;
    while ((chunk[topicAt - 1] as number) >= 0x80) topicAt++;
    topicAt += 2;
    if (topicAt > end) return false;
    const topicEnd = topicAt + uint16(chunk, topicAt - 2);
    const qos = (first & 0x02) === 0 ? 0 : 1;
    const payloadAt = topicEnd + 2 * qos;
    if (payloadAt > end) return false;
    const messageId = qos === 0 ? 0 : uint16(chunk, topicEnd);
    if (qos === 1 && messageId === 0) return false; // [MQTT-2.3.1-1]
    if (!this.isLastTopic(chunk, topicAt, topicEnd) && !this.learnTopic(chunk, topicAt, topicEnd, client)) {
      return false;
    }
    const bytes = end - at;
    this.inFlight++;
    this.inFlightBytes += bytes;
    this.turnBytes += Math.max(bytes, MIN_COST);
    const publish: LanePublish = {
      cmd: "publish",
      topic: this.topic,
      payload: chunk.subarray(payloadAt, end),
      qos,
      retain: (first & 0x01) !== 0,
      dup: false,
      messageId,
      bytes,
      isDone: false,
    };
    if (qos === 1) this.waiting.push(publish);
    this.spend(client.take(publish) * QUEUED_COST);
    return true;
  }

  private isLastTopic(chunk: Buffer, from: number, to: number): boolean {
    const { topicBytes } = this;
    if (topicBytes.length !== to - from) return false;
    for (let index = 0, at = from; at < to; index++, at++) if (topicBytes[index] !== chunk[at]) return false;
    return to > from;
  }

  private learnTopic(chunk: Buffer, from: number, to: number, client: LaneClient): boolean {
    if (!isText(chunk, from, to)) return false;
    const topic = chunk.toString("utf8", from, to);
    if (!client.mayPublishTo(topic)) return false;
    this.topic = topic;
    // Not a slice: it would keep all of the chunk.
    this.topicBytes = Uint8Array.prototype.slice.call(chunk, from, to);
    return true;
  }
}

/** By its first byte a PUBLISH of QoS 0, or of QoS 1, which alone may have DUP set. */
const isPlainPublish = (firstByte: number): boolean =>
  (firstByte & 0xfe) === 0x30 || (firstByte & 0xf6) === 0x32;

/** Of a packet that is for aedes. */
const costOf = (firstByte: number): number => {
  const type = firstByte >> 4;
  return type === SUBSCRIBE || type === UNSUBSCRIBE ? SUBSCRIBE_COST : PASSED_COST;
};

/** The size of the packet that begins at `at` (MQTT 3.1.1, section 2.2.3); 0 when its header is not all there, -1 when it is none. */
function packetBytes(chunk: Buffer, at: number): number {
  let remaining = 0;
  for (let index = 1; index <= 4; index++) {
    const byte = chunk[at + index];
    if (byte === undefined) return 0;
    remaining += (byte & 0x7f) * 128 ** (index - 1);
    if (byte < 0x80) return 1 + index + remaining;
  }
  return -1;
}
