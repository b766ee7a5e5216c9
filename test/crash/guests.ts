/**
 * The gateway above the log as its clients use it: a broker and a group coordinator on a store, sensors that
 * publish at QoS 0, 1 and 2 and send again as the specification says, subscribers with sessions that come and
 * go, and a group that commits offsets. What they do and are told goes into the chronicle's books.
 */
import { setImmediate as turn } from "node:timers/promises";
import { pino } from "pino";
import type { GroupCoordinator } from "../../src/groups/coordinator.ts";
import type { StreamStore } from "../../src/log/stream-store.ts";
import type { MqttBroker } from "../../src/mqtt/broker.ts";
import { endOffsetOf, recordsOf } from "../../src/wire/record-batch.ts";
import { type Books, type ClientBook, type Message, numberIn, type QoS, type SinkContent } from "./books.ts";
import { Link } from "./link.ts";
import type { Chronicle } from "./oracle.ts";
import type { Program } from "./program.ts";
import type { Random } from "./random.ts";
import { clockOf } from "./turn-clock.ts";
import { Violation } from "./violation.ts";

const SENSORS = "mqtt-sensors";
const INTERNAL = ["__mqtt_sessions", "__mqtt_retained", "__mqtt_queue", "__consumer_offsets"];
const PUBLISHERS = ["p1", "p2"];
const SUBSCRIBERS = ["s1", "s2"];
const LAST = "last";
const GROUP = "g";
/** So many that one which was refused leaves room for those that must not overtake it. */
const MAX_OUTGOING = 6;
/** So many turns of the event loop are enough for anything that will come at all. */
const MAX_TURNS = 4_000;
/** Long enough for a client to send more before it is told: what must not be taken then has to come. */
const REFUSAL_DELAY_MS = 8;
const RULES = [
  { name: "made", from: "auto/+name/+client", to: "mqtt-$" + "{name}", key: "$" + "{topic}" },
  { name: "all", from: "#rest", to: SENSORS, key: "$" + "{topic}" },
];
const silent = pino({ level: "silent" });

/** Streams that MQTT messages are mapped to. */
export const isSink = (stream: string): boolean => stream.startsWith("mqtt-");

export interface GuestsOptions {
  readonly program: Program;
  readonly store: StreamStore;
  readonly chronicle: Chronicle;
  /** Told of a broken promise that shows in what a client is sent. */
  readonly fail: (error: unknown) => void;
}

export class Guests {
  private readonly store: StreamStore;
  private readonly chronicle: Chronicle;
  private readonly groups: GroupCoordinator;
  private readonly broker: MqttBroker;
  private readonly links = new Map<string, Link>();
  private readonly fail: (error: unknown) => void;
  private failure: unknown;
  private isOver = false;

  constructor({ program, store, chronicle, fail }: GuestsOptions) {
    this.store = store;
    this.chronicle = chronicle;
    this.fail = fail;
    const clock = { now: () => 0, wallTime: () => 0, schedule: () => () => {} };
    this.groups = new program.GroupCoordinator(store, {}, silent, clock);
    const mapper = new program.Mapper(RULES, (name) => store.stream(name)?.partitions.length ?? 0);
    const autoCreate = { enabled: true, partitions: 1 };
    const wallClock = { now: () => Date.now(), isSet: true };
    const ingest = new program.Ingest(mapper, store, silent, { autoCreate }, wallClock);
    this.broker = new program.MqttBroker(
      {
        listeners: [],
        limits: { stopTimeoutMs: 50, refusalDelayMs: REFUSAL_DELAY_MS },
        clock: clockOf(() => 0),
      },
      store,
      ingest,
      silent,
    );
  }

  private get books(): Books {
    return this.chronicle.now.books;
  }

  private tell(event: (books: Books) => void): void {
    if (this.isOver) return;
    try {
      this.chronicle.tell((oracle) => event(oracle.books));
    } catch (error) {
      this.failure ??= error;
      this.fail(error);
    }
  }

  /** Starts what is above the log, and holds what it has kept against the books. `random` draws sizes. */
  async start(random: Random): Promise<void> {
    const { store } = this;
    for (const name of INTERNAL) {
      if (store.stream(name) !== undefined) continue;
      const segmentBytes = random.pick([300, 1500, 1 << 20]);
      const deleteRetentionMs = random.pick([0, 60_000]);
      await store.createStream(name, 1, { cleanup: "compact", segmentBytes, deleteRetentionMs }, "internal");
    }
    if (store.stream(SENSORS) === undefined) {
      await store.createStream(
        SENSORS,
        2,
        { segmentBytes: random.pick([600, 6000]), retentionMs: -1 },
        "config",
      );
    }
    this.tell((books) => books.gatewayDied());
    await this.judgeSinks();
    await this.groups.start();
    this.judgeOffsets();
    await this.broker.start();
    this.tell((books) => books.willsPublished());
    await this.judgeSinks();
    await this.judgeRetained();
    if (this.failure !== undefined) throw this.failure;
  }

  /** From here on nothing that happens counts. */
  end(): void {
    this.isOver = true;
    for (const link of this.links.values()) link.close();
    void this.broker.close();
    void this.groups.close();
  }

  /** In order, as a gateway stops. */
  async stop(): Promise<void> {
    await this.broker.close();
    await this.groups.close();
  }

  // ── What they do

  async step(random: Random): Promise<void> {
    const draw = random.next();
    if (draw < 0.53) this.publish(random);
    else if (draw < 0.58) this.comeOrGo(random.pick(SUBSCRIBERS), random);
    else if (draw < 0.66) this.subscribe(random.pick(SUBSCRIBERS), random);
    else if (draw < 0.69) this.comeOrGo(random.pick(PUBLISHERS), random);
    // A takeover, where it is connected.
    else if (draw < 0.76) this.connect(random.pick([...PUBLISHERS, ...SUBSCRIBERS]), random);
    else if (draw < 0.8) void this.commit();
    else if (draw < 0.84) this.askAgain(random);
    else if (draw < 0.855) await this.judgeSinks();
    else if (draw < 0.87) this.judgeOffsets();
    else if (draw < 0.89) this.wipe(random.pick([...PUBLISHERS, ...SUBSCRIBERS]));
    else for (let turns = random.int(20); turns > 0; turns--) await turn();
  }

  private publish(random: Random): void {
    const id = random.pick(PUBLISHERS);
    const link = this.links.get(id);
    if (link === undefined || !link.isOpen) {
      this.connect(id, random);
      return;
    }
    for (let left = 1 + random.int(3); left > 0; left--) {
      if (!link.isReady || this.books.client(id).outgoing.size >= MAX_OUTGOING) return;
      this.send(this.draw(id, random), link);
    }
  }

  private draw(client: string, random: Random): Message {
    const qos = random.pick([0, 1, 1, 2, 2] as const);
    const [mqttTopic, retain] = random.pick([
      [`t/${client}/${qos}`, false],
      [`t/${client}/${qos}`, false],
      [`r/${client}/${qos}`, true],
      [`auto/${random.pick(["a", "b"])}/${client}-${qos}`, false],
    ] as const);
    const clears = retain && random.chance(0.2);
    return { ...this.message(client, mqttTopic, qos), retain, clears, padding: random.int(100) };
  }

  private message(client: string, mqttTopic: string, qos: QoS): Message {
    const id = this.books.messages.length;
    return { id, client, mqttTopic, qos, retain: false, isWill: false, clears: false, padding: 0 };
  }

  private send(message: Message, link: Link): void {
    const packetId = this.books.client(message.client).nextPacketId();
    this.tell((books) => books.published(message, packetId));
    link.publish(message, packetId, false);
  }

  private comeOrGo(id: string, random: Random): void {
    const link = this.links.get(id);
    if (link === undefined || !link.isOpen) {
      this.connect(id, random);
      return;
    }
    if (link.isReady && random.chance(0.3)) {
      this.tell((books) => books.disconnected(id));
      link.send({ cmd: "disconnect" });
    } else link.close();
  }

  /** One that waits for an answer gives its connection up, and asks over another. */
  private askAgain(random: Random): void {
    const waiting = [...this.books.clients.values()].filter((client) => client.isWaiting);
    if (waiting.length > 0) this.connect(random.pick(waiting).id);
  }

  /** Begins a clean session, and ends it when it has begun. */
  private wipe(id: string): void {
    this.tell((books) => books.disconnected(id));
    this.tell((books) => books.wiping(id));
    this.connect(id);
  }

  /** The earlier connection, if there is one, is not heard of any more. */
  private connect(id: string, random?: Random): void {
    let will: Message | undefined;
    if (random?.chance(0.2)) {
      const number = this.books.messages.length;
      will = { ...this.message(id, `w/${id}/${number}`, 1), isWill: true };
      const given = will;
      this.tell((books) => books.willGiven(given));
    }
    const clean = this.books.client(id).wipe === "asked";
    const link: Link = new Link({
      broker: this.broker,
      clientId: id,
      clean,
      ...(will && { will }),
      onPacket: (packet) => {
        if (this.links.get(id) !== link || this.isOver) return;
        // A gateway that stops.
        if (packet.cmd === "connack" && packet.returnCode !== 0) {
          link.close();
          return;
        }
        if (packet.cmd === "connack" && clean) {
          this.tell((books) => books.wiped(id, packet.sessionPresent));
          link.close();
          return;
        }
        if (packet.cmd === "connack") {
          this.connected(id, link, packet.sessionPresent, will);
          return;
        }
        let answers: object[] = [];
        this.tell((books) => {
          answers = books.take(id, packet);
        });
        for (const answer of answers) link.send(answer);
      },
    });
    this.links.set(id, link);
  }

  private connected(id: string, link: Link, sessionPresent: boolean, will: Message | undefined): void {
    this.tell((books) => books.connected(id, sessionPresent, will));
    const { outgoing, subscription } = this.books.client(id);
    // [MQTT-4.4.0-1], in the order in which they were sent first [MQTT-4.6.0-1]
    for (const [messageId, { message, stage }] of outgoing) {
      if (stage === "publish") link.publish(message, messageId, true);
      else link.send({ cmd: "pubrel", messageId });
    }
    if (subscription.state === "asked") this.ask(link, subscription.qos);
    if (subscription.state === "leaving") this.askToLeave(link);
  }

  private ask(link: Link, qos: QoS): void {
    link.send({ cmd: "subscribe", messageId: 60_000, subscriptions: [{ topic: "#", qos }] });
  }

  private askToLeave(link: Link): void {
    link.send({ cmd: "unsubscribe", messageId: 60_001, unsubscriptions: ["#"] });
  }

  private subscribe(id: string, random: Random): void {
    const link = this.links.get(id);
    if (!link?.isOpen || !link.isReady) {
      this.connect(id, random);
      return;
    }
    const { state } = this.books.client(id).subscription;
    if (state === "none") {
      const qos = random.pick([1, 2] as const);
      this.tell((books) => books.subscribing(id, qos));
      this.ask(link, qos);
    } else if (state === "active" && random.chance(0.3)) {
      this.tell((books) => books.unsubscribing(id));
      this.askToLeave(link);
    }
  }

  private async commit(): Promise<void> {
    const offset = (this.books.offsets.get(GROUP)?.asked ?? -1) + 1;
    this.tell((books) => books.commitAsked(GROUP, offset));
    const simple = { memberId: "", groupInstanceId: null, generationId: -1 };
    const offsets = [0, 1].map((partition) => ({
      stream: SENSORS,
      partition,
      offset,
      leaderEpoch: -1,
      metadata: null,
    }));
    const errors = await this.groups.commit(GROUP, simple, offsets);
    if (errors.every((error) => error === "NONE")) this.tell((books) => books.committed(GROUP, offset));
  }

  // ── What is found

  private judgeOffsets(): void {
    const found = [0, 1].map(
      (partition) => this.groups.committedOffset(GROUP, { stream: SENSORS, partition })?.offset ?? -1,
    );
    this.tell((books) => {
      books.judgeOffsets(new Map([[GROUP, found]]));
      if ((found[0] as number) >= 0) books.committed(GROUP, found[0] as number);
    });
  }

  private async judgeSinks(): Promise<void> {
    const { keptCount } = this.books;
    const content = await sinksOf(this.store);
    this.tell((books) => {
      books.judgeSinks(content, keptCount);
      books.shown(content);
    });
  }

  /** As a client finds them that has never been here. */
  private async judgeRetained(): Promise<void> {
    const found = new Map<string, number>();
    const link = new Link({
      broker: this.broker,
      clientId: "probe",
      clean: true,
      onPacket: ({ cmd, retain, payload }, mqttTopic) => {
        if (cmd === "connack") this.ask(link, 0);
        if (cmd === "publish" && retain) found.set(mqttTopic, numberIn(payload));
      },
    });
    await this.until(() => found.size === this.broker.stats.retainedMessages, "retained messages");
    link.close();
    this.tell((books) => {
      books.judgeRetained(found);
      books.retainedShown(found);
    });
  }

  /** Everybody comes back and ends what was begun; what is then found must be whole. */
  async settle(): Promise<void> {
    const { books } = this;
    const clients = [...books.clients.values()];
    await this.until(() => this.areBack(clients), "the end of what was under way");
    // Whoever has ended a message may use its packet id for another.
    for (const { id } of clients.filter((client) => PUBLISHERS.includes(client.id))) {
      this.send(this.message(id, `t/${id}/2`, 2), this.links.get(id) as Link);
    }
    const last = books.client(LAST);
    await this.until(() => this.areBack([last]), "a connection for the last message");
    const message = this.message(LAST, `t/${LAST}/2`, 2);
    this.send(message, this.links.get(LAST) as Link);
    const subscribers = clients.filter(({ subscription }) => subscription.state === "active");
    await this.until(
      () =>
        this.areBack([...clients, last]) && subscribers.every(({ delivered }) => delivered.has(message.id)),
      "the last message",
    );
    this.tell((known) => known.judgeDeliveries());
    await this.judgeSinks();
    await this.judgeRetained();
    this.judgeOffsets();
    if (this.failure !== undefined) throw this.failure;
  }

  private areBack(clients: readonly ClientBook[]): boolean {
    let all = true;
    for (const { id, outgoing, subscription } of clients) {
      if (this.links.get(id)?.isOpen !== true) this.connect(id);
      const link = this.links.get(id);
      const isSettled = subscription.state === "active" || subscription.state === "none";
      all &&= link?.isReady === true && outgoing.size === 0 && isSettled;
    }
    return all;
  }

  private async until(condition: () => boolean, what: string): Promise<void> {
    for (let turns = 0; !condition(); turns++) {
      if (this.failure !== undefined) throw this.failure;
      if (turns > MAX_TURNS) throw new Violation(`did not come: ${what}`);
      await turn();
    }
  }
}

/** The messages on all streams that MQTT is mapped to. */
async function sinksOf(store: StreamStore): Promise<Map<string, SinkContent[]>> {
  const content = new Map<string, SinkContent[]>();
  for (const { name, partitions } of store.streams) {
    if (!isSink(name)) continue;
    const read: SinkContent[] = [];
    for (const partition of partitions) {
      const { logStartOffset: start } = partition;
      const messages: (number | undefined)[] = [];
      for (let next = start; next < partition.highWatermark; ) {
        const buffers = await partition.read(next, 3000);
        for (const { offset, value } of recordsOf(buffers)) {
          if (offset < next) continue;
          if (offset !== start + messages.length) throw new Violation(`${name} goes on at ${offset}`);
          messages.push(value === null || value.length === 0 ? undefined : numberIn(value.toString()));
        }
        next = endOffsetOf(buffers);
      }
      read.push({ start, messages });
    }
    content.set(name, read);
  }
  return content;
}
