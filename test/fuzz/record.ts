/**
 * Records what real clients send: `npm run fuzz:record` runs kafkajs, kcat and Kafka's own tools through a proxy
 * in front of a gateway, and keeps some frames of each API and version in sessions.json, from which the fuzzer
 * goes out. To be run again when clients of note change; the file is kept so that a seed stays good.
 */
import { writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import kafkajs from "kafkajs";
import { FrameReader } from "../../src/kafka/frame-reader.ts";
import { freePort, Gateway } from "../interop/support/gateway.ts";
import { java } from "../interop/support/kafka-tools.ts";
import { kcat } from "../interop/support/tools.ts";
import { SESSIONS } from "./mutate.ts";

/** Of one API, version and client: the shortest ones, and few of them. */
const KEPT = 3;
const MAX_FRAME_BYTES = 1_500;

const frames = new Map<string, Buffer[]>();
let client = "";

function keep(frame: Buffer): void {
  if (frame.length > MAX_FRAME_BYTES) return;
  const at = `${frame.readInt16BE(0)}/${frame.readInt16BE(2)}/${client}`;
  const kept = frames.get(at) ?? [];
  frames.set(at, kept);
  if (kept.length < KEPT && !kept.some((one) => one.length === frame.length)) kept.push(Buffer.from(frame));
}

const port = await freePort();
const gateway = await Gateway.start({
  streams: { declared: { partitions: 2 } },
  mappings: [{ from: "#", to: "declared" }],
  kafka: { advertise: `127.0.0.1:${port}` },
});
const proxy = createServer((socket) => {
  const upstream = connect(gateway.kafkaPort, "127.0.0.1");
  const reader = new FrameReader(64 << 20);
  socket.on("data", (chunk: Buffer) => {
    reader.push(Buffer.from(chunk));
    for (let frame = reader.take(); frame !== undefined; frame = reader.take()) keep(frame);
  });
  socket.pipe(upstream).pipe(socket);
  for (const one of [socket, upstream]) one.on("error", () => {});
}).listen(port, "127.0.0.1");
const brokers = `127.0.0.1:${port}`;

async function withKafkajs(): Promise<void> {
  client = "kafkajs";
  const kafka = new kafkajs.Kafka({ brokers: [brokers], logLevel: kafkajs.logLevel.NOTHING });
  const admin = kafka.admin();
  await admin.createTopics({ topics: [{ topic: "a", numPartitions: 2 }] });
  await admin.createPartitions({ topicPartitions: [{ topic: "a", count: 3 }] });
  const resource = { type: kafkajs.ConfigResourceTypes.TOPIC, name: "a" };
  await admin.alterConfigs({
    validateOnly: false,
    resources: [{ ...resource, configEntries: [{ name: "retention.ms", value: "100000000" }] }],
  });
  await admin.describeConfigs({ includeSynonyms: false, resources: [resource] });
  const producer = kafka.producer({ idempotent: true });
  await producer.connect();
  for (const compression of [kafkajs.CompressionTypes.None, kafkajs.CompressionTypes.GZIP]) {
    const messages = [
      { partition: 0, key: "k", value: "v", headers: { h: "1" } },
      { partition: 0, value: null },
    ];
    await producer.send({ topic: "a", messages, compression });
  }
  const consumer = kafka.consumer({ groupId: "g" });
  await consumer.subscribe({ topic: "a", fromBeginning: true });
  await new Promise<void>((resolve) => {
    void consumer.run({ eachMessage: async () => resolve() });
  });
  await consumer.commitOffsets([{ topic: "a", partition: 0, offset: "1" }]);
  await admin.describeGroups(["g"]);
  await admin.listGroups();
  await consumer.disconnect();
  await admin.fetchOffsets({ groupId: "g" });
  await admin.fetchTopicOffsetsByTimestamp("a", 1);
  await admin.deleteTopicRecords({ topic: "a", partitions: [{ partition: 0, offset: "1" }] });
  await admin.deleteGroups(["g"]);
  await admin.deleteTopics({ topics: ["a"] });
  await producer.disconnect();
  await admin.disconnect();
}

async function withKcat(): Promise<void> {
  client = "librdkafka";
  for (const codec of ["none", "gzip", "snappy", "lz4", "zstd"]) {
    await kcat(["-b", brokers, "-P", "-t", "b", "-z", codec, "-K", ":"], {
      input: "k:value of it\n".repeat(9),
    });
  }
  await kcat(["-b", brokers, "-P", "-t", "b", "-X", "enable.idempotence=true"], { input: "x\ny\n" });
  await kcat(["-b", brokers, "-L"]);
  await kcat(["-b", brokers, "-C", "-t", "b", "-e", "-o", "beginning"]);
  await kcat(["-b", brokers, "-G", "g2", "-e", "-X", "auto.offset.reset=earliest", "b"]);
  await kcat(["-b", brokers, "-Q", "-t", "b:0:1"]);
}

async function withJava(): Promise<void> {
  client = "java";
  const server = ["--bootstrap-server", brokers];
  const any = { expect: [0, 1, 2, 3, 130] };
  const run = (main: string, ...args: string[]) => java(main, [...server, ...args], any);
  await run("org.apache.kafka.tools.TopicCommand", "--create", "--topic", "c", "--partitions", "2");
  await run("org.apache.kafka.tools.TopicCommand", "--describe", "--topic", "c");
  await run("org.apache.kafka.tools.TopicCommand", "--alter", "--topic", "c", "--partitions", "3");
  const producer = ["--topic", "c", "--max-messages", "20", "--throughput", "-1"];
  await run("org.apache.kafka.tools.VerifiableProducer", ...producer);
  await run("org.apache.kafka.tools.GetOffsetShell", "--topic", "c", "--time", "-3");
  const group = ["--topic", "c", "--group", "g3", "--from-beginning", "--max-messages", "20"];
  await run("org.apache.kafka.tools.consumer.ConsoleConsumer", ...group, "--timeout-ms", "8000");
  const groups = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
  await run(groups, "--describe", "--group", "g3");
  await run(groups, "--list", "--state");
  await run(groups, "--reset-offsets", "--group", "g3", "--topic", "c", "--to-earliest", "--execute");
  await run(groups, "--delete-offsets", "--group", "g3", "--topic", "c");
  await run(groups, "--delete", "--group", "g3");
  const topic = ["--entity-type", "topics", "--entity-name", "c"];
  await run("kafka.admin.ConfigCommand", ...topic, "--alter", "--add-config", "retention.ms=100000000");
  await run("kafka.admin.ConfigCommand", ...topic, "--describe", "--all");
  await run("org.apache.kafka.tools.LogDirsCommand", "--describe");
  await run("org.apache.kafka.tools.BrokerApiVersionsCommand");
  await run("org.apache.kafka.tools.TransactionsCommand", "list");
  await run(
    "org.apache.kafka.tools.TransactionsCommand",
    "describe-producers",
    "--topic",
    "c",
    "--partition",
    "0",
  );
  await run("org.apache.kafka.tools.MetadataQuorumCommand", "describe", "--status");
  await run("kafka.admin.AclCommand", "--list");
  await run("org.apache.kafka.tools.TopicCommand", "--delete", "--topic", "c");
}

try {
  await withKafkajs();
  await withKcat();
  await withJava();
} finally {
  proxy.close();
  await gateway.dispose();
}
const lines = [...frames]
  .sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }))
  .flatMap(([at, kept]) => kept.map((frame) => JSON.stringify([at, frame.toString("base64")])));
await writeFile(SESSIONS, `[\n${lines.join(",\n")}\n]\n`);
console.log(`${lines.length} frames of ${frames.size} kinds`);
process.exit();
