/** The built program, as a person runs it. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it, vi } from "vitest";
import { temporaryFolder } from "../support/temporary-folder.ts";

const main = fileURLToPath(new URL("../../dist/main.js", import.meta.url));
const small = ["demo", "--sensors", "3", "--subscribers", "5", "--kafkajs", "2", "--duration", "1s"];

it("--json is one document on standard output and nothing else, and every subscriber agrees", async () => {
  const folder = await temporaryFolder();
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [main, ...small, "--json"], {
    env: { ...process.env, TMPDIR: folder },
  });
  const report = JSON.parse(stdout);
  expect(stderr).toBe("");
  expect(report).toMatchObject({ version: 1, sensors: 3, subscribers: 5, passed: true });
  expect(report.mesh).toMatchObject({ connections: 15, lost: 0, outOfOrder: 0, duplicates: 0, limit: null });
  expect(report.gateway).toMatchObject({
    connections: 8,
    lost: 0,
    outOfOrder: 0,
    duplicates: 0,
    agree: true,
  });
  expect(report.gateway.kinds).toEqual({ kafkajs: 2, "light reader": 3 });
  expect(report.gateway.delivered).toBe(report.gateway.readings * 5);
  expect(report.growth.at(-1)).toEqual({
    sensors: 10_000,
    subscribers: 10_000,
    mesh: 100_000_000,
    gateway: 20_000,
    meshOpened: false,
    gatewayOpened: false,
  });
  if (process.platform === "linux") {
    expect(report.gateway.seenByGateway.mqtt).toBe(3);
    expect(report.gateway.seenByGateway.kafka).toBeGreaterThanOrEqual(5);
  }
  expect(readdirSync(folder)).toEqual([]);
});

it.each([0, 100])(
  "killed %i ms after its gateway was begun, it leaves neither gateway nor folder",
  async (ms) => {
    const folder = await temporaryFolder();
    const child = spawn(
      process.execPath,
      [main, "demo", "--sensors", "2", "--subscribers", "2", "--duration", "1s"],
      {
        env: { ...process.env, TMPDIR: folder },
        stdio: "ignore",
      },
    );
    const wait = { timeout: 15_000, interval: 10 };
    await vi.waitFor(() => expect(readdirSync(folder)).toHaveLength(1), wait);
    await sleep(ms);
    child.kill("SIGKILL");
    await once(child, "exit");
    // The gateway itself removes its folder, as the last thing that it does.
    await vi.waitFor(() => expect(readdirSync(folder)).toEqual([]), wait);
  },
);
