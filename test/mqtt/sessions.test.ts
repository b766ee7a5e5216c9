/** What the broker remembers through a kill -9, at every point where one can happen. */
import { connectAsync } from "mqtt";
import { describe, expect, it } from "vitest";
import { partitionOf, values } from "../support/log.ts";
import { Disk, type Gateway, killAndRestart, StatefulClient, startGateway } from "./killed.ts";
import { eventually, RawClient } from "./support.ts";

const payloads = (count: number) => Array.from({ length: count }, (_, n) => `m${n}`);
const recorded = ({ store }: Gateway) => values(partitionOf(store.stream("all")));

/** What has been received, as text. */
const textsOf = (client: RawClient) =>
  client.of("publish").map((packet) => "payload" in packet && String(packet.payload));

async function subscribed(port: number, clientId: string, topic: string, qos: number): Promise<RawClient> {
  const client = await RawClient.connect(port, clientId, { clean: false });
  client.send({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic, qos }] });
  await client.until("suback");
  return client;
}

/** Nothing more happens: neither on the wire nor on the disk. */
async function settled(gateway: Gateway, clients: readonly StatefulClient[]): Promise<void> {
  let quietSince = performance.now();
  let last = "";
  while (performance.now() - quietSince < 25) {
    const now = JSON.stringify([gateway.disk.writes, clients.map(({ delivered }) => delivered.length)]);
    if (now !== last) quietSince = performance.now();
    last = now;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

describe("QoS 2 through a kill", () => {
  const ALL = Number.POSITIVE_INFINITY;

  /** Before the kill only so many synced writes get to the disk, and so many packets to each client. */
  async function scenario(qos: 1 | 2, until: { writes?: number; publisher?: number; subscriber?: number }) {
    let gateway = await startGateway(new Disk());
    const publisher = new StatefulClient("publisher", "t");
    const subscriber = new StatefulClient("subscriber", "t");
    await subscriber.connect(gateway.port, { qos });
    await subscriber.untilSubscribed();
    await publisher.connect(gateway.port);
    gateway.disk.writesLeft = until.writes ?? ALL;
    publisher.hears = until.publisher ?? ALL;
    subscriber.hears = until.subscriber ?? ALL;
    publisher.publish("m0");
    publisher.publish("m1");
    const clients = [publisher, subscriber];
    await eventually(() => {
      const isCut = gateway.disk.writesLeft <= 0 || clients.some(({ hears }) => hears <= 0);
      const isDone = clients.every(({ isIdle }) => isIdle) && subscriber.delivered.length === 2;
      expect(isCut || isDone).toBe(true);
    });
    await settled(gateway, clients);
    const wasOver = gateway.disk.writesLeft > 0;
    gateway = await killAndRestart(gateway);
    await subscriber.connect(gateway.port);
    await publisher.connect(gateway.port);
    publisher.publish("m2");
    await eventually(() => {
      expect(subscriber.delivered).toContain("m2");
      expect(publisher.isIdle && subscriber.isIdle).toBe(true);
    });
    return { gateway, subscriber, wasOver };
  }

  it("is exactly once for the stream and for a subscriber, at every commit of the handshakes", async () => {
    let writes = 0;
    for (let isOver = false; !isOver; writes++) {
      const { gateway, subscriber, wasOver } = await scenario(2, { writes });
      expect(await recorded(gateway), `after ${writes} writes`).toEqual(payloads(3));
      expect(subscriber.delivered, `after ${writes} writes`).toEqual(payloads(3));
      isOver = wasOver;
    }
    expect(writes).toBeGreaterThan(4);
  });

  it("is exactly once whichever packets are lost with it, in both directions", async () => {
    for (let lost = 0; lost < 25; lost++) {
      const until = { publisher: lost % 5, subscriber: Math.floor(lost / 5) };
      const { gateway, subscriber } = await scenario(2, until);
      expect(await recorded(gateway), JSON.stringify(until)).toEqual(payloads(3));
      expect(subscriber.delivered, JSON.stringify(until)).toEqual(payloads(3));
    }
  });

  it("loses nothing for a subscriber with QoS 1, in order of first delivery", async () => {
    for (let writes = 0, isOver = false; !isOver; writes++) {
      const { gateway, subscriber, wasOver } = await scenario(1, { writes });
      expect(await recorded(gateway)).toEqual(payloads(3));
      expect([...new Set(subscriber.delivered)]).toEqual(payloads(3));
      isOver = wasOver;
    }
  });

  it("again and again, under a stream of messages", async () => {
    let gateway = await startGateway(new Disk());
    const publisher = new StatefulClient("publisher", "t");
    const subscriber = new StatefulClient("subscriber", "t");
    await subscriber.connect(gateway.port, { qos: 2 });
    await subscriber.untilSubscribed();
    await publisher.connect(gateway.port);
    let count = 0;
    for (let round = 0; round < 12; round++) {
      for (let n = 0; n < 30; n++) publisher.publish(`m${count++}`);
      const until = gateway.disk.writes + (round % 6);
      await eventually(() => expect(gateway.disk.writes).toBeGreaterThanOrEqual(until));
      gateway = await killAndRestart(gateway);
      await subscriber.connect(gateway.port);
      await publisher.connect(gateway.port);
    }
    await eventually(() => {
      expect(subscriber.delivered).toHaveLength(count);
      expect(publisher.isIdle && subscriber.isIdle).toBe(true);
    });
    expect(subscriber.delivered).toEqual(payloads(count));
    expect(await recorded(gateway)).toEqual(payloads(count));
    expect(gateway.broker.stats).toMatchObject({ queuedMessages: 0, queuedBytes: 0, queueOverflows: 0 });
  });

  it("does not know the packet ids of a clean session when it reconnects", async () => {
    const gateway = await startGateway(new Disk());
    const kept = await RawClient.connect(gateway.port, "c", { clean: false });
    kept.publish("t", "kept", 2, 7);
    await kept.until("pubrec");
    const clean = await RawClient.connect(gateway.port, "c");
    clean.publish("t", "clean", 2, 7);
    await clean.until("pubrec");
    const after = await killAndRestart(gateway);
    const again = await RawClient.connect(after.port, "c", { clean: false });
    again.publish("t", "again", 2, 7);
    await again.until("pubrec");
    expect(await recorded(after)).toEqual(["kept", "clean", "again"]);
  });
});

describe("a session that is away", () => {
  it("gets its queue in order after a restart, whatever it was queued by, and is then owed nothing", async () => {
    let gateway = await startGateway(new Disk());
    (await subscribed(gateway.port, "s", "t/#", 2)).socket.destroy();
    await eventually(() => expect(gateway.broker.stats.connections).toBe(0));
    const publisher = await RawClient.connect(gateway.port, "p");
    for (let n = 0; n < 300; n++) publisher.publish(`t/${n % 7}`, `m${n}`, 1 + (n % 2), n + 1);
    await publisher.until("puback", 150);
    await publisher.until("pubrec", 150);
    gateway = await killAndRestart(gateway);
    expect(gateway.broker.stats).toMatchObject({ sessions: 1, queuedMessages: 300 });
    const subscriber = new StatefulClient("s", "t/#");
    await subscriber.connect(gateway.port);
    await eventually(() => expect(subscriber.delivered).toHaveLength(300));
    await eventually(() => expect(gateway.broker.stats.queuedMessages).toBe(0));
    // Each QoS in its order; QoS 2 is recorded where its packet id is stored, after QoS 1 of the same read.
    const ofQos = (which: number) => subscriber.delivered.filter((one) => Number(one.slice(1)) % 2 === which);
    for (const which of [0, 1]) expect(ofQos(which)).toEqual(payloads(300).filter((_, n) => n % 2 === which));
    expect(subscriber.delivered).toEqual(await recorded(gateway));
    await settled(gateway, [subscriber]);
    gateway = await killAndRestart(gateway);
    await subscriber.connect(gateway.port);
    await settled(gateway, [subscriber]);
    expect(subscriber.delivered).toHaveLength(300);
  });

  it("shares a message with others on disk, which is deleted when the last has it", async () => {
    let gateway = await startGateway(new Disk());
    for (const id of ["a", "b", "c"]) (await subscribed(gateway.port, id, "t", 1)).socket.destroy();
    const publisher = await RawClient.connect(gateway.port, "p");
    publisher.publish("t", "x".repeat(50_000), 1, 1);
    await publisher.until("puback");
    expect(partitionOf(gateway.store.stream("__mqtt_queue")).sizeBytes).toBeLessThan(51_000);
    for (const id of ["a", "b", "c"]) {
      expect(gateway.broker.stats).toMatchObject({ queuedMessages: 1 });
      gateway = await killAndRestart(gateway);
      const subscriber = new StatefulClient(id, "t");
      await subscriber.connect(gateway.port);
      await eventually(() => expect(subscriber.delivered).toHaveLength(1));
      await settled(gateway, [subscriber]);
      expect(gateway.broker.stats).toMatchObject({ queuedMessages: id === "c" ? 0 : 1, sessions: 3 });
      // An orderly stop writes what otherwise waits for another reason to write.
      await gateway.broker.close();
    }
    const queue = await values(partitionOf(gateway.store.stream("__mqtt_queue")));
    expect(queue).toHaveLength(2);
    expect(queue[1]).toBe("");
  });

  it("is sent again what it has not acknowledged, in order, and not what it has out of order", async () => {
    let gateway = await startGateway(new Disk());
    const client = await subscribed(gateway.port, "s", "t", 1);
    const publisher = await RawClient.connect(gateway.port, "p");
    for (let n = 0; n < 6; n++) publisher.publish("t", `m${n}`, 1, n + 1);
    const sent = await client.until("publish", 6).then(() => client.of("publish"));
    for (const n of [4, 1, 2]) client.send({ cmd: "puback", messageId: sent[n]?.messageId });
    await client.roundTrip();
    for (let restart = 0; restart < 2; restart++) {
      await settled(gateway, []);
      gateway = await killAndRestart(gateway);
      const again = await RawClient.connect(gateway.port, "s", { clean: false });
      await again.until("publish", 3);
      await again.roundTrip();
      expect(textsOf(again)).toEqual(["m0", "m3", "m5"]);
      // [MQTT-4.4.0-1]: with their original packet ids
      expect(again.of("publish")).toMatchObject(
        [0, 3, 5].map((n) => ({ messageId: sent[n]?.messageId, dup: true })),
      );
    }
  });

  it("has its subscriptions after a restart, and those that it took back not", async () => {
    let gateway = await startGateway(new Disk());
    const client = await RawClient.connect(gateway.port, "s", { clean: false });
    const subscriptions = [
      { topic: "kept/+", qos: 2 },
      { topic: "taken/#", qos: 1 },
      { topic: "zero", qos: 0 },
    ];
    client.send({ cmd: "subscribe", messageId: 1, subscriptions });
    await client.until("suback");
    client.send({ cmd: "unsubscribe", messageId: 2, unsubscriptions: ["taken/#"] });
    await client.until("unsuback");
    gateway = await killAndRestart(gateway);
    const again = await RawClient.connect(gateway.port, "s", { clean: false });
    expect(again.received[0]).toMatchObject({ cmd: "connack", sessionPresent: true });
    const publisher = await RawClient.connect(gateway.port, "p");
    for (const [n, topic] of ["kept/x", "taken/x", "zero"].entries())
      publisher.publish(topic, topic, 1, n + 1);
    await again.until("publish", 2);
    await again.roundTrip();
    expect(textsOf(again).sort()).toEqual(["kept/x", "zero"]);
  });

  it("is forgotten by a clean session, for good", async () => {
    let gateway = await startGateway(new Disk());
    (await subscribed(gateway.port, "s", "t", 1)).socket.destroy();
    const publisher = await RawClient.connect(gateway.port, "p");
    publisher.publish("t", "queued", 1, 1);
    await publisher.until("puback");
    const clean = await RawClient.connect(gateway.port, "s");
    expect(clean.received[0]).toMatchObject({ sessionPresent: false });
    expect(gateway.broker.stats).toMatchObject({ sessions: 0, queuedMessages: 0 });
    gateway = await killAndRestart(gateway);
    expect(gateway.broker.stats).toMatchObject({ sessions: 0, queuedMessages: 0 });
    const again = await RawClient.connect(gateway.port, "s", { clean: false });
    await again.roundTrip();
    expect(again.received[0]).toMatchObject({ sessionPresent: false });
    expect(again.of("publish")).toEqual([]);
  });

  it.each<[string, object, string[]]>([
    ["count in a session", { maxQueuedMessages: 3 }, ["m7", "m8", "m9"]],
    ["bytes in a session", { maxQueuedBytes: 12 }, ["m7", "m8", "m9"]],
    ["count in all", { maxQueuedMessagesInAll: 3 }, ["m7", "m8", "m9"]],
    ["bytes in all", { maxQueuedBytesInAll: 12 }, ["m7", "m8", "m9"]],
    [
      "count, the newest giving way",
      { maxQueuedMessages: 3, whenQueueFull: "dropNewest" },
      ["m0", "m1", "m2"],
    ],
    [
      "bytes in all, the newest giving way",
      { maxQueuedBytesInAll: 12, whenQueueFull: "dropNewest" },
      ["m0", "m1", "m2"],
    ],
  ])("keeps to its bound of %s, through a restart", async (_name, limits, expected) => {
    let gateway = await startGateway(new Disk(), limits);
    (await subscribed(gateway.port, "s", "t", 1)).socket.destroy();
    await eventually(() => expect(gateway.broker.stats.connections).toBe(0));
    const publisher = await RawClient.connect(gateway.port, "p");
    for (let n = 0; n < 10; n++) {
      publisher.publish("t", `m${n}`, 1, n + 1);
      await publisher.until("puback", n + 1);
    }
    expect(gateway.broker.stats).toMatchObject({ queueOverflows: 7, queuedMessages: 3, queuedBytes: 12 });
    await settled(gateway, []);
    gateway = await killAndRestart(gateway, limits);
    expect(gateway.broker.stats).toMatchObject({ queueOverflows: 0, queuedMessages: 3, queuedBytes: 12 });
    const subscriber = new StatefulClient("s", "t");
    await subscriber.connect(gateway.port);
    await eventually(() => expect(subscriber.delivered).toEqual(expected));
  });

  it("queues also what no mapping takes", async () => {
    const gateway = await startGateway(new Disk());
    const { broker } = gateway;
    (await subscribed(gateway.port, "s", "$other", 1)).socket.destroy();
    const publisher = await RawClient.connect(gateway.port, "p");
    publisher.publish("$other", "unmatched", 1, 1, { retain: true });
    await publisher.until("puback");
    expect(await recorded(gateway)).toEqual([]);
    expect(broker.stats).toMatchObject({ queuedMessages: 1, retainedMessages: 1 });
    const after = await killAndRestart(gateway);
    expect(after.broker.stats).toMatchObject({ queuedMessages: 1, retainedMessages: 1 });
  });

  it("sends within its window to a subscriber that does not acknowledge, and goes on when it does", async () => {
    const gateway = await startGateway(new Disk());
    const client = await subscribed(gateway.port, "s", "t", 1);
    const publisher = await RawClient.connect(gateway.port, "p");
    for (let n = 0; n < 600; n++) publisher.publish("t", `m${n}`, 1, n + 1);
    await publisher.until("puback", 600);
    await client.until("publish", 256);
    await client.roundTrip();
    expect(client.of("publish")).toHaveLength(256);
    const [first, ...others] = client.of("publish");
    for (const { messageId } of others) client.send({ cmd: "puback", messageId });
    await client.roundTrip();
    await settled(gateway, []);
    expect(client.of("publish")).toHaveLength(256);
    client.onPacket = (packet) => {
      if (packet.cmd === "publish") client.send({ cmd: "puback", messageId: packet.messageId });
    };
    client.send({ cmd: "puback", messageId: first?.messageId });
    await client.until("publish", 600);
    expect(textsOf(client)).toEqual(payloads(600));
    const ids = client.of("publish").map(({ messageId }) => messageId);
    expect(new Set(ids).size).toBe(600);
  });
});

describe("retained messages", () => {
  it("are there after a restart, the last one of each MQTT topic, and deleted ones are not", async () => {
    let gateway = await startGateway(new Disk());
    const publisher = await RawClient.connect(gateway.port, "p");
    const retained: [string, string][] = [
      ["a", "old"],
      ["a", "new"],
      ["b", "gone"],
      ["b", ""],
      ["c/d", "deep"],
    ];
    for (const [n, [topic, payload]] of retained.entries()) {
      publisher.publish(topic, payload, n % 3, n % 3 === 0 ? undefined : n + 1, { retain: true });
      await publisher.roundTrip();
    }
    await eventually(async () => expect(await recorded(gateway)).toHaveLength(5));
    gateway = await killAndRestart(gateway);
    expect(gateway.broker.stats.retainedMessages).toBe(2);
    const subscriber = await RawClient.connect(gateway.port, "s", { clean: false });
    subscriber.send({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic: "#", qos: 2 }] });
    await subscriber.until("publish", 2);
    await subscriber.roundTrip();
    expect(textsOf(subscriber).sort()).toEqual(["deep", "new"]);
    expect(subscriber.of("publish")).toMatchObject([{ retain: true }, { retain: true }]);
  });
});

describe("a will", () => {
  const will = (payload: string) => ({
    will: { topic: "state", payload: Buffer.from(payload), qos: 1, retain: true },
  });

  it("of a client that died with the gateway is published at the next start, once", async () => {
    let gateway = await startGateway(new Disk());
    (await subscribed(gateway.port, "s", "state", 1)).socket.destroy();
    const polite = await RawClient.connect(gateway.port, "polite", will("never"));
    polite.send({ cmd: "disconnect" });
    await polite.untilClosed();
    await RawClient.connect(gateway.port, "died", will("died"));
    await settled(gateway, []);
    for (let restart = 0; restart < 2; restart++) {
      gateway = await killAndRestart(gateway);
      expect(await recorded(gateway)).toEqual(["died"]);
      expect(gateway.broker.stats).toMatchObject({ retainedMessages: 1, queuedMessages: 1 });
    }
    const subscriber = new StatefulClient("s", "state");
    await subscriber.connect(gateway.port);
    await eventually(() => expect(subscriber.delivered).toEqual(["died"]));
  });

  it("is published at a takeover, and the new connection's is kept", async () => {
    let gateway = await startGateway(new Disk());
    await RawClient.connect(gateway.port, "c", will("first"));
    await RawClient.connect(gateway.port, "c", will("second"));
    await eventually(async () => expect(await recorded(gateway)).toEqual(["first"]));
    gateway = await killAndRestart(gateway);
    expect(await recorded(gateway)).toEqual(["first", "second"]);
  });
});

describe("absurd clients", () => {
  it("have their sessions by names of JavaScript's own, of any length, and of broken text", async () => {
    let gateway = await startGateway(new Disk());
    const ids = [
      "__proto__",
      "constructor",
      "toString",
      "x".repeat(256),
      "a/+/#",
      "\ud800",
      "\u{1f600}",
      " ",
    ];
    for (const id of ids)
      (await subscribed(gateway.port, id, `in/${id.replaceAll(/[+#/]/g, "_")}`, 2)).socket.destroy();
    const topics = ids.map((id) => `in/${id.replaceAll(/[+#/]/g, "_")}`);
    gateway = await killAndRestart(gateway);
    const publisher = await RawClient.connect(gateway.port, "p");
    for (const [n, topic] of topics.entries())
      publisher.publish(topic, `for ${n}`, 2, n + 1, { retain: true });
    await publisher.until("pubrec", topics.length);
    gateway = await killAndRestart(gateway);
    expect(gateway.broker.stats).toMatchObject({ sessions: ids.length, retainedMessages: topics.length });
    for (const [n, id] of ids.entries()) {
      const client = await RawClient.connect(gateway.port, id, { clean: false });
      await client.until("publish");
      expect(textsOf(client)).toEqual([`for ${n}`]);
    }
  });

  it("carry an MQTT topic of 65,535 bytes through a restart", async () => {
    let gateway = await startGateway(new Disk());
    const topic = "t".repeat(65_535);
    (await subscribed(gateway.port, "s", topic, 1)).socket.destroy();
    const publisher = await RawClient.connect(gateway.port, "p");
    publisher.publish(topic, "x", 1, 1, { retain: true });
    await publisher.until("puback");
    gateway = await killAndRestart(gateway);
    const client = await RawClient.connect(gateway.port, "s", { clean: false });
    expect(await client.until("publish")).toMatchObject({ topic });
    expect(gateway.broker.stats.retainedMessages).toBe(1);
  });

  it("take over their session in a tight loop, and nothing is lost, leaked or twice in the stream", async () => {
    const gateway = await startGateway(new Disk());
    const subscriber = new StatefulClient("s", "t");
    await subscriber.connect(gateway.port, { qos: 2 });
    await subscriber.untilSubscribed();
    const publisher = new StatefulClient("p", "t");
    for (let n = 0; n < 40; n++) {
      await Promise.all([publisher.connect(gateway.port), subscriber.connect(gateway.port)]);
      for (let m = 0; m < 3; m++) publisher.publish(`m${n * 3 + m}`);
    }
    await eventually(() => {
      expect(subscriber.delivered).toHaveLength(120);
      expect(publisher.isIdle && subscriber.isIdle).toBe(true);
    });
    expect(subscriber.delivered).toEqual(payloads(120));
    expect(await recorded(gateway)).toEqual(payloads(120));
    expect(gateway.broker.stats).toMatchObject({ connections: 2, sessions: 2, queuedMessages: 0 });
  });

  it("send duplicate packet ids, and acknowledge what was never sent", async () => {
    const gateway = await startGateway(new Disk());
    const client = await subscribed(gateway.port, "s", "t", 2);
    for (const cmd of ["pubrel", "pubrec", "pubcomp", "puback"]) client.send({ cmd, messageId: 4_711 });
    await client.until("pubcomp");
    await client.until("pubrel");
    for (let n = 0; n < 5; n++) client.publish("t", "same id", 2, 9, { dup: n > 0 });
    await client.until("pubrec", 5);
    const sent = await client.until("publish");
    // The wrong acknowledgement for QoS 2 ends nothing.
    client.send({ cmd: "puback", messageId: sent.messageId });
    client.send({ cmd: "pubcomp", messageId: sent.messageId });
    await client.roundTrip();
    expect(gateway.broker.stats.queuedMessages).toBe(1);
    client.send({ cmd: "pubrec", messageId: sent.messageId });
    await client.until("pubrel", 2);
    client.send({ cmd: "pubcomp", messageId: sent.messageId });
    client.send({ cmd: "pubcomp", messageId: sent.messageId });
    await client.roundTrip();
    expect(textsOf(client)).toEqual(["same id"]);
    expect(await recorded(gateway)).toEqual(["same id"]);
  });
});

describe("the mqtt package", () => {
  it("publishes and subscribes with QoS 2 through restarts of the broker, each message exactly once", async () => {
    let gateway = await startGateway(new Disk());
    const options = { clean: false, reconnectPeriod: 5, connectTimeout: 2_000 };
    let url = gateway.url;
    // Each restart has another port.
    const connect = (clientId: string) => connectAsync(url, { ...options, clientId });
    const got: string[] = [];
    const subscriber = await connect("subscriber");
    const publisher = await connect("publisher");
    for (const client of [subscriber, publisher]) client.on("error", () => {});
    subscriber.on("message", (_topic, payload) => got.push(payload.toString()));
    await subscriber.subscribeAsync("t", { qos: 2 });
    // What it is given while it sends its store again, mqtt.js forgets if that connection ends as well: it has
    // not been sent, and is the caller's to give again.
    const publish = (payload: string, done: () => void): void => {
      publisher.publish("t", payload, { qos: 2 }, (error) =>
        error ? setImmediate(() => publish(payload, done)) : done(),
      );
    };
    const published: Promise<void>[] = [];
    for (let round = 0; round < 4; round++) {
      for (let n = 0; n < 25; n++) {
        published.push(new Promise((resolve) => publish(`m${round * 25 + n}`, resolve)));
      }
      await eventually(() => expect(gateway.disk.writes).toBeGreaterThan(round + 2));
      gateway = await killAndRestart(gateway);
      url = gateway.url;
      for (const client of [subscriber, publisher]) client.options.port = gateway.port;
    }
    await Promise.all(published);
    await eventually(() => expect(got).toHaveLength(100));
    expect(got).toEqual(payloads(100));
    expect(await recorded(gateway)).toEqual(payloads(100));
    await Promise.all([publisher.endAsync(true), subscriber.endAsync(true)]);
  });
});
