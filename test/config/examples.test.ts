/** Every configuration that is shipped says what it does in tests of its own, and does it. */
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, onTestFinished, test } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import { resultText, runTests } from "../../src/config/tests.ts";

const run = promisify(execFile);
const names = (await readdir("config/examples")).filter((name) => name.endsWith(".yaml"));

describe.each(names)("config/examples/%s", (name) => {
  const file = `config/examples/${name}`;

  test("passes its tests, of which there are some for what goes wrong", async () => {
    const loaded = await loadConfig(file);
    const results = runTests(loaded);
    expect(results.length).toBeGreaterThanOrEqual(name === "plain.yaml" ? 1 : 5);
    const failed = results.filter(({ differences }) => differences.length > 0);
    expect(failed.map(resultText)).toEqual([]);
    expect(loaded.notes).toEqual([]);
  });

  test("says why it is so", async () => {
    expect(await readFile(file, "utf8")).toMatch(/^# Why so: \S/m);
  });
});

describe("sluice init", () => {
  const sluice = (folder: string, ...args: string[]) =>
    run(process.execPath, [join(process.cwd(), "dist/main.js"), "init", ...args], { cwd: folder });
  async function folder(): Promise<string> {
    const path = await mkdtemp(join(tmpdir(), "sluice-init-"));
    onTestFinished(() => rm(path, { recursive: true }));
    return path;
  }

  test("writes a configuration that is right, with what belongs to it", async () => {
    const at = await folder();
    const { stdout } = await sluice(at, "--from", "factory", "--name", "plant", "--network");
    expect(stdout).toContain("sluice up");
    const loaded = await loadConfig(join(at, "config/gateway.yaml"));
    expect(loaded.config.name).toBe("plant");
    expect(loaded.config.kafka.bind.host).toBe("0.0.0.0");
    expect(runTests(loaded).every(({ differences }) => differences.length === 0)).toBe(true);
    expect((await readdir(join(at, "config"))).sort()).toEqual([
      "factory-machines.csv",
      "gateway.schema.json",
      "gateway.yaml",
    ]);
  });

  test("starts plainly, for this machine only, where nothing is said", async () => {
    const at = await folder();
    await sluice(at, "mine.yaml");
    const { config } = await loadConfig(join(at, "mine.yaml"));
    expect(config.mqtt.listeners[0]?.bind.host).toBe("127.0.0.1");
    expect(Object.keys(config.streams)).toEqual(["telemetry", "unmapped"]);
  });

  test("never writes over what is there", async () => {
    const at = await folder();
    await writeFile(join(at, "mine.yaml"), "mine");
    await expect(sluice(at, "mine.yaml")).rejects.toMatchObject({
      code: 73,
      stderr: expect.stringContaining("is there already, and nothing was written"),
    });
    expect(await readFile(join(at, "mine.yaml"), "utf8")).toBe("mine");
  });

  test("knows the examples, and what was meant by one that is not there", async () => {
    const at = await folder();
    const { stdout } = await sluice(at, "--list");
    for (const name of names) expect(stdout).toContain(name.replace(".yaml", ""));
    await expect(sluice(at, "--from", "zigbee2mqt")).rejects.toMatchObject({
      code: 64,
      stderr: expect.stringContaining('did you mean "zigbee2mqtt"?'),
    });
    expect(await readdir(at)).toEqual([]);
  });
});
