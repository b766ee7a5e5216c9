import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { expect, it, onTestFinished, vi } from "vitest";
import { LightReader } from "../../src/demo/light-reader.ts";
import type { GroupCoordinator } from "../../src/groups/coordinator.ts";
import { KafkaServer } from "../../src/kafka/server.ts";
import type { Partition, Stream } from "../../src/log/log.ts";
import { Turns } from "../../src/turns.ts";
import { append, openStore, record, silentLogger } from "../support/log.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

async function serve() {
  const log = await openStore(await temporaryFolder());
  const stream = await log.createStream("readings", 3, {}, "config");
  const server = new KafkaServer(
    {
      bind: { host: "127.0.0.1", port: 0 },
      advertise: "auto",
      maxFrameBytes: 1 << 20,
      maxConnections: 100,
      maxInFlight: 8,
      maxPartitionsPerRequest: 100,
      maxBufferedBytes: 1 << 26,
      autoCreate: { enabled: true, partitions: 3 },
      dataDir: "unused",
    },
    { log, groups: {} as GroupCoordinator, clusterId: "test", turns: new Turns() },
    silentLogger,
  );
  await server.start();
  onTestFinished(() => server.close());
  return { log, stream, server };
}

function reader(port: number, stream = "readings") {
  const values: string[] = [];
  const light = new LightReader({
    host: "127.0.0.1",
    port,
    stream,
    clientId: "light",
    onRecord: ({ value }) => values.push(String(value)),
  });
  onTestFinished(() => light.close());
  return { light, values };
}

const partition = (stream: Stream, index: number): Partition => stream.partitions[index] as Partition;

it("a light reader gets what is there and what comes later, from every partition, over one connection", async () => {
  const { log, stream, server } = await serve();
  await append(log, [record(partition(stream, 0), "a", "one"), record(partition(stream, 2), "b", "two")]);
  const { light, values } = reader(server.address.port);
  await light.start();
  await vi.waitFor(() => expect([...values].sort()).toEqual(["one", "two"]));
  await append(log, [record(partition(stream, 1), "c", "three")]);
  await vi.waitFor(() => expect(values).toHaveLength(3));
  expect(values[2]).toBe("three");
  expect(server.stats.connections).toBe(1);
  expect(light.connected).toBe(true);
});

it("a hundred light readers take a hundred connections and each reads everything, once and in order", async () => {
  const { log, stream, server } = await serve();
  const readers = Array.from({ length: 100 }, () => reader(server.address.port));
  await Promise.all(readers.map(({ light }) => light.start()));
  expect(server.stats.connections).toBe(100);
  const expected = Array.from({ length: 50 }, (_, index) => `m${index}`);
  for (const value of expected) await append(log, [record(partition(stream, 1), "k", value)]);
  await vi.waitFor(() => {
    for (const { values } of readers) expect(values).toEqual(expected);
  });
});

it("a stream that is not there is said, not waited for", async () => {
  const { server } = await serve();
  await expect(reader(server.address.port, "elsewhere").light.start()).rejects.toThrow(
    /no stream "elsewhere"/,
  );
});

it("a server that goes ends the reader, with the reason", async () => {
  const { server } = await serve();
  const { light } = reader(server.address.port);
  await light.start();
  await server.close();
  await vi.waitFor(() => expect(light.connected).toBe(false));
  expect(light.ended).toMatch(/closed|reset/i);
});

it("bytes that are no Kafka frame end the reader", async () => {
  const server = createServer((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n")).listen(
    0,
    "127.0.0.1",
  );
  onTestFinished(() => void server.close());
  await new Promise((resolve) => server.once("listening", resolve));
  await expect(reader((server.address() as AddressInfo).port).light.start()).rejects.toThrow();
});
