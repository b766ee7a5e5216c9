import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import fc from "fast-check";
import { generate, type Packet, parser } from "mqtt-packet";
import { describe, expect, it, vi } from "vitest";
import { FramingGuard } from "../../src/mqtt/framing.ts";
import {
  type LanePublish,
  PublishLane,
  READ_AHEAD_BYTES,
  READ_BYTES,
  TURN_BYTES,
} from "../../src/mqtt/publish-lane.ts";
import { Turns } from "../../src/turns.ts";
import { FakeLog } from "./fake-log.ts";
import { eventually, RawClient, startBroker } from "./support.ts";

const MAX_PACKET_BYTES = 1_000;

/** A lane in front of a reader that takes what is left, as aedes does. */
class Harness {
  /** What came out, in order: by the lane, or behind it. */
  readonly seen: string[] = [];
  readonly taken: LanePublish[] = [];
  readonly written: Buffer[] = [];
  readonly lane: PublishLane;
  readonly socket: Duplex;
  error: Error | undefined;
  ended = false;
  alive = 0;
  /** Set when the lane waits for the client to read. */
  drained: (() => void) | undefined;
  /** Whether the client reads. */
  reads = true;
  /** For how many each message is kept. */
  sessions = 0;
  onTake = (publish: LanePublish): void => this.settle(publish);

  /** Whenever the socket reads, `flood` has come. */
  constructor(maxInFlight = 1_000, flood?: Buffer, turns = new Turns()) {
    this.socket = new Duplex({
      readableHighWaterMark: READ_BYTES,
      read: () => {
        if (flood !== undefined) setImmediate(() => this.socket.push(flood));
      },
      write: (chunk, _encoding, done) => {
        this.written.push(chunk);
        if (this.reads) done();
      },
    });
    const limits = { maxPacketBytes: MAX_PACKET_BYTES, maxInFlight };
    this.lane = new PublishLane(this.socket as Socket, new FramingGuard(MAX_PACKET_BYTES), limits, turns);
    const behind = parser();
    behind.on("packet", (packet) => this.seen.push(`aedes ${nameOf(packet)}`));
    behind.on("error", (error) => this.socket.destroy(error));
    this.socket.on("readable", () => {
      for (let chunk = this.socket.read(); chunk !== null; chunk = this.socket.read()) behind.parse(chunk);
    });
    this.socket.on("error", (error) => {
      this.error = error;
    });
    this.socket.on("end", () => {
      this.ended = true;
    });
  }

  open(): this {
    this.lane.open({
      take: (publish) => {
        this.taken.push(publish);
        this.seen.push(`lane ${nameOf(publish)}`);
        this.onTake(publish);
        return this.sessions;
      },
      alive: () => this.alive++,
      waitForDrain: (drained) => {
        this.drained = drained;
      },
      mayPublishTo: (topic) => topic !== "" && !/[+#]/.test(topic),
    });
    return this;
  }

  settle(publish: LanePublish): void {
    this.lane.acknowledge(publish);
    this.lane.finish(publish);
  }

  send(...packets: readonly Record<string, unknown>[]): void {
    this.socket.push(bytesOf(packets));
  }

  /** The packet ids of all PUBACKs. */
  get acknowledged(): number[] {
    const ids: number[] = [];
    const acks = parser();
    acks.on("packet", ({ cmd, messageId }) => ids.push(cmd === "puback" ? (messageId as number) : -1));
    for (const chunk of this.written) acks.parse(chunk);
    return ids;
  }
}

const bytesOf = (packets: readonly Record<string, unknown>[]): Buffer =>
  Buffer.concat(packets.map((packet) => generate(packet as unknown as Packet)));

function nameOf(packet: object): string {
  const { cmd, qos, messageId, topic, payload, retain } = packet as Record<string, unknown>;
  if (cmd !== "publish") return `${cmd} ${messageId ?? ""}`;
  return `publish ${qos} ${messageId || "-"} ${topic} ${retain} ${(payload as Buffer).toString("hex")}`;
}

/** An ordinary reading. */
const ONE = { cmd: "publish", qos: 1, messageId: 1, topic: "a", payload: "1", retain: false, dup: false };

const turns = () => new Promise((resolve) => setImmediate(resolve));

const publish = (qos: 0 | 1 | 2) =>
  fc.record({
    cmd: fc.constant("publish"),
    qos: fc.constant(qos),
    messageId: fc.integer({ min: 1, max: 65_535 }),
    topic: fc.constantFrom("a", "a/b", "a/ä", "sensors/hall/1/temperature"),
    payload: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    retain: fc.boolean(),
    dup: qos === 0 ? fc.constant(false) : fc.boolean(),
  });
const other = fc.constantFrom<Record<string, unknown>>(
  { cmd: "pingreq" },
  { cmd: "subscribe", messageId: 5, subscriptions: [{ topic: "a/+", qos: 1 }] },
  { cmd: "pubrel", messageId: 9 },
);
const packets = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: publish(1) },
    { weight: 2, arbitrary: publish(0) },
    { weight: 1, arbitrary: publish(2) },
    { weight: 1, arbitrary: other },
  ),
  { maxLength: 40 },
);

describe("the straight way of a PUBLISH", () => {
  it("takes those of QoS 0 and 1, leaves the rest to aedes, and loses and reorders nothing, however it is cut and held up", async () => {
    await fc.assert(
      fc.asyncProperty(
        packets,
        fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 6 }),
        fc.infiniteStream(fc.boolean()),
        async (all, cuts, maxInFlight, waits) => {
          const harness = new Harness(maxInFlight).open();
          harness.onTake = (taken) => {
            if (waits.next().value) setTimeout(() => harness.settle(taken));
            else harness.settle(taken);
          };
          const bytes = bytesOf(all);
          for (let at = 0, turn = 0; at < bytes.length; turn++) {
            const next = at + (cuts[turn % cuts.length] as number);
            harness.socket.push(bytes.subarray(at, next));
            if (turn % 3 === 0) await turns();
            at = next;
          }
          harness.socket.push(null);
          await eventually(() => expect(harness.ended).toBe(true));
          const expected = all.map((packet) => {
            const isOurs = packet.cmd === "publish" && (packet as { qos: number }).qos < 2;
            const id = (packet as { qos: number }).qos === 0 ? undefined : packet.messageId;
            return `${isOurs ? "lane" : "aedes"} ${nameOf({ ...packet, messageId: id })}`;
          });
          expect(harness.seen).toEqual(expected);
        },
      ),
      { numRuns: 150 },
    );
  });

  it("gives aedes CONNECT alone; what comes behind it waits until the client is connected", async () => {
    const harness = new Harness();
    const connect = bytesOf([
      { cmd: "connect", clientId: "c", protocolId: "MQTT", protocolVersion: 4, clean: true },
    ]);
    const [first, second] = [bytesOf([ONE]), bytesOf([{ ...ONE, messageId: 2 }])];
    harness.socket.push(connect.subarray(0, 3));
    await turns();
    harness.socket.push(Buffer.concat([connect.subarray(3), first, second.subarray(0, 3)]));
    await turns();
    expect(harness.seen).toEqual(["aedes connect "]);
    harness.open();
    await turns();
    harness.socket.push(second.subarray(3));
    await turns();
    expect(harness.taken.map(({ messageId }) => messageId)).toEqual([1, 2]);
    expect(harness.seen).toHaveLength(3);
  });

  it("acknowledges what one commit made durable in one write, in the order of the packets [MQTT-4.6.0-2]", async () => {
    const harness = new Harness().open();
    harness.onTake = () => {};
    const ids = [7, 3, 65_535, 1];
    harness.send(...ids.map((messageId) => ({ ...ONE, messageId })), { ...ONE, qos: 0 });
    await turns();
    expect(harness.written).toEqual([]);
    for (const taken of harness.taken) harness.settle(taken);
    await turns();
    expect(harness.written).toHaveLength(1);
    expect(harness.acknowledged).toEqual(ids);
  });

  it("acknowledges in that order though a later one is done before [MQTT-4.6.0-2]", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(), { minLength: 1, maxLength: 40 }), async (order) => {
        const harness = new Harness().open();
        harness.onTake = () => {};
        const ids = order.map((_, index) => index + 1);
        harness.send(...ids.map((messageId) => ({ ...ONE, messageId })));
        await turns();
        const doneInOrder = ids.toSorted((a, b) => (order[a - 1] as number) - (order[b - 1] as number));
        for (const id of doneInOrder) {
          harness.settle(harness.taken[id - 1] as LanePublish);
          await turns();
          // As far as all before are done, and no further.
          const done = new Set(doneInOrder.slice(0, doneInOrder.indexOf(id) + 1));
          const first = ids.find((one) => !done.has(one)) ?? ids.length + 1;
          expect(harness.acknowledged).toEqual(ids.slice(0, first - 1));
        }
      }),
    );
  });

  it("takes no more than may be in flight, in messages and in bytes, and goes on when there is room", async () => {
    for (const [maxInFlight, payload, most] of [
      [3, "1", 3],
      [1_000_000, "x".repeat(900), Math.ceil(READ_AHEAD_BYTES / 908)],
    ] as const) {
      const harness = new Harness(maxInFlight).open();
      harness.onTake = () => {};
      const count = 350;
      for (let messageId = 1; messageId <= count; messageId++) {
        harness.send({ ...ONE, messageId, payload });
      }
      for (let turn = 0; turn <= READ_AHEAD_BYTES / TURN_BYTES; turn++) await turns();
      expect(harness.taken).toHaveLength(most);
      for (let settled = 0; settled < count; settled++) {
        harness.settle(harness.taken[settled] as LanePublish);
        await turns();
        await turns();
        expect(harness.taken).toHaveLength(Math.min(count, settled + 1 + most));
      }
      expect(harness.acknowledged).toHaveLength(count);
    }
  });

  it("leaves what a client that floods has sent in its socket, whoever is waited for: a few reads of it lie here at most", async () => {
    const packet = bytesOf([ONE]);
    const flood = Buffer.concat(Array.from({ length: READ_BYTES / packet.length }, () => packet));
    for (const maxInFlight of [1, 100, 65_535]) {
      const harness = new Harness(maxInFlight, flood).open();
      const waiting: LanePublish[] = [];
      if (maxInFlight <= 100) harness.onTake = (publish) => waiting.push(publish); // each turn is a commit
      let most = 0;
      for (let turn = 0; turn < 100; turn++) {
        await turns();
        most = Math.max(most, harness.socket.readableLength);
        for (const publish of waiting.splice(0)) harness.settle(publish);
      }
      expect(harness.taken.length).toBeGreaterThan(50 * Math.min(maxInFlight, 100));
      expect(most).toBeLessThanOrEqual(3 * READ_BYTES);
      harness.socket.destroy();
    }
  });

  it("lets all others have a turn after 32 KiB of one client, though nothing of that waits", async () => {
    const harness = new Harness().open();
    const payload = "x".repeat(900);
    const perTurn = Math.ceil(TURN_BYTES / bytesOf([{ ...ONE, payload }]).length);
    const packets = Array.from({ length: 10 * perTurn }, (_, index) => ({
      ...ONE,
      messageId: index + 1,
      payload,
    }));
    harness.send(...packets);
    for (let turn = 1; turn <= 10; turn++) {
      await turns();
      expect(harness.taken).toHaveLength(turn * perTurn);
    }
    expect(harness.acknowledged).toEqual(packets.map(({ messageId }) => messageId));
  });

  it("holds one that floods up beside others, and goes on with it after a pause", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "performance"] }); // nobody takes any time: all of none is a flood
    try {
      for (const packet of [ONE, { cmd: "pingreq" }]) {
        const fair = new Turns();
        const flood = new Harness(1_000, undefined, fair).open();
        const sensor = new Harness(1_000, undefined, fair).open();
        sensor.send(ONE);
        await turns();
        flood.send(...Array.from({ length: 1_000 }, () => packet));
        for (let turn = 0; turn < 5; turn++) await turns();
        expect(sensor.seen).toHaveLength(1);
        const perTurn = flood.seen.length;
        expect(perTurn).toBeGreaterThan(0);
        expect(perTurn).toBeLessThanOrEqual(256);
        vi.advanceTimersByTime(2);
        await turns();
        expect(flood.seen).toHaveLength(2 * perTurn);
      }
    } finally {
      vi.useRealTimers();
    }
  });

  it("gives aedes no more in a turn, either, and takes fewest of what is most work, as what sessions are owed is", async () => {
    for (const [packet, most, sessions = 0] of [
      [{ cmd: "pingreq" }, 128],
      [{ cmd: "subscribe", messageId: 5, subscriptions: [{ topic: "a", qos: 1 }] }, 16],
      [ONE, 256],
      [ONE, 4, 4],
    ] as const) {
      const harness = new Harness().open();
      harness.sessions = sessions;
      harness.send(...Array.from({ length: 4 * most }, () => packet));
      for (let turn = 1; turn <= 4; turn++) {
        await turns();
        expect(harness.seen).toHaveLength(turn * most);
      }
    }
  });

  it("reads no further while the client does not read its acknowledgements", async () => {
    const harness = new Harness().open();
    harness.reads = false;
    const acknowledgements = harness.socket.writableHighWaterMark / 4;
    const batch = Array.from({ length: 100 }, (_, index) => ({ ...ONE, messageId: index + 1 }));
    for (let sent = 0; sent < 2 * acknowledgements; sent += batch.length) {
      harness.send(...batch);
      await turns();
    }
    expect(harness.drained).toBeDefined();
    const taken = harness.taken.length;
    expect(taken).toBeGreaterThanOrEqual(acknowledgements);
    expect(taken).toBeLessThan(acknowledgements + 2 * batch.length);
    harness.drained?.();
    harness.drained = undefined;
    await turns();
    // Still nothing is read: another wait for the same reason.
    expect(harness.drained).toBeDefined();
    expect(harness.taken).toHaveLength(taken);
  });

  it("joins a packet that comes a byte at a time", async () => {
    const harness = new Harness().open();
    const payload = Buffer.from("x".repeat(900));
    const one = { ...ONE, payload, retain: true, dup: true };
    for (const byte of bytesOf([one])) {
      harness.socket.push(Buffer.from([byte]));
      await Promise.resolve();
    }
    await turns();
    expect(harness.seen).toEqual([`lane ${nameOf(one)}`]);
  });

  it.each<[string, Buffer]>([
    ["a topic that nobody may publish to", Buffer.from([0x32, 5, 0, 1, 0x23, 0, 1])],
    ["a packet id of 0", Buffer.from([0x32, 5, 0, 1, 0x61, 0, 0])],
    ["an empty topic", Buffer.from([0x30, 2, 0, 0])],
  ])("leaves %s to aedes, with its place in the order", async (_name, bytes) => {
    const harness = new Harness().open();
    harness.socket.push(Buffer.concat([bytesOf([ONE]), bytes, bytesOf([ONE])]));
    await turns();
    expect(harness.seen.map((name) => name.split(" ")[0])).toEqual(["lane", "aedes", "lane"]);
  });

  it.each<[string, Buffer, RegExp]>([
    ["a packet over the limit, at its announcement", Buffer.from([0x32, 0xff, 0x7f]), /over the limit/],
    ["a length that does not end", Buffer.from([0x32, 0xff, 0xff, 0xff, 0xff, 0x7f]), /four bytes/],
    ["both QoS bits", Buffer.from([0x36, 3, 0, 1, 0x61]), /QoS/i],
    ["a topic longer than its packet", Buffer.from([0x32, 3, 0xff, 0xff, 0x61]), /topic/i],
    ["text that is none", Buffer.from([0x32, 5, 0, 1, 0xff, 0, 1]), /UTF-8/],
  ])("ends the connection for %s, also behind others", async (_name, bytes, words) => {
    const harness = new Harness().open();
    harness.socket.push(Buffer.concat([bytesOf([ONE]), bytes]));
    await turns();
    expect(harness.error?.message).toMatch(words);
    expect(harness.taken).toHaveLength(1);
  });
});

describe("what was taken before the connection ends is acknowledged before, and once it is on disk:", () => {
  const before = [1, 2, 3].map((messageId) => ({ ...ONE, messageId }));

  it.each<[string, Buffer, RegExp]>([
    ["a packet over the limit", Buffer.from([0x32, 0xff, 0x7f]), /over the limit/],
    ["a PUBLISH that is malformed", Buffer.from([0x38, 4, 0, 1, 0x61, 0x62]), /DUP/],
    ["a second CONNECT", bytesOf([{ cmd: "connect", clientId: "c", protocolVersion: 4 }]), /second CONNECT/],
    ["a second CONNECT behind another packet", Buffer.from([0xc0, 0, 0x10, 2, 0, 1]), /second CONNECT/],
  ])("%s", async (_name, bytes, words) => {
    const harness = new Harness().open();
    harness.onTake = () => {};
    harness.socket.push(Buffer.concat([bytesOf(before), bytes, bytesOf([ONE])]));
    await turns();
    for (const taken of harness.taken.slice(0, 2)) harness.settle(taken);
    await turns();
    expect(harness.acknowledged).toEqual([1, 2]);
    expect(harness.error).toBeUndefined();
    harness.settle(harness.taken[2] as LanePublish);
    await turns();
    expect(harness.acknowledged).toEqual([1, 2, 3]);
    expect(harness.error?.message).toMatch(words);
    expect(harness.taken).toHaveLength(3);
  });

  it("a topic that nobody may publish to, for which aedes ends it", async () => {
    const log = new FakeLog("all");
    log.hold = true;
    const { port } = await startBroker(log.log);
    const client = await RawClient.connect(port, "c");
    client.socket.write(Buffer.concat([bytesOf(before), Buffer.from([0x32, 5, 0, 1, 0x23, 0, 9])]));
    await eventually(() => expect(log.held).toHaveLength(3));
    await turns();
    expect(client.closed).toBe(false);
    log.release();
    await client.untilClosed();
    expect(client.of("puback").map(({ messageId }) => messageId)).toEqual([1, 2, 3]);
  });
});

describe("in the broker", () => {
  it("a message that no rule takes is acknowledged behind the one before it that waits for its commit", async () => {
    const log = new FakeLog("all");
    log.hold = true;
    const rules = [{ name: "a", from: "a", to: "all" }];
    const { port, ingest } = await startBroker(log.log, { rules });
    const client = await RawClient.connect(port, "c");
    client.publish("a", "1", 1, 1);
    client.publish("elsewhere", "2", 1, 2);
    await eventually(() => expect(ingest.stats.droppedUnmatched).toBe(1));
    await client.roundTrip();
    expect(client.of("puback")).toEqual([]);
    log.release();
    await client.until("puback", 2);
    expect(client.of("puback").map(({ messageId }) => messageId)).toEqual([1, 2]);
  });

  it("what was sent before DISCONNECT is stored, also when more than may be in flight waits for its turn", async () => {
    const log = new FakeLog("all");
    log.hold = true;
    const { port } = await startBroker(log.log, { limits: { maxInFlight: 10 } });
    const client = await RawClient.connect(port, "c");
    for (let n = 0; n < 100; n++) client.publish("a", `${n}`);
    client.send({ cmd: "disconnect" });
    client.socket.end();
    await eventually(() => expect(log.held.length).toBeGreaterThan(0));
    log.hold = false;
    log.release();
    await eventually(() => expect(log.values).toEqual(Array.from({ length: 100 }, (_, n) => `${n}`)));
    await client.untilClosed();
  });

  it("a client that only publishes is alive, and one that falls silent is not [MQTT-3.1.2-24]", async () => {
    const { port } = await startBroker(new FakeLog("all").log);
    const client = await RawClient.connect(port, "c", { keepalive: 1 });
    const silent = await RawClient.connect(port, "silent", { keepalive: 1 });
    const publishing = setInterval(() => client.publish("a", "1"), 50);
    await silent.untilClosed();
    // Another whole time-out, in which it would have been closed.
    const later = await RawClient.connect(port, "later", { keepalive: 1 });
    await later.untilClosed();
    expect(client.closed).toBe(false);
    clearInterval(publishing);
  });
});
