import fc from "fast-check";
import { generate, type Packet } from "mqtt-packet";
import { describe, expect, it } from "vitest";
import { FramingGuard } from "../../src/mqtt/framing.ts";
import { FakeLog } from "./fake-log.ts";
import { eventually, RawClient, startBroker } from "./support.ts";

describe("the framing guard", () => {
  /** A first byte, and what a body begins and ends with around text of any length. */
  const PUBLISH = [0x30, [0, 1, 0x61], []] as const;
  const SUBSCRIBE = [0x82, [0, 1], [0, 1, 0x61, 2]] as const;
  const UNSUBSCRIBE = [0xa2, [0, 1], [0, 1, 0x61]] as const;
  const packet = fc
    .tuple(fc.constantFrom(PUBLISH, SUBSCRIBE, UNSUBSCRIBE), fc.integer({ min: 0, max: 20_000 }))
    .map(([[firstByte, before, after], textLength]) => {
      const text = Buffer.alloc(textLength, 0x61);
      const isPayload = after.length === 0;
      const lengthOfText = isPayload ? [] : [textLength >> 8, textLength & 0xff];
      const qos = firstByte === 0x82 ? [0] : [];
      const body = Buffer.concat([
        Buffer.from([...before, ...lengthOfText]),
        text,
        Buffer.from([...qos, ...after]),
      ]);
      const { length } = body;
      const header: number[] = [firstByte];
      let left = length;
      do {
        header.push((left % 128) + (left >= 128 ? 128 : 0));
        left = Math.floor(left / 128);
      } while (left > 0);
      return Buffer.concat([Buffer.from(header), body]);
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
    ["an end of no subscription", Buffer.from([0xa2, 2, 0, 1])],
    ["SUBSCRIBE with the packet id 0", Buffer.from([0x82, 6, 0, 0, 0, 1, 0x61, 0])],
    ["UNSUBSCRIBE with the packet id 0", Buffer.from([0xa2, 5, 0, 0, 0, 1, 0x61])],
    ["a subscription at QoS 3", Buffer.from([0x82, 6, 0, 1, 0, 1, 0x61, 3])],
    ["a reserved bit in a subscription", Buffer.from([0x82, 6, 0, 1, 0, 1, 0x61, 4])],
    [
      "a reserved bit in a second subscription",
      Buffer.from([0x82, 10, 0, 1, 0, 1, 0x61, 0, 0, 1, 0x61, 0x80]),
    ],
    ["SUBSCRIBE that ends within its QoS", Buffer.from([0x82, 5, 0, 1, 0, 1, 0x61])],
    ["DUP at QoS 0", Buffer.from([0x38, 4, 0, 1, 0x61, 0x62])],
    ["PUBLISH that ends within its packet id", Buffer.from([0x32, 4, 0, 1, 0x61, 0, 0xc0, 0])],
    ["PUBLISH of QoS 2 that ends within its packet id", Buffer.from([0x34, 3, 0, 1, 0x61, 0xc0, 0])],
    ["PUBREL that ends within its packet id", Buffer.from([0x62, 0, 0xc0, 0])],
    ["PUBACK of other flags", Buffer.from([0x41, 2, 0, 1])],
    ["PUBREC of other flags", Buffer.from([0x52, 2, 0, 1])],
    ["PUBREL of other flags", Buffer.from([0x60, 2, 0, 1])],
    ["PUBCOMP of other flags", Buffer.from([0x78, 2, 0, 1])],
    ["SUBSCRIBE of other flags", Buffer.from([0x80, 6, 0, 1, 0, 1, 0x61, 0])],
    ["UNSUBSCRIBE of other flags", Buffer.from([0xa0, 5, 0, 1, 0, 1, 0x61])],
    ["PINGREQ of other flags", Buffer.from([0xc1, 0])],
    ["PINGREQ with something in it", Buffer.from([0xc0, 1, 0])],
    ["DISCONNECT of other flags", Buffer.from([0xe1, 0])],
    ["what only a server sends", Buffer.from([0x20, 2, 0, 0])],
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
    [
      "a wildcard under $SYS in PUBLISH",
      Buffer.from([0x34, 10, 0, 6, 0x24, 0x53, 0x59, 0x53, 0x2f, 0x2b, 0, 1]),
    ],
    ["a packet id of 0", Buffer.from([0x32, 5, 0, 1, 0x61, 0, 0])],
    ["U+0000 in PUBLISH", Buffer.from([0x30, 3, 0, 1, 0])],
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

  it("all this is seen however it is cut into chunks, and behind other packets", () => {
    const isSeenByAedes = /wildcard|levels|filter$|id of 0|CONNECT/;
    for (const [name, bytes] of invalid.filter(([name]) => !isSeenByAedes.test(name))) {
      for (const size of [1, 3, 1_000]) {
        const guard = new FramingGuard(1_000);
        const all = Buffer.concat([Buffer.from([0x82, 6, 0, 1, 0, 1, 0x61, 2, 0xc0, 0]), bytes]);
        let problem: string | undefined;
        for (let at = 0; at < all.length; at += size) problem ??= guard.check(all.subarray(at, at + size));
        expect(problem, name).toBeDefined();
      }
    }
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

  const protocol = (name: string): number[] => [0, name.length, ...Buffer.from(name)];
  /** CONNECT of a client "c", with more behind that. */
  const connectBytes = (name: string, level: number, flags = 0x02, more: number[] = []): Buffer => {
    const body = [...protocol(name), level, flags, 0, 0, 0, 1, 0x63, ...more];
    return Buffer.from([0x10, body.length, ...body]);
  };

  it.each<[string, number]>([
    ["MQTT", 0],
    ["MQTT", 2],
    ["MQTT", 5],
    ["MQTT", 6],
    ["MQTT", 7],
    ["MQTT", 127],
    ["MQTT", 0x85],
    ["MQIsdp", 0],
    ["MQIsdp", 4],
    ["MQIsdp", 0x84],
  ])("%s at level %i gets CONNACK 1, whatever comes behind the level [MQTT-3.1.2-2]", async (name, level) => {
    const { port, broker } = await startBroker(new FakeLog("all").log);
    const client = await RawClient.open(port);
    const bytes = connectBytes(name, level, 0xff, [0xff, 0xff, 0xff]);
    client.socket.write(bytes.subarray(0, -1));
    await RawClient.connect(port, "other");
    expect(client.received).toEqual([]);
    client.socket.write(bytes.subarray(-1));
    expect(await client.until("connack")).toMatchObject({ returnCode: 1 });
    await client.untilClosed();
    expect(broker.stats).toMatchObject({ rejectedClients: 1, connections: 1 });
  });

  it("no more is awaited of a level that is not spoken here than may be of any CONNECT", async () => {
    const { port } = await startBroker(new FakeLog("all").log, { limits: { maxPacketBytes: 1_000 } });
    const client = await RawClient.open(port);
    client.socket.write(Buffer.from([0x10, 0xff, 0x7f, ...protocol("MQTT"), 6]));
    await client.untilClosed();
    expect(client.received).toEqual([]);
  });

  it.each<[string, number]>([
    ["MQTT", 3],
    ["MQTT", 4],
    ["MQTT", 0x84],
    ["MQIsdp", 3],
    ["MQIsdp", 0x83],
  ])("%s at level %i is served, that of a bridge too", async (name, level) => {
    const { port } = await startBroker(new FakeLog("all").log);
    const client = await RawClient.open(port);
    client.socket.write(connectBytes(name, level));
    expect(await client.until("connack")).toMatchObject({ returnCode: 0 });
  });

  const WILL = [0, 1, 0x77, 0, 1, 0x78];
  it.each<[string, Buffer]>([
    ["a will of QoS 3 [MQTT-3.1.2-14]", connectBytes("MQTT", 4, 0x1e, WILL)],
    ["a retained will of QoS 3 [MQTT-3.1.2-14]", connectBytes("MQTT", 4, 0x3e, WILL)],
    ["the QoS of a will that is none [MQTT-3.1.2-13]", connectBytes("MQTT", 4, 0x0a)],
    ["the retain flag of a will that is none [MQTT-3.1.2-15]", connectBytes("MQTT", 4, 0x22)],
    ["a password without a user name [MQTT-3.1.2-22]", connectBytes("MQTT", 4, 0x42, [0, 1, 0x70])],
    ["a reserved flag [MQTT-3.1.2-3]", connectBytes("MQTT", 4, 0x03)],
    ["a protocol that is not MQTT [MQTT-3.1.2-1]", connectBytes("MQXX", 4)],
    ["a name that MQTT's is the beginning of [MQTT-3.1.2-1]", connectBytes("MQIsdpMQIsdp", 3)],
  ])("CONNECT with %s is closed without an answer, and nothing comes of it", async (_name, bytes) => {
    const log = new FakeLog("all");
    const { port, broker } = await startBroker(log.log);
    const client = await RawClient.open(port);
    client.socket.write(bytes);
    await client.untilClosed();
    expect(client.received).toEqual([]);
    expect(log.values).toEqual([]);
    expect(broker.stats).toMatchObject({ rejectedClients: 1, connections: 0 });
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
