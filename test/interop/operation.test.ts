/** What a person meets who runs the program: bad configurations, taken ports and folders, bad clients. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { accepts, freePort, Gateway, program } from "./support/gateway.ts";
import { kafkaClient, readAll } from "./support/kafka.ts";
import { connectMqtt } from "./support/mqtt.ts";
import { eventually, Running, run } from "./support/process.ts";

const sluice = (args: readonly string[], expected: readonly number[], cwd?: string) =>
  run(process.execPath, [program, ...args], {
    expect: expected,
    env: { NO_COLOR: "1" },
    timeoutMs: 20_000,
    ...(cwd === undefined ? {} : { cwd }),
  });
const anyFailure = Array.from({ length: 255 }, (_, index) => index + 1);

describe("a bad configuration", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "sluice-config-"));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));
  const mapping = (lines: string) =>
    `version: 1\nstreams:\n  telemetry: {}\nmappings:\n  - name: one\n${lines}`;

  test.each([
    ["an unknown key, with a suggestion", mapping("    form: a/+b\n    to: telemetry\n"), 6, 5, /from/],
    [
      "a map where text belongs",
      mapping("    from: a/+b\n    to: telemetry\n    key: {b}\n"),
      8,
      10,
      /\$\{b\}/,
    ],
    ["an invalid wildcard", mapping("    from: a/#/b\n    to: telemetry\n"), 6, 13, /#/],
    ["a wrong type", "version: 1\nstreams:\n  telemetry: { partitions: many }\n", 3, 28, /partitions|number/],
    ["a size without sense", "version: 1\nmqtt:\n  maxPacket: 12 parsecs\n", 3, 14, /256KiB|parsec/],
    ["a YAML slip", "version: 1\nstreams: [a, b\nmappings: []\n", undefined, undefined, /./],
  ])("%s: file, line, column, the mend, exit 78", async (_, yaml, line, column, mend) => {
    const file = join(folder, "bad.yaml");
    await writeFile(file, yaml);
    for (const args of [
      ["up", "--config", file, "--data", join(folder, "data")],
      ["check", file],
    ]) {
      const { stdout, stderr } = await sluice(args, [78]);
      const said = stdout + stderr;
      expect(said).toMatch(/bad\.yaml:\d+:\d+/);
      if (line !== undefined) expect(said).toContain(`bad.yaml:${line}:${column}`);
      expect(said).toMatch(mend);
      expect(said).not.toMatch(/\n\s+at \S+ \(/);
    }
  });

  test("a file that is not there is named, exit 78", async () => {
    const { stdout, stderr } = await sluice(["up", "--config", join(folder, "nowhere.yaml")], [78]);
    expect(stdout + stderr).toContain("nowhere.yaml");
  });
});

describe("a gateway that cannot start", () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await Gateway.start();
  });
  afterAll(() => gateway?.dispose());

  test("a second gateway on the same data folder is refused, and the first one goes on", async () => {
    const args = ["up", "--config", gateway.configFile, "--data", gateway.dataDir, "--port-offset", "211"];
    const { stderr, stdout } = await sluice(args, anyFailure);
    expect(stdout + stderr).toContain(gateway.dataDir);
    expect(stdout + stderr).toMatch(/another gateway|in use|already/i);
    expect(await accepts(gateway.mqttPort)).toBe(true);
  });

  test.each(["mqtt", "kafka"] as const)(
    "a taken %s port is named, with the setting that changes it",
    async (side) => {
      const blocker = createServer().listen(0, "127.0.0.1");
      await new Promise((resolve) => blocker.once("listening", resolve));
      const taken = (blocker.address() as { port: number }).port;
      const free = await freePort();
      const folder = await mkdtemp(join(tmpdir(), "sluice-taken-"));
      try {
        const [mqttPort, kafkaPort] = side === "mqtt" ? [taken, free] : [free, taken];
        const yaml = `version: 1
mqtt: { listeners: [{ type: tcp, bind: "127.0.0.1:${mqttPort}" }] }
kafka: { bind: "127.0.0.1:${kafkaPort}" }
`;
        await writeFile(join(folder, "gateway.yaml"), yaml);
        const args = ["up", "--config", join(folder, "gateway.yaml"), "--data", join(folder, "data")];
        const { stderr, stdout } = await sluice(args, anyFailure);
        expect(stdout + stderr).toContain(String(taken));
        expect(stdout + stderr).toMatch(side === "mqtt" ? /mqtt\.listeners/ : /kafka\.bind/);
      } finally {
        blocker.close();
        await rm(folder, { recursive: true, force: true });
      }
    },
  );

  test("--port-offset moves both listeners", async () => {
    const data = await mkdtemp(join(tmpdir(), "sluice-offset-"));
    const offset = 137;
    const args = [
      program,
      "up",
      "--config",
      gateway.configFile,
      "--data",
      data,
      "--port-offset",
      String(offset),
    ];
    const second = new Running(process.execPath, args);
    try {
      for (const port of [gateway.mqttPort + offset, gateway.kafkaPort + offset]) {
        await second.until(({ output }) => output.includes(String(port)), `port ${port}`);
        await eventually(() => accepts(port), `a connection to port ${port}`);
      }
      expect(await second.end("SIGINT")).toBe(0);
    } finally {
      await second.end("SIGKILL");
      await rm(data, { recursive: true, force: true });
    }
  });
});

describe("a bad client costs its own connection only", () => {
  let gateway: Gateway;
  beforeAll(async () => {
    const mappings = [{ from: "good/+device", to: "telemetry", key: "$" + "{device}" }];
    gateway = await Gateway.start({ streams: { telemetry: {} }, mappings, mqtt: { maxPacket: "16KiB" } });
  });
  afterAll(() => gateway?.dispose());

  const opened = async (port: number): Promise<Socket> => {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    await new Promise((resolve) => socket.once("connect", resolve));
    socket.resume();
    return socket;
  };
  const closed = (socket: Socket) => new Promise<void>((resolve) => socket.once("close", () => resolve()));
  /** A bystander on each side must notice nothing. */
  const withBystanders = async (offend: () => Promise<void>) => {
    const sensor = await connectMqtt(gateway.mqttUrl);
    const admin = kafkaClient(gateway.brokers, { retry: { retries: 0 } }).admin();
    await admin.connect();
    let disturbed = false;
    sensor.on("close", () => {
      disturbed = true;
    });
    await offend();
    await sensor.publishAsync("good/one", "still here", { qos: 1 });
    expect(await admin.listTopics()).toContain("telemetry");
    expect(disturbed).toBe(false);
    await admin.disconnect();
    await sensor.endAsync();
  };

  const int32 = (value: number) => Buffer.from([value >>> 24, value >>> 16, value >>> 8, value]);
  test.each([
    ["a frame of two gigabytes", Buffer.concat([int32(0x7fff_ffff), Buffer.alloc(1_000)])],
    ["a negative frame length", int32(-5)],
    ["a frame shorter than its header", Buffer.concat([int32(3), Buffer.alloc(3)])],
    ["an unknown API", Buffer.concat([int32(10), Buffer.from([0x03, 0xe8, 0, 0, 0, 0, 0, 1, 0xff, 0xff])])],
    [
      "a Metadata request cut short",
      Buffer.concat([int32(14), Buffer.from("0003000500000001ffff7fffffff", "hex")]),
    ],
    ["another protocol", Buffer.from("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")],
  ])("Kafka: %s", async (_, bytes) => {
    await withBystanders(async () => {
      const socket = await opened(gateway.kafkaPort);
      const end = closed(socket);
      socket.write(bytes);
      await end;
    });
  });

  test("MQTT: a packet above maxPacket", async () => {
    await withBystanders(async () => {
      const offender = await connectMqtt(gateway.mqttUrl);
      offender.on("error", () => {});
      const end = new Promise<void>((resolve) => offender.once("close", () => resolve()));
      offender.publish("good/large", Buffer.alloc(64 << 10), { qos: 1 });
      await end;
      await offender.endAsync(true);
    });
    expect((await readAll(gateway.brokers, "telemetry")).some(({ key }) => key === "large")).toBe(false);
  });

  test.each([
    ["another protocol", Buffer.from("GET / HTTP/1.1\r\n\r\n")],
    ["a packet before CONNECT", Buffer.from([0x30, 4, 0, 1, 0x61, 0x62])],
    ["a reserved packet type", Buffer.from([0xf0, 0])],
    ["a remaining length that never ends", Buffer.from([0x10, 0xff, 0xff, 0xff, 0xff, 0xff])],
  ])("MQTT: %s", async (_, bytes) => {
    await withBystanders(async () => {
      const socket = await opened(gateway.mqttPort);
      const end = closed(socket);
      socket.write(bytes);
      await end;
    });
  });

  test("a publish that no rule matches is acknowledged and reported", async () => {
    const sensor = await connectMqtt(gateway.mqttUrl);
    await sensor.publishAsync("no/rule/for/this", "lost?", { qos: 1 });
    await sensor.endAsync();
    await gateway.process.until(({ output }) => /match/i.test(output), "a word about the unmatched publish");
    expect((await readAll(gateway.brokers, "telemetry")).every(({ value }) => value !== "lost?")).toBe(true);
  });
});
