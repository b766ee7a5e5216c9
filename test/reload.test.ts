/** A gateway takes over another configuration while it runs. */
import { mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Kafka, logLevel } from "kafkajs";
import { connectAsync, type MqttClient } from "mqtt";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { loadConfig } from "../src/config/load.ts";
import { ControlClient } from "../src/control/client.ts";
import { Gateway, type GatewayStatus } from "../src/gateway.ts";
import { createLogger } from "../src/logger.ts";
import { freePort } from "./support/free-port.ts";

let folder: string;
let file: string;
let gateway: Gateway;

const BASE = `version: 1
mqtt: { listeners: [{ type: tcp, bind: "127.0.0.1:0" }] }
kafka: { bind: "127.0.0.1:0" }
streams: { one: { partitions: 2 }, two: {} }
`;
const TO_ONE = `${BASE}mappings: [{ from: s/+device, to: one, key: "\${device}" }]\n`;
const TO_TWO = `${BASE}mappings: [{ from: s/+device, to: two, key: "\${device}" }]\n`;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "sluice-reload-"));
  file = join(folder, "gateway.yaml");
});
afterEach(async () => {
  await gateway?.close();
  await rm(folder, { recursive: true, force: true });
});

async function start(text: string): Promise<number> {
  await writeFile(file, text);
  const load = () => loadConfig(file, { env: { SLUICE_DATA_DIR: join(folder, "data") } });
  const loaded = await load();
  gateway = new Gateway(loaded.config, createLogger("silent"), { loaded, load });
  const { mqtt } = await gateway.start();
  return mqtt[0]?.port as number;
}

async function connected(port: number): Promise<MqttClient> {
  const client = await connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 0 });
  onTestFinished(async () => void (await client.endAsync(true).catch(() => {})));
  return client;
}

async function reloadWith(text: string) {
  await writeFile(file, text);
  return gateway.reload();
}

/** Records on each partition of a stream. */
async function recordsOf(stream: string): Promise<number[]> {
  const port = gateway.status.addresses?.kafka.port;
  const admin = new Kafka({ brokers: [`127.0.0.1:${port}`], logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  const offsets = await admin.fetchTopicOffsets(stream);
  await admin.disconnect();
  return offsets.map(({ high }) => Number(high));
}

const isClosed = (client: MqttClient) => vi.waitFor(() => expect(client.connected).toBe(false));

describe("what is new holds from the next message on", () => {
  test("mappings, new streams, and more partitions, for clients that stay connected", async () => {
    const client = await connected(await start(TO_ONE));
    await client.publishAsync("s/t1", "1", { qos: 1 });
    const { changed, version, previous } = await reloadWith(
      TO_TWO.replace("two: {}", "two: { partitions: 3 }, three: {}"),
    );
    await client.publishAsync("s/t1", "2", { qos: 1 });
    expect(changed).toEqual(["streams.two", "streams.three", "mappings"]);
    expect(version).not.toBe(previous);
    expect((await recordsOf("one")).reduce((a, b) => a + b)).toBe(1);
    expect((await recordsOf("two")).reduce((a, b) => a + b)).toBe(1);
    expect(await recordsOf("two")).toHaveLength(3);
    expect(await recordsOf("three")).toHaveLength(1);
    expect(client.connected).toBe(true);
  });

  test("limits: a session's queue is bounded by the new one", async () => {
    const port = await start(TO_ONE);
    const sleeper = await connectAsync(`mqtt://127.0.0.1:${port}`, { clientId: "sleeper", clean: false });
    await sleeper.subscribeAsync("s/+", { qos: 1 });
    await sleeper.endAsync();
    await reloadWith(TO_ONE.replace("mqtt: {", "mqtt: { maxQueued: 2,"));
    const client = await connected(port);
    for (let n = 0; n < 5; n++) await client.publishAsync("s/t", `${n}`, { qos: 1 });
    expect(gateway.stats.mqtt).toMatchObject({ queuedMessages: 2, queueOverflows: 3 });
  });

  test("users: who is no longer one is disconnected, and nobody else", async () => {
    const port = await start(TO_ONE.replace("mqtt: {", "mqtt: { users: { a: first, b: second },"));
    const login = (username: string, password: string) =>
      connectAsync(`mqtt://127.0.0.1:${port}`, { username, password, reconnectPeriod: 0 });
    const [a, b] = await Promise.all([login("a", "first"), login("b", "second")]);
    onTestFinished(() => a.endAsync(true));
    await reloadWith(TO_ONE.replace("mqtt: {", "mqtt: { users: { a: first, c: third },"));
    await isClosed(b);
    await a.publishAsync("s/t", "1", { qos: 1 });
    await expect(login("b", "second")).rejects.toThrow("Bad username or password");
    await (await login("c", "third")).endAsync();
  });

  test("a table, which is named among what has changed", async () => {
    await writeFile(join(folder, "rooms.csv"), "id,stream\na,one\n");
    const looked = `${BASE}tables: { rooms: rooms.csv }\nmappings: [{ from: "s/+d", to: '\${lookup("rooms", d)}', limit: 2 }]\n`;
    const client = await connected(await start(looked));
    await client.publishAsync("s/a", "1", { qos: 1 });
    await writeFile(join(folder, "rooms.csv"), "id,stream\na,two\n");
    expect(await gateway.reload()).toMatchObject({ changed: ["tables.rooms"] });
    await client.publishAsync("s/a", "1", { qos: 1 });
    expect([await recordsOf("one"), await recordsOf("two")].flat().reduce((sum, count) => sum + count)).toBe(
      2,
    );
    expect(await recordsOf("two")).toEqual([1]);
  });

  test("the same file again changes nothing", async () => {
    await start(TO_ONE);
    expect(await gateway.reload()).toMatchObject({ changed: [] });
  });
});

describe("listeners", () => {
  const listeners = (...binds: string[]) =>
    TO_ONE.replace(
      /listeners: \[.*\]/,
      `listeners: [${binds.map((bind) => `{ type: tcp, bind: "${bind}" }`).join(", ")}]`,
    );

  test("are added and removed; only who came in by one that is gone is disconnected", async () => {
    const [a, b] = [await freePort(), await freePort()];
    const first = await connected(await start(listeners(`127.0.0.1:${a}`)));
    await reloadWith(listeners(`127.0.0.1:${a}`, `127.0.0.1:${b}`));
    const second = await connected(b);
    expect(gateway.status.addresses?.mqtt.map(({ port }) => port)).toEqual([a, b]);
    await reloadWith(listeners(`127.0.0.1:${b}`));
    await isClosed(first);
    await second.publishAsync("s/t", "1", { qos: 1 });
    await expect(connectAsync(`mqtt://127.0.0.1:${a}`, { reconnectPeriod: 0 })).rejects.toThrow();
  });

  test("one that is opened to the whole network keeps who is connected", async () => {
    const port = await freePort();
    const client = await connected(await start(listeners(`127.0.0.1:${port}`)));
    await reloadWith(listeners(`0.0.0.0:${port}`));
    await connected(port);
    await client.publishAsync("s/t", "1", { qos: 1 });
    await reloadWith(listeners(`127.0.0.1:${port}`));
    await client.publishAsync("s/t", "2", { qos: 1 });
    expect(gateway.stats.ingest.stored).toBe(2);
  });

  test("an address that cannot be had leaves everything as it was", async () => {
    const [a, b] = [await freePort(), await freePort()];
    const client = await connected(await start(listeners(`127.0.0.1:${a}`)));
    const taken = await connected(a);
    const wrong = listeners(`0.0.0.0:${a}`, `127.0.0.1:${b}`, `192.0.2.1:${b + 1}`).replace(
      "to: one",
      "to: two",
    );
    await expect(reloadWith(wrong)).rejects.toMatchObject({ code: "EADDRNOTAVAIL" });
    await connected(a);
    await client.publishAsync("s/t", "1", { qos: 1 });
    expect((await recordsOf("one")).reduce((x, y) => x + y)).toBe(1);
    expect(taken.connected).toBe(true);
    await expect(connectAsync(`mqtt://127.0.0.1:${b}`, { reconnectPeriod: 0 })).rejects.toThrow();
  });

  test("Kafka's address moves too", async () => {
    await start(TO_ONE);
    const port = await freePort();
    await reloadWith(TO_ONE.replace('kafka: { bind: "127.0.0.1:0"', `kafka: { bind: "127.0.0.1:${port}"`));
    expect(gateway.status.addresses?.kafka.port).toBe(port);
    expect(await recordsOf("two")).toEqual([0]);
  });
});

describe("what is wrong leaves the old one running", () => {
  test.each([
    ["a mistake, with its place", TO_TWO.replace("to: two", "to: tow"), /:5:\d+ {2}mappings\[0\]\.to/],
    ["half a file", TO_TWO.slice(0, -20), /problem/],
    ["an empty file", "", /version/],
    [
      "fewer partitions",
      TO_TWO.replace("partitions: 2", "partitions: 1"),
      /:4:\d+ {2}streams\.one\.partitions is 1, but the stream has 2/,
    ],
  ])("%s, and status says so", async (_, text, words) => {
    const client = await connected(await start(TO_ONE));
    const { version } = gateway.status.config as { version: string };
    await expect(reloadWith(text)).rejects.toThrow(words);
    const { config } = await new ControlClient(join(folder, "data")).ask<GatewayStatus>("GET /status");
    expect(config).toMatchObject({ version, refused: { message: expect.stringMatching(words) } });
    await client.publishAsync("s/t", "1", { qos: 1 });
    expect((await recordsOf("one")).reduce((a, b) => a + b)).toBe(1);
    await reloadWith(TO_ONE);
    expect(gateway.status.config).toMatchObject({ version, refused: undefined });
  });

  test("the data folder cannot change, and that is said", async () => {
    await writeFile(file, `${TO_ONE}dataDir: ${join(folder, "data")}\n`);
    const loaded = await loadConfig(file);
    gateway = new Gateway(loaded.config, createLogger("silent"), { loaded, load: () => loadConfig(file) });
    await gateway.start();
    await expect(reloadWith(`${TO_ONE}dataDir: ${join(folder, "other")}\n`)).rejects.toMatchObject({
      code: "RESTART_NEEDED",
      message: expect.stringMatching(/dataDir is .*data and cannot become .*other/),
    });
  });
});

describe("the file is watched", () => {
  const version = () => gateway.status.config?.version;
  const isTakenOver = (before: string | undefined) =>
    vi.waitFor(() => expect(version()).not.toBe(before), { timeout: 15_000, interval: 20 });

  test("written in place, in pieces", async () => {
    await start(TO_ONE);
    const before = version();
    await writeFile(file, TO_TWO.slice(0, 80));
    await writeFile(file, TO_TWO);
    await isTakenOver(before);
    expect(gateway.status.config?.refused).toBeUndefined();
  });

  test("renamed into place, as editors do, again and again", async () => {
    await start(TO_ONE);
    for (const text of [TO_TWO, TO_ONE]) {
      const before = version();
      await rename(file, `${file}~`);
      await writeFile(join(folder, "new"), text);
      await rename(join(folder, "new"), file);
      await isTakenOver(before);
    }
  });

  test("and so is one that it includes, and one that comes to a pattern", async () => {
    await writeFile(join(folder, "more.yaml"), "streams: { three: }\n");
    await start(`${TO_ONE}include: ["m*.yaml"]\n`);
    const before = version();
    await writeFile(join(folder, "more.yaml"), "streams: { three: { partitions: 2 } }\n");
    await isTakenOver(before);
    const second = version();
    await writeFile(join(folder, "most.yaml"), "streams: { four: }\n");
    await isTakenOver(second);
    expect(await recordsOf("four")).toEqual([0]);
    expect(await readFile(file, "utf8")).toContain("m*.yaml");
  });

  test("what is written while it is being loaded is not missed", async () => {
    await writeFile(file, TO_ONE);
    const read = () => loadConfig(file, { env: { SLUICE_DATA_DIR: join(folder, "data") } });
    const versions: string[] = [];
    let goOn = (): void => {};
    const load = async () => {
      const one = await read();
      versions.push(one.version);
      if (versions.length === 1) await new Promise<void>((resolve) => (goOn = resolve));
      return one;
    };
    const loaded = await read();
    gateway = new Gateway(loaded.config, createLogger("silent"), { loaded, load });
    await gateway.start();
    await writeFile(file, TO_TWO);
    const reloading = gateway.reload();
    await vi.waitFor(() => expect(versions).toHaveLength(1));
    await writeFile(file, `${TO_TWO}name: other\n`);
    goOn();
    await reloading;
    await isTakenOver(versions[0]);
  });
});
