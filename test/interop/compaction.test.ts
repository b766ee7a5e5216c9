/** Compacted streams before other people's clients, and compacted segments before Kafka's own DumpLogSegments. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { StreamStore } from "../../src/log/stream-store.ts";
import { silentLogger } from "../support/log.ts";
import { Gateway } from "./support/gateway.ts";
import { kafkaClient, readAll } from "./support/kafka.ts";
import { java } from "./support/kafka-tools.ts";
import { suite } from "./support/suite.ts";
import { kcat } from "./support/tools.ts";

const COMPLAINTS =
  /isvalid: false|invalid bytes|Mismatches|mismatch|out of order|Corrupt|Exception|Could not/i;
const KEYS = 25;
const ROUNDS = 60;

suite("a compacted stream", ["kcat", "java", "kafka's jars"], () => {
  let gateway: Gateway;
  let files: string[];

  beforeAll(async () => {
    gateway = await Gateway.start({ streams: { unmapped: {} }, mappings: [{ from: "#", to: "unmapped" }] });
    const kafka = kafkaClient(gateway.brokers);
    const admin = kafka.admin();
    await admin.connect();
    const configEntries = [
      { name: "cleanup.policy", value: "compact" },
      { name: "segment.bytes", value: "65536" },
      { name: "delete.retention.ms", value: "86400000" },
    ];
    for (const topic of ["latest", "codecs"]) {
      await admin.createTopics({ topics: [{ topic, numPartitions: 1, configEntries }] });
    }
    await admin.disconnect();
    const producer = kafka.producer({ idempotent: true });
    await producer.connect();
    for (let round = 0; round < ROUNDS; round++) {
      const messages = Array.from({ length: KEYS }, (_, key) => ({
        key: `k${key}`,
        // A third of the keys is deleted in the end.
        value: round === ROUNDS - 20 && key % 3 === 0 ? null : `${round} ${"payload ".repeat(60)}`,
        headers: { round: String(round) },
      }));
      const some = round < ROUNDS - 19 ? messages : messages.filter((_, key) => key % 3 !== 0);
      await producer.send({ topic: "latest", messages: some, compression: round % 2 });
    }
    await producer.disconnect();
    for (const codec of ["gzip", "snappy", "lz4", "zstd"]) {
      const args = ["-b", gateway.brokers, "-P", "-t", "codecs", "-z", codec, "-K", ":"];
      await kcat(args, { input: `${codec}:${"compressed ".repeat(50)}\n`.repeat(20) });
    }
    // A new segment, so that the ones before it are closed.
    const last = `last:${"x".repeat(70_000)}\n`;
    for (const stream of ["latest", "codecs"]) {
      await kcat(["-b", gateway.brokers, "-P", "-t", stream, "-K", ":"], { input: last });
    }
    expect((await gateway.stop()).code).toBe(0);
    // What the gateway does once a minute.
    const store = new StreamStore({ dataDir: gateway.dataDir, logger: silentLogger });
    await store.start();
    const before = store.stream("latest")?.partitions[0]?.sizeBytes as number;
    await store.compact();
    expect(store.stream("latest")?.partitions[0]?.sizeBytes).toBeLessThan(before / 2);
    await store.close();
    files = [];
    for (const name of ["latest-0", "codecs-0"]) {
      const folder = join(gateway.dataDir, "streams", name);
      files.push(...(await readdir(folder)).map((file) => join(folder, file)));
    }
  });
  afterAll(() => gateway?.dispose());

  const dump = async (ending: string, ...args: string[]) => {
    const some = files.filter((name) => name.endsWith(ending)).join(",");
    return (await java("kafka.tools.DumpLogSegments", ["--files", some, ...args])).stdout;
  };

  test("DumpLogSegments finds nothing wrong with it, and reads the delete horizon", async () => {
    const text = await dump(".log", "--deep-iteration");
    expect(text.match(COMPLAINTS)).toBeNull();
    expect(text).toMatch(/baseOffset: (\d+)0 lastOffset: \d+ count: 9 /);
    expect(text).toMatch(/deleteHorizonMs: OptionalLong\[\d+\]/);
    expect((await dump(".index")).match(COMPLAINTS)).toBeNull();
    expect((await dump(".timeindex")).match(COMPLAINTS)).toBeNull();
  });

  test("kafkajs and kcat read the latest of each key, and what is deleted as deleted", async () => {
    await gateway.again();
    const records = await readAll(gateway.brokers, "latest");
    const { stdout } = await kcat(["-b", gateway.brokers, "-C", "-t", "latest", "-e", "-f", "%o %k %S\n"]);
    const lines = stdout.trim().split("\n");
    const length = (value: string | null) => (value === null ? -1 : value.length);
    expect(lines).toEqual(records.map(({ offset, key, value }) => `${offset} ${key} ${length(value)}`));
    const state = new Map(records.map(({ key, value }) => [key, value]));
    for (let key = 0; key < KEYS; key++) {
      const wanted = key % 3 === 0 ? null : expect.stringContaining(`${ROUNDS - 1} payload`);
      expect(state.get(`k${key}`)).toEqual(wanted);
    }
  });

  test("batches in every codec of the clients are compacted, and read", async () => {
    const { stdout } = await kcat(["-b", gateway.brokers, "-C", "-t", "codecs", "-e", "-f", "%k\n"]);
    const counts = ["gzip", "snappy", "lz4", "zstd", "last"].map(
      (codec) => stdout.split("\n").filter((key) => key === codec).length,
    );
    expect(counts).toEqual([1, 1, 1, 1, 1]);
  });

  test("a record without a key is refused as Kafka refuses it", async () => {
    const producer = kafkaClient(gateway.brokers).producer();
    await producer.connect();
    const sent = producer.send({ topic: "latest", messages: [{ value: "no key" }] });
    await expect(sent).rejects.toMatchObject({ message: expect.stringMatching(/record|error/i) });
    await producer.disconnect();
  });
});
