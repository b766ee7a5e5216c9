/** `sluice up` as a process: it says where it listens, stops on a signal, and its streams and groups can be read. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectAsync } from "mqtt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

/** As `npm test` has built it. */
const NODE = ["dist/main.js"];
const ENV = { ...process.env, NO_COLOR: "1" };

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sluice-up-"));
  await writeFile(
    join(folder, "gateway.yaml"),
    `version: 1
name: north
mqtt: { listeners: [{ type: tcp, bind: "127.0.0.1:0" }] }
streams: { telemetry: { partitions: 2, retention: { time: 2d, size: 1GiB } } }
mappings: [{ from: sensors/+device, to: telemetry, key: "\${device}" }]
kafka: { bind: "127.0.0.1:0" }
`,
  );
});
afterAll(() => rm(folder, { recursive: true, force: true }));

interface Up {
  readonly child: ChildProcess;
  readonly mqttPort: number;
  readonly kafkaPort: number;
  readonly output: () => string;
}

/** Resolves when the welcome is complete. */
async function up(): Promise<Up> {
  const args = ["up", "--config", join(folder, "gateway.yaml"), "--data", join(folder, "data")];
  const child = spawn(process.execPath, [...NODE, ...args], { env: ENV });
  let output = "";
  await new Promise<void>((resolve, reject) => {
    child.once("close", (code) => reject(new Error(`ended with ${code}: ${output}`)));
    const onData = (chunk: Buffer) => {
      output += chunk;
      if (output.includes("Ctrl-C stops.")) resolve();
    };
    child.stdout.on("data", onData);
    child.stderr.on("data", onData);
  });
  const port = (pattern: RegExp) => Number(pattern.exec(output)?.[1]);
  return {
    child,
    mqttPort: port(/mqtt:\/\/127\.0\.0\.1:(\d+)/),
    kafkaPort: port(/Kafka for subscribers +127\.0\.0\.1:(\d+)/),
    output: () => output,
  };
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  const closed = once(child, "close");
  child.kill(signal);
  return (await closed)[0];
}

async function sluice(...args: string[]): Promise<string> {
  const child = spawn(process.execPath, [...NODE, ...args], { env: ENV });
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
  });
  child.stderr.on("data", (chunk) => {
    output += chunk;
  });
  await once(child, "close");
  return output;
}

describe("up", () => {
  let gateway: Up;
  beforeAll(async () => {
    gateway = await up();
    const client = await connectAsync(`mqtt://127.0.0.1:${gateway.mqttPort}`);
    for (let n = 0; n < 20; n++) await client.publishAsync(`sensors/t${n}`, "21.5", { qos: 1 });
    await client.endAsync();
  });
  afterAll(async () => {
    if (gateway.child.exitCode === null) await end(gateway.child, "SIGKILL");
  });

  test("says where it listens and what to type next", () => {
    expect(gateway.output()).toContain("north is up");
    expect(gateway.output()).toContain("telemetry (2 partitions, 2d)");
    expect(gateway.output()).toContain(
      `sluice subscribe telemetry --from beginning --broker 127.0.0.1:${gateway.kafkaPort}`,
    );
  });

  test("status asks it by its data folder", async () => {
    const text = await sluice("status", "--data", join(folder, "data"));
    expect(text).toMatch(/^north is running\n/);
    expect(text).toMatch(/Messages +20 stored since the start\n/);
    const status = JSON.parse(await sluice("status", "--json", "--data", join(folder, "data")));
    expect(status).toMatchObject({ name: "north", pid: gateway.child.pid, state: "running" });
    expect(status.addresses.kafka.port).toBe(gateway.kafkaPort);
  });

  test("status says when none runs on the folder", async () => {
    const text = await sluice("status", "--data", join(folder, "elsewhere"));
    expect(text).toContain("no gateway runs on the data folder");
  });

  test("streams lists what is stored, with a total", async () => {
    const lines = (await sluice("streams", "--broker", `127.0.0.1:${gateway.kafkaPort}`)).split("\n");
    expect(lines[0]).toMatch(/^STREAM +PARTITIONS +RECORDS +SIZE +RETENTION +MADE BY/);
    expect(lines[1]).toMatch(/^telemetry +2 +20 +[\d.]+ K?i?B +2d, 1\.0 GiB per partition +configuration/);
    expect(lines[2]).toMatch(/^1 stream, 20 records, [\d.]+ K?i?B at 127/);
  });

  test("streams describes one as data", async () => {
    const broker = `127.0.0.1:${gateway.kafkaPort}`;
    const report = JSON.parse(await sluice("streams", "telemetry", "--json", "--broker", broker));
    expect(report).toMatchObject({
      stream: "telemetry",
      retentionMs: 172_800_000,
      retentionBytes: 1_073_741_824,
      cleanup: "delete",
      origin: "configuration",
    });
    const { partitions } = report as { partitions: { logEndOffset: number; sizeBytes: number }[] };
    expect(partitions.reduce((sum, { logEndOffset }) => sum + logEndOffset, 0)).toBe(20);
    for (const { sizeBytes } of partitions) expect(sizeBytes).toBeGreaterThan(0);
  });

  test("groups shows members, what each reads, and the lag", async () => {
    const broker = `127.0.0.1:${gateway.kafkaPort}`;
    const { Kafka, logLevel } = await import("kafkajs");
    const kafka = new Kafka({ clientId: "reader", brokers: [broker], logLevel: logLevel.NOTHING });
    const admin = kafka.admin();
    await admin.connect();
    const [first] = (await admin.fetchTopicOffsets("telemetry")).filter(({ partition }) => partition === 0);
    await admin.disconnect();
    const consumer = kafka.consumer({ groupId: "dashboards", maxWaitTimeInMs: 100 });
    await consumer.connect();
    await consumer.subscribe({ topic: "telemetry" });
    const joined = new Promise<void>((resolve) => {
      consumer.on(consumer.events.GROUP_JOIN, () => resolve());
    });
    // Nothing is resolved, so nothing is committed but by hand.
    await consumer.run({ autoCommit: false, eachBatchAutoResolve: false, eachBatch: async () => {} });
    await joined;
    await consumer.commitOffsets([{ topic: "telemetry", partition: 0, offset: "1" }]);
    const report = JSON.parse(await sluice("groups", "dashboards", "--json", "--broker", broker));
    const list = await sluice("groups", "--broker", broker);
    await consumer.disconnect();
    const end = Number(first?.high);
    expect(report).toMatchObject({ group: "dashboards", state: "Stable", members: [{ clientId: "reader" }] });
    expect(report.places).toEqual([
      {
        stream: "telemetry",
        partition: 0,
        committedOffset: 1,
        logEndOffset: end,
        lag: end - 1,
        member: "reader",
      },
    ]);
    expect(list).toMatch(new RegExp(`^dashboards +Stable +1 +telemetry +${end - 1}\\s*$`, "m"));
    expect(list).toMatch(/^1 group, \d+ records behind/m);
  });

  test("a stream that is not there is named with what was meant", async () => {
    const output = await sluice("streams", "telemetri", "--broker", `127.0.0.1:${gateway.kafkaPort}`);
    expect(output).toContain('there is no stream "telemetri"; did you mean "telemetry"?');
  });

  test("stops in order on SIGTERM with 0, and again on SIGINT after a restart", async () => {
    expect(await end(gateway.child, "SIGTERM")).toBe(0);
    expect(gateway.output()).toContain("stopped; everything acknowledged is on disk");
    const again = await up();
    const streams = JSON.parse(await sluice("streams", "--json", "--broker", `127.0.0.1:${again.kafkaPort}`));
    expect(streams).toHaveLength(1);
    expect(await end(again.child, "SIGINT")).toBe(0);
  });
});
