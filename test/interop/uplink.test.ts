/**
 * The uplink against Apache Kafka: what is refused, lost, moved, fenced or misconfigured, one after another.
 * kafkajs, on which a forwarder might have been built, would fail the tests that begin with "trap": see docs/uplink.md.
 */
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer as createHttpServer, type Server } from "node:http";
import type { AddressInfo, Server as NetServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import * as zlib from "node:zlib";
import { CompressionTypes, type IHeaders } from "kafkajs";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { UplinkReport } from "../../src/uplink/report.ts";
import { ApacheKafka } from "./support/apache-kafka.ts";
import { type Certificates, makeCertificates, tlsProperties } from "./support/certificates.ts";
import { freePort, Gateway, type GatewayOptions, program } from "./support/gateway.ts";
import { kafkaClient, readAll } from "./support/kafka.ts";
import { java } from "./support/kafka-tools.ts";
import { connectMqtt } from "./support/mqtt.ts";
import { eventually, type Finished, run } from "./support/process.ts";
import { FaultProxy } from "./support/proxy.ts";
import { suite } from "./support/suite.ts";
import { kcat } from "./support/tools.ts";

const QUICK = { connectTimeout: "1s", requestTimeout: "3s", maxBackoff: "500ms" };

suite("the uplink", ["java", "kafka's jars", "kcat", "openssl"], () => {
  let folder: string;
  let certificates: Certificates;
  let foreign: Certificates;
  const tlsServers: NetServer[] = [];
  let kafka: ApacheKafka;
  const port: Record<string, number> = {};
  let proxy: FaultProxy;
  let nobody: number;
  const gateways: Gateway[] = [];
  let topics = 0;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "sluice-uplink-"));
    certificates = await makeCertificates(folder);
    const made = async (name: string, options: { isExpired?: boolean } = {}): Promise<Certificates> => {
      await mkdir(join(folder, name));
      return makeCertificates(join(folder, name), options);
    };
    foreign = await made("foreign", { isExpired: true });
    for (const name of ["TLS", "MUTUAL", "SASL", "SASLTLS", "BEHIND", "FRONT", "WRONG"])
      port[name] = await freePort();
    nobody = await freePort();
    port.EXPIRED = await tlsServer(foreign.broker);
    port.ALONE = await tlsServer(foreign.own);
    const at = (name: string) => port[name] as number;
    const plain = "org.apache.kafka.common.security.plain.PlainLoginModule required user_sensor='secret' ;";
    const scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    const oauth =
      "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub='broker';";
    const mechanisms = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER";
    const jaas = (name: string) => ({
      [`listener.name.${name}.sasl.enabled.mechanisms`]: mechanisms,
      [`listener.name.${name}.plain.sasl.jaas.config`]: plain,
      [`listener.name.${name}.scram-sha-256.sasl.jaas.config`]: scram,
      [`listener.name.${name}.scram-sha-512.sasl.jaas.config`]: scram,
      [`listener.name.${name}.oauthbearer.sasl.jaas.config`]: oauth,
    });
    kafka = await ApacheKafka.start({
      listeners: [
        { name: "TLS", port: at("TLS"), protocol: "SSL" },
        { name: "MUTUAL", port: at("MUTUAL"), protocol: "SSL" },
        { name: "SASL", port: at("SASL"), protocol: "SASL_PLAINTEXT" },
        { name: "SASLTLS", port: at("SASLTLS"), protocol: "SASL_SSL" },
        { name: "BEHIND", port: at("BEHIND"), advertised: at("FRONT"), protocol: "PLAINTEXT" },
        { name: "WRONG", port: at("WRONG"), advertised: nobody, protocol: "PLAINTEXT" },
      ],
      properties: {
        ...tlsProperties("TLS", certificates),
        ...tlsProperties("MUTUAL", certificates, true),
        ...tlsProperties("SASLTLS", certificates),
        ...jaas("sasl"),
        ...jaas("sasltls"),
      },
      formatArgs: [
        "--add-scram",
        "SCRAM-SHA-256=[name=sensor,password=secret]",
        "--add-scram",
        "SCRAM-SHA-512=[name=sensor,password=secret]",
      ],
    });
    proxy = await FaultProxy.start(at("FRONT"), at("BEHIND"));
  }, 120_000);

  afterEach(async () => {
    await Promise.all(gateways.splice(0).map((gateway) => gateway.dispose()));
    proxy.onRequest = undefined;
  });

  afterAll(async () => {
    await proxy?.close();
    await kafka?.close();
    for (const server of tlsServers) server.close();
    await rm(folder, { recursive: true, force: true });
  });

  /** Shakes hands with the certificate in `file`, and goes no further; resolves with its port. */
  async function tlsServer(file: string): Promise<number> {
    const pem = await readFile(file);
    const server = createTlsServer({ key: pem, cert: pem }, (socket) => socket.destroy());
    server.on("tlsClientError", () => {});
    tlsServers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return portOf(server);
  }

  /** A gateway with one uplink to a topic of its own. */
  async function forwarding(
    uplink: object = {},
    options: Partial<GatewayOptions> = {},
  ): Promise<{ gateway: Gateway; topic: string }> {
    const topic = `remote-${++topics}`;
    const gateway = await Gateway.start({
      streams: { telemetry: { partitions: 3 } },
      mappings: [{ from: "sensors/+device/#", to: "telemetry", key: "$" + "{device}" }],
      ...options,
      uplinks: [
        {
          name: `cloud${topics}`,
          brokers: [kafka.brokers],
          streams: ["telemetry"],
          to: topic,
          ...QUICK,
          ...uplink,
        },
      ],
    });
    gateways.push(gateway);
    return { gateway, topic };
  }

  async function publish(gateway: Gateway, count: number, from = 0): Promise<void> {
    const client = await connectMqtt(gateway.mqttUrl);
    for (let number = from; number < from + count; number++) {
      await client.publishAsync(`sensors/d${number % 5}/t`, `value ${number}`, { qos: 1 });
    }
    await client.endAsync();
  }

  const sluice = (gateway: Gateway, args: readonly string[], expected = [0]): Promise<Finished> =>
    run(process.execPath, [program, "uplink", ...args, "--data", gateway.dataDir], { expect: expected });

  async function report(gateway: Gateway): Promise<UplinkReport> {
    const { stdout } = await sluice(gateway, ["status", "--json"]);
    return JSON.parse(stdout)[0];
  }

  /** As ordinary tools see it: of the gateway's own group. */
  async function lagOf(gateway: Gateway): Promise<number> {
    const { stdout } = await run(process.execPath, [
      program,
      "groups",
      "--json",
      "--broker",
      gateway.brokers,
    ]);
    const groups = JSON.parse(stdout) as { group: string; places: { lag: number }[] }[];
    const places = groups.find(({ group }) => group.startsWith("uplink-cloud"))?.places;
    return places?.reduce((sum, { lag }) => sum + lag, 0) ?? -1;
  }

  /** Values that a careful reader is given, in the order of each partition. */
  async function valuesIn(topic: string): Promise<string[]> {
    const args = ["-b", kafka.brokers, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%s\\n"];
    const { stdout } = await kcat(args, { expect: [0, 1] });
    return stdout.split("\n").filter((line) => line !== "");
  }

  const inKafka = (topic: string, count: number, timeoutMs = 30_000): Promise<void> =>
    eventually(
      async () => (await valuesIn(topic)).length >= count,
      `${count} records in ${topic}`,
      timeoutMs,
    );

  const numbers = (count: number): string[] =>
    Array.from({ length: count }, (_, number) => `value ${number}`).sort();

  async function withProblem(gateway: Gateway, words: RegExp): Promise<UplinkReport> {
    let last: UplinkReport | undefined;
    const said = (one: UplinkReport): string[] =>
      [one.problem, ...one.streams.flatMap(({ partitions }) => partitions.map(({ problem }) => problem))].map(
        (problem) => `${problem?.message} ${problem?.mend}`,
      );
    await eventually(async () => {
      last = await report(gateway);
      return said(last).some((text) => words.test(text));
    }, `a problem like ${words}`).catch((error) => {
      throw new Error(`${error.message}; it says ${said(last as UplinkReport).join(" | ")}`);
    });
    return last as UplinkReport;
  }

  async function makeTopic(
    topic: string,
    numPartitions: number,
    settings: Record<string, string> = {},
  ): Promise<void> {
    const admin = kafka.client().admin();
    await admin.connect();
    const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }));
    await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions, configEntries }] });
    await admin.disconnect();
  }

  // ── what kafkajs would get wrong ───────────────────────────────────────────────────────────────────────

  test("trap: a connection that breaks behind the broker's append loses nothing and repeats nothing, in each phase", async () => {
    const { gateway, topic } = await forwarding({ brokers: [`127.0.0.1:${port.FRONT}`] });
    proxy.onRequest = () => "pass";
    let sent = 0;
    await publish(gateway, 10, sent);
    sent += 10;
    await inKafka(topic, sent);
    const phases = {
      Produce: 0,
      AddPartitions: 24,
      AddOffsets: 25,
      EndTxn: 26,
      TxnOffsetCommit: 28,
      Begin: 22,
      Places: 9,
    };
    for (const [name, key] of Object.entries(phases)) {
      for (const fate of ["cut before", "cut after"] as const) {
        let met = false;
        // What only a new session sends comes when an old one has broken.
        let isBroken = key !== 22 && key !== 9;
        proxy.onRequest = (apiKey) => {
          if (apiKey === 0 && !isBroken) {
            isBroken = true;
            return "cut before";
          }
          if (met || !isBroken || apiKey !== key) return "pass";
          met = true;
          return fate;
        };
        await publish(gateway, 10, sent);
        sent += 10;
        await eventually(() => met, `${name} ${fate}`);
        await inKafka(topic, sent);
      }
    }
    expect((await valuesIn(topic)).sort()).toEqual(numbers(sent));
  }, 120_000);

  test("trap: a partition that the cluster does not have is held up and said, and nothing of it is dropped", async () => {
    const topic = `remote-${topics + 1}`;
    await makeTopic(topic, 2);
    const { gateway } = await forwarding();
    await publish(gateway, 50);
    const { streams } = await withProblem(gateway, /has 2 partitions, but telemetry\/2 .*--partitions 3/);
    expect(streams[0]?.partitions.map(({ state }) => state)).toEqual(["ready", "ready", "failing"]);
    const admin = kafka.client().admin();
    await admin.connect();
    await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] });
    await admin.disconnect();
    await inKafka(topic, 50);
    expect((await valuesIn(topic)).sort()).toEqual(numbers(50));
  }, 60_000);

  test("trap: null and empty, repeated headers in their order, odd timestamps arrive as they are", async () => {
    const { gateway, topic } = await forwarding({}, { streams: { telemetry: { partitions: 1 } } });
    const producer = kafkaClient(gateway.brokers).producer();
    await producer.connect();
    const headers: IHeaders = { b: ["1", "2"], a: "3" };
    await producer.send({
      topic: "telemetry",
      messages: [
        { key: null, value: Buffer.alloc(0), timestamp: "1700000000000", headers },
        { key: "", value: null, timestamp: "1700000000001" },
      ],
    });
    await producer.send({
      topic: "telemetry",
      compression: CompressionTypes.GZIP,
      messages: [{ value: "zipped", timestamp: "1" }],
    });
    await producer.disconnect();
    const format = "%k %K %S %T %h\\n";
    const args = ["-b", kafka.brokers, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", format];
    await eventually(
      async () => (await kcat(args, { expect: [0, 1] })).stdout.split("\n").length === 4,
      "three records",
    );
    const origin = (offset: number) =>
      `sluice.gateway=interop,sluice.stream=telemetry,sluice.partition=0,sluice.offset=${offset}`;
    expect((await kcat(args)).stdout.split("\n").slice(0, 3)).toEqual([
      ` -1 0 1700000000000 b=1,b=2,a=3,${origin(0)}`,
      ` 0 -1 1700000000001 ${origin(1)}`,
      ` -1 6 1 ${origin(2)}`,
    ]);
  });

  test.each(["gzip", "snappy", "lz4", ...("zstdCompress" in zlib ? ["zstd"] : [])])(
    "compressed with %s it is unpacked by every reader, and verify agrees",
    async (compression) => {
      const { gateway, topic } = await forwarding({ compression });
      await publish(gateway, 60);
      await inKafka(topic, 60);
      expect((await valuesIn(topic)).sort()).toEqual(numbers(60));
      expect((await sluice(gateway, ["verify"])).stdout).toMatch(/✔ 60 records, each in the cluster once/);
      // Kafka keeps batches as they came.
      const dump = [
        "--deep-iteration",
        "--files",
        join(kafka.dataDir, `${topic}-0`, `${"0".repeat(20)}.log`),
      ];
      const { stdout } = await java("kafka.tools.DumpLogSegments", dump);
      expect(stdout).toContain(`compresscodec: ${compression}`);
    },
  );

  // ── partitions ─────────────────────────────────────────────────────────────────────────────────────────

  test.each(["modulo", "key"])(
    "partitioning %s fits a topic with fewer partitions, in order by key",
    async (partitioning) => {
      const topic = `remote-${topics + 1}`;
      await makeTopic(topic, 2);
      const { gateway } = await forwarding({ partitioning });
      await publish(gateway, 100);
      await inKafka(topic, 100);
      const format = ["-e", "-q", "-f", "%p %k %s\\n"];
      const { stdout } = await kcat(["-b", kafka.brokers, "-C", "-t", topic, "-o", "beginning", ...format]);
      const seen = new Map<string, number>();
      const homes = new Map<string, number>();
      for (const line of stdout.trimEnd().split("\n")) {
        const [partition = "", key = "", , number = ""] = line.split(" ");
        expect(Number(number)).toBeGreaterThan(seen.get(key) ?? -1);
        seen.set(key, Number(number));
        expect(homes.get(key) ?? Number(partition)).toBe(Number(partition));
        homes.set(key, Number(partition));
      }
      // The place is found again.
      await gateway.kill();
      await gateway.again();
      await publish(gateway, 10, 100);
      await inKafka(topic, 110);
      expect((await valuesIn(topic)).sort()).toEqual(numbers(110));
    },
  );

  test("several uplinks stand side by side, each with its place; topics are made as the policy says", async () => {
    const [first, second] = [`remote-${++topics}`, `remote-${++topics}`];
    const uplink = (name: string, to: string) => ({
      ...{ name, to, brokers: [kafka.brokers], streams: ["telemetry"], ...QUICK },
      create: { replication: 1, settings: { "retention.ms": "12345678" } },
    });
    const gateway = await Gateway.start({
      streams: { telemetry: { partitions: 3 } },
      mappings: [{ from: "sensors/+device/#", to: "telemetry", key: "$" + "{device}" }],
      uplinks: [uplink("one", first), uplink("two", second)],
    });
    gateways.push(gateway);
    await publish(gateway, 10);
    await Promise.all([inKafka(first, 10), inKafka(second, 10)]);
    await sluice(gateway, ["pause", "two"]);
    await publish(gateway, 10, 10);
    await inKafka(first, 20);
    expect(await valuesIn(second)).toHaveLength(10);
    await sluice(gateway, ["resume", "two"]);
    await inKafka(second, 20);
    for (const topic of [first, second]) expect((await valuesIn(topic)).sort()).toEqual(numbers(20));
    const admin = kafka.client().admin();
    await admin.connect();
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: 2, name: first, configNames: ["retention.ms"] }],
    });
    expect(resources[0]?.configEntries[0]?.configValue).toBe("12345678");
    await admin.disconnect();
  });

  // ── what the cluster refuses ───────────────────────────────────────────────────────────────────────────

  test("a record that is too large stops its partition only; by hand it is skipped, and the gap is shown", async () => {
    const topic = `remote-${topics + 1}`;
    await makeTopic(topic, 3, { "max.message.bytes": "2000" });
    const { gateway } = await forwarding();
    const client = await connectMqtt(gateway.mqttUrl);
    for (let number = 0; number < 40; number++) {
      const value = number === 20 ? "x".repeat(5_000) : `value ${number}`;
      await client.publishAsync(`sensors/d${number % 5}/t`, value, { qos: 1 });
    }
    await client.endAsync();
    const { streams } = await withProblem(gateway, /MESSAGE_TOO_LARGE/);
    const held = streams[0]?.partitions.filter(({ state }) => state !== "ready") ?? [];
    expect(held).toHaveLength(1);
    await eventually(
      async () =>
        (await report(gateway)).streams[0]?.partitions.some(({ poison }) => poison !== undefined) ?? false,
      "the record found",
    );
    const { stdout } = await sluice(gateway, ["skip"]);
    expect(stdout).toMatch(/telemetry\/\d: offset \d+ left out/);
    await inKafka(topic, 39);
    await eventually(async () => (await report(gateway)).waitingRecords === 0, "nothing waits");
    expect((await report(gateway)).gapRecords).toBe(1);
    expect((await valuesIn(topic)).sort()).toEqual(numbers(40).filter((value) => value !== "value 20"));
  });

  test("by rule it becomes a dead letter, with the cluster's words", async () => {
    const topic = `remote-${topics + 1}`;
    await makeTopic(topic, 3, { "max.message.bytes": "2000" });
    const streams = { telemetry: { partitions: 3 }, dead: { partitions: 1 } };
    const { gateway } = await forwarding({ onPoison: "dead-letter", deadLetters: "dead" }, { streams });
    await publish(gateway, 10);
    const client = await connectMqtt(gateway.mqttUrl);
    await client.publishAsync("sensors/d1/t", "x".repeat(5_000), { qos: 1 });
    await client.endAsync();
    await publish(gateway, 10, 10);
    await inKafka(topic, 20);
    const dead = await readAll(gateway.brokers, "dead");
    expect(dead.map(({ key, value }) => [key, value?.length])).toEqual([["d1", 5_000]]);
    expect(dead[0]?.headers["sluice.error"]).toMatch(/MESSAGE_TOO_LARGE/);
    expect((await valuesIn(topic)).sort()).toEqual(numbers(20));
  });

  // ── clusters and gateways that are not what they were ──────────────────────────────────────────────────

  test("the newer of two gateways with one identity goes on; the other is fenced and says so", async () => {
    const { gateway: first, topic } = await forwarding();
    await publish(first, 10);
    await inKafka(topic, 10);
    // A copy of its data folder, as after a restored backup: the same log, another process.
    const copy = join(folder, `copy-${topics}`);
    await first.stop();
    await run("cp", ["-r", first.dataDir, copy]);
    await first.again();
    await publish(first, 5, 10);
    await inKafka(topic, 15);
    const second = await Gateway.start({
      streams: { telemetry: { partitions: 3 } },
      mappings: [{ from: "sensors/+device/#", to: "telemetry", key: "$" + "{device}" }],
      dataDir: copy,
      uplinks: [
        {
          name: `cloud${topics}`,
          brokers: [kafka.brokers],
          streams: ["telemetry"],
          to: topic,
          ...QUICK,
          onPlaceLost: "restart",
        },
      ],
    });
    gateways.push(second);
    // Offsets alone would not tell what it takes before it has read its place from what the first has sent.
    const isReady = ({ state }: { state: string }) => state === "ready";
    await eventually(
      async () => (await report(second)).streams[0]?.partitions.every(isReady) === true,
      "the second's places",
    );
    await publish(second, 5, 100);
    await eventually(async () => (await valuesIn(topic)).includes("value 104"), "the second's records");
    await publish(first, 5, 15);
    const fenced = await withProblem(first, /another gateway with the name "interop".*sluice uplink resume/);
    expect(fenced.state).toBe("fenced");
    expect(first.process.output.match(/has taken over/g)).toHaveLength(1);
  });

  test("a topic that was deleted, its place with it, is asked about; reset goes on from where a person says", async () => {
    const { gateway, topic } = await forwarding();
    await publish(gateway, 20);
    await inKafka(topic, 20);
    await eventually(async () => (await lagOf(gateway)) === 0, "the gateway's own group to follow");
    const admin = kafka.client().admin();
    await admin.connect();
    await admin.deleteTopics({ topics: [topic] });
    await admin.disconnect();
    // Kafka forgets the places in a deleted topic a moment later; until then a topic made anew would have them.
    await eventually(async () => {
      const args = [program, "groups", "--json", "--broker", kafka.brokers];
      const { stdout } = await run(process.execPath, args);
      const groups = JSON.parse(stdout) as { places: { stream: string; committedOffset: number }[] }[];
      return !groups.some(({ places }) =>
        places.some(({ stream, committedOffset }) => stream === topic && committedOffset >= 0),
      );
    }, "the cluster to forget the places in the topic");
    await publish(gateway, 10, 20);
    const { streams } = await withProblem(gateway, /has forgotten how far it was.*sluice uplink reset --to/);
    expect(streams[0]?.partitions.some(({ state }) => state === "asking")).toBe(true);
    const dry = await sluice(gateway, ["reset", "--to", "beginning", "--dry-run"]);
    expect(dry.stdout).toContain("WOULD GO ON AT");
    await sluice(gateway, ["reset", "--to", "beginning"]);
    await inKafka(topic, 30);
    expect((await valuesIn(topic)).sort()).toEqual(numbers(30));
  });

  test("verify proves that all of it is there, and finds what is not", async () => {
    const { gateway, topic } = await forwarding();
    await publish(gateway, 60);
    await inKafka(topic, 60);
    const good = await sluice(gateway, ["verify"]);
    expect(good.stdout).toMatch(/✔ 60 records, each in the cluster once/);
    const admin = kafka.client().admin();
    await admin.connect();
    const ends = await admin.fetchTopicOffsets(topic);
    const { partition, high } = ends.find(({ high }) => Number(high) > 5) ?? { partition: -1, high: "" };
    await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: high }] });
    await admin.disconnect();
    const bad = await sluice(gateway, ["verify", "--json"], [65]);
    const all = bad.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const missing = all.map((one) => (one.missing === one.records ? "all" : one.missing));
    expect(missing).toEqual(all.map((one) => (one.partition === partition ? "all" : 0)));
  });

  test("pause rests through a restart, resume goes on; the gateway's own group shows the lag", async () => {
    const { gateway, topic } = await forwarding();
    await publish(gateway, 10);
    await inKafka(topic, 10);
    await eventually(async () => (await lagOf(gateway)) === 0, "the gateway's own group to follow");
    await sluice(gateway, ["pause"]);
    await publish(gateway, 10, 10);
    await gateway.kill();
    await gateway.again();
    expect((await report(gateway)).state).toBe("paused");
    expect((await report(gateway)).waitingRecords).toBeGreaterThan(0);
    expect(await lagOf(gateway)).toBe(10);
    await sluice(gateway, ["resume"]);
    await inKafka(topic, 20);
    expect((await valuesIn(topic)).sort()).toEqual(numbers(20));
  });

  test("what is deleted here before it was sent is a gap: counted, shown, and the rest goes on", async () => {
    const { gateway, topic } = await forwarding({}, { streams: { telemetry: { partitions: 1 } } });
    await publish(gateway, 10);
    await inKafka(topic, 10);
    await sluice(gateway, ["pause"]);
    await publish(gateway, 10, 10);
    const admin = kafkaClient(gateway.brokers).admin();
    await admin.connect();
    await admin.fetchTopicOffsets("telemetry"); // kafkajs deletes only in what it has heard of
    await admin.deleteTopicRecords({ topic: "telemetry", partitions: [{ partition: 0, offset: "15" }] });
    await admin.disconnect();
    await sluice(gateway, ["resume"]);
    await inKafka(topic, 15);
    const { gaps, gapRecords } = await report(gateway);
    expect(gapRecords).toBe(5);
    expect(gaps).toMatchObject([{ stream: "telemetry", partition: 0, from: 10, to: 15, why: "retention" }]);
    await gateway.kill();
    await gateway.again();
    expect((await report(gateway)).gapRecords).toBe(5);
    expect((await sluice(gateway, ["status"])).stdout).toContain("telemetry/0 10–14: retention");
  });

  // ── listeners ──────────────────────────────────────────────────────────────────────────────────────────

  const user = { username: "sensor", password: "secret" };
  const unsecured = (claims: object): string =>
    `${Buffer.from('{"alg":"none"}').toString("base64url")}.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.`;

  test.each<[string, string, () => object]>([
    ["TLS", "TLS", () => ({ tls: { ca: certificates.ca } })],
    [
      "TLS with a client certificate",
      "MUTUAL",
      () => ({ tls: { ca: certificates.ca, cert: certificates.cert, key: certificates.key } }),
    ],
    ["SASL PLAIN", "SASL", () => ({ sasl: { mechanism: "plain", ...user } })],
    ["SASL SCRAM-SHA-256", "SASL", () => ({ sasl: { mechanism: "scram-sha-256", ...user } })],
    [
      "SASL SCRAM-SHA-512 over TLS",
      "SASLTLS",
      () => ({ sasl: { mechanism: "scram-sha-512", ...user }, tls: { ca: certificates.ca } }),
    ],
  ])("%s", async (_name, listener, options) => {
    const { gateway, topic } = await forwarding({ brokers: [`127.0.0.1:${port[listener]}`], ...options() });
    await publish(gateway, 10);
    await inKafka(topic, 10);
  });

  test("SASL OAUTHBEARER with client credentials", async () => {
    const seconds = Math.floor(Date.now() / 1000);
    const asked: string[] = [];
    const tokens = await httpServer((authorization) => {
      asked.push(Buffer.from(authorization.split(" ")[1] ?? "", "base64").toString());
      return JSON.stringify({
        access_token: unsecured({ sub: "sensor", iat: seconds, exp: seconds + 3_600 }),
      });
    });
    try {
      const clientCredentials = {
        url: `http://127.0.0.1:${portOf(tokens)}/token`,
        clientId: "edge",
        clientSecret: "s",
      };
      const sasl = { mechanism: "oauthbearer", clientCredentials };
      const { gateway, topic } = await forwarding({ brokers: [`127.0.0.1:${port.SASL}`], sasl });
      await publish(gateway, 10);
      await inKafka(topic, 10);
      expect(asked[0]).toBe("edge:s");
    } finally {
      tokens.close();
    }
  });

  test("SASL OAUTHBEARER with a token file, which is read anew at each try to connect", async () => {
    const tokenFile = join(folder, "token");
    await writeFile(tokenFile, "no token\n");
    const sasl = { mechanism: "oauthbearer", tokenFile };
    const { gateway, topic } = await forwarding({ brokers: [`127.0.0.1:${port.SASL}`], sasl });
    await publish(gateway, 10);
    await withProblem(gateway, /token|SASL/);
    const seconds = Math.floor(Date.now() / 1000);
    await writeFile(tokenFile, `${unsecured({ sub: "sensor", iat: seconds, exp: seconds + 3_600 })}\n`);
    await inKafka(topic, 10);
    expect((await valuesIn(topic)).sort()).toEqual(numbers(10));
  });

  test("certificates that are renewed in their files are taken without a restart", async () => {
    const files = {
      ca: join(folder, "renewed-ca"),
      cert: join(folder, "renewed-cert"),
      key: join(folder, "renewed-key"),
    };
    const renew = async (from: Certificates): Promise<void> => {
      for (const name of ["ca", "cert", "key"] as const) await copyFile(from[name], files[name]);
    };
    await renew(foreign);
    const { gateway, topic } = await forwarding({ brokers: [`127.0.0.1:${port.MUTUAL}`], tls: files });
    await publish(gateway, 10);
    await withProblem(gateway, /signed by nobody whom this machine trusts/);
    await copyFile(certificates.ca, files.ca);
    await withProblem(gateway, /another client certificate|closed the connection/);
    await renew(certificates);
    await inKafka(topic, 10);
    expect((await valuesIn(topic)).sort()).toEqual(numbers(10));
  });

  test("the streams that come first in the configuration go first, however much of the others waits", async () => {
    const first = `first-${++topics}`;
    const { gateway, topic } = await forwarding(
      // Both are in the same lane: their names are of even length.
      { streams: [{ stream: "alarms", to: first }, "readings"], rate: { records: 100 } },
      {
        streams: { readings: { partitions: 1 }, alarms: { partitions: 1 } },
        mappings: [
          { from: "alarms/#", to: "alarms" },
          { from: "sensors/#", to: "readings" },
        ],
      },
    );
    const backlog = 1_000;
    await publish(gateway, backlog);
    const client = await connectMqtt(gateway.mqttUrl);
    await client.publishAsync("alarms/fire", "now", { qos: 1 });
    await client.endAsync();
    await inKafka(first, 1);
    expect((await valuesIn(topic)).length).toBeLessThan(backlog);
  });

  // ── bad input ──────────────────────────────────────────────────────────────────────────────────────────

  test.each<[string, () => object, RegExp]>([
    [
      "nobody listens",
      () => ({ brokers: [`127.0.0.1:${nobody}`] }),
      /nothing listens there.*Is the cluster up, and the port right/,
    ],
    [
      "no such host",
      () => ({ brokers: ["no-such-host.invalid:9092"] }),
      /no host of that name is known.*DNS/,
    ],
    [
      "a certificate of an unknown authority",
      () => ({ brokers: [`127.0.0.1:${port.TLS}`], tls: true }),
      /nobody whom this machine trusts.*Set tls.ca/,
    ],
    [
      "the wrong authority",
      () => ({ brokers: [`127.0.0.1:${port.TLS}`], tls: { ca: foreign.ca } }),
      /Set tls.ca/,
    ],
    [
      "an expired certificate",
      () => ({ brokers: [`127.0.0.1:${port.EXPIRED}`], tls: { ca: foreign.ca } }),
      /its certificate has expired.*is this machine's clock right/,
    ],
    [
      "a self-signed certificate",
      () => ({ brokers: [`127.0.0.1:${port.ALONE}`], tls: true }),
      /nobody whom this machine trusts.*Set tls.ca/,
    ],
    [
      "a certificate for another name",
      () => ({
        brokers: [`127.0.0.1:${port.TLS}`],
        tls: { ca: certificates.ca, serverName: "kafka.example.com" },
      }),
      /certificate is for another name.*tls.serverName/,
    ],
    [
      "no client certificate",
      () => ({ brokers: [`127.0.0.1:${port.MUTUAL}`], tls: { ca: certificates.ca } }),
      /client certificate.*tls.cert and tls.key/,
    ],
    [
      "TLS to a plain listener",
      () => ({ tls: { ca: certificates.ca } }),
      /does not speak TLS.*Leave out tls|closed the connection/,
    ],
    ["plain to a TLS listener", () => ({ brokers: [`127.0.0.1:${port.TLS}`] }), /speaks TLS only.*set tls/],
    [
      "a wrong password",
      () => ({
        brokers: [`127.0.0.1:${port.SASL}`],
        sasl: { mechanism: "plain", username: "sensor", password: "guess" },
      }),
      /user or password is wrong.*sasl.password/,
    ],
    [
      "a wrong SCRAM password",
      () => ({
        brokers: [`127.0.0.1:${port.SASL}`],
        sasl: { mechanism: "scram-sha-256", username: "sensor", password: "guess" },
      }),
      /user or password is wrong/,
    ],
    [
      "an unreachable advertised address",
      () => ({ brokers: [`127.0.0.1:${port.WRONG}`] }),
      /the address that 127.0.0.1:\d+ tells of broker 0: nothing listens there.*Set advertised.listeners of broker 0/,
    ],
    [
      "an unknown topic that may not be made",
      () => ({ create: false }),
      /has no topic remote-\d+, and create is false.*kafka-topics.sh --create --topic remote-\d+ --partitions 3/,
    ],
    ["an invalid topic", () => ({ to: "edge/slash" }), /INVALID_TOPIC_EXCEPTION/],
    [
      "a token file that is not there",
      () => ({
        brokers: [`127.0.0.1:${port.SASL}`],
        sasl: { mechanism: "oauthbearer", tokenFile: "/nowhere/token" },
      }),
      /tokenFile cannot be read|tokenFile.*ENOENT/,
    ],
  ])(
    "%s: one sentence, once in the log, with a count; sensors notice nothing",
    async (_name, uplink, words) => {
      const { gateway } = await forwarding(uplink());
      await publish(gateway, 5);
      await withProblem(gateway, words);
      await eventually(async () => {
        const { problem, streams } = await report(gateway);
        return (
          (problem?.count ??
            streams[0]?.partitions[0]?.problem?.count ??
            streams[0]?.partitions.find((one) => one.problem)?.problem?.count ??
            0) > 1
        );
      }, "a count");
      const lines = gateway.process.output
        .split("\n")
        .filter((line) => words.test(line.replaceAll('","', " ")));
      expect(lines.length).toBeLessThanOrEqual(3); // once, or once for each partition
      await publish(gateway, 5, 5);
      expect(await readAll(gateway.brokers, "telemetry")).toHaveLength(10);
    },
  );

  test("an HTTP server in its place is named", async () => {
    const server = await httpServer(() => "hello");
    try {
      const { gateway } = await forwarding({ brokers: [`127.0.0.1:${portOf(server)}`] });
      await withProblem(gateway, /an HTTP server answers there.*port of a Kafka listener/);
    } finally {
      server.close();
    }
  });

  test("the dry run says what would happen, and finds what is wrong", async () => {
    const { gateway } = await forwarding({ brokers: [`127.0.0.1:${nobody}`] });
    const bad = await sluice(gateway, ["status", "--dry-run"], [65]);
    expect(bad.stdout).toMatch(/✖ cluster: .*nothing listens there/);
    const topic = `remote-${topics + 1}`;
    const { gateway: good } = await forwarding();
    await sluice(good, ["pause"]);
    const { stdout } = await sluice(good, ["status", "--dry-run"]);
    expect(stdout).toMatch(/✔ cluster: .*1 brokers/);
    expect(stdout).toMatch(
      new RegExp(`✔ topic ${topic}: (would be made, with 3 partitions|3 partitions for 3)`),
    );
    expect(stdout).toMatch(/✔ transactions: .*✔ places: /s);
  });
});

function httpServer(answer: (authorization: string) => string): Promise<Server> {
  const server = createHttpServer((request, response) =>
    response.end(answer(request.headers.authorization ?? "")),
  );
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

const portOf = (server: Server | NetServer): number => (server.address() as AddressInfo).port;
