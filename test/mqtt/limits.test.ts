import fc from "fast-check";
import { generate, type Packet } from "mqtt-packet";
import { describe, expect, it } from "vitest";
import { FramingGuard } from "../../src/mqtt/framing.ts";
import { FakeLog } from "./fake-log.ts";
import { eventually, RawClient, startBroker } from "./support.ts";

describe("the framing guard", () => {
  const packet = fc
    .tuple(fc.constantFrom(3, 4, 8, 12), fc.integer({ min: 0, max: 20_000 }))
    .map(([type, length]) => {
      const header = [type << 4];
      let left = length;
      do {
        header.push((left % 128) + (left >= 128 ? 128 : 0));
        left = Math.floor(left / 128);
      } while (left > 0);
      return Buffer.concat([Buffer.from(header), Buffer.alloc(length, 0xff)]);
    });

  it("passes packets up to the limit and none above it, however they are cut into chunks", () => {
    fc.assert(
      fc.property(
        fc.array(packet, { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 9_000 }), { minLength: 1, maxLength: 10 }),
        (packets, cuts) => {
          const guard = new FramingGuard(10_000);
          const all = Buffer.concat(packets);
          let problem: string | undefined;
          for (let at = 0, turn = 0; at < all.length && problem === undefined; turn++) {
            const next = at + (cuts[turn % cuts.length] as number);
            problem = guard.check(all.subarray(at, next));
            at = next;
          }
          expect(problem !== undefined).toBe(packets.some(({ length }) => length > 10_000));
        },
      ),
    );
  });

  it("refuses reserved packet types and lengths of more than four bytes", () => {
    expect(new FramingGuard(100).check(Buffer.from([0x00]))).toMatch(/type 0/);
    expect(new FramingGuard(100).check(Buffer.from([0xf0]))).toMatch(/type 15/);
    expect(new FramingGuard(100).check(Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff]))).toMatch(/four bytes/);
  });
});

describe("a client that misbehaves is closed, and the others notice nothing:", () => {
  const invalid: [string, Buffer][] = [
    ["a packet over the limit, at its announcement", Buffer.from([0x30, 0x80, 0x80, 0x80, 0x7f])],
    ["a length that does not end", Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff, 0x7f])],
    ["both QoS bits", Buffer.from([0x36, 3, 0, 1, 0x61])],
    ["a topic longer than its packet", Buffer.from([0x30, 3, 0xff, 0xff, 0x61])],
    ["a subscription to nothing", Buffer.from([0x82, 2, 0, 1])],
    [
      "a second CONNECT",
      generate({
        cmd: "connect",
        clientId: "x",
        clean: true,
        keepalive: 0,
        protocolId: "MQTT",
        protocolVersion: 4,
      } as Packet),
    ],
    [
      "a wildcard in PUBLISH",
      generate({ cmd: "publish", topic: "a/+", payload: "", qos: 0, retain: false, dup: false }),
    ],
    ["a packet id of 0", Buffer.from([0x32, 5, 0, 1, 0x61, 0, 0])],
    ["U+0000 in PUBLISH", Buffer.from([0x30, 3, 0, 1, 0])],
    [
      "a publish to $SYS",
      generate({ cmd: "publish", topic: "$SYS/x", payload: "", qos: 0, retain: false, dup: false }),
    ],
    [
      "more than 100 levels",
      generate({ cmd: "publish", topic: "/".repeat(200), payload: "", qos: 0, retain: false, dup: false }),
    ],
    [
      "an invalid filter",
      generate({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic: "a/+b", qos: 0 }] } as Packet),
    ],
    [
      "more than 100 levels in a filter",
      generate({
        cmd: "subscribe",
        messageId: 1,
        subscriptions: [{ topic: "/".repeat(200), qos: 0 }],
      } as Packet),
    ],
  ];

  it.each(invalid)("%s", async (_name, bytes) => {
    const log = new FakeLog("all");
    const { port, broker } = await startBroker(log.log, { limits: { maxPacketBytes: 1_000 } });
    const other = await RawClient.connect(port, "other");
    const bad = await RawClient.connect(port, "bad");
    bad.socket.write(bytes);
    await bad.untilClosed();
    other.publish("a", "fine", 1, 1);
    await other.until("puback");
    expect(log.values).toEqual(["fine"]);
    expect(broker.stats).toMatchObject({ rejectedClients: 1, connections: 1 });
  });

  it("any bytes at all", async () => {
    const log = new FakeLog("all");
    const { port } = await startBroker(log.log, { limits: { maxPacketBytes: 1_000 } });
    const other = await RawClient.connect(port, "other");
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 1, maxLength: 200 }),
        fc.boolean(),
        async (bytes, connected) => {
          const bad = connected ? await RawClient.connect(port, "bad") : await RawClient.open(port);
          bad.socket.end(bytes);
          await bad.untilClosed();
        },
      ),
      { numRuns: 150 },
    );
    other.publish("still", "here", 1, 1);
    await other.until("puback");
    expect(log.values).toContain("here");
  });

  it("no CONNECT in time, or something else first", async () => {
    const { port, broker } = await startBroker(new FakeLog("all").log, { limits: { connectTimeoutMs: 50 } });
    const silent = await RawClient.open(port);
    await silent.untilClosed();
    const impatient = await RawClient.open(port);
    impatient.publish("a", "1");
    await impatient.untilClosed();
    expect(broker.stats.rejectedClients).toBe(2);
  });

  it.each<[string, Record<string, unknown>, number]>([
    ["a client id that is too long", { clientId: "x".repeat(257) }, 2],
    ["a protocol of another version", { protocolVersion: 5 }, 1],
  ])("%s gets its CONNACK", async (_name, connect, returnCode) => {
    const { port } = await startBroker(new FakeLog("all").log);
    const client = await RawClient.open(port);
    const all = {
      cmd: "connect",
      clientId: "c",
      clean: true,
      keepalive: 0,
      protocolId: "MQTT",
      protocolVersion: 4,
    };
    client.send({ ...all, ...connect });
    expect(await client.until("connack")).toMatchObject({ returnCode });
    await client.untilClosed();
  });

  it("a kept session without a client id gets its CONNACK", async () => {
    const { port } = await startBroker(new FakeLog("all").log);
    const client = await RawClient.open(port);
    client.socket.write(Buffer.from([0x10, 12, 0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 0, 0, 0, 0, 0])); // [MQTT-3.1.3-8]
    expect(await client.until("connack")).toMatchObject({ returnCode: 2 });
    await client.untilClosed();
  });

  it("a will to where nobody may publish", async () => {
    const { port } = await startBroker(new FakeLog("all").log);
    const client = await RawClient.open(port);
    const will = { topic: "$SYS/x", payload: Buffer.from("w"), qos: 0, retain: false };
    client.send({
      cmd: "connect",
      clientId: "c",
      clean: true,
      keepalive: 0,
      protocolId: "MQTT",
      protocolVersion: 4,
      will,
    });
    await client.untilClosed();
  });

  it("more QoS 2 messages open than allowed", async () => {
    const { port } = await startBroker(new FakeLog("all").log, { limits: { maxInFlight: 5 } });
    const client = await RawClient.connect(port, "c");
    for (let n = 1; n <= 6; n++) client.publish("a", "v", 2, n);
    await client.untilClosed();
  });
});

describe("bounds", () => {
  it("connections over the limit are closed, and there is room again when one leaves", async () => {
    const { port, broker } = await startBroker(new FakeLog("all").log, { limits: { maxConnections: 2 } });
    const first = await RawClient.connect(port, "1");
    const second = await RawClient.connect(port, "2");
    const third = await RawClient.open(port);
    await third.untilClosed();
    expect(broker.stats.refusedConnections).toBe(1);
    first.socket.destroy();
    await eventually(() => expect(broker.stats.connections).toBe(1));
    await RawClient.connect(port, "4");
    await second.roundTrip();
  });

  it.each([true, false])("a subscription more than a session may have (clean: %s)", async (clean) => {
    const { port, broker } = await startBroker(new FakeLog("all").log, {
      limits: { maxSubscriptionsPerSession: 3, maxSubscriptionsPerConnection: 3 },
    });
    const client = await RawClient.connect(port, "c", { clean });
    const subscribe = async (topic: string, messageId: number): Promise<void> => {
      client.send({ cmd: "subscribe", messageId, subscriptions: [{ topic, qos: 1 }] });
      await client.until("suback", messageId);
    };
    for (const [at, topic] of ["a", "b", "c"].entries()) await subscribe(topic, at + 1);
    await subscribe("c", 4);
    client.send({ cmd: "unsubscribe", messageId: 5, unsubscriptions: ["a"] });
    await client.until("unsuback");
    client.send({ cmd: "subscribe", messageId: 6, subscriptions: [{ topic: "d", qos: 0 }] });
    await client.until("suback", 5);
    client.send({ cmd: "subscribe", messageId: 7, subscriptions: [{ topic: "e", qos: 0 }] });
    await client.untilClosed();
    expect(broker.stats).toMatchObject({ rejectedClients: 1, connections: 0 });
  });

  it("sessions and retained messages over the limit: the longest away makes way; new ones are not retained", async () => {
    const { port, broker } = await startBroker(new FakeLog("all").log, {
      limits: { maxSessions: 2, maxRetainedMessages: 1 },
    });
    for (const id of ["a", "b", "c"]) {
      const client = await RawClient.connect(port, id, { clean: false });
      client.send({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic: "t", qos: 1 }] });
      await client.until("suback");
      client.publish(`r/${id}`, "v", 1, 1, { retain: true });
      await client.until("puback");
      client.socket.destroy();
      await eventually(() => expect(broker.stats.connections).toBe(0));
    }
    expect(broker.stats).toMatchObject({
      sessions: 2,
      evictedSessions: 1,
      retainedMessages: 1,
      notRetained: 2,
    });
  });

  describe("a subscriber that stops reading", () => {
    /** More than the sockets of both ends hold. */
    const MESSAGES = 150;
    const payload = "x".repeat(100_000);

    async function withFrozen(drainTimeoutMs: number) {
      const limits = { drainTimeoutMs, maxPendingDeliveryBytes: 64 << 20 };
      const { port, broker } = await startBroker(new FakeLog("all").log, { limits });
      const [frozen, healthy, publisher] = await Promise.all(
        ["frozen", "healthy", "publisher"].map((clientId) => RawClient.connect(port, clientId)),
      );
      for (const subscriber of [frozen, healthy]) {
        subscriber?.send({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic: "#", qos: 1 }] });
        await subscriber?.until("suback");
      }
      frozen?.socket.pause();
      return { broker, healthy: healthy as RawClient, publisher: publisher as RawClient };
    }

    it("holds up neither deliveries to others nor their publishes while it is waited for", async () => {
      const { broker, healthy, publisher } = await withFrozen(60_000);
      for (let n = 1; n <= MESSAGES; n++) {
        publisher.publish("a", payload, 1, n);
        await publisher.until("puback", n);
        await healthy.until("publish", n);
      }
      expect(broker.stats).toMatchObject({ frozenSubscribers: 0, connections: 3 });
    });

    it("is closed when it has taken nothing for long", async () => {
      const { broker, healthy, publisher } = await withFrozen(1_000);
      for (let n = 1; n <= MESSAGES; n++) publisher.publish("a", payload, 1, n);
      await healthy.until("publish", MESSAGES);
      await eventually(() => expect(broker.stats).toMatchObject({ frozenSubscribers: 1, connections: 2 }));
    });
  });

  it("hundreds of clients at once", async () => {
    const log = new FakeLog("all");
    const { port, broker } = await startBroker(log.log);
    const clients = await Promise.all(
      Array.from({ length: 500 }, (_, n) => RawClient.connect(port, `c${n}`)),
    );
    for (const [n, client] of clients.entries()) client.publish(`t/${n}`, `${n}`, 1, 1);
    await Promise.all(clients.map((client) => client.until("puback")));
    expect(new Set(log.values).size).toBe(500);
    expect(broker.stats.connections).toBe(500);
  });
});
