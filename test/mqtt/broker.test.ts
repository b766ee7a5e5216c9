import { connectAsync } from "mqtt";
import { describe, expect, it } from "vitest";
import { SluiceError } from "../../src/errors.ts";
import type { RuleDefinition } from "../../src/mapping/rule.ts";
import { FakeLog, refused } from "./fake-log.ts";
import { ALL, eventually, RawClient, startBroker } from "./support.ts";

describe("an acknowledgement", () => {
  it("of QoS 1 goes out after the commit and not before", async () => {
    const log = new FakeLog("all");
    log.hold = true;
    const { port } = await startBroker(log.log);
    const client = await RawClient.connect(port, "c");
    client.publish("a", "1", 1, 7);
    await eventually(() => expect(log.held).toHaveLength(1));
    const other = await RawClient.connect(port, "other");
    await other.roundTrip();
    expect(client.of("puback")).toEqual([]);
    log.release();
    expect(await client.until("puback")).toMatchObject({ messageId: 7 });
    expect(log.values).toEqual(["1"]);
  });

  it("of QoS 2 goes out after the commit; retransmissions wait with it and are stored once", async () => {
    const log = new FakeLog("all");
    log.hold = true;
    const { port, url } = await startBroker(log.log);
    const subscriber = await connectAsync(url);
    const delivered: string[] = [];
    subscriber.on("message", (_topic, payload) => delivered.push(payload.toString()));
    await subscriber.subscribeAsync("#");
    const client = await RawClient.connect(port, "c");
    client.publish("a", "1", 2, 7);
    client.publish("a", "1", 2, 7, { dup: true });
    await eventually(() => expect(log.held).toHaveLength(1));
    client.publish("a", "1", 2, 7, { dup: true });
    const other = await RawClient.connect(port, "other");
    await other.roundTrip();
    expect(client.of("pubrec")).toEqual([]);
    log.hold = false;
    log.release();
    await client.until("pubrec", 3);
    client.send({ cmd: "pubrel", messageId: 7 });
    await client.until("pubcomp");
    client.publish("a", "2", 2, 7);
    await client.until("pubrec", 4);
    expect(log.values).toEqual(["1", "2"]);
    await eventually(() => expect(delivered).toEqual(["1", "2"]));
    await subscriber.endAsync();
  });

  it("of a subscription goes out when it is on disk, also of one that is asked for again over another connection", async () => {
    const log = new FakeLog("all");
    const { port } = await startBroker(log.log);
    const session = { clean: false };
    const subscribe = (client: RawClient) =>
      client.send({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic: "a", qos: 1 }] });
    const unsubscribe = (client: RawClient) =>
      client.send({ cmd: "unsubscribe", messageId: 2, unsubscriptions: ["a"] });
    const first = await RawClient.connect(port, "c", session);
    log.hold = true;
    subscribe(first);
    await eventually(() => expect(log.held.length).toBeGreaterThan(0));
    const second = await RawClient.connect(port, "c", session);
    subscribe(second);
    await second.roundTrip();
    expect(second.of("suback")).toEqual([]);
    log.release();
    await second.until("suback");

    unsubscribe(second);
    await eventually(() => expect(log.held.length).toBeGreaterThan(0));
    const third = await RawClient.connect(port, "c", session);
    unsubscribe(third);
    await third.roundTrip();
    expect(third.of("unsuback")).toEqual([]);
    log.release();
    await third.until("unsuback");
  });

  it("of a clean session goes out when the old one's end is on disk, also of one that is asked for again", async () => {
    const log = new FakeLog("all");
    const { port } = await startBroker(log.log);
    const old = await RawClient.connect(port, "c", { clean: false });
    old.send({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic: "a", qos: 1 }] });
    await old.until("suback");
    log.hold = true;
    const asking: RawClient[] = [];
    for (let time = 1; time <= 2; time++) {
      const client = await RawClient.open(port);
      const protocol = { protocolId: "MQTT", protocolVersion: 4 };
      client.send({ cmd: "connect", clientId: "c", clean: true, keepalive: 0, ...protocol });
      asking.push(client);
      await eventually(() => expect(log.held).toHaveLength(time));
    }
    const other = await RawClient.connect(port, "other");
    await other.roundTrip();
    expect(asking.flatMap((client) => client.of("connack"))).toEqual([]);
    log.hold = false;
    log.release();
    await asking[1]?.until("connack");
  });

  it("of a PUBREL goes out when the release is on disk, also of one that comes again over another connection", async () => {
    const log = new FakeLog("all");
    const { port } = await startBroker(log.log);
    const first = await RawClient.connect(port, "c", { clean: false });
    first.publish("a", "1", 2, 7);
    await first.until("pubrec");
    log.hold = true;
    first.send({ cmd: "pubrel", messageId: 7 });
    await eventually(() => expect(log.held).toHaveLength(1));
    const second = await RawClient.connect(port, "c", { clean: false });
    second.send({ cmd: "pubrel", messageId: 7 });
    await second.roundTrip();
    expect(second.of("pubcomp")).toEqual([]);
    log.release();
    await second.until("pubcomp");
    log.hold = false;
    second.publish("a", "2", 2, 7);
    await second.until("pubrec");
    expect(log.values).toEqual(["1", "2"]);
  });

  it("of QoS 2 is not stored twice by a session that comes back, and is by a clean one", async () => {
    const log = new FakeLog("all");
    const { port } = await startBroker(log.log);
    const first = await RawClient.connect(port, "c", { clean: false });
    first.publish("a", "1", 2, 7);
    await first.until("pubrec");
    first.socket.destroy();
    const second = await RawClient.connect(port, "c", { clean: false });
    second.publish("a", "1", 2, 7, { dup: true });
    await second.until("pubrec");
    expect(log.values).toEqual(["1"]);
    second.socket.destroy();
    const clean = await RawClient.connect(port, "c");
    clean.publish("a", "new", 2, 7);
    await clean.until("pubrec");
    expect(log.values).toEqual(["1", "new"]);
  });

  it.each([0, 1, 2])(
    "of QoS %i does not come when the log refuses: the client is closed, by and by",
    async (qos) => {
      const log = new FakeLog("all");
      log.hold = true;
      const { port, broker } = await startBroker(log.log, { limits: { refusalDelayMs: 100 } });
      const other = await RawClient.connect(port, "other");
      const client = await RawClient.connect(port, "c");
      client.publish("a", "1", qos, qos === 0 ? undefined : 7);
      await eventually(() => expect(log.held).toHaveLength(1));
      log.release(refused);
      const refusedAt = performance.now();
      await client.untilClosed();
      expect(performance.now() - refusedAt).toBeGreaterThan(45);
      expect([...client.of("puback"), ...client.of("pubrec")]).toEqual([]);
      await other.roundTrip();
      expect(broker.stats.rejectedClients).toBe(0);
    },
  );

  it("is given for a message that no rule matches, which is counted", async () => {
    const log = new FakeLog("all");
    const { port, ingest } = await startBroker(log.log, { rules: [{ name: "a", from: "a", to: "all" }] });
    const client = await RawClient.connect(port, "c");
    client.publish("b", "1", 1, 7);
    await client.until("puback");
    expect(ingest.stats).toMatchObject({ droppedUnmatched: 1, stored: 0 });
  });

  it.each(["$SYS/x", "$SYS"])(
    "is given at every QoS for a message to %s, which is counted, goes nowhere and holds up nothing [MQTT-3.3.5-2]",
    async (topic) => {
      const log = new FakeLog("all");
      const { port, broker, ingest } = await startBroker(log.log);
      const subscriptions = ["$SYS/x", "$SYS", "#"].map((filter) => ({ topic: filter, qos: 2 }));
      const subscriber = await RawClient.connect(port, "s");
      const kept = await RawClient.connect(port, "kept", { clean: false });
      for (const client of [subscriber, kept]) {
        client.send({ cmd: "subscribe", messageId: 1, subscriptions });
        await client.until("suback");
      }
      const client = await RawClient.connect(port, "c", { clean: false });
      client.publish("a", "before", 1, 1);
      client.publish(topic, "bad", 0);
      client.publish(topic, "bad", 1, 2, { retain: true });
      client.publish(topic, "bad", 2, 3, { retain: true });
      client.publish(topic, "bad", 2, 3, { retain: true, dup: true });
      client.publish("a", "after", 1, 4);
      await client.until("puback", 3);
      expect(client.of("puback").map(({ messageId }) => messageId)).toEqual([1, 2, 4]);
      await client.until("pubrec", 2);
      client.send({ cmd: "pubrel", messageId: 3 });
      await client.until("pubcomp");
      for (const other of [subscriber, kept]) {
        await other.until("publish", 2);
        await other.roundTrip();
        const payloads = other.of("publish").map((packet) => "payload" in packet && String(packet.payload));
        expect(payloads).toEqual(["before", "after"]);
      }
      expect(log.values).toEqual(["before", "after"]);
      expect(ingest.stats).toMatchObject({ droppedForbidden: 3, stored: 2 });
      expect(broker.stats).toMatchObject({ retainedMessages: 0, rejectedClients: 0, connections: 3 });
    },
  );

  it("of what was good comes once, though the mqtt package has a message to $SYS among it", async () => {
    const log = new FakeLog("all");
    const { url } = await startBroker(log.log);
    const client = await connectAsync(url, { clientId: "c", clean: false, reconnectPeriod: 5 });
    const topics = ["a", "b", "$SYS/x", "c"];
    await Promise.all(
      topics.flatMap((topic) =>
        ([1, 2] as const).map((qos) => client.publishAsync(topic, `${topic} ${qos}`, { qos })),
      ),
    );
    await client.endAsync();
    expect(log.values.toSorted()).toEqual(["a 1", "a 2", "b 1", "b 2", "c 1", "c 2"]);
  });
});

describe("as an MQTT broker", () => {
  it("delivers with the lower QoS, also to wildcards and also QoS 2", async () => {
    const { port } = await startBroker(new FakeLog("all").log);
    const subscriber = await RawClient.connect(port, "s");
    for (const [index, qos] of [0, 1, 2].entries()) {
      const subscriptions = [{ topic: `q${qos}/+`, qos }];
      subscriber.send({ cmd: "subscribe", messageId: index + 1, subscriptions });
    }
    await subscriber.until("suback", 3);
    const client = await RawClient.connect(port, "c");
    for (const qos of [0, 1, 2]) client.publish(`q${qos}/x`, "v", 2, qos + 1);
    await subscriber.until("publish", 3);
    const got = subscriber
      .of("publish")
      .map((packet) => ("topic" in packet ? [packet.topic, "qos" in packet && packet.qos] : []));
    expect(got.sort()).toEqual([
      ["q0/x", 0],
      ["q1/x", 1],
      ["q2/x", 2],
    ]);
  });

  it("keeps a retained message until an empty one, and marks it only for a new subscription", async () => {
    const { port, broker } = await startBroker(new FakeLog("all").log);
    const client = await RawClient.connect(port, "c");
    client.publish("state/door", "open", 1, 1, { retain: true });
    client.publish("other", "x", 1, 2, { retain: true });
    await client.until("puback", 2);
    await eventually(() => expect(broker.stats.retainedMessages).toBe(2));
    const subscriber = await RawClient.connect(port, "s");
    subscriber.send({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic: "state/+", qos: 1 }] });
    expect(await subscriber.until("publish")).toMatchObject({ topic: "state/door", retain: true });
    client.publish("state/door", "", 1, 3, { retain: true });
    expect(await subscriber.until("publish", 2)).toMatchObject({ retain: false });
    expect(broker.stats.retainedMessages).toBe(1);
  });

  it("delivers every message once, however QoS and retain are mixed in one commit", async () => {
    const log = new FakeLog("all");
    log.hold = true;
    const { port } = await startBroker(log.log);
    const subscriber = await RawClient.connect(port, "s");
    subscriber.send({
      cmd: "subscribe",
      messageId: 1,
      subscriptions: [
        { topic: "#", qos: 2 },
        { topic: "m/+", qos: 1 },
      ],
    });
    await subscriber.until("suback");
    const client = await RawClient.connect(port, "c");
    // In one piece: a second one would be read when the first is done with.
    client.socket.cork();
    for (let n = 0; n < 60; n++) {
      const qos = n % 3;
      client.publish(`m/${n}`, "v", qos, qos === 0 ? undefined : n + 1, { retain: n % 2 === 0 });
    }
    client.socket.uncork();
    await eventually(() => expect(log.held).toHaveLength(60));
    log.hold = false;
    log.release();
    await subscriber.until("publish", 60);
    await subscriber.roundTrip();
    const topics = subscriber.of("publish").map((packet) => "topic" in packet && packet.topic);
    expect(new Set(topics).size).toBe(60);
    expect(topics).toHaveLength(60);
  });

  it("queues for a session that is away, in order, marks what it repeats, and lets the oldest make way", async () => {
    const { port, broker } = await startBroker(new FakeLog("all").log, { limits: { maxQueuedMessages: 3 } });
    const first = await RawClient.connect(port, "s", { clean: false });
    first.send({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic: "#", qos: 1 }] });
    await first.until("suback");
    const client = await RawClient.connect(port, "c");
    client.publish("a", "sent but not acknowledged", 1, 1);
    await first.until("publish");
    first.socket.destroy();
    await eventually(() => expect(broker.stats.connections).toBe(1));
    for (let n = 2; n <= 3; n++) client.publish("a", `${n}`, 2, n, { retain: true });
    await client.until("pubrec", 2);
    const second = await RawClient.connect(port, "s", { clean: false });
    await second.until("publish", 3);
    expect(second.received[0]).toMatchObject({ cmd: "connack", sessionPresent: true });
    expect(second.of("publish")).toMatchObject([
      { dup: true, qos: 1, retain: false },
      { dup: false, qos: 1, retain: false },
      { dup: false, qos: 1, retain: false },
    ]);
    for (const packet of second.of("publish")) second.send({ cmd: "puback", messageId: packet.messageId });
    await second.roundTrip();
    second.socket.destroy();
    await eventually(() => expect(broker.stats.connections).toBe(1));
    for (let n = 10; n < 15; n++) client.publish("a", `${n}`, 1, n);
    await client.until("puback", 6);
    const third = await RawClient.connect(port, "s", { clean: false });
    await third.until("publish", 3);
    await third.roundTrip();
    expect(third.of("publish").map((packet) => "payload" in packet && String(packet.payload))).toEqual([
      "12",
      "13",
      "14",
    ]);
    expect(broker.stats.queueOverflows).toBe(2);
  });

  it("publishes and stores a will when the client is gone without a word, and not after DISCONNECT", async () => {
    const log = new FakeLog("all");
    const { port, broker } = await startBroker(log.log);
    const subscriber = await RawClient.connect(port, "s");
    subscriber.send({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic: "#", qos: 2 }] });
    await subscriber.until("suback");
    const will = (payload: string) => ({
      will: { topic: "state", payload: Buffer.from(payload), qos: 2, retain: false },
    });
    const polite = await RawClient.connect(port, "polite", will("never"));
    polite.send({ cmd: "disconnect" });
    await polite.untilClosed();
    const lost = await RawClient.connect(port, "lost", will("gone"));
    lost.socket.destroy();
    expect(await subscriber.until("publish")).toMatchObject({ topic: "state" });
    expect(log.values).toEqual(["gone"]);
    expect(broker.stats.connections).toBe(1);
  });

  it("works with MQTT 3.1 and the mqtt package, both ways", async () => {
    const { url } = await startBroker(new FakeLog("all").log);
    const subscriber = await connectAsync(url, { protocolId: "MQIsdp", protocolVersion: 3, clientId: "old" });
    const got: string[] = [];
    subscriber.on("message", (topic, payload) => got.push(`${topic}=${payload}`));
    await subscriber.subscribeAsync("a/+", { qos: 2 });
    const publisher = await connectAsync(url);
    for (const qos of [0, 1, 2] as const) await publisher.publishAsync(`a/${qos}`, "v", { qos });
    await eventually(() => expect(got.sort()).toEqual(["a/0=v", "a/1=v", "a/2=v"]));
    await Promise.all([subscriber.endAsync(), publisher.endAsync()]);
  });

  it("hands over to a second connection with the same client id", async () => {
    const { port, broker } = await startBroker(new FakeLog("all").log);
    const first = await RawClient.connect(port, "same");
    const second = await RawClient.connect(port, "same");
    await first.untilClosed();
    await second.roundTrip();
    expect(broker.stats.connections).toBe(1);
  });

  it("carries client ids, MQTT topics and subscriptions named as JavaScript's own", async () => {
    const log = new FakeLog("all");
    const { port } = await startBroker(log.log);
    for (const name of ["__proto__", "constructor", "toString"]) {
      const client = await RawClient.connect(port, name, { clean: false });
      client.send({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic: `${name}/#`, qos: 1 }] });
      await client.until("suback");
      client.publish(`${name}/${name}`, name, 2, 1, { retain: true });
      await client.until("pubrec");
      await client.until("publish");
      client.socket.destroy();
    }
    expect(log.values).toEqual(["__proto__", "constructor", "toString"]);
  });
});

describe("start and stop", () => {
  it("says which port is in use and which setting changes it", async () => {
    const { port } = await startBroker(new FakeLog("all").log);
    const { MqttBroker } = await import("../../src/mqtt/broker.ts");
    const { ingest } = await startBroker(new FakeLog("all").log);
    const { silentLogger } = await import("../support/log.ts");
    const listeners = [
      { host: "127.0.0.1", port: 0 },
      { host: "127.0.0.1", port },
    ];
    const second = new MqttBroker({ listeners }, new FakeLog("all").log, ingest, silentLogger);
    const error = await second.start().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(SluiceError);
    expect(error).toMatchObject({
      code: "EADDRINUSE",
      message: expect.stringContaining(`port ${port}`),
      mend: expect.stringContaining("mqtt.listeners[1].bind"),
    });
    await second.close();
  });

  it("stopping acknowledges what is in a commit, leaves later messages alone, and stores wills", async () => {
    const log = new FakeLog("all");
    const { port, broker } = await startBroker(log.log, { limits: { stopTimeoutMs: 10_000 } });
    const client = await RawClient.connect(port, "c", {
      will: { topic: "state", payload: Buffer.from("offline"), qos: 1, retain: false },
    });
    log.hold = true;
    const late = await RawClient.connect(port, "late");
    client.publish("a", "in the commit", 1, 7);
    await eventually(() => expect(log.held).toHaveLength(1));
    const closing = broker.close();
    expect(broker.close()).toBe(closing);
    late.publish("a", "too late", 1, 8);
    late.publish("a", "too late", 2, 9);
    late.send({ cmd: "pingreq" });
    await new Promise((resolve) => setImmediate(resolve));
    log.hold = false;
    log.release();
    await closing;
    await client.untilClosed();
    await late.untilClosed();
    expect(client.of("puback")).toHaveLength(1);
    expect([...late.of("puback"), ...late.of("pubrec")]).toEqual([]);
    expect(log.values).toEqual(["in the commit", "offline"]);
    expect(broker.stats.connections).toBe(0);
  });

  it("stops within its bound when the log does not answer", async () => {
    const log = new FakeLog("all");
    log.hold = true;
    const { port, broker } = await startBroker(log.log, { limits: { stopTimeoutMs: 50 } });
    const client = await RawClient.connect(port, "c");
    client.publish("a", "1", 1, 7);
    await eventually(() => expect(log.held).toHaveLength(1));
    await broker.close();
    await client.untilClosed();
    expect(client.of("puback")).toEqual([]);
  });
});

describe("ingest", () => {
  it("sends what no rule matches to the fallback stream, and what a rule cannot map to the dead letters", async () => {
    const log = new FakeLog("all", "unmatched");
    const rules = [{ name: "r", from: "x/+kind", to: "all", key: "k-${payload.id}" }];
    const { port, ingest } = await startBroker(log.log, {
      rules,
      ingest: { fallbackStream: "unmatched", deadLetterStream: "dead" },
    });
    const client = await RawClient.connect(port, "c", { username: "u" });
    client.publish("other", "1", 1, 1);
    client.publish("x/y", '{"id":', 1, 2);
    client.publish("x/y", '{"id":', 0, undefined, { retain: true });
    await client.until("puback", 2);
    await client.roundTrip();
    await eventually(() => expect(ingest.stats.deadLettered).toBe(2));
    expect(log.created).toEqual(["dead"]);
    expect(log.values).toEqual(["1", '{"id":', '{"id":']);
    expect(log.headersOf(0)).toEqual({ "mqtt.topic": "other" });
    expect(log.headersOf(1)).toEqual({
      "mqtt.topic": "x/y",
      "sluice.mapping.error": expect.stringContaining("the payload is not JSON"),
      "sluice.mapping.rule": "r",
      "sluice.mapping.field": "key",
      "mqtt.clientId": "c",
      "mqtt.username": "u",
      "mqtt.qos": "1",
      "mqtt.retain": "false",
    });
    expect(log.headersOf(2)).toMatchObject({ "mqtt.qos": "0", "mqtt.retain": "true" });
    expect(ingest.stats).toMatchObject({ stored: 3, deadLettered: 2, droppedFailed: 0 });
  });

  it("drops what a rule with onError: drop cannot map, counted and acknowledged", async () => {
    const log = new FakeLog("all");
    const rules = [{ name: "r", from: "#", to: "all", key: "${payload.id}", onError: "drop" as const }];
    const { port, ingest } = await startBroker(log.log, { rules, ingest: { deadLetterStream: "dead" } });
    const client = await RawClient.connect(port, "c");
    client.publish("x", "{}", 1, 1);
    await client.until("puback");
    expect(log.created).toEqual([]);
    expect(ingest.stats).toMatchObject({ stored: 0, deadLettered: 0, droppedFailed: 1 });
  });

  it("appends all records of a message in one commit, and none of a message that fails half-way", async () => {
    const log = new FakeLog("readings", "alarms");
    const rules: RuleDefinition[] = [
      {
        name: "r",
        from: "m/+machine",
        to: "readings",
        split: "payload.readings",
        key: "${machine}-${item.id}",
        value: "item.v * 2",
        also: [{ to: "alarms", when: "item.v > 10" }],
      },
    ];
    const { port, ingest } = await startBroker(log.log, { rules, ingest: { deadLetterStream: "dead" } });
    const client = await RawClient.connect(port, "c");
    log.hold = true;
    client.publish("m/1", '{"readings":[{"id":1,"v":3},{"id":2,"v":30}]}', 1, 1);
    await eventually(() => expect(log.held).toHaveLength(1));
    const written = log.held[0]?.entries.filter(({ partition }) => !partition.stream.internal);
    expect(written?.map(({ partition, key, value }) => `${partition.stream.name} ${key} ${value}`)).toEqual([
      "readings 1-1 6",
      "readings 1-2 60",
      "alarms 1-2 60",
    ]);
    log.hold = false;
    log.release();
    client.publish("m/1", '{"readings":[{"id":1,"v":3},{"id":2}]}', 1, 2);
    client.publish("m/1", '{"readings":[]}', 1, 3);
    await client.until("puback", 3);
    expect(log.values.slice(3)).toEqual(['{"readings":[{"id":1,"v":3},{"id":2}]}']);
    expect(ingest.stats).toMatchObject({ stored: 2, deadLettered: 1, skipped: 1 });
  });

  it("makes no more streams than a rule's limit allows", async () => {
    const log = new FakeLog("all");
    const rules = [{ name: "r", from: "+site/#", to: "site-${site}", limit: 2 }];
    const { port } = await startBroker(log.log, {
      rules,
      ingest: { autoCreate: { enabled: true, partitions: 1 }, deadLetterStream: "dead" },
    });
    const client = await RawClient.connect(port, "c");
    for (const [index, site] of ["a", "b", "c", "a"].entries())
      client.publish(`${site}/x`, site, 1, index + 1);
    await client.until("puback", 4);
    expect(log.created.sort()).toEqual(["dead", "site-a", "site-b"]);
  });

  it("makes a stream that a rule names, once, keeps the order, and stops at the bound", async () => {
    const log = new FakeLog("all");
    const rules = [{ name: "r", from: "+site/#", to: "${site}" }];
    const { port, ingest } = await startBroker(log.log, {
      rules,
      ingest: { autoCreate: { enabled: true, partitions: 2, maxStreams: 2 } },
    });
    const client = await RawClient.connect(port, "c");
    for (let n = 1; n <= 20; n++) client.publish("north/t", `${n}`, 1, n);
    await client.until("puback", 20);
    expect(log.created).toEqual(["north"]);
    expect(log.values).toEqual(Array.from({ length: 20 }, (_, n) => `${n + 1}`));
    client.publish("south/t", "one too many", 1, 30);
    await client.until("puback", 21);
    expect(log.created).toEqual(["north"]);
    expect(ingest.stats).toMatchObject({ stored: 20, droppedFailed: 1, inFlight: 0 });
  });

  it("refuses a message for a stream that is gone, rather than acknowledging it", async () => {
    const log = new FakeLog("all");
    const { port, ingest } = await startBroker(log.log, { rules: ALL, ingest: { fallbackStream: "gone" } });
    const client = await RawClient.connect(port, "c");
    client.publish("$odd", "1", 1, 1);
    await client.untilClosed();
    expect(ingest.stats.refused).toBe(1);
  });
});
