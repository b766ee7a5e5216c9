/** `sluice log verify` and `sluice log repair`, as npm test has built them, on folders on the real disk. */
import { spawn } from "node:child_process";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { StreamStore } from "../../src/log/stream-store.ts";
import { append, openStore, partitionOf, record, values } from "../support/log.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

function sluice(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["dist/main.js", ...args], {
      env: { ...process.env, NO_COLOR: "1" },
    });
    let [stdout, stderr] = ["", ""];
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

async function filled(): Promise<{ folder: string; store: StreamStore }> {
  const folder = join(await temporaryFolder(), "data");
  const store = await openStore(folder);
  const partition = partitionOf(await store.createStream("s", 1, {}, "config"));
  for (let at = 0; at < 5; at++) await append(store, [record(partition, null, `v${at}`)]);
  await store.checkpoint();
  return { folder, store };
}

const SEGMENT = `streams/s-0/${"0".repeat(20)}.log`;

describe("sluice log", () => {
  test("finds a sound folder sound, a running gateway's too, and mends nothing there", async () => {
    const { folder, store } = await filled();
    const beside = await sluice("log", "verify", "--data", folder);
    expect(beside.code).toBe(0);
    expect(beside.stdout).toMatch(
      /^\d+ files, .*2 partitions, 6 record batches: all sound\nA gateway runs on it/,
    );
    const refused = await sluice("log", "repair", "--data", folder);
    expect(refused).toMatchObject({ code: 73 });
    expect(refused.stderr).toContain("another gateway is running");
    await store.close();
    const after = await sluice("log", "repair", "--data", folder);
    expect(after.code).toBe(0);
    expect(after.stdout).toContain("Nothing had to be mended.");
  });

  test("says a flipped bit with file and byte and offsets, and mends what can be mended", async () => {
    const { folder, store } = await filled();
    await store.close();
    const bytes = await readFile(join(folder, SEGMENT));
    const at = bytes.indexOf("v2");
    bytes[at] = 0;
    await writeFile(join(folder, SEGMENT), bytes);

    const found = await sluice("log", "verify", "--data", folder);
    expect(found.code).toBe(65);
    expect(found.stdout).toMatch(
      /damage {2}streams\/s-0\/0{20}\.log, byte \d+: a checksum that does not match/,
    );
    expect(found.stdout).toContain("lost  s-0: offsets 2 to 2\n1 offset lost");
    expect(found.stdout).toContain(`sluice log repair --data ${folder} mends it`);
    const json = JSON.parse((await sluice("log", "verify", "--data", folder, "--json")).stdout);
    expect(json).toMatchObject({ lost: [{ stream: "s", partition: 0, from: 2, to: 3 }], isRunning: false });

    const mended = await sluice("log", "repair", "--data", folder);
    expect(mended.code).toBe(0);
    expect(mended.stdout).toMatch(
      /kept in quarantine\/\d{4}-.*\n.*lost {2}s-0: offsets 2 to 2\n[\s\S]*all sound/,
    );
    expect(await readdir(join(folder, "quarantine"))).toHaveLength(1);
    const again = await openStore(folder);
    expect(await values(partitionOf(again.stream("s")))).toEqual(["v0", "v1", "v3", "v4"]);
  });

  test("needs a folder that is there", async () => {
    const { code, stderr } = await sluice("log", "verify", "--data", "/nowhere/at/all");
    expect(code).toBe(66);
    expect(stderr).toContain("there is no data folder /nowhere/at/all");
  });
});
