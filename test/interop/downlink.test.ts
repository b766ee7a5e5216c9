/**
 * Commands that librdkafka writes on a stream, and Mosquitto's client receives: in order and once each, to a device
 * that is offline meanwhile, through kills of the gateway.
 */
import { afterEach, expect, test } from "vitest";
import { Gateway } from "./support/gateway.ts";
import { Running } from "./support/process.ts";
import { suite } from "./support/suite.ts";
import { kcat, tool } from "./support/tools.ts";

const DEVICES = ["lamp1", "lamp2"];
const BATCH = 200;

suite("downlinks from kcat to mosquitto_sub", ["kcat", "mosquitto_sub", "stdbuf"], () => {
  let gateway: Gateway;
  const subscribers: Running[] = [];
  afterEach(async () => {
    await Promise.all(subscribers.splice(0).map((one) => one.end("SIGKILL")));
    await gateway?.dispose();
  });

  const start = async (qos: number) => {
    gateway = await Gateway.start({
      streams: { commands: { partitions: 2 } },
      mappings: [],
      downlinks: [{ from: "commands", to: "devices/$" + "{key}/set", qos }],
    });
  };
  /** A device with a session that stays, whose subscription has been acknowledged. */
  const connect = async (device: string, qos: number) => {
    const address = ["-h", "127.0.0.1", "-p", String(gateway.mqttPort)];
    const session = ["-c", "-i", device, "-q", String(qos), "-t", `devices/${device}/set`];
    const command = [tool("mosquitto_sub"), ...address, ...session, "-d", "-F", "message|%q|%p"];
    // Into a pipe it would print in blocks.
    const running = new Running(tool("stdbuf"), ["-oL", ...command]);
    subscribers.push(running);
    await running.until(({ output }) => output.includes("Subscribed (mid"), "its subscription");
    return running;
  };
  const received = ({ stdout }: Running) => stdout.split("\n").filter((line) => line.startsWith("message|"));
  /** To each device so many commands, numbered from `from` on; every one of them is acknowledged. */
  const command = async (from: number, count: number) => {
    const lines = Array.from({ length: count }, (_, index) =>
      DEVICES.map((device) => `${device}:${from + index}\n`).join(""),
    );
    const args = ["-b", gateway.brokers, "-P", "-t", "commands", "-K", ":", "-X", "acks=all"];
    await kcat(args, { input: lines.join("") });
  };
  const numbers = (qos: number, count: number) =>
    Array.from({ length: count }, (_, index) => `message|${qos}|${index}`);

  test.each([1, 2])(
    "QoS %i: each once and in order, to devices that are offline, through kills",
    async (qos) => {
      await start(qos);
      const before = await Promise.all(DEVICES.map((device) => connect(device, qos)));
      await command(0, BATCH);
      for (const device of before) {
        await device.until((running) => received(running).length >= BATCH, "the first commands");
        expect(received(device)).toEqual(numbers(qos, BATCH));
        await device.end("SIGTERM");
      }
      // Killed as soon as kcat has its last acknowledgement, whatever of it is on its way to the sessions by then.
      for (let round = 1; round <= 4; round++) {
        await command(round * BATCH, BATCH);
        await (round % 2 === 0 ? gateway.stop() : gateway.kill());
        await gateway.again();
      }
      const back = await Promise.all(DEVICES.map((device) => connect(device, qos)));
      // What is sent twice would be here before the last one.
      await command(5 * BATCH, 1);
      for (const device of back) {
        const last = `message|${qos}|${5 * BATCH}`;
        await device.until((running) => received(running).includes(last), "the last command", 60_000);
        expect(received(device)).toEqual(numbers(qos, 5 * BATCH + 1).slice(BATCH));
      }
    },
  );

  test("QoS 1: a kill while they are delivered repeats some and loses none", async () => {
    await start(1);
    const device = await connect("lamp1", 1);
    for (let round = 0; round < 4; round++) {
      await command(round * BATCH, BATCH);
      await device.until((running) => received(running).length > round * BATCH, "the first of a batch");
      await gateway.kill();
      await gateway.again();
    }
    const last = `message|1|${4 * BATCH - 1}`;
    await device.until((running) => received(running).includes(last), "the last command", 60_000);
    const first = received(device).filter((line, index, all) => all.indexOf(line) === index);
    expect(first).toEqual(numbers(1, 4 * BATCH));
  });
});
