/** Our files before Kafka's own DumpLogSegments, and our partitions before Kafka's own producer. */
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Gateway } from "./support/gateway.ts";
import { kafkaClient, readAll } from "./support/kafka.ts";
import { java } from "./support/kafka-tools.ts";
import { connectMqtt } from "./support/mqtt.ts";
import { eventually } from "./support/process.ts";
import { suite } from "./support/suite.ts";
import { has, kcat } from "./support/tools.ts";

const COMPLAINTS =
  /isvalid: false|invalid bytes|Non-consecutive|Mismatches|mismatch|out of order|Corrupt|Exception|Could not/i;

suite("Kafka's view of the data folder", ["java", "kafka's jars"], () => {
  let gateway: Gateway;
  let files: string[];
  // Names that a partitioner could get wrong: long, short, multi-byte, and lengths of each remainder by four.
  const devices = ["a", "ab", "abc", "abcd", "abcde", "ümläut-µ", "x".repeat(200), "日本語"].concat(
    Array.from({ length: 92 }, (_, index) => `d${index * 7919}`),
  );

  beforeAll(async () => {
    gateway = await Gateway.start({
      streams: { telemetry: { partitions: 4 }, rival: { partitions: 4 } },
      mappings: [{ from: "sensors/+device/reading", to: "telemetry", key: "$" + "{device}" }],
    });
    const kafka = kafkaClient(gateway.brokers);
    const admin = kafka.admin();
    await admin.connect();
    const configEntries = [{ name: "segment.bytes", value: "65536" }];
    await admin.createTopics({ topics: [{ topic: "rolling", numPartitions: 2, configEntries }] });
    await admin.setOffsets({
      groupId: "dumped",
      topic: "telemetry",
      partitions: [{ partition: 0, offset: "1" }],
    });
    await admin.disconnect();
    const sensor = await connectMqtt(gateway.mqttUrl);
    await Promise.all(
      devices.map((device) => sensor.publishAsync(`sensors/${device}/reading`, "{}", { qos: 1 })),
    );
    await sensor.endAsync();
    const producer = kafka.producer({ idempotent: true });
    await producer.connect();
    for (let round = 0; round < 60; round++) {
      const messages = Array.from({ length: 20 }, (_, index) => ({
        key: `k${index}`,
        value: `${round} ${"payload ".repeat(40)}`,
        headers: { round: String(round) },
      }));
      await producer.send({ topic: "rolling", messages });
    }
    await producer.disconnect();
    for (const codec of has("kcat") ? ["gzip", "snappy", "lz4", "zstd"] : []) {
      const input = "compressed payload\n".repeat(500);
      await kcat(["-b", gateway.brokers, "-P", "-t", "rolling", "-z", codec], { input });
    }
  });
  afterAll(() => gateway?.dispose());

  const dump = async (ending: string, ...args: string[]) => {
    const some = files.filter((name) => name.endsWith(ending)).join(",");
    return (await java("kafka.tools.DumpLogSegments", ["--files", some, ...args])).stdout;
  };

  test("keyed records lie in the partitions that the Java producer chooses", async () => {
    const input = devices.map((device) => `${device}\tx\n`).join("");
    const server = ["--bootstrap-server", gateway.brokers, "--topic", "rival"];
    await java("org.apache.kafka.tools.ConsoleProducer", [...server, "--property", "parse.key=true"], {
      input,
    });
    const places = async (stream: string) =>
      Object.fromEntries(
        (await readAll(gateway.brokers, stream)).map(({ key, partition }) => [key, partition]),
      );
    const ours = await places("telemetry");
    expect(Object.keys(ours)).toHaveLength(devices.length);
    expect(ours).toEqual(await places("rival"));
    expect(new Set(Object.values(ours)).size).toBe(4);
  });

  test("after an orderly stop every stream has its segments, and the small ones have rolled", async () => {
    expect((await gateway.stop()).code).toBe(0);
    const found = await readdir(gateway.dataDir, { recursive: true });
    files = found
      .filter((name) => /\/\d{20}\.\w+$/.test(`/${name}`))
      .map((name) => join(gateway.dataDir, name));
    const logs = (stream: string) =>
      files.filter((name) => name.includes(`/${stream}-`) && name.endsWith(".log"));
    expect(logs("telemetry").length).toBe(4);
    expect(logs("rolling").length).toBeGreaterThan(4);
    expect(logs("__consumer_offsets").length).toBeGreaterThan(0);
  });

  test("DumpLogSegments reads every record of every segment without a complaint", async () => {
    const text = await dump(".log", "--deep-iteration", "--print-data-log");
    expect(text.match(COMPLAINTS)).toBeNull();
    expect(text).toContain("key: ümläut-µ payload: {}");
    const rolling = text.split("\n").filter((line) => /payload: (\d+ payload|compressed payload)/.test(line));
    expect(rolling.length).toBe(60 * 20 + (has("kcat") ? 4 * 500 : 0));
  });

  test("DumpLogSegments finds every index entry where the segment says, and the indexes sane", async () => {
    expect((await dump(".index")).match(COMPLAINTS)).toBeNull();
    expect((await dump(".timeindex")).match(COMPLAINTS)).toBeNull();
    for (const ending of [".index", ".timeindex"]) {
      const text = await dump(ending, "--index-sanity-check");
      // The index of a segment that has just been rolled is empty, which is said in other words.
      const passed = text.match(/passed sanity check\.$|is empty\.$/gm)?.length;
      expect(passed).toBe(files.filter((name) => name.endsWith(ending)).length);
    }
  });

  test("DumpLogSegments decodes committed offsets and producers' states", async () => {
    const offsets = files
      .filter((name) => name.includes("__consumer_offsets-") && name.endsWith(".log"))
      .join(",");
    const { stdout } = await java("kafka.tools.DumpLogSegments", ["--files", offsets, "--offsets-decoder"]);
    expect(stdout.match(COMPLAINTS)).toBeNull();
    expect(stdout).toMatch(/"group":"dumped","topic":"telemetry","partition":0/);
    if (files.some((name) => name.endsWith(".snapshot"))) {
      expect((await dump(".snapshot")).match(COMPLAINTS)).toBeNull();
    }
  });

  test("DumpLogSegments does complain about one changed bit, so its silence means something", async () => {
    const folder = await mkdtemp(join(tmpdir(), "sluice-damaged-"));
    try {
      const whole = files.find((name) => name.includes("/rolling-") && name.endsWith(".log")) as string;
      const damaged = join(folder, "00000000000000000000.log");
      await cp(whole, damaged);
      const bytes = await readFile(damaged);
      bytes[100] = (bytes[100] as number) ^ 1;
      await writeFile(damaged, bytes);
      const args = ["--files", damaged, "--deep-iteration", "--print-data-log"];
      const { stdout, stderr } = await java("kafka.tools.DumpLogSegments", args, { expect: [0, 1] });
      expect(stdout + stderr).toMatch(COMPLAINTS);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  test("the gateway goes on with the same files afterwards", async () => {
    await gateway.again();
    await eventually(
      async () => (await readAll(gateway.brokers, "telemetry")).length === devices.length,
      "all records",
    );
  });
});
