/** Reading from a real gateway, in this process, and with the built program. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Kafka, logLevel, type Message, type Producer } from "kafkajs";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { parseConfig } from "../../src/config/load.ts";
import { Gateway } from "../../src/gateway.ts";
import { formatJson } from "../../src/subscriber/format.ts";
import type { From } from "../../src/subscriber/from.ts";
import { subscribe } from "../../src/subscriber/subscriber.ts";
import { silentLogger } from "../support/log.ts";

const NOON = Date.UTC(2026, 5, 1, 12);
const MINUTE = 60_000;
const BINARY = Buffer.from([0x00, 0xff, 0xfe]);

const yaml = (kafkaPort: number): string => `version: 1
mqtt: { listeners: [{ type: tcp, bind: "127.0.0.1:0" }] }
streams: { telemetry: { partitions: 2, retention: { time: unlimited } }, news: {} }
kafka: { bind: "127.0.0.1:${kafkaPort}" }
`;

let folder: string;
let gateway: Gateway;
let broker: string;
let kafka: Kafka;
let producer: Producer;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sluice-subscribe-"));
  const env = { SLUICE_DATA_DIR: join(folder, "data") };
  gateway = new Gateway(parseConfig(yaml(0), "g.yaml", { env }).config, silentLogger);
  const { kafka: address } = await gateway.start();
  broker = `127.0.0.1:${address.port}`;
  kafka = new Kafka({ brokers: [broker], logLevel: logLevel.NOTHING });
  producer = kafka.producer();
  await producer.connect();
  const message = (partition: number, minute: number, value: string | Buffer): Message => ({
    partition,
    key: `p${partition}`,
    value,
    timestamp: String(NOON + minute * MINUTE),
    headers: { minute: String(minute) },
  });
  const messages = [0, 1, 2, 3].map((minute) => message(0, minute, `m${minute}`));
  await producer.send({ topic: "telemetry", messages });
  await producer.send({ topic: "telemetry", messages: [message(1, 0, "m0"), message(1, 1, BINARY)] });
});
afterAll(async () => {
  await producer.disconnect();
  await gateway.close();
  await rm(folder, { recursive: true, force: true });
});

/** The lines of `--json` until there are `count`, parsed, in the order of partitions and offsets. */
async function read(count: number, from: From | undefined, group?: string, stream = "telemetry") {
  const records: { partition: number; offset: number; value: string; [name: string]: unknown }[] = [];
  const { signal } = new AbortController();
  const options = { brokers: [broker], group, from, count, signal, onNotice: () => {} };
  const received = await subscribe([stream], options, (record) => {
    records.push(JSON.parse(formatJson(record)));
  });
  expect(received).toBe(count);
  return records.sort((a, b) => a.partition - b.partition || a.offset - b.offset);
}

const places = (records: { partition: number; offset: number }[]): string[] =>
  records.map(({ partition, offset }) => `${partition}@${offset}`);
const EVERYTHING = ["0@0", "0@1", "0@2", "0@3", "1@0", "1@1"];

it("reads everything from the beginning, binary values as base64, and leaves no group behind", async () => {
  const records = await read(6, { kind: "beginning" });
  expect(places(records)).toEqual(EVERYTHING);
  expect(records[2]).toEqual({
    stream: "telemetry",
    partition: 0,
    offset: 2,
    timestamp: NOON + 2 * MINUTE,
    key: "p0",
    value: "m2",
    headers: { minute: "2" },
  });
  expect(records[5]).toMatchObject({ value: BINARY.toString("base64"), encoding: { value: "base64" } });
  const admin = kafka.admin();
  await admin.connect();
  const { groups } = await admin.listGroups();
  await admin.disconnect();
  expect(groups.filter(({ groupId }) => groupId.startsWith("sluice-subscribe"))).toEqual([]);
});

it("ends after so many records, and a group continues where it ended", async () => {
  const first = await read(2, { kind: "beginning" }, "dashboards");
  const rest = await read(4, undefined, "dashboards");
  expect([...places(first), ...places(rest)].sort()).toEqual(EVERYTHING);
});

it("starts at an offset in every partition that has it, and moves a group there", async () => {
  expect(places(await read(2, { kind: "offset", offset: 2 }))).toEqual(["0@2", "0@3"]);
  const all = await read(6, { kind: "beginning" }, "movers");
  const again = await read(6, { kind: "offset", offset: 0 }, "movers");
  expect(places(again)).toEqual(places(all));
});

it("starts at a time", async () => {
  const records = await read(3, { kind: "time", timestampMs: NOON + MINUTE });
  // The fourth is in the other partition: whichever three come first are none from before.
  for (const { timestamp } of records) expect(timestamp).toBeGreaterThanOrEqual(NOON + MINUTE);
});

it("left to itself reads only what comes from now on", async () => {
  await producer.send({ topic: "news", messages: [{ value: "old" }] });
  const reading = read(1, undefined, undefined, "news");
  let isOver = false;
  const over = reading.finally(() => {
    isOver = true;
  });
  // From when on it listens cannot be seen from outside: news comes until there is a reader.
  while (!isOver) {
    await producer.send({ topic: "news", messages: [{ value: "new" }] });
    await Promise.race([over, new Promise((resolve) => setTimeout(resolve, 50))]);
  }
  expect((await reading)[0]?.value).toBe("new");
});

it("the program reads from the broker that its configuration names, as JSON where there is no terminal", async () => {
  const config = join(folder, "g.yaml");
  await writeFile(config, yaml(Number(broker.split(":")[1])));
  const args = ["dist/main.js", "subscribe", "telemetry", "--from", "beginning", "--count", "6"];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [...args, "--config", config]);
  expect(stderr).toBe("");
  const records = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(places(records).sort()).toEqual(EVERYTHING);
});

it("the program ends in order when it is told to, though its broker is gone", async () => {
  const short = new Gateway(
    parseConfig(yaml(0), "g.yaml", { env: { SLUICE_DATA_DIR: join(folder, "short") } }).config,
    silentLogger,
  );
  const { kafka: address } = await short.start();
  const args = ["dist/main.js", "subscribe", "telemetry", "--broker", `127.0.0.1:${address.port}`];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe"] });
  const closed = once(child, "close");
  const isJoined = async (): Promise<void> => {
    const admin = new Kafka({ brokers: [`127.0.0.1:${address.port}`], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    const groupIds = (await admin.listGroups()).groups.map(({ groupId }) => groupId);
    const { groups } = await admin.describeGroups(groupIds);
    await admin.disconnect();
    expect(groups.map(({ state }) => state)).toEqual(["Stable"]);
  };
  await vi.waitFor(isJoined, { timeout: 10_000, interval: 100 });
  await short.close();
  const [said] = await once(child.stderr, "data");
  expect(String(said)).toMatch(/^lost the connection to 127\.0\.0\.1:\d+; trying again/);
  child.kill("SIGINT");
  expect(await closed).toEqual([0, null]);
});
