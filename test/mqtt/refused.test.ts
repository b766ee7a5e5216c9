/** What becomes of messages that the log does not take, and of what comes behind them. */
import { expect, it } from "vitest";
import { readFact } from "../../src/mqtt/records.ts";
import { FakeLog, refused } from "./fake-log.ts";
import { Disk, killAndRestart, startGateway } from "./killed.ts";
import { eventually, RawClient, startBroker } from "./support.ts";

it.each([1, 2])(
  "what follows a refused message of QoS %i over the same connection is not taken before it",
  async (qos) => {
    const log = new FakeLog("all");
    const { port } = await startBroker(log.log, { limits: { refusalDelayMs: 100 } });
    const client = await RawClient.connect(port, "c", { clean: false });
    log.hold = true;
    client.publish("t", "first", qos, 1);
    await eventually(() => expect(log.held).not.toEqual([]));
    log.release(refused);
    log.hold = false;
    client.publish("t", "second", qos, 2);
    await client.untilClosed();
    expect(client.received.map(({ cmd }) => cmd)).toEqual(["connack"]);
    const again = await RawClient.connect(port, "c", { clean: false });
    again.publish("t", "first", qos, 1, { dup: true });
    again.publish("t", "second", qos, 2, { dup: true });
    await again.until(qos === 1 ? "puback" : "pubrec", 2);
    expect(log.values).toEqual(["first", "second"]);
  },
);

it("a QoS 2 message that was refused is taken over a new connection before the next one, though the old one has not been told", async () => {
  const log = new FakeLog("all");
  const { port } = await startBroker(log.log, { limits: { refusalDelayMs: 60_000 } });
  const client = await RawClient.connect(port, "c", { clean: false });
  log.hold = true;
  client.publish("t", "first", 2, 1);
  await eventually(() => expect(log.held).not.toEqual([]));
  client.socket.destroy();
  log.release(refused);
  log.hold = false;
  const again = await RawClient.connect(port, "c", { clean: false });
  again.publish("t", "first", 2, 1, { dup: true });
  again.publish("t", "second", 2, 2);
  await again.until("pubrec", 2);
  expect(log.values).toEqual(["first", "second"]);
});

it("a PUBREL that comes again while the first is refused does not leave the packet id behind", async () => {
  const log = new FakeLog("all");
  const { port } = await startBroker(log.log);
  const client = await RawClient.connect(port, "c", { clean: false });
  client.publish("t", "first", 2, 1);
  await client.until("pubrec");
  log.hold = true;
  client.send({ cmd: "pubrel", messageId: 1 });
  await eventually(() => expect(log.held).toHaveLength(1));
  client.socket.destroy();
  const again = await RawClient.connect(port, "c", { clean: false });
  again.send({ cmd: "pubrel", messageId: 1 });
  await again.roundTrip();
  log.release(refused);
  await again.untilClosed();
  expect(again.of("pubcomp")).toEqual([]);
  log.hold = false;
  const last = await RawClient.connect(port, "c", { clean: false });
  last.send({ cmd: "pubrel", messageId: 1 });
  await last.until("pubcomp");
  last.publish("t", "second", 2, 1);
  await last.until("pubrec");
  expect(log.values).toEqual(["first", "second"]);
});

it("a session whose beginning was refused is written again before what belongs to it", async () => {
  const log = new FakeLog("all");
  const { port } = await startBroker(log.log, { limits: { refusalDelayMs: 10 } });
  const client = await RawClient.connect(port, "c", { clean: false });
  log.hold = true;
  client.publish("t", "first", 2, 1);
  await eventually(() => expect(log.held).toHaveLength(2));
  log.release(refused);
  log.hold = false;
  const again = await RawClient.connect(port, "c", { clean: false });
  again.publish("t", "first", 2, 1, { dup: true });
  await again.until("pubrec");
  const facts = log.committed
    .filter(({ partition }) => partition.stream.internal)
    .map(({ key, value }) => readFact(key as Buffer, value));
  expect(facts.map(({ kind }) => kind)).toEqual(["session", "received"]);
});

it("a session with nothing but the packet id of a QoS 2 message is said to be present, also after a restart", async () => {
  let gateway = await startGateway(new Disk());
  const connect = async () => {
    const client = await RawClient.connect(gateway.port, "c", { clean: false });
    return { client, connack: client.received[0] };
  };
  const first = await connect();
  expect(first.connack).toMatchObject({ sessionPresent: false });
  first.client.publish("t", "first", 2, 1);
  await first.client.until("pubrec");
  first.client.socket.destroy();
  expect((await connect()).connack).toMatchObject({ sessionPresent: true });
  gateway = await killAndRestart(gateway);
  const { client, connack } = await connect();
  expect(connack).toMatchObject({ sessionPresent: true });
  client.publish("$", "nothing is subscribed to", 0);
  await client.roundTrip();
  expect(client.of("publish")).toEqual([]);
});
