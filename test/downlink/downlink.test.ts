import { connectAsync } from "mqtt";
import { describe, expect, onTestFinished, test } from "vitest";
import { DOWNLINK_GROUP } from "../../src/downlink/downlink.ts";
import { crc32c } from "../../src/wire/crc32c.ts";
import { batchOf, NO_HEADERS } from "../../src/wire/record-batch.ts";
import { Disk, killAndRestart, StatefulClient, startGateway } from "../mqtt/killed.ts";
import { eventually, RawClient } from "../mqtt/support.ts";
import { append, partitionOf, record } from "../support/log.ts";
import { rule, STREAM, type WithDownlinks, withDownlinks } from "./support.ts";

const AT = { stream: STREAM, partition: 0 };
const placeOf = ({ groups }: WithDownlinks) => groups.committedOffset(DOWNLINK_GROUP, AT)?.offset;
const textsOf = (client: RawClient) =>
  client.of("publish").map((packet) => ("payload" in packet ? `${packet.topic} ${packet.payload}` : ""));

async function subscribed(port: number, filter: string, qos: number, clean = true): Promise<RawClient> {
  const client = await RawClient.connect(port, "device", { clean });
  client.send({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic: filter, qos }] });
  await client.until("suback");
  return client;
}

test("a record on the stream is a message on its MQTT topic", async () => {
  const gateway = await withDownlinks([rule()]);
  const device = await subscribed(gateway.gateway.port, "devices/+/set", 1);
  await eventually(() => expect(placeOf(gateway)).toBe(0));
  await gateway.write("lamp", "on");
  await gateway.write("door", "open");
  await device.until("publish", 2);
  expect(textsOf(device)).toEqual(["devices/lamp/set on", "devices/door/set open"]);
  expect(device.of("publish")[0]).toMatchObject({ qos: 1, retain: false });
  await eventually(() => expect(placeOf(gateway)).toBe(2));
  expect(gateway.downlinks.stats).toEqual({ sent: 2, expired: 0, failed: 0 });
});

test("its message is no message of a sensor's: no mapping sees it", async () => {
  const gateway = await withDownlinks([rule()]);
  const device = await subscribed(gateway.gateway.port, "#", 1);
  await gateway.write("lamp", "on");
  await device.until("publish");
  expect(partitionOf(gateway.gateway.store.stream("all")).highWatermark).toBe(0);
});

test("templates look into key, headers and the value", async () => {
  const to = "${payload.site}/${key}/${stream}/${partition}/${offset}";
  const gateway = await withDownlinks([rule({ to, retain: true, qos: 0 })]);
  await gateway.write("lamp", '{"site":"north"}');
  await eventually(() => expect(gateway.downlinks.stats.sent).toBe(1));
  const late = await subscribed(gateway.gateway.port, "#", 1);
  await late.until("publish");
  expect(late.of("publish")[0]).toMatchObject({ topic: "north/lamp/commands/0/0", retain: true });
});

test("the first rule whose condition holds takes a record, and value reshapes it", async () => {
  const gateway = await withDownlinks([
    rule({
      name: "lamps",
      when: "payload.kind == 'lamp'",
      to: "lamps/${key}",
      value: "{'state': payload.on ? 'ON' : 'OFF'}",
    }),
    rule({ name: "doors", when: "payload.kind == 'door'", to: "doors/${key}" }),
  ]);
  const device = await subscribed(gateway.gateway.port, "#", 1);
  await eventually(() => expect(placeOf(gateway)).toBe(0));
  await gateway.write("a", '{"kind":"lamp","on":true}');
  await gateway.write("b", "neither");
  await gateway.write("c", '{"kind":"door"}');
  await device.until("publish", 2);
  expect(textsOf(device)).toEqual(['lamps/a {"state":"ON"}', 'doors/c {"kind":"door"}']);
  await eventually(() => expect(placeOf(gateway)).toBe(3));
});

describe("a device that is offline", () => {
  test("gets what was sent meanwhile, in order, also when the gateway was restarted", async () => {
    let gateway = await withDownlinks([rule()]);
    const device = await subscribed(gateway.gateway.port, "devices/lamp/set", 1, false);
    device.socket.destroy();
    await gateway.write("lamp", "1");
    await gateway.write("lamp", "2");
    await eventually(() => expect(placeOf(gateway)).toBe(2));
    gateway = await withDownlinks([rule()], await killAndRestart(gateway.gateway));
    await gateway.write("lamp", "3");
    const again = await RawClient.connect(gateway.gateway.port, "device", { clean: false });
    await again.until("publish", 3);
    await again.roundTrip();
    expect(textsOf(again)).toEqual(["devices/lamp/set 1", "devices/lamp/set 2", "devices/lamp/set 3"]);
  });

  test("gets what has the largest timestamp that there is, and expires", async () => {
    const gateway = await withDownlinks([rule({ expiry: 60_000 })]);
    const device = await subscribed(gateway.gateway.port, "devices/lamp/set", 1, false);
    await gateway.write("lamp", "of the end of all times", 2 ** 63);
    await device.until("publish");
    expect(textsOf(device)).toEqual(["devices/lamp/set of the end of all times"]);
  });

  test("does not get what is older than its expiry by then", async () => {
    const gateway = await withDownlinks([rule({ expiry: 60_000 })]);
    const device = await subscribed(gateway.gateway.port, "devices/lamp/set", 1, false);
    device.socket.destroy();
    const expiresAt = Date.now() + 300;
    await gateway.write("lamp", "too late", Date.now() - 61_000);
    await gateway.write("lamp", "soon too late", expiresAt - 60_000);
    await gateway.write("lamp", "good");
    await eventually(() => expect(placeOf(gateway)).toBe(3));
    expect(gateway.downlinks.stats).toMatchObject({ sent: 2, expired: 1 });
    await eventually(() => expect(Date.now()).toBeGreaterThan(expiresAt));
    const restarted = await killAndRestart(gateway.gateway);
    const again = await RawClient.connect(restarted.port, "device", { clean: false });
    await again.until("publish");
    await again.roundTrip();
    expect(textsOf(again)).toEqual(["devices/lamp/set good"]);
    expect(restarted.broker.stats.expiredMessages).toBe(1);
  });
});

describe("the place", () => {
  test("of a new downlink is the end: what lay there before is not sent", async () => {
    const gateway = await withDownlinks([]);
    await gateway.write("lamp", "old");
    gateway.downlinks.use({ rules: [rule()] });
    await eventually(() => expect(placeOf(gateway)).toBe(1));
    const device = await subscribed(gateway.gateway.port, "#", 1);
    await gateway.write("lamp", "new");
    await device.until("publish");
    expect(textsOf(device)).toEqual(["devices/lamp/set new"]);
  });

  test("of a stream that is made later is its beginning", async () => {
    const gateway = await withDownlinks([rule({ from: "later" })]);
    const device = await subscribed(gateway.gateway.port, "#", 1);
    const { store } = gateway.gateway;
    const stream = await store.createStream("later", 1, {}, "protocol");
    await append(store, [record(partitionOf(stream), "lamp", "first", Date.now())]);
    await device.until("publish");
    expect(textsOf(device)).toEqual(["devices/lamp/set first"]);
  });

  test("may be moved by anybody while it runs: the records are sent again", async () => {
    const gateway = await withDownlinks([rule()]);
    const device = await subscribed(gateway.gateway.port, "#", 1);
    await eventually(() => expect(placeOf(gateway)).toBe(0));
    await gateway.write("lamp", "1");
    await gateway.write("lamp", "2");
    await eventually(() => expect(placeOf(gateway)).toBe(2));
    const nobody = { generationId: -1, memberId: "", groupInstanceId: null };
    await gateway.groups.commit(DOWNLINK_GROUP, nobody, [
      { ...AT, offset: 1, leaderEpoch: -1, metadata: "" },
    ]);
    // Without a record that is new.
    await device.until("publish", 3);
    await gateway.write("lamp", "3");
    await device.until("publish", 4);
    expect(textsOf(device).map((text) => text.at(-1))).toEqual(["1", "2", "2", "3"]);
  });
});

describe("what cannot be sent", () => {
  test.each([
    ["a key that would address another device", "a/b", "1", /has other levels/],
    ["a key with a wildcard", "+", "1", /wildcard/],
    ["no key", null, "1", /key has no value/],
  ])("%s is a dead letter, and what follows is sent", async (_, key, value, problem) => {
    const gateway = await withDownlinks([rule()]);
    const device = await subscribed(gateway.gateway.port, "#", 1);
    await eventually(() => expect(placeOf(gateway)).toBe(0));
    await gateway.write(key, value);
    await gateway.write("lamp", "good");
    await device.until("publish");
    expect(textsOf(device)).toEqual(["devices/lamp/set good"]);
    expect(gateway.failed).toMatchObject([{ stream: STREAM, problem: expect.stringMatching(problem) }]);
    expect(gateway.downlinks.stats).toMatchObject({ sent: 1, failed: 1 });
  });
});

test("a batch that cannot be read is passed over and said, and what follows is sent", async () => {
  const gateway = await withDownlinks([rule()]);
  const device = await subscribed(gateway.gateway.port, "#", 1);
  await eventually(() => expect(placeOf(gateway)).toBe(0));
  const partition = partitionOf(gateway.gateway.store.stream(STREAM));
  const at = { timestamp: Date.now(), headers: NO_HEADERS, key: null };
  const batch = batchOf([1, 2, 3].map((n) => ({ ...at, value: Buffer.from(`${n}`) })));
  batch.writeInt16BE(3, 21); // lz4, as far as the header says
  batch.writeUInt32BE(crc32c(batch.subarray(21)), 17);
  await append(gateway.gateway.store, [{ partition, batch }]);
  await gateway.write("lamp", "good");
  await device.until("publish");
  expect(textsOf(device)).toEqual(["devices/lamp/set good"]);
  await eventually(() => expect(placeOf(gateway)).toBe(4));
  expect(gateway.downlinks.stats).toMatchObject({ sent: 1, failed: 1 });
});

describe("through a kill", () => {
  /** Only so many synced writes get to the disk. */
  async function scenario(qos: 1 | 2, writes: number) {
    let gateway = await withDownlinks([rule({ to: "t", qos })]);
    const device = new StatefulClient("device", "t");
    await device.connect(gateway.gateway.port, { qos });
    await device.untilSubscribed();
    await eventually(() => expect(placeOf(gateway)).toBe(0));
    // The producer's records are on disk; what becomes of them is what is cut.
    await gateway.downlinks.close();
    for (const value of ["m0", "m1", "m2"]) await gateway.write("k", value);
    gateway.gateway.disk.writesLeft = writes;
    gateway = await withDownlinks([rule({ to: "t", qos })], gateway.gateway);
    const { disk } = gateway.gateway;
    await eventually(() => expect(disk.writesLeft === 0 || placeOf(gateway) === 3).toBe(true));
    const wasOver = disk.writesLeft > 0;
    const restarted = await killAndRestart(gateway.gateway);
    const last = await withDownlinks([rule({ to: "t", qos })], restarted);
    await device.connect(restarted.port);
    await last.write("k", "m3");
    await eventually(() => {
      expect(device.delivered, `${writes} writes`).toContain("m3");
      expect(device.isIdle).toBe(true);
    });
    return { device, wasOver };
  }

  test.each([1, 2] as const)("at every write, a session gets each record, at QoS %i", async (qos) => {
    let cases = 0;
    for (let writes = 0; ; writes++, cases++) {
      const { device, wasOver } = await scenario(qos, writes);
      const seen = qos === 2 ? device.delivered : [...new Set(device.delivered)];
      expect(seen, `${writes} writes`).toEqual(["m0", "m1", "m2", "m3"]);
      if (wasOver) break;
    }
    expect(cases).toBeGreaterThan(0);
  });
});

test("ten thousand records go in order", async () => {
  const gateway = await withDownlinks([]);
  const partition = partitionOf(gateway.gateway.store.stream(STREAM));
  const client = await connectAsync(gateway.gateway.url);
  onTestFinished(async () => void (await client.endAsync(true)));
  const seen: number[] = [];
  client.on("message", (_, payload) => void seen.push(Number(payload)));
  await client.subscribeAsync("t", { qos: 1 });
  gateway.downlinks.use({ rules: [rule({ to: "t" })] });
  await eventually(() => expect(placeOf(gateway)).toBe(0));
  const records = Array.from({ length: 10_000 }, (_, n) => record(partition, "k", `${n}`, Date.now()));
  await append(gateway.gateway.store, records);
  await eventually(() => expect(seen).toHaveLength(10_000));
  expect(seen).toEqual(Array.from({ length: 10_000 }, (_, n) => n));
});

test("a gateway without downlinks keeps no place", async () => {
  const gateway = await withDownlinks([], await startGateway(new Disk()));
  await gateway.write("lamp", "1");
  expect(placeOf(gateway)).toBeUndefined();
});
