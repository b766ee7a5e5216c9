/** A configuration that is loaded in a thread of its own is what it would be here. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import { loadConfigAside } from "../../src/config/load-aside.ts";
import { ConfigError } from "../../src/config/problems.ts";
import { loadTested } from "../../src/config/tests.ts";

let folder: string;
let file: string;
const CONFIG = `version: 1
streams: { s: {} }
tables: { rooms: rooms.csv, limits: limits.yaml }
mappings: [{ from: a/+d, to: s, key: "\${d}", headers: { room: '\${lookup("rooms", d, "none")}' } }]
tests: [{ publish: { topic: a/t1 }, expect: { key: t1 } }]
`;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "sluice-aside-"));
  file = join(folder, "gateway.yaml");
  await writeFile(file, CONFIG);
  await writeFile(join(folder, "rooms.csv"), "id,room\nt1,hall\n");
  await writeFile(join(folder, "limits.yaml"), "t1: { low: 1 }\n");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

test("with environment, tables and all", async () => {
  const inputs = { env: { SLUICE_NAME: "north" } };
  const aside = await loadConfigAside(file, inputs);
  expect(aside).toEqual(await loadConfig(file, inputs));
  expect(aside.config.name).toBe("north");
});

test("a table that is as it was is not handed over, one that has changed or come is", async () => {
  const first = await loadConfigAside(file, {});
  await writeFile(join(folder, "limits.yaml"), "t1: { low: 2 }\n");
  await writeFile(join(folder, "more.yaml"), "x: y\n");
  await writeFile(file, CONFIG.replace("tables: {", "tables: { more: more.yaml,"));
  const second = await loadConfigAside(file, {}, first);
  expect(second.config.tables.get("rooms")).toBe(first.config.tables.get("rooms"));
  expect(second).toEqual(await loadTested(file));
});

test("a table of many pieces is handed over whole, and one without rows", async () => {
  const rows = Array.from({ length: 1_501 }, (_, index) => `t${index},room ${index}`);
  await writeFile(join(folder, "rooms.csv"), `id,room\n${rows.join("\n")}\n`);
  await writeFile(join(folder, "limits.yaml"), "{}\n");
  const { config } = await loadConfigAside(file, {});
  expect(config).toEqual((await loadConfig(file)).config);
  expect(["rooms", "limits"].map((name) => config.tables.get(name)?.size)).toEqual([1_501, 0]);
});

test("what is wrong comes back as it is", async () => {
  await writeFile(file, CONFIG.replace("to: s,", "to: t,"));
  const wrong = await loadConfigAside(file, {}).catch((error: unknown) => error);
  expect(wrong).toBeInstanceOf(ConfigError);
  expect((wrong as Error).message).toMatch(
    /gateway\.yaml:4:\d+ {2}mappings\[0\]\.to: stream "t" is not declared/,
  );
});

test("tests that fail keep it from taking the place of another one, and from nothing else", async () => {
  await writeFile(file, CONFIG.replace("key: t1", "key: t2"));
  const loaded = await loadConfigAside(file, {});
  expect(loaded.config.tests).toHaveLength(1);
  await expect(loadConfigAside(file, {}, loaded)).rejects.toMatchObject({
    code: "TESTS_FAILED",
    exitCode: 1,
  });
});
