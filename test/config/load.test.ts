import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { loadConfig, parseConfig } from "../../src/config/load.ts";
import { flag, shiftPorts } from "../../src/config/loaded.ts";
import { ConfigError } from "../../src/config/problems.ts";
import { Mapper } from "../../src/mapping/mapper.ts";

const MINIMAL = "version: 1\n";

function configOf(yaml: string, env: Record<string, string> = {}) {
  return parseConfig(yaml, "g.yaml", { env }).config;
}

test("hundreds of rules may share what an anchor names", () => {
  const rules = Array.from({ length: 500 }, (_, at) => `  - { from: "s/${at}", to: a, headers: *shared }`);
  const yaml = `${MINIMAL}streams: { a: }\nmappings:\n  - { from: x, to: a, headers: &shared { site: north } }\n`;
  expect(configOf(`${yaml}${rules.join("\n")}\n`).mappings).toHaveLength(501);
});

test("ten thousand rules are read, and each finds its messages", () => {
  const rules = Array.from(
    { length: 10_000 },
    (_, at) => `  - { from: "p/l${at}/+m", to: t, key: "l${at}" }`,
  );
  const { mappings } = configOf(`${MINIMAL}streams: { t: }\nmappings:\n${rules.join("\n")}\n`);
  const mapper = new Mapper(mappings, () => 1);
  for (const at of [0, 5_000, 9_999]) {
    const packet = { mqttTopic: `p/l${at}/x`, payload: Buffer.alloc(0), qos: 0, retain: false } as const;
    const mapping = mapper.map({ ...packet, clientId: "c", username: undefined, receivedAt: 1 });
    expect(mapping).toMatchObject({ outcome: "mapped", records: [{ key: Buffer.from(`l${at}`) }] });
  }
});

describe("defaults", () => {
  test("a version is all that a configuration needs", () => {
    const config = configOf(MINIMAL);
    expect(config.name).toBe("sluice");
    expect(config.mqtt.listeners).toEqual([{ type: "tcp", bind: { host: "127.0.0.1", port: 1883 } }]);
    expect(config.kafka.bind).toEqual({ host: "127.0.0.1", port: 9092 });
    expect(config.kafka.advertise).toBe("auto");
    expect(config.mqtt.drainTimeout).toBe(2_000);
  });

  test("a stream keeps a week, in Kafka's units", () => {
    const { telemetry } = configOf(`${MINIMAL}streams:\n  telemetry:\n`).streams;
    expect(telemetry).toMatchObject({
      partitions: 1,
      retention: { time: 604_800_000, size: -1 },
      maxMessage: 1_048_588,
      cleanup: "delete",
      tombstones: 86_400_000,
    });
  });

  test("sections with nothing in them are as if they were not there", () => {
    expect(configOf(`${MINIMAL}mqtt:\nkafka:\nstreams:\n`)).toEqual(configOf(MINIMAL));
  });

  test("retention may be without limit, said in either way", () => {
    const { a, b } = configOf(
      `${MINIMAL}streams: { a: { retention: { time: unlimited } }, b: { retention: { time: -1 } } }`,
    ).streams;
    expect([a?.retention.time, b?.retention.time]).toEqual([-1, -1]);
  });
});

test("a configuration is frozen through and through", () => {
  const { config } = parseConfig(`${MINIMAL}streams: { t: {} }\nmappings: [{ from: a, to: t }]\n`, "g.yaml", {
    env: { SLUICE_MQTT__LISTENERS: '[{ type: tcp, bind: "0.0.0.0:1" }]' },
  });
  const visit = (value: unknown, path: string): void => {
    if (typeof value !== "object" || value === null) return;
    expect(Object.isFrozen(value), path).toBe(true);
    for (const [key, item] of Object.entries(value)) visit(item, `${path}.${key}`);
  };
  visit(config, "config");
  visit(shiftPorts(config, 1), "shifted");
});

describe("the environment", () => {
  test("wins over the file, __ going down and _ capitalising", () => {
    const yaml = `${MINIMAL}name: file\nmqtt: { maxPacket: 64KiB, maxQueued: 5 }\n`;
    const { name, mqtt } = configOf(yaml, { SLUICE_MQTT__MAX_PACKET: "1MiB", SLUICE_NAME: "123" });
    expect(name).toBe("123");
    expect(mqtt).toMatchObject({ maxPacket: 1_048_576, maxQueued: 5 });
  });

  test("reaches into lists, streams and nested maps", () => {
    const yaml = `${MINIMAL}mqtt: { listeners: [{ type: tcp, bind: "127.0.0.1:1" }] }\nstreams: { door-contacts: {} }\n`;
    const config = configOf(yaml, {
      SLUICE_MQTT__LISTENERS__0__BIND: "0.0.0.0:2",
      SLUICE_STREAMS__DOOR_CONTACTS__RETENTION__TIME: "1h",
      SLUICE_KAFKA__AUTO_CREATE__ENABLED: "false",
    });
    expect(config.mqtt.listeners).toEqual([{ type: "tcp", bind: { host: "0.0.0.0", port: 2 } }]);
    expect(config.streams["door-contacts"]?.retention.time).toBe(3_600_000);
    expect(config.kafka.autoCreate.enabled).toBe(false);
  });

  test("an element is laid over a whole list that comes from the environment too", () => {
    const config = configOf(MINIMAL, {
      SLUICE_MQTT__LISTENERS__0__BIND: "0.0.0.0:7",
      SLUICE_MQTT__LISTENERS: '[{ type: tcp, bind: "127.0.0.1:1" }]',
    });
    expect(config.mqtt.listeners[0]?.bind).toEqual({ host: "0.0.0.0", port: 7 });
  });

  test("an empty variable sets nothing", () => {
    expect(configOf(MINIMAL, { SLUICE_NAME: "" }).name).toBe("sluice");
  });

  test("a wrong value is shown as it stands in the environment", () => {
    const env = { SLUICE_MQTT__MAX_PACKET: "lots", SLUICE_LOG_LEVEL: "loud" };
    expect(() => parseConfig(MINIMAL, "g.yaml", { env })).toThrow(
      [
        'SLUICE_MQTT__MAX_PACKET  mqtt.maxPacket must be a size such as 256KiB, not "lots"',
        "  | SLUICE_MQTT__MAX_PACKET=lots",
        "  |                         ^^^^",
      ].join("\n"),
    );
    expect(() => parseConfig(MINIMAL, "g.yaml", { env })).toThrow(
      /SLUICE_LOG_LEVEL .* logLevel must be trace/,
    );
  });

  test("a variable that names no setting is warned of, with what was meant; Kubernetes sets such ones", () => {
    const { config, warnings } = parseConfig(MINIMAL, "g.yaml", {
      env: { SLUICE_MQTT__MAX_PAKET: "1MiB", SLUICE_PORT: "tcp://10.0.0.1:1883", PATH: "/bin" },
    });
    expect(config).toEqual(configOf(MINIMAL));
    expect(warnings).toEqual([
      "environment variable SLUICE_MQTT__MAX_PAKET names no setting; did you mean SLUICE_MQTT__MAX_PACKET?",
      "environment variable SLUICE_PORT names no setting",
    ]);
  });
});

describe("flags", () => {
  test("win over the environment", () => {
    const { config } = parseConfig(`${MINIMAL}dataDir: /file\n`, "g.yaml", {
      env: { SLUICE_DATA_DIR: "/environment" },
      flags: [flag("--data", ["dataDir"], "/flag")],
    });
    expect(config.dataDir).toBe("/flag");
  });

  test("a wrong one is shown as it was typed", () => {
    const flags = [flag("--log-level", ["logLevel"], "lound")];
    expect(() => parseConfig(MINIMAL, "g.yaml", { flags })).toThrow(
      "  | --log-level lound\n  |             ^^^^^",
    );
  });
});

test("an address to connect to must be one: clients cannot connect to all addresses", () => {
  for (const host of ["0.0.0.0", "[::]"]) {
    const yaml = `${MINIMAL}kafka: { advertise: "${host}:9092" }\n`;
    expect(() => configOf(yaml)).toThrow("which no client can connect to");
  }
  const further = `${MINIMAL}kafka: { listeners: [{ name: a, bind: "127.0.0.1:9093", advertise: "0.0.0.0:1" }] }\n`;
  expect(() => configOf(further)).toThrow("kafka.listeners[0].advertise is 0.0.0.0:1");
  expect(configOf(`${MINIMAL}kafka: { offsetRetention: 30d }\n`).kafka.offsetRetention).toBe(2_592_000_000);
});

test("each of Kafka's listeners has a port and a name of its own", () => {
  const one = (name: string, port: number) =>
    `{ name: ${name}, bind: "127.0.0.1:${port}", advertise: "pi.local:19093" }`;
  const with2 = (a: string, b: string) => `${MINIMAL}kafka: { listeners: [${a}, ${b}] }\n`;
  expect(() => configOf(with2(one("outside", 9093), one("outside", 9094)))).toThrow(
    'kafka.listeners[0] has the name "outside" already',
  );
  expect(() => configOf(with2(one("outside", 9092), one("vpn", 9094)))).toThrow("kafka.bind has this port");
  const config = configOf(with2(one("outside", 9093), one("vpn", 9094)));
  expect(shiftPorts(config, 100).kafka.listeners).toMatchObject([
    { name: "outside", bind: { port: 9193 }, advertise: { host: "pi.local", port: 19193 } },
    { name: "vpn", bind: { port: 9194 } },
  ]);
});

describe("a port offset", () => {
  test("moves every port that is fixed, and none that the system chooses", () => {
    const config = configOf(
      `${MINIMAL}mqtt: { listeners: [{ type: tcp, bind: "127.0.0.1:1883" }, { type: tcp, bind: "127.0.0.1:0" }] }
kafka: { advertise: "pi.local:9092" }\n`,
    );
    const shifted = shiftPorts(config, 100);
    expect(shifted.mqtt.listeners.map(({ bind }) => bind.port)).toEqual([1983, 0]);
    expect(shifted.kafka.bind.port).toBe(9192);
    expect(shifted.kafka.advertise).toEqual({ host: "pi.local", port: 9192 });
  });

  test("is refused where no port is left", () => {
    expect(() => shiftPorts(configOf(MINIMAL), 60_000)).toThrow(/brings port 9092 to 69092/);
  });
});

describe("a file", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "sluice-config-"));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  test("is read, and named in its problems", async () => {
    const file = join(folder, "g.yaml");
    await writeFile(file, "version: 1\nname: north\n");
    expect((await loadConfig(file)).config.name).toBe("north");
    await writeFile(file, "version: 3\n");
    await expect(loadConfig(file)).rejects.toThrow(`${file}:1:10  version must be 1, not 3`);
  });

  test("that is not there is a configuration error", async () => {
    const missing = loadConfig(join(folder, "none.yaml"));
    await expect(missing).rejects.toBeInstanceOf(ConfigError);
    await expect(missing).rejects.toThrow(/there is no such file/);
  });

  test.each<[string, Buffer | undefined, string]>([
    ["that is a folder", undefined, "is a folder"],
    ["in Latin-1", Buffer.from("version: 1\nname: K\u00fcche\n", "latin1"), "is no UTF-8 text: see line 2"],
    ["in UTF-16", Buffer.from("\ufeffversion: 1\n", "utf16le"), "is UTF-16; save it as UTF-8"],
    ["without end", Buffer.alloc((16 << 20) + 1), "has 16777217 bytes, and 16777216 are the most"],
  ])("%s is refused by name", async (_, bytes, words) => {
    const file = bytes === undefined ? folder : join(folder, "g.yaml");
    if (bytes !== undefined) await writeFile(file, bytes);
    await expect(loadConfig(file)).rejects.toThrow(`${file}  ${words}`);
    const main = join(folder, "main.yaml");
    await writeFile(main, `version: 1\ninclude: ${bytes === undefined ? "." : "g.yaml"}\n`);
    await expect(loadConfig(main)).rejects.toThrow(words);
  });

  test("with a byte order mark and Windows' line ends is read like any other", async () => {
    const file = join(folder, "g.yaml");
    await writeFile(file, "\ufeffversion: 1\r\nname: north\r\n");
    expect((await loadConfig(file)).config.name).toBe("north");
  });

  test.each([
    ["sensors/north/t1/temperature", "telemetry", "t1"],
    ["sensors/north/t1/state", "states", "t1"],
    ["sensors/north/pump1/lost", "states", "pump1"],
    ["trackers/field/tractor1/position", "positions", "tractor1"],
    ["trackers/field/tractor1/state", "states", "tractor1"],
    ["sensors/hall/m1/vibration", "telemetry", "m1"],
  ])("the one that comes with the project maps %s to %s, keyed by %s", async (mqttTopic, stream, key) => {
    const { config } = await loadConfig("config/gateway.yaml");
    const mapper = new Mapper(config.mappings, (name) => config.streams[name]?.partitions ?? 0);
    const mapping = mapper.map({
      mqttTopic,
      payload: Buffer.from('{"ts":1780000000000}'),
      qos: 1,
      retain: false,
      clientId: "c",
      username: undefined,
      receivedAt: 1_790_000_000_000,
    });
    expect(mapping).toMatchObject({
      outcome: "mapped",
      records: [{ stream, key: Buffer.from(key) }],
      problem: undefined,
    });
  });
});
