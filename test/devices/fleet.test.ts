import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { Aedes, type AedesPublishPacket, type Client } from "aedes";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Fleet } from "../../src/devices/fleet.ts";
import type { FleetDefinition } from "../../src/devices/plan.ts";
import { profileSchema } from "../../src/devices/schema.ts";

interface Received {
  readonly mqttTopic: string;
  readonly payload: string;
  readonly retain: boolean;
  readonly qos: number;
}

let broker: Aedes;
let server: Server;
let url: string;
const sockets = new Set<Socket>();
const received: Received[] = [];
/** Set by a test that wants to meddle with acknowledgements. */
let beforeAck: (client: Client, done: () => void) => void;

beforeEach(async () => {
  received.length = 0;
  beforeAck = (_, done) => done();
  broker = await Aedes.createBroker({
    authorizePublish: (client, _packet, callback) => {
      if (client === null) callback(null);
      else beforeAck(client, () => callback(null));
    },
  });
  broker.on("publish", (packet: AedesPublishPacket) => {
    const { topic, payload, retain, qos } = packet;
    if (!topic.startsWith("$SYS")) received.push({ mqttTopic: topic, payload: String(payload), retain, qos });
  });
  server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    broker.handle(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  url = `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterEach(async () => {
  await new Promise<void>((resolve) => broker.close(resolve));
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
});

function fleetOf(profile: object, count: number, rate: number): Fleet {
  const definition: FleetDefinition = {
    name: "test",
    seed: 1,
    startSpreadMs: 20,
    clockMs: 0,
    groups: [
      {
        profile: profileSchema.parse({
          profile: "p",
          mqttTopic: "sensors/${site}/${device}",
          every: "1s",
          payload: { text: "${seq}" },
          ...profile,
        }),
        count,
        sites: ["north", "south"],
        name: "d${n}",
      },
    ],
  };
  return new Fleet(definition, { url, rate });
}

const until = (condition: () => boolean): Promise<void> =>
  vi.waitFor(() => expect(condition()).toBe(true), { timeout: 15_000, interval: 20 });

/** Sequence numbers that have come from a device, in order of arrival. */
function sequenceOf(device: string): number[] {
  return received
    .filter(({ mqttTopic }) => mqttTopic.endsWith(`/${device}`))
    .map(({ payload }) => Number(payload));
}

describe("Fleet", () => {
  it("connects each device, publishes its readings in order, and counts what is acknowledged", async () => {
    const fleet = fleetOf({ qos: 1 }, 5, 500);
    await fleet.start();
    await until(() => fleet.stats.connected === 5 && fleet.stats.acknowledged >= 100);
    expect(sockets.size).toBe(5);
    await fleet.stop();

    const { published, acknowledged, unacknowledged, connected, ackMs } = fleet.stats;
    expect(received.length).toBe(published);
    expect({ acknowledged, unacknowledged, connected }).toEqual({
      acknowledged: published,
      unacknowledged: 0,
      connected: 0,
    });
    expect(ackMs.count).toBe(published);
    for (const device of ["d1", "d2", "d3", "d4", "d5"]) {
      const sequence = sequenceOf(device);
      expect(sequence.length).toBeGreaterThan(0);
      expect(sequence).toEqual(sequence.map((_, index) => index + 1));
    }
    expect(new Set(received.map(({ mqttTopic }) => mqttTopic.split("/")[1]))).toEqual(
      new Set(["north", "south"]),
    );
    await until(() => sockets.size === 0);
  });

  it("publishes QoS 0 without waiting for anything, retained where the profile says so", async () => {
    const fleet = fleetOf({ qos: 0, retain: true }, 2, 200);
    await fleet.start();
    await until(() => received.length >= 20);
    await fleet.stop();
    expect(received.every(({ qos, retain }) => qos === 0 && retain)).toBe(true);
    expect(fleet.stats.acknowledged).toBe(0);
  });

  it("says online when it connects and offline when it stops, both retained", async () => {
    const state = { mqttTopic: "state/${device}" };
    const fleet = fleetOf({ qos: 1, state }, 1, 10);
    await fleet.start();
    await until(() => received.some(({ mqttTopic }) => mqttTopic === "state/d1"));
    await fleet.stop();
    await until(() => received.filter(({ mqttTopic }) => mqttTopic === "state/d1").length === 2);
    const said = received.filter(({ mqttTopic }) => mqttTopic === "state/d1");
    expect(said).toEqual([
      { mqttTopic: "state/d1", payload: "online", retain: true, qos: 1 },
      { mqttTopic: "state/d1", payload: "offline", retain: true, qos: 1 },
    ]);
  });

  it("leaves its will to the broker when it drops out, and comes back", async () => {
    const will = { mqttTopic: "lost/${device}", payload: "${device} of ${site} is gone" };
    const fleet = fleetOf({ qos: 1, will, dropouts: { up: "100ms", down: "100ms" } }, 1, 20);
    await fleet.start();
    await until(() => fleet.stats.reconnects >= 2);
    await fleet.stop();
    const wills = received.filter(({ mqttTopic }) => mqttTopic === "lost/d1");
    expect(wills.length).toBeGreaterThanOrEqual(2);
    expect(wills[0]?.payload).toBe("d1 of north is gone");
    expect(fleet.stats.unacknowledged).toBe(0);
  });

  it.each(["clean", "persistent"])(
    "loses nothing with QoS 1 (session: %s) when the broker drops connections instead of acknowledging",
    async (session) => {
      let publishes = 0;
      beforeAck = (client, done) => {
        // The 10th and the 30th are taken and never acknowledged: the connection goes first.
        if (++publishes === 10 || publishes === 30) client.conn.destroy();
        else done();
      };
      const fleet = fleetOf({ qos: 1, session, keep: 10_000 }, 2, 100);
      await fleet.start();
      await until(() => fleet.stats.reconnects >= 2 && fleet.stats.acknowledged >= 300);
      await fleet.stop();

      expect(fleet.stats).toMatchObject({ unacknowledged: 0, skipped: 0 });
      for (const device of ["d1", "d2"]) {
        const seen = [...new Set(sequenceOf(device))].sort((a, b) => a - b);
        expect(seen).toEqual(seen.map((_, index) => index + 1));
      }
      expect(new Set(received.map(({ mqttTopic, payload }) => `${mqttTopic} ${payload}`)).size).toBe(
        fleet.stats.published,
      );
    },
  );

  it("holds no more than `keep` unacknowledged readings, and says how many it skipped", async () => {
    const held: (() => void)[] = [];
    beforeAck = (_, done) => held.push(done);
    const fleet = fleetOf({ qos: 1, keep: 5 }, 1, 200);
    await fleet.start();
    await until(() => fleet.stats.skipped >= 10);
    expect(fleet.stats).toMatchObject({ published: 5, unacknowledged: 5, acknowledged: 0 });
    beforeAck = (_, done) => done();
    for (const done of held) done();
    await fleet.stop();
    expect(fleet.stats.unacknowledged).toBe(0);
  });

  it("says in one sentence that nothing listens, without the password", async () => {
    const closed = createServer().listen(0, "127.0.0.1");
    await once(closed, "listening");
    const { port } = closed.address() as AddressInfo;
    await new Promise((resolve) => closed.close(resolve));
    url = `mqtt://me:secret@127.0.0.1:${port}`;
    await expect(fleetOf({}, 3, 10).start()).rejects.toMatchObject({
      code: "UNREACHABLE",
      message: `nothing listens at mqtt://127.0.0.1:${port}`,
      exitCode: 69,
    });
  });

  it("can be stopped twice, and before it was started", async () => {
    const fleet = fleetOf({}, 1, 10);
    await Promise.all([fleet.stop(), fleet.stop()]);
    expect(fleet.stats.connected).toBe(0);
  });
});
