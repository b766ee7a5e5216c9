import fc from "fast-check";
import { generate, type Packet } from "mqtt-packet";
import { describe, expect, it } from "vitest";
import { FramingGuard } from "../../src/mqtt/framing.ts";
import { FakeLog } from "./fake-log.ts";
import { eventually, RawClient, startBroker } from "./support.ts";

const MARK = "MARK";
const ILL_FORMED: [string, number[]][] = [
  ["U+0000", [0x61, 0x00, 0x62, 0x63]],
  ["U+0000 behind other characters", [0xc3, 0xa4, 0x00, 0x63]],
  ["a lone surrogate", [0xed, 0xa0, 0x80, 0x61]],
  ["an overlong form", [0xc0, 0xaf, 0x61, 0x61]],
  ["a character cut short", [0x61, 0x61, 0xe2, 0x82]],
  ["a byte that begins nothing", [0x61, 0xff, 0x61, 0x61]],
];
const connect = { cmd: "connect", protocolId: "MQTT", protocolVersion: 4, clean: true, keepalive: 0 };
const publish = { cmd: "publish", qos: 0, retain: false, dup: false };
/** Each has the mark in one of its strings. */
const PACKETS: [string, Record<string, unknown>][] = [
  ["a topic", { ...publish, topic: MARK, payload: "x" }],
  ["a topic at QoS 1", { ...publish, qos: 1, messageId: 7, topic: `a/${MARK}`, payload: "" }],
  [
    "a second filter",
    {
      cmd: "subscribe",
      messageId: 7,
      subscriptions: [
        { topic: "a/+", qos: 1 },
        { topic: `b/${MARK}`, qos: 2 },
      ],
    },
  ],
  ["a filter that is given up", { cmd: "unsubscribe", messageId: 7, unsubscriptions: ["a/+", MARK, "c"] }],
  ["a client id", { ...connect, clientId: MARK }],
  [
    "a will's topic",
    { ...connect, clientId: "c", will: { topic: MARK, payload: "", qos: 0, retain: false } },
  ],
  ["a user name", { ...connect, clientId: "c", username: MARK, password: "p" }],
];

/** `bytes` in the mark's place. */
function packetWith(packet: Record<string, unknown>, bytes: readonly number[]): Buffer {
  const all = generate(packet as unknown as Packet);
  const at = all.indexOf(MARK);
  return Buffer.concat([all.subarray(0, at), Buffer.from(bytes), all.subarray(at + MARK.length)]);
}

/** What the guard says of these bytes, cut into such pieces. */
function problemOf(bytes: Buffer, cuts: readonly number[]): string | undefined {
  const guard = new FramingGuard(100_000);
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const next = at + (cuts[turn % cuts.length] as number);
    const problem = guard.check(bytes.subarray(at, next));
    if (problem !== undefined) return problem;
    at = next;
  }
  return undefined;
}

const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 });
const text = fc
  .string({ unit: "binary", maxLength: 40 })
  .map((any) => any.replaceAll("\0", "0"))
  .filter((any) => any.length > 0);

describe("text in a packet [MQTT-1.5.3-1, -2]", () => {
  it("passes when it is well-formed, whatever it says and however it is cut into chunks", () => {
    fc.assert(
      fc.property(text, cuts, fc.uint8Array({ maxLength: 50 }), (any, pieces, payload) => {
        const packets = [
          { ...connect, clientId: any, username: any, password: Buffer.from(payload) },
          {
            ...connect,
            clientId: any,
            will: { topic: any, payload: Buffer.from(payload), qos: 1, retain: true },
          },
          { ...publish, topic: any, payload: Buffer.from(payload) },
          { cmd: "subscribe", messageId: 1, subscriptions: [{ topic: any, qos: 0 }] },
          { cmd: "unsubscribe", messageId: 1, unsubscriptions: [any, any] },
          { cmd: "puback", messageId: 0xff },
        ];
        const bytes = Buffer.concat(packets.map((packet) => generate(packet as unknown as Packet)));
        expect(problemOf(bytes, pieces)).toBeUndefined();
      }),
    );
  });

  it("is refused when it is not, in every string of every packet, however it is cut into chunks", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...PACKETS),
        fc.constantFrom(...ILL_FORMED),
        cuts,
        ([, packet], [, bytes], pieces) => {
          expect(problemOf(packetWith(packet, bytes), pieces)).toMatch(/UTF-8/);
        },
      ),
      { numRuns: 500 },
    );
  });

  it.each(PACKETS)("closes the connection, and no other, where it is in %s", async (_where, packet) => {
    const log = new FakeLog("all");
    const { port, broker } = await startBroker(log.log);
    const other = await RawClient.connect(port, "other");
    for (const [, bytes] of ILL_FORMED) {
      const bad =
        packet.cmd === "connect" ? await RawClient.open(port) : await RawClient.connect(port, "bad");
      bad.socket.write(packetWith(packet, bytes));
      await bad.untilClosed();
    }
    await eventually(() => expect(broker.stats.rejectedClients).toBe(ILL_FORMED.length));
    other.publish("ä/😀", "fine", 1, 1);
    await other.until("puback");
    expect(log.values).toEqual(["fine"]);
    expect(broker.stats.connections).toBe(1);
  });
});
