import { describe, expect, it } from "vitest";
import { StreamStore } from "../../src/log/stream-store.ts";
import { murmur2, partitionOf as partitionFor } from "../../src/mapping/partitioner.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { openStore, partitionOf, readAll, silentLogger } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { RawClient, startBroker } from "./support.ts";

/** Where Kafka's Java client puts the key "t1" among three partitions. */
const T1_OF_3 = partitionFor(murmur2(Buffer.from("t1")), 3);

describe("with the real log", () => {
  it("what was acknowledged at any QoS is in its stream, keyed and in order, also after a restart", async () => {
    const dataDir = await temporaryFolder();
    const store = await openStore(dataDir);
    await store.createStream("telemetry", 3, {}, "config");
    const rules = [
      {
        name: "temperatures",
        from: "sensors/+site/+device/temperature",
        to: "telemetry",
        key: "${device}",
        headers: { site: "${site}" },
        timestamp: "${payload.ts}",
      },
    ];
    const { port, broker } = await startBroker(store, { rules });
    const client = await RawClient.connect(port, "c");
    const ts = 1_767_225_600_000;
    for (let n = 0; n < 30; n++) {
      const qos = n % 3;
      const payload = `{"n":${n},"ts":${ts + n}}`;
      client.publish("sensors/north/t1/temperature", payload, qos, qos === 0 ? undefined : n + 1);
    }
    await client.until("puback", 10);
    await client.until("pubrec", 10);
    await broker.close();
    await store.close();

    const again = new StreamStore({ dataDir, logger: silentLogger });
    await again.start();
    const records = await readAll(partitionOf(again.stream("telemetry"), T1_OF_3));
    await again.close();
    const numbers = records.map((record) => (JSON.parse(String(record.value)) as { n: number }).n);
    expect([...numbers].sort((a, b) => a - b)).toEqual(Array.from({ length: 30 }, (_, n) => n));
    for (const qos of [0, 1, 2]) {
      const ofQos = numbers.filter((n) => n % 3 === qos);
      expect(ofQos).toEqual([...ofQos].sort((a, b) => a - b));
    }
    for (const record of records) {
      const { n } = JSON.parse(String(record.value)) as { n: number };
      expect(record.key?.toString()).toBe("t1");
      expect(record.timestamp).toBe(ts + n);
      expect(record.headers.map(({ key, value }) => `${key}=${value}`)).toEqual([
        "mqtt.topic=sensors/north/t1/temperature",
        "site=north",
      ]);
    }
  });

  it("what came before the machine's clock was set is stamped behind what was there, and marked", async () => {
    const clock = new FakeClock(15_000);
    const store = await openStore("/data", { fileSystem: new MemoryFileSystem(), clock });
    await store.createStream("telemetry", 1, {}, "config");
    const rules = [{ name: "all", from: "sensors/#", to: "telemetry", headers: { site: "north" } }];
    const { port } = await startBroker(store, { rules, clock: store.time });
    const client = await RawClient.connect(port, "c");
    const publish = async (id: number) => {
      client.publish("sensors/t1", `${id}`, 1, id);
      await client.until("puback", id);
    };
    await publish(1);
    clock.advance(5_000);
    await publish(2);
    const today = Date.UTC(2026, 10, 25);
    clock.jump(today - clock.wallTime());
    await publish(3);
    const records = await readAll(partitionOf(store.stream("telemetry")));
    const [first, second, third] = records.map(({ timestamp, headers }) => ({
      timestamp,
      headers: headers.map(({ key, value }) => `${key}=${value}`),
    }));
    const headers = ["mqtt.topic=sensors/t1", "site=north"];
    expect(first?.headers).toEqual([...headers, "sluice.clock=unset"]);
    expect(second?.headers).toEqual(first?.headers);
    expect((second?.timestamp ?? 0) - (first?.timestamp ?? 0)).toBe(5_000);
    expect(third).toEqual({ timestamp: today, headers });
  });

  it("a message without the key that a compacted stream needs is a dead letter, acknowledged", async () => {
    const store = await openStore(await temporaryFolder());
    await store.createStream("states", 1, { cleanup: "compact" }, "config");
    const rules = [
      { name: "states", from: "s/+", to: "states", key: "${payload.id}", onError: "pass" as const },
    ];
    const { port } = await startBroker(store, { rules, ingest: { deadLetterStream: "dead" } });
    const client = await RawClient.connect(port, "c");
    client.publish("s/1", '{"id":"x"}', 1, 1);
    client.publish("s/2", "no id", 1, 2);
    await client.until("puback", 2);
    expect((await readAll(partitionOf(store.stream("states")))).map(({ key }) => String(key))).toEqual(["x"]);
    const [stray] = await readAll(partitionOf(store.stream("dead")));
    expect(String(stray?.value)).toBe("no id");
    expect(stray?.headers.some(({ value }) => /states.*no record without a key/.test(String(value)))).toBe(
      true,
    );
  });
});
