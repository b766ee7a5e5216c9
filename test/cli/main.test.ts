import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sluice-cli-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the program as `npm test` has built it. */
function sluice(...args: string[]): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, NO_COLOR: "1" };
    const child = spawn(process.execPath, ["dist/main.js", ...args], { env });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (chunk) => {
      stdout += chunk;
    });
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
    });
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, stdout, stderr }));
  });
}

describe("main", () => {
  test("prints the help with every verb and examples, and ends with 0", async () => {
    const { code, stdout } = await sluice("--help");
    expect(code).toBe(0);
    for (const verb of ["demo", "up", "check", "subscribe", "simulate", "streams", "groups", "log"]) {
      expect(stdout).toMatch(new RegExp(`^  ${verb} `, "m"));
    }
    expect(stdout).toContain("$ sluice check config/gateway.yaml");
  });

  test("prints its version", async () => {
    expect(await sluice("--version")).toEqual({ code: 0, stdout: "0.1.0\n", stderr: "" });
  });

  test("an unknown verb is wrong usage, with what was meant", async () => {
    const { code, stderr } = await sluice("strems");
    expect(code).toBe(64);
    expect(stderr).toMatch(
      /^there is no verb "strems"; did you mean "streams"\?\nverbs are demo, init, up, .*streams, groups; sluice --help says more\n$/,
    );
  });

  test("an unknown option is wrong usage, with what was meant", async () => {
    const { code, stderr } = await sluice("check", "--jsno");
    expect(code).toBe(64);
    expect(stderr).toContain("Did you mean --json?");
  });
});

describe("check", () => {
  test("sums up a configuration that is right", async () => {
    const { code, stdout } = await sluice("check", "config/gateway.yaml");
    expect(stdout).toMatch(
      /^ok {2}config\/gateway\.yaml: 4 streams with 8 partitions, 5 mappings, MQTT at 127\.0\.0\.1:1883, Kafka at 127\.0\.0\.1:9092; version [0-9a-f]{12}\n4 of 4 tests passed\n$/,
    );
    expect(code).toBe(0);
  });

  test("says what is wrong, and ends with 78", async () => {
    const file = join(folder, "wrong.yaml");
    await writeFile(file, "version: 1\nkafak: {}\n");
    const { code, stdout, stderr } = await sluice("check", file);
    expect(code).toBe(78);
    expect(stdout).toBe("");
    expect(stderr).toBe(
      `${file}:2:1  unknown option "kafak" in the configuration; did you mean "kafka"?\n  2 | kafak: {}\n    | ^^^^^\n1 problem\n`,
    );
  });

  test("says what a test expects and what it was instead, and ends with 1", async () => {
    const file = join(folder, "tested.yaml");
    const lines = [
      "version: 1",
      "streams: { s: {} }",
      'mappings: [{ from: a/+d, to: s, key: "${d}" }]',
      "tests:",
      "  - { name: south, publish: { topic: a/t1 }, expect: { key: t2 } }",
      "  - { publish: { topic: b }, expect: unmatched }",
    ];
    await writeFile(file, lines.join("\n"));
    const { code, stdout } = await sluice("check", file);
    expect(stdout).toMatch(
      /:5:5 {2}south\n {4}key {2}expected {2}t2\n {9}was {7}t1\ntests fail .*\n1 of 2 tests passed\n$/,
    );
    expect(code).toBe(1);
    expect(JSON.parse((await sluice("check", file, "--json")).stdout)).toMatchObject({
      ok: false,
      tests: [{ differences: [{ what: "key", expected: "t2", actual: "t1" }] }, { differences: [] }],
    });
  });

  test("says the same as data with --json", async () => {
    const file = join(folder, "wrong.json.yaml");
    await writeFile(file, "version: 2\n");
    const { code, stdout } = await sluice("check", file, "--json");
    expect(code).toBe(78);
    expect(JSON.parse(stdout)).toEqual({
      ok: false,
      file,
      problems: [{ place: `${file}:1:10`, message: "version must be 1, not 2" }],
    });
  });
});

describe("streams and groups", () => {
  test.each(["streams", "groups"])(
    "%s says so when nothing listens there, and ends with 69",
    async (verb) => {
      // Port 1 is reserved (tcpmux): nobody listens there.
      const { code, stdout, stderr } = await sluice(verb, "--broker", "127.0.0.1:1");
      expect(code).toBe(69);
      expect(stdout).toBe("");
      expect(stderr).toContain("nothing listens at 127.0.0.1:1");
      expect(stderr).toContain("sluice up");
    },
  );

  test("a broker that is no address is wrong usage", async () => {
    const { code, stderr } = await sluice("streams", "--broker", "9092");
    expect(code).toBe(64);
    expect(stderr).toMatch(/--broker.*needs a host before the port/);
  });
});
