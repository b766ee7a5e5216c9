/** Apache Kafka's own command line, from Maven Central: what an administrator types first. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { readAll } from "./support/kafka.ts";
import { java } from "./support/kafka-tools.ts";
import { suite } from "./support/suite.ts";
import { startTarget, type Target } from "./support/target.ts";

suite("Kafka's own tools", ["java", "kafka's jars"], () => {
  let target: Target;
  beforeAll(async () => {
    target = await startTarget({ console: 3, perf: 3, codecs: 1 });
  });
  afterAll(() => target?.close());

  const server = () => ["--bootstrap-server", target.brokers];
  const lines = (text: string) => text.split("\n").filter((line) => line !== "");
  const topics = (...args: string[]) => java("org.apache.kafka.tools.TopicCommand", [...server(), ...args]);
  const groups = (...args: string[]) =>
    java("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", [...server(), ...args]);
  const consume = (...args: string[]) =>
    java("org.apache.kafka.tools.consumer.ConsoleConsumer", [...server(), "--timeout-ms", "20000", ...args]);
  const produce = (input: string, ...args: string[]) =>
    java("org.apache.kafka.tools.ConsoleProducer", [...server(), ...args], { input });
  const words = Array.from({ length: 60 }, (_, index) => `w${String(index).padStart(2, "0")}`);

  test("TopicCommand creates, lists, describes and deletes", async () => {
    await topics("--create", "--topic", "by-java", "--partitions", "2", "--config", "segment.bytes=1048576");
    expect(lines((await topics("--list")).stdout)).toEqual(
      expect.arrayContaining(["by-java", "console", "perf"]),
    );
    const { stdout } = await topics("--describe", "--topic", "by-java");
    expect(stdout).toMatch(/Topic: by-java\s+TopicId: \S+\s+PartitionCount: 2\s+ReplicationFactor: 1/);
    expect(stdout).toContain("segment.bytes=1048576");
    expect(stdout).toMatch(/Partition: 1\s+Leader: \d+\s+Replicas: \d+\s+Isr: \d+/);
    await topics("--delete", "--topic", "by-java");
  });

  test("what the console producer writes, with keys and headers, the console consumer reads", async () => {
    const input = words.map((word) => `site:north\tkey-${word}\t${word}\n`).join("");
    const properties = ["--property", "parse.key=true", "--property", "parse.headers=true"];
    await produce(input, "--topic", "console", ...properties);
    const show = ["print.partition", "print.offset", "print.key", "print.headers"];
    const { stdout } = await consume(
      ...["--topic", "console", "--from-beginning", "--max-messages", "60"],
      ...show.flatMap((name) => ["--property", `${name}=true`]),
    );
    const read = lines(stdout).map((line) => line.split("\t"));
    expect(read.map((fields) => fields.at(-1)).sort()).toEqual(words);
    expect(new Set(read.map((fields) => fields[2]))).toEqual(new Set(["site:north"]));
    for (const fields of read) expect(fields[3]).toBe(`key-${fields.at(-1)}`);
  });

  test("every codec of the Java producer comes back through the Java consumer", async () => {
    const codecs = ["gzip", "snappy", "lz4", "zstd"];
    for (const codec of codecs) {
      const input = words.map((word) => `${codec}-${word}\n`).join("");
      await produce(input, "--topic", "codecs", "--compression-codec", codec);
    }
    const { stdout } = await consume("--topic", "codecs", "--from-beginning", "--max-messages", "240");
    expect(lines(stdout)).toEqual(codecs.flatMap((codec) => words.map((word) => `${codec}-${word}`)));
  });

  test("a group of the console consumer is listed and described, with its lag", async () => {
    const count = String(words.length);
    await consume("--topic", "console", "--group", "javas", "--from-beginning", "--max-messages", count);
    await produce("late\n", "--topic", "console");
    expect(lines((await groups("--list")).stdout)).toContain("javas");
    const { stdout } = await groups("--describe", "--group", "javas");
    const rows = lines(stdout)
      .map((line) => line.trim().split(/\s+/))
      .filter(([group, topic]) => group === "javas" && topic === "console");
    expect(rows).toHaveLength(3);
    expect(rows.reduce((sum, row) => sum + Number(row[3]), 0)).toBe(60);
    expect(rows.reduce((sum, row) => sum + Number(row[5]), 0)).toBe(1);
    expect((await groups("--describe", "--group", "javas", "--state")).stdout).toContain("Empty");
  });

  test("GetOffsetShell knows beginnings, ends and the newest record", async () => {
    const offsets = async (time: string) => {
      const args = [...server(), "--topic", "console", "--time", time];
      const { stdout } = await java("org.apache.kafka.tools.GetOffsetShell", args);
      return lines(stdout).map((line) => Number(line.split(":")[2]));
    };
    expect(await offsets("-2")).toEqual([0, 0, 0]);
    expect((await offsets("-1")).reduce((sum, offset) => sum + offset, 0)).toBe(61);
    expect((await offsets("-3")).every((offset) => offset >= 0 && offset < 61)).toBe(true);
  });

  test("ProducerPerformance writes 50,000 records that ConsumerPerformance reads", async () => {
    const producer = [
      "--topic",
      "perf",
      "--num-records",
      "50000",
      "--record-size",
      "200",
      "--throughput",
      "-1",
    ];
    const { stdout } = await java("org.apache.kafka.tools.ProducerPerformance", [
      ...producer,
      ...["--producer-props", `bootstrap.servers=${target.brokers}`, "acks=all", "linger.ms=5"],
    ]);
    expect(stdout).toContain("50000 records sent");
    const consumer = ["--topic", "perf", "--messages", "50000", "--timeout", "20000"];
    const read = await java("org.apache.kafka.tools.ConsumerPerformance", [...server(), ...consumer]);
    const fields = lines(read.stdout).at(-1)?.split(", ") ?? [];
    expect(Number(fields[4])).toBe(50_000);
    const all = await readAll(target.brokers, "perf");
    expect(all.length).toBe(50_000);
    expect(all.every(({ value }) => value?.length === 200)).toBe(true);
  });
});
