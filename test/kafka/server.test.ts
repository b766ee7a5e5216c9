import { once } from "node:events";
import { connect, Socket } from "node:net";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Endpoint } from "../../src/kafka/api.ts";
import { type Api, api } from "../../src/kafka/api.ts";
import { apis } from "../../src/kafka/apis/index.ts";
import { TURN_REPLY_BYTES, TURN_REQUESTS } from "../../src/kafka/connection.ts";
import { KafkaServer } from "../../src/kafka/server.ts";
import { Turns } from "../../src/turns.ts";
import { Reader, Writer } from "../../src/wire/buffer.ts";
import { bytes, int32 } from "../../src/wire/schema.ts";
import { FakeLog } from "./fake-log.ts";
import {
  type Broker,
  batch,
  Client,
  fetchBody,
  framed,
  OPTIONS,
  produceBody,
  servicesFor,
  silent,
  startBroker,
  until,
} from "./harness.ts";

let broker: Broker;
afterEach(() => broker?.close());

/** An API that answers at once; `onAsk` hears of each request, and gives the size of its answer. */
const counted = (onAsk: () => number): Api =>
  api({
    key: 99,
    name: "Counted",
    versions: { min: 0, max: 0 },
    request: {},
    response: { payload: bytes() },
    handle: () => ({ payload: Buffer.alloc(onAsk()) }),
  });

/** An API whose answers the test gives when it wants to. */
function gated(): { served: Api; calls: number[]; answer(id: number, size?: number): void } {
  const open = new Map<number, (value: { id: number; payload: Buffer }) => void>();
  const calls: number[] = [];
  const served = api({
    key: 99,
    name: "Gated",
    versions: { min: 0, max: 0 },
    request: { id: int32() },
    response: { id: int32(), payload: bytes() },
    handle({ id }) {
      calls.push(id);
      if (id < 0) throw new Error("a handler's fault");
      return new Promise((resolve) => open.set(id, resolve));
    },
  });
  return { served, calls, answer: (id, size = 0) => open.get(id)?.({ id, payload: Buffer.alloc(size) }) };
}

describe("a connection", () => {
  it("answers a request that comes byte by byte", async () => {
    broker = await startBroker();
    const client = await broker.connect();
    const answer = client.expect("ApiVersions", 3);
    const frame = client.frame("ApiVersions", 3, { clientSoftwareName: "a", clientSoftwareVersion: "1" });
    for (const byte of frame) {
      client.socket.write(Buffer.of(byte));
      await new Promise(setImmediate);
    }
    expect((await answer).errorCode).toBe(0);
  });

  it("answers in the order of the requests, whichever handler is done first", async () => {
    const { served, calls, answer } = gated();
    broker = await startBroker({}, [...apis, served]);
    const client = await broker.connect();
    const answers = [0, 1, 2].map((id) => client.send("Gated", 0, { id }));
    const last = client.send("ApiVersions", 0, {});
    await until(() => calls.length === 3);
    for (const id of [2, 1, 0]) answer(id);
    expect(await Promise.all(answers)).toMatchObject([{ id: 0 }, { id: 1 }, { id: 2 }]);
    await last;
    expect(client.order).toEqual([0, 1, 2, 3]);
  });

  it("sends in one write what is answered together, as it is by one commit", async () => {
    const { served, calls, answer } = gated();
    broker = await startBroker({}, [served]);
    const client = await broker.connect();
    const answers = [0, 1, 2].map((id) => client.send("Gated", 0, { id }));
    await until(() => calls.length === 3);
    const write = vi.spyOn(Socket.prototype, "write");
    for (const id of [0, 1, 2]) answer(id);
    expect(await Promise.all(answers)).toMatchObject([{ id: 0 }, { id: 1 }, { id: 2 }]);
    const written = write.mock.calls.length;
    write.mockRestore();
    expect(written).toBe(1);
  });

  it("keeps no more than maxInFlight requests in hand, and goes on when one is answered", async () => {
    const { served, calls, answer } = gated();
    broker = await startBroker({ maxInFlight: 2 }, [served]);
    const client = await broker.connect();
    const answers = [0, 1, 2, 3].map((id) => client.send("Gated", 0, { id }));
    await until(() => calls.length === 2);
    answer(1);
    // The second is done but waits behind the first: it is still in hand.
    await new Promise(setImmediate);
    expect(calls).toEqual([0, 1]);
    answer(0);
    await until(() => calls.length === 4);
    answer(2);
    answer(3);
    expect(await Promise.all(answers)).toHaveLength(4);
  });

  it("answers ten thousand requests that come in one write, with a few in hand at a time", async () => {
    broker = await startBroker({ maxInFlight: 4, maxBufferedBytes: 1 << 20 });
    const client = await broker.connect();
    const frames = Array.from({ length: 10_000 }, () => client.frame("ApiVersions", 0, {}));
    const last = frames.map(() => client.expect("ApiVersions", 0)).at(-1);
    let mostBytes = 0;
    const watch = setInterval(() => {
      mostBytes = Math.max(mostBytes, broker.server.stats.bufferedBytes);
    });
    client.socket.write(Buffer.concat(frames));
    expect((await last).errorCode).toBe(0);
    clearInterval(watch);
    expect(client.order).toEqual([...Array(10_000).keys()]);
    expect(mostBytes).toBeLessThan(3 << 20);
    await until(() => broker.server.stats.bufferedBytes === 0);
  });

  it("lets all others have a turn after so many requests of one client, though all are answered at once", async () => {
    let inThisTurn = 0;
    let most = 0;
    const served = counted(() => {
      if (inThisTurn++ === 0) setImmediate(() => (inThisTurn = 0));
      most = Math.max(most, inThisTurn);
      return 10;
    });
    broker = await startBroker({ maxInFlight: 1_000 }, [served]);
    const client = await broker.connect();
    const frames = Array.from({ length: 1_000 }, () => client.frame("Counted", 0, {}));
    const last = frames.map(() => client.expect("Counted", 0)).at(-1);
    client.socket.write(Buffer.concat(frames));
    await last;
    expect(most).toBe(TURN_REQUESTS);
  });

  it("begins nothing more of a client whose turn is over, by requests or by bytes, before it may go on", async () => {
    const ends: { tookMs: number; sinceMs: number; goOn: () => void }[] = [];
    class HeldTurns extends Turns {
      override end(_client: object, tookMs: number, sinceMs: number, goOn: () => void): boolean {
        ends.push({ tookMs, sinceMs, goOn });
        return false;
      }
    }
    let asked = 0;
    let replyBytes = 10;
    const served = counted(() => {
      asked++;
      return replyBytes;
    });
    broker = await startBroker({}, [served], new HeldTurns());
    const client = await broker.connect();
    const ask = (count: number) => Array.from({ length: count }, () => client.send("Counted", 0, {}));
    await Promise.all(ask(TURN_REQUESTS));
    expect(ends).toHaveLength(1);
    expect((ends[0]?.tookMs ?? 0) <= (ends[0]?.sinceMs ?? -1)).toBe(true);
    replyBytes = TURN_REPLY_BYTES;
    const large = ask(2);
    const other = await broker.connect(); // has its turn meanwhile
    await other.send("Counted", 0, {});
    asked--;
    await until(() => ends.length === 2); // of the other, whose answer was as large
    ends.pop();
    expect(asked).toBe(TURN_REQUESTS);
    ends[0]?.goOn();
    await large[0];
    expect(ends).toHaveLength(2);
    // What reading and sending takes is not seen, and counted by the bytes.
    expect(ends[1]?.tookMs).toBeGreaterThanOrEqual(2);
    expect(asked).toBe(TURN_REQUESTS + 1);
    ends[1]?.goOn();
    await large[1];
    expect(ends).toHaveLength(3);

    // What is answered behind the end of a turn is the next one's, which may be over with that.
    ends[2]?.goOn();
    const before = asked;
    const frames = Array.from({ length: TURN_REQUESTS }, () => client.frame("Counted", 0, {}));
    const answers = frames.map(() => client.expect("Counted", 0));
    client.socket.write(Buffer.concat(frames));
    await Promise.all(answers);
    expect(ends).toHaveLength(4);
    const more = ask(1);
    ends[3]?.goOn();
    await until(() => ends.length === 5);
    expect(ends[4]?.tookMs).toBeGreaterThanOrEqual(2 * TURN_REQUESTS);
    expect(asked).toBe(before + TURN_REQUESTS);
    ends[4]?.goOn();
    await more[0];
  });

  it("keeps no bytes of a JoinGroup whose client went while it waited", async () => {
    broker = await startBroker();
    await broker.groups.start();
    const client = await broker.connect();
    const protocols = [{ name: "range", metadata: Buffer.alloc(100) }];
    client.send("JoinGroup", 3, {
      ...{ groupId: "g", sessionTimeoutMs: 6_000, rebalanceTimeoutMs: 60_000 },
      ...{ protocolType: "consumer", protocols },
    });
    await until(() => broker.groups.describe("g")?.members.length === 1);
    client.socket.destroy();
    await until(() => broker.server.stats.bufferedBytes === 0);
    await broker.groups.close();
  });

  it("begins no further request while a frozen client has not taken its replies, and serves the others", async () => {
    const { served, calls, answer } = gated();
    broker = await startBroker({ maxInFlight: 8 }, [...apis, served]);
    const frozen = await broker.connect();
    const other = await broker.connect();
    frozen.socket.pause();
    const answers = [0, 1].map((id) => frozen.send("Gated", 0, { id }));
    await until(() => calls.length === 2);
    answer(0, 32 << 20);
    await until(() => broker.server.stats.bufferedBytes > 1 << 20);
    const third = frozen.send("Gated", 0, { id: 2 });
    expect((await other.send("ApiVersions", 0, {})).errorCode).toBe(0);
    expect(calls).toEqual([0, 1]);
    frozen.socket.resume();
    answer(1);
    await until(() => calls.length === 3);
    answer(2);
    expect((await Promise.all([...answers, third])).map(({ id }) => id)).toEqual([0, 1, 2]);
    await until(() => broker.server.stats.bufferedBytes === 0);
  });

  it("is closed when its handler throws, and only it", async () => {
    const { served } = gated();
    broker = await startBroker({}, [...apis, served]);
    const [bad, good] = [await broker.connect(), await broker.connect()];
    bad.send("Gated", 0, { id: -1 });
    await bad.closed;
    expect((await good.send("ApiVersions", 0, {})).errorCode).toBe(0);
    expect(broker.server.stats).toMatchObject({ connections: 1, bufferedBytes: 0 });
  });

  it("ends what its client waits for when the client goes", async () => {
    broker = await startBroker();
    await broker.log.createStream("s", 1, {}, "config");
    const client = await broker.connect();
    client.send("Fetch", 11, fetchBody("s", 0, { maxWaitMs: 60_000 }));
    await until(() => broker.log.partition("s").listeners.size === 1);
    client.socket.destroy();
    await until(() => broker.log.partition("s").listeners.size === 0);
    await until(() => broker.server.stats.bufferedBytes === 0);
  });

  it("is closed after idling for the idle timeout", async () => {
    broker = await startBroker({ timing: { idleMs: 30 } });
    const client = await broker.connect();
    await client.closed;
    await until(() => broker.server.stats.connections === 0);
  });
});

describe("a bad frame costs its connection and nothing else", () => {
  const header = (key: number, version: number) => {
    const writer = new Writer();
    writer.int16(key);
    writer.int16(version);
    writer.int32(7);
    writer.string(false, null);
    return writer;
  };
  const huge = Buffer.alloc(4);
  huge.writeInt32BE(OPTIONS.maxFrameBytes + 1);
  const elements = header(3, 1);
  elements.int32(2001);
  const endless = header(3, 1);
  endless.int32(0x7fffffff);
  const compact = header(3, 12);
  compact.uvarint(0); // no tagged fields
  compact.uvarint(0xffffffff);
  const cases: [string, Buffer][] = [
    ["a frame above maxFrameBytes", huge],
    ["a frame that claims two gigabytes", Buffer.from([0x7f, 0xff, 0xff, 0xff])],
    ["an array that claims 2^31 entries", framed(endless.toBuffer())],
    ["a compact array that claims 2^32 entries", framed(compact.toBuffer())],
    ["a negative length", Buffer.from([0xff, 0xff, 0xff, 0xff])],
    ["a frame smaller than a header", framed(Buffer.alloc(9))],
    ["an unknown API", framed(header(9999, 0).toBuffer())],
    ["a version below the served ones", framed(header(1, 3).toBuffer())],
    ["a version above the served ones", framed(header(1, 18).toBuffer())],
    ["a body that ends too early", framed(header(3, 1).toBuffer())],
    [
      "more elements than one request may name",
      framed(Buffer.concat([elements.toBuffer(), Buffer.alloc(9000)])),
    ],
    ["another protocol", Buffer.from("GET / HTTP/1.1\r\nHost: gateway\r\n\r\n")],
  ];

  it.each(cases)("%s", async (_, frame) => {
    broker = await startBroker();
    const [bad, good] = [await broker.connect(), await broker.connect()];
    bad.socket.write(frame);
    await bad.closed;
    expect((await good.send("Metadata", 12, { topics: null })).brokers).toHaveLength(1);
    expect(broker.server.stats).toMatchObject({ connections: 1, bufferedBytes: 0 });
  });

  it("but an unknown version of ApiVersions is answered with error 35 in a v0 body that lists the range", async () => {
    broker = await startBroker();
    const { port, host } = broker.server.address;
    const socket = connect(port, host);
    socket.write(framed(Buffer.concat([header(18, 5).toBuffer(), Buffer.from("whatever comes")])));
    const [reply] = (await once(socket, "data")) as [Buffer];
    socket.destroy();
    const reader = new Reader(reply);
    expect([reader.int32(), reader.int32(), reader.int16()]).toEqual([reply.length - 4, 7, 35]);
    expect([reader.int32(), reader.int16(), reader.int16(), reader.int16()]).toEqual([1, 18, 0, 4]);
    expect(reader.remaining).toBe(0);
  });
});

describe("the server", () => {
  it("refuses connections above maxConnections and takes new ones when others have gone", async () => {
    broker = await startBroker({ maxConnections: 1 });
    const first = await broker.connect();
    await first.send("ApiVersions", 0, {});
    const second = await broker.connect();
    await second.closed;
    expect(broker.server.stats).toMatchObject({ connections: 1, refusedConnections: 1 });
    first.socket.destroy();
    await until(() => broker.server.stats.connections === 0);
    const third = await broker.connect();
    expect((await third.send("ApiVersions", 0, {})).errorCode).toBe(0);
  });

  it("stops reading when all clients together hold too much, and goes on when it falls", async () => {
    const { served, calls, answer } = gated();
    broker = await startBroker({ maxBufferedBytes: 20 }, [served]);
    const [first, second, third] = [await broker.connect(), await broker.connect(), await broker.connect()];
    const answers = [first.send("Gated", 0, { id: 0 }), first.send("Gated", 0, { id: 1 })];
    await until(() => broker.server.stats.bufferedBytes > 20);
    // Who owes nothing may begin one request all the same, until twice as much is held.
    answers.push(second.send("Gated", 0, { id: 2 }), second.send("Gated", 0, { id: 3 }));
    await until(() => calls.length === 3);
    answers.push(third.send("Gated", 0, { id: 4 }));
    await until(() => broker.server.stats.receivedBytes > 100);
    expect(calls).toEqual([0, 1, 2]);
    for (const id of [0, 1, 2]) answer(id);
    await until(() => calls.length === 5);
    answer(3);
    answer(4);
    expect(await Promise.all(answers)).toHaveLength(5);
    await until(() => broker.server.stats.bufferedBytes === 0);
  });

  it("closes a client that stops in the middle of a frame while memory is short, so that others get on", async () => {
    broker = await startBroker({ maxBufferedBytes: 1 << 20, timing: { stallMs: 40 } });
    const [stuck, other] = [await broker.connect(), await broker.connect()];
    const claim = Buffer.alloc(100_000);
    claim.writeInt32BE(2 << 20);
    stuck.socket.write(claim);
    await until(() => broker.server.stats.bufferedBytes > 1 << 20);
    expect((await other.send("ApiVersions", 0, {})).errorCode).toBe(0);
    await stuck.closed;
  });

  it("holds nothing for frames of which hardly anything has come, and serves the others", async () => {
    broker = await startBroker({ maxBufferedBytes: 1 << 20 });
    const claim = Buffer.alloc(1_000);
    claim.writeInt32BE(2 << 20);
    for (let index = 0; index < 20; index++) (await broker.connect()).socket.write(claim);
    await until(() => broker.server.stats.receivedBytes === 20_000);
    expect(broker.server.stats.bufferedBytes).toBe(0);
    const other = await broker.connect();
    expect((await other.send("ApiVersions", 0, {})).errorCode).toBe(0);
  });

  it("closes a client that sends byte by byte while memory is short: that is no progress", async () => {
    broker = await startBroker({ maxBufferedBytes: 1 << 20, timing: { stallMs: 40 } });
    const [slow, other] = [await broker.connect(), await broker.connect()];
    const claim = Buffer.alloc(100_000);
    claim.writeInt32BE(2 << 20);
    slow.socket.write(claim);
    const drip = setInterval(() => slow.socket.write(Buffer.of(0)), 2);
    await until(() => broker.server.stats.bufferedBytes > 1 << 20);
    expect((await other.send("ApiVersions", 0, {})).errorCode).toBe(0);
    await slow.closed;
    clearInterval(drip);
    await until(() => broker.server.stats.bufferedBytes === 0);
  });

  it("closes a client that takes no replies while memory is short, so that others get on", async () => {
    const { served, calls, answer } = gated();
    broker = await startBroker({ maxBufferedBytes: 1 << 20, timing: { stallMs: 40 } }, [...apis, served]);
    const [frozen, other] = [await broker.connect(), await broker.connect()];
    frozen.socket.pause();
    frozen.send("Gated", 0, { id: 0 });
    await until(() => calls.length === 1);
    answer(0, 64 << 20);
    expect((await other.send("ApiVersions", 0, {})).errorCode).toBe(0);
    await until(() => broker.server.stats.connections === 1);
    await until(() => broker.server.stats.bufferedBytes === 0);
  });

  it("closes in order: what is in hand is answered, waiting fetches at once", async () => {
    broker = await startBroker();
    await broker.log.createStream("s", 1, {}, "config");
    const [reader, writer] = [await broker.connect(), await broker.connect()];
    const fetched = reader.send("Fetch", 11, fetchBody("s", 0, { maxWaitMs: 60_000 }));
    await until(() => broker.log.partition("s").listeners.size === 1);
    const release = broker.log.hold();
    const produced = writer.send("Produce", 7, produceBody("s", batch("a")));
    await until(() => broker.server.stats.requests === 2);
    const closed = broker.server.close();
    expect((await fetched).responses[0].partitions[0]).toMatchObject({ errorCode: 0, highWatermark: 0 });
    release();
    expect((await produced).responses[0].partitionResponses[0]).toMatchObject({
      errorCode: 0,
      baseOffset: 0,
    });
    await closed;
    await Promise.all([reader.closed, writer.closed]);
    await broker.server.close();
  });

  it("does not wait longer than closeMs for a request that is never answered", async () => {
    const { served, calls } = gated();
    broker = await startBroker({ timing: { closeMs: 20 } }, [served]);
    const client = await broker.connect();
    client.send("Gated", 0, { id: 0 });
    await until(() => calls.length === 1);
    await broker.server.close();
    await client.closed;
  });

  it("says which port is taken and by what setting to change it", async () => {
    broker = await startBroker();
    const { host, port } = broker.server.address;
    const second = new KafkaServer({ ...OPTIONS, bind: { host, port } }, servicesFor(new FakeLog()), silent);
    await expect(second.start()).rejects.toMatchObject({
      code: "PORT_IN_USE",
      exitCode: 69,
      message: expect.stringContaining(String(port)),
      mend: expect.stringContaining("kafka.bind"),
    });
    await second.close();
  });

  it("tells each client the address on which it reached us, without the IPv4-in-IPv6 prefix", async () => {
    broker = await startBroker({ bind: { host: "::", port: 0 } }).catch(() => startBroker());
    const { port } = broker.server.address;
    const seen = await Promise.all(
      ["127.0.0.1", "127.0.0.2"].map(async (host) => {
        const socket = connect(port, host);
        await once(socket, "connect");
        const { brokers } = await new Client(socket, apis).send("Metadata", 1, { topics: [] });
        socket.destroy();
        return brokers[0];
      }),
    );
    expect(seen).toMatchObject([
      { nodeId: 0, host: "127.0.0.1", port },
      { nodeId: 0, host: "127.0.0.2", port },
    ]);
  });

  it("tells clients the configured address where one is set", async () => {
    broker = await startBroker({ advertise: { host: "gateway.example", port: 9092 } });
    const client = await broker.connect();
    const { brokers } = await client.send("DescribeCluster", 0, {});
    expect(brokers).toMatchObject([{ brokerId: 0, host: "gateway.example", port: 9092 }]);
  });

  it("tells the clients of each listener its own address", async () => {
    const outside = { host: "pi.example.org", port: 19093 };
    broker = await startBroker({
      listeners: [{ name: "outside", bind: { host: "127.0.0.2", port: 0 }, advertise: outside }],
    });
    const seen = await Promise.all(
      broker.server.addresses.map(async ({ host, port }) => {
        const socket = connect(port, host);
        await once(socket, "connect");
        const { brokers } = await new Client(socket, apis).send("Metadata", 1, { topics: [] });
        socket.destroy();
        return brokers[0];
      }),
    );
    expect(seen).toMatchObject([broker.server.address, outside]);
  });

  it("opens and closes listeners while it runs, and tells who comes what holds then", async () => {
    const listener = (name: string, host: string) =>
      ({ name, bind: { host, port: 0 }, advertise: { host: `${name}.example`, port: 1 } }) as const;
    const options = { ...OPTIONS, listeners: [listener("old", "127.0.0.2")] };
    broker = await startBroker(options);
    const { server } = broker;
    const to = async ({ host, port }: { host: string; port: number }) => {
      const socket = connect(port, host);
      await once(socket, "connect");
      return new Client(socket, apis);
    };
    const [stays, goes] = [await to(server.address), await to(server.addresses[1] as Endpoint)];
    const changed = { ...options, listeners: [listener("new", "127.0.0.3")] };
    await server.open(changed);
    server.use(changed);
    await goes.closed;
    const news = await to(server.addresses[1] as Endpoint);
    expect((await news.send("Metadata", 1, { topics: [] })).brokers).toMatchObject([{ host: "new.example" }]);
    const { brokers } = await stays.send("Metadata", 1, { topics: [] });
    expect(brokers).toMatchObject([server.address]);
    for (const { socket } of [stays, news]) socket.destroy();
  });
});
