/**
 * The queued messages of all sessions, on disk.
 *
 * A message that sessions need is written once, however many they are, in the same commit as its record and
 * with the list of its deliveries. What a session has acknowledged is one small record a session, its
 * `progress`, written for all that have news in one append, 20 ms after the first: a crash before that has what was
 * acknowledged sent once more. While it is on its way news gathers for the next. A PUBREL waits for it, and has it
 * written at once: after that nothing must bring the message back. When all deliveries of a message are over on
 * disk, its record is deleted, with the next append that there is a reason for.
 *
 * Bounded for each session and for all together, by count and by bytes. By default the oldest make way.
 */
import { type Clock, systemClock } from "../clock.ts";
import type { LogError } from "../errors.ts";
import type { RecordAppend } from "../log/log.ts";
import { type Delivery, MAX_SENT, type News, Outbox, type QueuedMessage } from "./outbox.ts";
import type { KeyOf, KindName, QueuedValue } from "./records.ts";
import { sizeOf } from "./retained.ts";
import type { Change, StateStore } from "./state-store.ts";

export interface QueueLimits {
  /** QoS 1 and 2 messages kept for a session, and what their payloads and MQTT topics take. */
  readonly maxQueuedMessages: number;
  readonly maxQueuedBytes: number;
  /** The same for all sessions together; a message counts once. */
  readonly maxQueuedMessagesInAll: number;
  readonly maxQueuedBytesInAll: number;
  readonly whenQueueFull: "dropOldest" | "dropNewest";
  /** How long a subscriber may take nothing before it is disconnected. */
  readonly drainTimeoutMs: number;
}

interface Publish {
  readonly topic: string;
  readonly payload: Buffer;
  /** Milliseconds since the epoch; undefined: never. */
  readonly expiresAt?: number | undefined;
}

/** Sessions, and keys to delete, in one append. */
const MAX_SAVED_TOGETHER = 256;
const MAX_STALE_KEYS = 1_024;
/** What nobody waits for is written with what else comes within this time: each write is a sync. */
const SAVE_DELAY_MS = 20;
/** Of one session's deliveries; until they are on disk they are a part of what it may have out. */
const MAX_UNSAVED = MAX_SENT / 4;

const isMuch = ({ changed }: News): boolean => changed.length >= MAX_UNSAVED;

export class Queue {
  private readonly limits: QueueLimits;
  private readonly store: StateStore;
  private readonly clock: Clock;
  /** By number, the oldest first; as long as a delivery needs the payload. */
  private readonly messages = new Map<number, QueuedMessage>();
  private bytes = 0;
  /** Of sessions whose progress on disk is not the present one, each once. */
  private unsaved: News[] = [];
  private saving: News[] = [];
  private isScheduled = false;
  private cancelSave: (() => void) | undefined;
  private isSaving = false;
  private idle: (() => void)[] = [];
  /** Deletions of what means nothing any more. */
  private readonly stale: RecordAppend[] = [];
  /** Of a message to a session, all that there have been. */
  deliveries = 0;
  overflows = 0;
  expired = 0;

  constructor(limits: QueueLimits, store: StateStore, clock: Clock = systemClock) {
    this.limits = limits;
    this.store = store;
    this.clock = clock;
  }

  get size(): { messages: number; bytes: number } {
    return { messages: this.messages.size, bytes: this.bytes };
  }

  newOutbox(number: number): Outbox {
    return new Outbox(number, this.limits, (delivery) => {
      this.expired++;
      this.noLongerWaits(delivery);
      this.changed(delivery);
    });
  }

  /** A message for these sessions, each with its QoS; undefined when none of them takes it. To be appended at once. */
  change(
    { topic, payload, expiresAt = 0 }: Publish,
    subscribers: ReadonlyMap<Outbox, 1 | 2>,
  ): Change | undefined {
    const bytes = sizeOf({ topic, payload });
    const message: QueuedMessage = {
      number: this.store.newNumber(),
      topic,
      payload: Buffer.from(payload),
      expiresAt,
      deliveries: [],
      waiting: 0,
      onDisk: 0,
    };
    for (const [outbox, qos] of subscribers) {
      if (this.limits.whenQueueFull === "dropNewest" && this.isFull(outbox, bytes)) this.overflows++;
      else this.deliver(message, outbox, outbox.newSequence(), qos);
    }
    if (message.deliveries.length === 0) return undefined;
    const deliveries = message.deliveries.map(({ outbox, sequence, qos }) => ({
      session: outbox.number,
      sequence,
      qos,
    }));
    const entry = this.store.entry(
      "queued",
      { number: message.number },
      { mqttTopic: topic, payload, deliveries, expiresAt },
    );
    return { entry, settle: (isDurable) => this.settle(message, isDurable) };
  }

  private isFull(outbox: Outbox, bytes: number): boolean {
    const { maxQueuedMessages, maxQueuedBytes, maxQueuedMessagesInAll, maxQueuedBytesInAll } = this.limits;
    return (
      outbox.messages >= maxQueuedMessages ||
      outbox.bytes + bytes > maxQueuedBytes ||
      this.messages.size >= maxQueuedMessagesInAll ||
      this.bytes + bytes > maxQueuedBytesInAll
    );
  }

  private deliver(message: QueuedMessage, outbox: Outbox, sequence: number, qos: 1 | 2): Delivery {
    const delivery: Delivery = { outbox, sequence, qos, message, state: "waiting", isRepeated: false };
    message.deliveries.push(delivery);
    this.deliveries++;
    message.waiting++;
    message.onDisk++;
    outbox.messages++;
    outbox.bytes += sizeOf(message);
    return delivery;
  }

  private settle(message: QueuedMessage, isDurable: boolean): void {
    if (isDurable) this.keep(message);
    for (const delivery of message.deliveries) {
      if (isDurable) delivery.outbox.push(delivery);
      else this.noLongerWaits(delivery);
    }
    if (isDurable) this.makeRoom(message);
  }

  private keep(message: QueuedMessage): void {
    this.messages.set(message.number, message);
    this.bytes += sizeOf(message);
  }

  /** Lets the oldest make way, in the sessions that have just got something and in all. */
  private makeRoom({ deliveries }: QueuedMessage): void {
    const { maxQueuedMessages, maxQueuedBytes, maxQueuedMessagesInAll, maxQueuedBytesInAll } = this.limits;
    for (const { outbox } of deliveries) {
      while (outbox.messages > maxQueuedMessages || outbox.bytes > maxQueuedBytes) {
        if (!this.dropOldest(outbox)) break;
      }
    }
    while (this.messages.size > maxQueuedMessagesInAll || this.bytes > maxQueuedBytesInAll) {
      const [oldest] = this.messages.values();
      if (oldest === undefined) return;
      // The oldest of all is the oldest wherever it waits.
      for (const { outbox, state } of oldest.deliveries) {
        if (state === "waiting" || state === "sent") this.dropOldest(outbox);
      }
    }
  }

  private dropOldest(outbox: Outbox): boolean {
    const dropped = outbox.dropOldest();
    if (dropped === undefined) return false;
    this.overflows++;
    this.noLongerWaits(dropped);
    this.changed(dropped);
    return true;
  }

  private noLongerWaits({ message, outbox }: Delivery): void {
    if (message === undefined) return;
    outbox.messages--;
    outbox.bytes -= sizeOf(message);
    message.waiting--;
    if (message.waiting === 0 && this.messages.delete(message.number)) this.bytes -= sizeOf(message);
  }

  // ── Acknowledgements

  /** PUBREC. Resolves when a restart would know of it: the PUBREL may go out. */
  released(outbox: Outbox, packetId: number): Promise<void> {
    const delivery = outbox.release(packetId);
    if (delivery !== undefined) {
      this.noLongerWaits(delivery);
      this.changed(delivery);
    }
    return this.saved(outbox);
  }

  /** PUBACK or PUBCOMP. Nobody waits for it: if it is lost, what it ends is repeated once more. */
  completed(outbox: Outbox, cmd: string, packetId: number): void {
    const delivery = outbox.complete(cmd, packetId);
    if (delivery === undefined) return;
    if (cmd === "puback") this.noLongerWaits(delivery);
    this.changed(delivery);
  }

  private changed(delivery: Delivery): void {
    const { outbox } = delivery;
    if (outbox.unsaved === undefined) this.addNews(outbox, [delivery]);
    else outbox.unsaved.changed.push(delivery);
    this.scheduleSave(isMuch(outbox.unsaved as News) || this.unsaved.length >= MAX_SAVED_TOGETHER);
  }

  private addNews(outbox: Outbox, changed: Delivery[]): void {
    outbox.unsaved = { outbox, changed, waiting: [] };
    this.unsaved.push(outbox.unsaved);
  }

  /** Resolves when the progress on disk is the present one, or a later one. */
  saved(outbox: Outbox): Promise<void> {
    const news = outbox.unsaved ?? outbox.saving;
    if (news === undefined) return Promise.resolve();
    this.scheduleSave(true);
    return new Promise((resolve, reject) => {
      news.waiting.push((error) => (error === null ? resolve() : reject(error)));
    });
  }

  /** Or somebody waits for it. */
  private get hasMuchUnsaved(): boolean {
    return (
      this.unsaved.length >= MAX_SAVED_TOGETHER ||
      this.unsaved.some((one) => isMuch(one) || one.waiting.length > 0)
    );
  }

  private scheduleSave(isUrgent: boolean): void {
    if (this.isScheduled || this.isSaving) return;
    if (!isUrgent) {
      this.cancelSave ??= this.clock.schedule(() => this.save(), SAVE_DELAY_MS);
      return;
    }
    this.isScheduled = true;
    // At the end of the turn: what came with one read goes into one record.
    setImmediate(() => {
      this.isScheduled = false;
      this.save();
    });
  }

  private save(): void {
    this.cancelSave?.();
    this.cancelSave = undefined;
    if (this.isSaving) return;
    const stale = this.stale.splice(0, MAX_STALE_KEYS);
    const entries = [...stale];
    this.saving = this.unsaved.splice(0, MAX_SAVED_TOGETHER);
    for (const news of this.saving) {
      const { outbox } = news;
      outbox.unsaved = undefined;
      outbox.saving = news;
      entries.push(this.store.entry("progress", { session: outbox.number }, outbox.progress()));
    }
    if (entries.length === 0) {
      for (const done of this.idle.splice(0)) done();
      return;
    }
    this.isSaving = true;
    // What a delivery has become while it was being written is the next record's.
    const saved = this.saving.flatMap(({ changed }) =>
      changed.map((delivery) => ({ delivery, isOver: delivery.state === "over" })),
    );
    this.store.append(entries, (error) => {
      if (error !== null) this.stale.unshift(...stale);
      this.onSaved(saved, error);
    });
  }

  private onSaved(saved: readonly { delivery: Delivery; isOver: boolean }[], error: LogError | null): void {
    const news = this.saving;
    this.saving = [];
    this.isSaving = false;
    for (const { outbox } of news) outbox.saving = undefined;
    if (error === null) {
      for (const { delivery, isOver } of saved) {
        this.isOverOnDisk(delivery);
        if (isOver) delivery.outbox.forget(delivery);
      }
    } else {
      // The next acknowledgement tries again.
      for (const { outbox, changed } of news) {
        if (outbox.unsaved === undefined) this.addNews(outbox, changed);
        else outbox.unsaved.changed.unshift(...changed);
      }
    }
    for (const { waiting } of news) for (const done of waiting) done(error);
    if (error !== null) for (const done of this.idle.splice(0)) done();
    else if (this.idle.length > 0) this.save();
    else if (this.unsaved.length > 0) this.scheduleSave(this.hasMuchUnsaved);
  }

  /** This session does not need the message any more, nor would it after a crash. */
  private isOverOnDisk(delivery: Delivery): void {
    const { message } = delivery;
    delivery.message = undefined;
    if (message === undefined) return;
    if (--message.onDisk === 0) this.deleteLater("queued", { number: message.number });
  }

  /** A record that means nothing any more is deleted when something is written anyway, or when they are many. */
  deleteLater<N extends KindName>(kind: N, key: KeyOf<N>): void {
    this.stale.push(this.store.entry(kind, key, null));
    if (this.stale.length >= MAX_STALE_KEYS) this.scheduleSave(true);
  }

  /** The session is no more, and that is on disk. */
  forget(outbox: Outbox): void {
    this.deleteLater("progress", { session: outbox.number });
    for (const delivery of outbox.takeAll()) {
      if (delivery.state === "waiting" || delivery.state === "sent") this.noLongerWaits(delivery);
      this.isOverOnDisk(delivery);
    }
  }

  /** Writes what there is to write; resolves when it is done with. */
  flush(): Promise<void> {
    return new Promise((resolve) => {
      this.idle.push(resolve);
      this.save();
    });
  }

  // ── Reading back

  private restored = new Map<number, QueuedValue>();

  /** What is on disk, in the order of the log. */
  readBack(number: number, value: QueuedValue | null): void {
    // A copy: the payload is a slice of all that was read with it.
    if (value !== null) this.restored.set(number, { ...value, payload: Buffer.from(value.payload) });
    else this.restored.delete(number);
  }

  /** After the last record; `outboxes` by their sessions' numbers, their progress restored. */
  restore(outboxes: ReadonlyMap<number, Outbox>): void {
    for (const [number, { mqttTopic, payload, deliveries, expiresAt }] of this.restored) {
      const message: QueuedMessage = {
        number,
        topic: mqttTopic,
        payload,
        expiresAt,
        deliveries: [],
        waiting: 0,
        onDisk: 0,
      };
      for (const { session, sequence, qos } of deliveries) {
        const outbox = outboxes.get(session);
        if (!outbox?.takesBack(sequence)) continue;
        const delivery = this.deliver(message, outbox, sequence, qos as 1 | 2);
        // Whether it had been sent is not known; the flag says no more than that it may [MQTT-3.3.1-1].
        delivery.isRepeated = outbox.reachesNext;
        outbox.push(delivery);
      }
      if (message.waiting === 0) {
        this.deleteLater("queued", { number });
        continue;
      }
      this.keep(message);
      this.makeRoom(message);
    }
    this.restored = new Map();
  }
}
