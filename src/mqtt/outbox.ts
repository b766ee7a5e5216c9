/**
 * What one session is owed: its QoS 1 and 2 messages in order, and the sending of them (MQTT 3.1.1, sections
 * 4.3, 4.4 and 4.6). Only in memory; `queue.ts` keeps it on disk.
 *
 * A delivery has a sequence number in its session, on disk with the message, and its packet id follows from
 * that. So a restart sends a message again under its first id, with no write of its own before it is sent.
 * At most `MAX_SENT` deliveries are out, all within `MAX_SENT` of the oldest one that is not over; an id is
 * free again when the end of its delivery is on disk.
 */
import type { Socket } from "node:net";
import { writeToStream } from "mqtt-packet";
import type { LogError } from "../errors.ts";
import { Deque } from "../log/deque.ts";
import type { ProgressValue } from "./records.ts";

/** Deliveries that are out at a time. */
export const MAX_SENT = 256;
/** Packet ids above are for retained messages, which are sent on subscribing and not kept. */
const QUEUE_IDS = 49_152;
const MAX_PACKET_ID = 65_535;

/** What is used of aedes' client. */
export interface Connection {
  readonly id: string;
  readonly clean: boolean;
  readonly closed: boolean;
  readonly conn: Socket;
}

export interface QueuedMessage {
  readonly number: number;
  readonly topic: string;
  readonly payload: Buffer;
  /** Milliseconds since the epoch; 0: never. */
  readonly expiresAt: number;
  readonly deliveries: Delivery[];
  /** Deliveries that still need the payload. */
  waiting: number;
  /** Deliveries that would need it after a crash. */
  onDisk: number;
}

export interface Delivery {
  readonly outbox: Outbox;
  readonly sequence: number;
  readonly qos: 1 | 2;
  /** Until it is on disk that the message is not needed any more. */
  message: QueuedMessage | undefined;
  /** `released`: PUBREC has come, PUBCOMP has not. */
  state: "waiting" | "sent" | "released" | "over";
  /** It may have been sent on an earlier connection [MQTT-3.3.1-1]. */
  isRepeated: boolean;
}

/** What has become of a session's deliveries since its progress was last written, and who waits until it is. */
export interface News {
  readonly outbox: Outbox;
  readonly changed: Delivery[];
  readonly waiting: ((error: LogError | null) => void)[];
}

export class Outbox {
  /** The session's. */
  readonly number: number;
  private readonly limits: { readonly drainTimeoutMs: number };
  private readonly onExpired: (delivery: Delivery) => void;
  private connection: Connection | undefined;
  private drainTimer: NodeJS.Timeout | undefined;
  private unsent = new Deque<Delivery>();
  /** Sent, released, or over and not yet so on disk; by packet id, in the order of sending. */
  private readonly sent = new Map<number, Delivery>();
  /** Sequences that are over and beyond the floor. */
  private readonly over = new Set<number>();
  /** One past the last delivery that has come in. */
  private arrived = 0;
  private nextSequence = 0;
  private retainedIds = Math.floor(Math.random() * (MAX_PACKET_ID - QUEUE_IDS));
  /** Deliveries that need their message, and what that takes; those whose commit is under way included. */
  messages = 0;
  bytes = 0;
  /** The queue's: not written yet, and being written. */
  unsaved: News | undefined;
  saving: News | undefined;

  /** `onExpired` hears of a delivery that came to its turn too late and is over. */
  constructor(
    number: number,
    limits: { readonly drainTimeoutMs: number },
    onExpired: (delivery: Delivery) => void,
  ) {
    this.number = number;
    this.limits = limits;
    this.onExpired = onExpired;
  }

  get isConnected(): boolean {
    return this.connection !== undefined;
  }

  /** For a delivery that is now being appended. */
  newSequence(): number {
    return this.nextSequence++;
  }

  /** An id for what is sent beside the queue. */
  newRetainedId(): number {
    this.retainedIds = (this.retainedIds + 1) % (MAX_PACKET_ID - QUEUE_IDS);
    return QUEUE_IDS + 1 + this.retainedIds;
  }

  /** A delivery that is on disk; in the order of their sequences. */
  push(delivery: Delivery): void {
    this.arrived = delivery.sequence + 1;
    this.unsent.push(delivery);
    this.send();
  }

  /** A session is resumed: what is not over is sent again [MQTT-4.4.0-1], in the same order [MQTT-4.6.0-1]. */
  attach(connection: Connection): void {
    if (connection.closed) return;
    this.detach(this.connection);
    this.connection = connection;
    const { unsent } = this;
    this.unsent = new Deque();
    for (const [packetId, delivery] of this.sent) {
      if (delivery.state === "released") {
        this.write({ cmd: "pubrel", messageId: packetId });
      } else if (delivery.state === "sent") {
        this.sent.delete(packetId);
        delivery.state = "waiting";
        delivery.isRepeated = true;
        this.unsent.push(delivery);
      }
    }
    for (let at = 0; at < unsent.length; at++) this.unsent.push(unsent.at(at) as Delivery);
    this.send();
  }

  /** Ignored for any but the present connection. */
  detach(connection: Connection | undefined): void {
    if (connection !== this.connection) return;
    this.connection = undefined;
    clearTimeout(this.drainTimer);
    this.drainTimer = undefined;
  }

  private send(): void {
    const { connection } = this;
    while (connection !== undefined && !connection.closed && this.sent.size < MAX_SENT) {
      const delivery = this.unsent.at(0);
      if (delivery === undefined || delivery.sequence - this.floor >= MAX_SENT) return;
      if (isExpired(delivery)) {
        this.unsent.drop(1);
        this.end(delivery);
        this.onExpired(delivery);
        continue;
      }
      const packetId = idOf(delivery);
      if (this.sent.has(packetId)) return;
      if (connection.conn.writableNeedDrain) {
        this.awaitDrain(connection);
        return;
      }
      const { topic, payload } = delivery.message as QueuedMessage;
      const { qos, isRepeated: dup } = delivery;
      this.unsent.drop(1);
      this.sent.set(packetId, delivery);
      delivery.state = "sent";
      // [MQTT-3.3.1-9]: to an established subscription without the retain flag.
      this.write({ cmd: "publish", topic, payload, qos, dup, retain: false, messageId: packetId });
    }
  }

  private write(packet: Parameters<typeof writeToStream>[0]): void {
    const { conn } = this.connection as Connection;
    if (!conn.destroyed) writeToStream(packet, conn);
  }

  private awaitDrain(connection: Connection): void {
    if (this.drainTimer !== undefined) return;
    const { conn } = connection;
    const { drainTimeoutMs } = this.limits;
    this.drainTimer = setTimeout(() => conn.destroy(new Error("drain timeout")), drainTimeoutMs).unref();
    conn.once("drain", () => {
      if (connection !== this.connection) return;
      clearTimeout(this.drainTimer);
      this.drainTimer = undefined;
      this.send();
    });
  }

  /** PUBREC: returns the delivery when that is news. */
  release(packetId: number): Delivery | undefined {
    const delivery = this.sent.get(packetId);
    if (delivery?.state !== "sent" || delivery.qos !== 2) return undefined;
    delivery.state = "released";
    return delivery;
  }

  /** PUBACK of a QoS 1 delivery or PUBCOMP of a released one: returns it when that is news. */
  complete(cmd: string, packetId: number): Delivery | undefined {
    const delivery = this.sent.get(packetId);
    const isDue =
      cmd === "puback" ? delivery?.qos === 1 && delivery.state === "sent" : delivery?.state === "released";
    if (delivery === undefined || !isDue) return undefined;
    this.end(delivery);
    return delivery;
  }

  /** Takes the oldest delivery that still needs its message out of the queue. */
  dropOldest(): Delivery | undefined {
    for (const delivery of this.sent.values()) {
      if (delivery.state !== "sent") continue;
      this.end(delivery);
      return delivery;
    }
    const delivery = this.unsent.at(0);
    if (delivery === undefined) return undefined;
    this.unsent.drop(1);
    this.end(delivery);
    return delivery;
  }

  private end(delivery: Delivery): void {
    delivery.state = "over";
    this.over.add(delivery.sequence);
  }

  /** What the disk holds now says that the delivery is over: its packet id is free. */
  forget(delivery: Delivery): void {
    const packetId = idOf(delivery);
    if (this.sent.get(packetId) === delivery) this.sent.delete(packetId);
    this.send();
  }

  /** The oldest sequence that may not be over. */
  private get floor(): number {
    for (const { state, sequence } of this.sent.values()) if (state === "sent") return sequence;
    return this.unsent.at(0)?.sequence ?? this.arrived;
  }

  progress(): ProgressValue {
    const { floor } = this;
    for (const sequence of this.over) if (sequence < floor) this.over.delete(sequence);
    const released = [...this.sent.values()].filter(({ state }) => state === "released");
    return { floor, released: released.map(({ sequence }) => sequence), done: [...this.over] };
  }

  /** Before the first `push`. */
  restore({ floor, released, done }: ProgressValue): void {
    this.arrived = floor;
    for (const sequence of done) this.over.add(sequence);
    for (const sequence of released) {
      const delivery = { outbox: this, sequence, qos: 2, message: undefined, isRepeated: true } as const;
      this.sent.set(idOf(delivery), { ...delivery, state: "released" });
    }
    this.nextSequence = Math.max(floor, ...released.map((one) => one + 1), ...done.map((one) => one + 1));
  }

  /** Whether a delivery found on disk is still to be made; asked in the order of their sequences. */
  takesBack(sequence: number): boolean {
    this.nextSequence = Math.max(this.nextSequence, sequence + 1);
    return (
      sequence >= this.floor &&
      !this.over.has(sequence) &&
      this.sent.get(idOf({ sequence }))?.sequence !== sequence
    );
  }

  /** Whether a delivery that comes in now may have been sent before a restart. */
  get reachesNext(): boolean {
    return this.unsent.length < MAX_SENT;
  }

  /** All that is not over on disk; nothing is sent any more. */
  takeAll(): Delivery[] {
    const all = [...this.sent.values()];
    for (let at = 0; at < this.unsent.length; at++) all.push(this.unsent.at(at) as Delivery);
    this.detach(this.connection);
    this.sent.clear();
    this.unsent = new Deque();
    return all;
  }
}

/** One at QoS 2 that the subscriber may have got is gone on with: its packet id must not become another's. */
function isExpired({ message, qos, isRepeated }: Delivery): boolean {
  const expiresAt = message?.expiresAt ?? 0;
  return expiresAt > 0 && !(qos === 2 && isRepeated) && Date.now() >= expiresAt;
}

const idOf = ({ sequence }: Pick<Delivery, "sequence">): number => 1 + (sequence % QUEUE_IDS);
