/** The verbs that ask a gateway that runs, as processes: reload, explain, tap, dead-letters, status. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectAsync, type MqttClient } from "mqtt";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { ControlClient } from "../../src/control/client.ts";
import type { GatewayStatus } from "../../src/gateway.ts";

const ENV = { ...process.env, NO_COLOR: "1" };
const CONFIG = `version: 1
name: shed
mqtt: { listeners: [{ type: tcp, bind: "127.0.0.1:0" }] }
kafka: { bind: "127.0.0.1:0" }
streams: { telemetry: { partitions: 4 } }
mappings:
  - { name: strict, from: s/+device, to: telemetry, key: "\${payload.id}" }
tests:
  - { publish: { topic: s/a, payload: { id: 7 } }, expect: { key: "7" } }
`;

let folder: string;
let gateway: ChildProcess;
let client: MqttClient;

function start(...args: string[]): { child: ChildProcess; output: () => string } {
  const options = ["--config", join(folder, "gateway.yaml"), "--data", join(folder, "data")];
  const child = spawn(process.execPath, ["dist/main.js", ...args, ...options], { env: ENV });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (chunk) => {
      output += chunk;
    });
  }
  return { child, output: () => output };
}

async function sluice(...args: string[]): Promise<{ code: number; output: string }> {
  const { child, output } = start(...args);
  const [code] = await once(child, "close");
  return { code, output: output() };
}

const says = (output: () => string, words: string | RegExp) =>
  vi.waitFor(() => expect(output()).toMatch(words), { timeout: 20_000, interval: 20 });

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sluice-asking-"));
  await writeFile(join(folder, "gateway.yaml"), CONFIG);
  const { child, output } = start("up");
  gateway = child;
  await says(output, "Ctrl-C stops.");
  const port = /mqtt:\/\/127\.0\.0\.1:(\d+)/.exec(output())?.[1];
  client = await connectAsync(`mqtt://127.0.0.1:${port}`, { clientId: "pub" });
});
afterAll(async () => {
  await client.endAsync(true);
  const closed = once(gateway, "close");
  gateway.kill("SIGTERM");
  await closed;
  await rm(folder, { recursive: true, force: true });
});

test("tap shows each message and what becomes of it, and ends in order", async () => {
  const { child, output } = start("tap", "--from", "s/#", "--from", "other");
  // Until somebody looks on, nothing is shown.
  await vi.waitFor(
    async () => {
      await client.publishAsync("s/x", '{"id":"x"}', { qos: 1 });
      expect(output()).toMatch(/→ s\/x/);
    },
    { timeout: 20_000, interval: 100 },
  );
  await client.publishAsync("s/a", "broken\u001b[2J", { qos: 1 });
  await client.publishAsync("other", "1", { qos: 1 });
  await says(output, "no mapping takes it");
  const closed = once(child, "close");
  child.kill("SIGINT");
  expect((await closed)[0]).toBe(0);
  expect(output()).toMatch(/→ s\/x +telemetry \d@\d+ x {2}\{"id":"x"\}/);
  expect(output()).toMatch(/✗ s\/a +failed strict key: .*, kept as dead-letters 0@0 {2}broken·\[2J\n/);
});

test("tap knows at once what it can never show", async () => {
  expect(await sluice("tap", "--from", "s/#/x")).toEqual({
    code: 64,
    output: "--from s/#/x: '#' must be the last level\nuse + for one level in the middle\n",
  });
  expect(await sluice("tap", "--stream", "telemetri")).toEqual({
    code: 66,
    output: 'there is no stream telemetri; did you mean "telemetry"?\n',
  });
});

test("explain asks the configuration that runs", async () => {
  const { output } = await sluice("explain", "s/a", '{"id":7}', "--running");
  expect(output).toMatch(/✓ strict/);
  expect(output).toMatch(/key +7 {2}murmur2 0x[0-9a-f]{8}/);
  const { code, output: wrong } = await sluice("explain", "s/+", "--running");
  expect([code, wrong]).toEqual([64, expect.stringContaining("nobody can publish to a wildcard")]);
});

// Seven processes, one after the other.
test("reload refuses what fails its tests, takes over what is right, and dead letters can go through then", {
  timeout: 90_000,
}, async () => {
  const file = join(folder, "gateway.yaml");
  const lenient = (await readFile(file, "utf8")).replace(', key: "${payload.id}"', ', key: "${device}"');
  await writeFile(file, lenient);
  const refused = await sluice("reload");
  expect(refused).toMatchObject({
    code: 1,
    output: expect.stringMatching(/key {2}expected {2}7\n +was {7}a/),
  });
  expect((await sluice("status")).output).toContain("1 of 1 tests failed");

  const list = await sluice("dead-letters", "list");
  expect(list.output).toMatch(
    /s\/a\n {4}strict {2}key, character 3: .*\n {4}broken·\[2J\n1 dead letter on dead-letters/,
  );
  await writeFile(file, lenient.replace('key: "7"', "key: a"));
  expect((await sluice("reload")).code).toBe(0);
  expect((await sluice("dead-letters", "retry")).output).toBe("1 of 1 dead letter went through\n");
  expect((await sluice("dead-letters", "list", "--json")).output).toContain('"waiting": 0');
});

test("SIGHUP loads the configuration anew, and status says what became of it", {
  timeout: 60_000,
}, async () => {
  const file = join(folder, "gateway.yaml");
  const text = await readFile(file, "utf8");
  const ask = () => new ControlClient(join(folder, "data")).ask<GatewayStatus>("GET /status");
  await writeFile(file, text.replace("to: telemetry", "to: telemetri"));
  const refusedAt = async (after: number): Promise<number> =>
    vi.waitFor(
      async () => {
        const { config } = await ask();
        expect(config?.refused?.message).toContain('did you mean "telemetry"?');
        expect(config?.refused?.at).toBeGreaterThan(after);
        return config?.refused?.at as number;
      },
      { timeout: 20_000, interval: 50 },
    );
  // The gateway sees the change by itself, too, and once only.
  const first = await refusedAt(0);
  gateway.kill("SIGHUP");
  await refusedAt(first);
  await writeFile(file, text);
  gateway.kill("SIGHUP");
  await vi.waitFor(async () => expect((await ask()).config?.refused).toBeUndefined(), { timeout: 20_000 });
});

test("status names what no mapping took", async () => {
  expect((await sluice("status")).output).toMatch(/Unmatched +1 {2}other\n/);
});
