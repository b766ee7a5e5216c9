/** Tables and schemas beside the configuration. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Attachments } from "../../src/config/attachments.ts";
import { loadConfig } from "../../src/config/load.ts";
import { runTests } from "../../src/config/tests.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "sluice-attachments-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function table(name: string, text: string | Buffer): Promise<Record<string, unknown>> {
  await writeFile(join(folder, name), text);
  return Object.fromEntries(new Attachments(join(folder, "gateway.yaml")).table(name));
}

describe("a table in CSV", () => {
  test.each<[string, string, Record<string, unknown>]>([
    ["of two columns gives text", "device,room\nt1,hall\nt2,attic\n", { t1: "hall", t2: "attic" }],
    ["of more columns gives maps", "id,room,limit\nt1,hall,80\n", { t1: { room: "hall", limit: "80" } }],
    ["with semicolons, as Excel saves it", "\ufeffid;room\r\nt1;Halle, Nord\r\n", { t1: "Halle, Nord" }],
    [
      "with quotes, and what they may hold",
      'id,text\nt1,"a ""b"", c\nd"\n"t,2",\n',
      { t1: 'a "b", c\nd', "t,2": "" },
    ],
    ["without a last line end, with empty lines", "id,room\n\nt1,hall\n\nt2,", { t1: "hall", t2: "" }],
    [
      "with names from prototypes",
      "id,__proto__,constructor\n__proto__,1,2\n",
      JSON.parse('{"__proto__": {"__proto__": "1", "constructor": "2"}}'),
    ],
  ])("%s", async (_, text, expected) => {
    const rows = await table("t.csv", text);
    expect(rows).toEqual(expected);
    expect(Object.keys(rows)).toEqual(Object.keys(expected));
  });

  test.each([
    ["", "needs a first line that names a key column and at least one more"],
    ["id\nt1\n", "needs a first line that names a key column and at least one more"],
    ["id,room\nt1,hall,3\n", "has 3 columns in row 2, and 2 in its first"],
    ["id,room\nt1,hall\nt1,attic\n", 'has the key "t1" twice (row 3)'],
    ['id,room\nt1,"hall\n', "has a quote out of place in row 2"],
    ['id,room\nt1,"a"b\n', "has a quote out of place in row 2"],
  ])("%j is refused: %s", async (text, words) => {
    await expect(table("t.csv", text)).rejects.toThrow(words);
  });

  test("is read as it was written, whatever its fields hold", async () => {
    const field = fc.string({ unit: fc.constantFrom("a", " ", ",", ";", '"', "\n", "\r\n", "é") });
    const quote = (text: string) => `"${text.replaceAll('"', '""')}"`;
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(field), field, async (keys, value) => {
        const lines = keys.map((key) => `${quote(key)},${quote(value)}`);
        const rows = await table("t.csv", `id,value\n${lines.join("\n")}\n`);
        expect(rows).toEqual(Object.fromEntries(keys.map((key) => [key, value])));
      }),
    );
  });

  test("may be large, and has a bound", async () => {
    const rows = (count: number) => Array.from({ length: count }, (_, at) => `t${at},"${at}"`).join("\n");
    expect((await table("t.csv", `id,n\n${rows(100_000)}`)).t99999).toBe("99999");
    await expect(table("t.csv", `id,n\n${rows(100_001)}`)).rejects.toThrow("has 100001 rows");
    expect(Object.keys(await table("t.csv", `id,n\nt,"${"x\n".repeat(1 << 20)}"`))).toEqual(["t"]);
  });
});

describe("a table in YAML", () => {
  test("gives what stands behind each key", async () => {
    expect(await table("t.yaml", "t1: hall\nt2: { room: attic, limits: [1, 2] }\n7: seven\n")).toEqual({
      t1: "hall",
      t2: { room: "attic", limits: [1, 2] },
      7: "seven",
    });
  });

  test.each([
    ["- t1\n- t2\n", "must be a map"],
    ["t1: [\n", "cannot be read"],
    [`a: &a [${"x,".repeat(50)}]\nb: &b [${"*a,".repeat(50)}]\nc: [${"*b,".repeat(50)}]\n`, "cannot be read"],
  ])("%.20j is refused: %s", async (text, words) => {
    await expect(table("t.yaml", text)).rejects.toThrow(words);
  });
});

test("is used by lookup, belongs to the version and to the files that are watched", async () => {
  const file = join(folder, "gateway.yaml");
  await writeFile(
    file,
    `version: 1
streams: { s: {} }
tables: { rooms: rooms.yaml, limits: limits.csv }
mappings: [{ from: a/+d, to: s, headers: { room: '\${lookup("rooms", d)}', limit: '\${lookup("limits", d, "none")}' } }]
tests: [{ publish: { topic: a/t1 }, expect: { headers: { room: hall, limit: none } } }]
`,
  );
  await writeFile(join(folder, "limits.csv"), "id,limit\nt2,80\n");
  await writeFile(join(folder, "rooms.yaml"), "t1: hall\n");
  const loaded = await loadConfig(file);
  expect(runTests(loaded)).toMatchObject([{ differences: [] }]);
  expect([...loaded.files].sort()).toEqual(
    ["gateway.yaml", "limits.csv", "rooms.yaml"].map((name) => join(folder, name)),
  );
  await writeFile(join(folder, "rooms.yaml"), "t1: attic\n");
  const changed = await loadConfig(file);
  expect(changed.version).not.toBe(loaded.version);
  expect(runTests(changed)[0]?.differences).toHaveLength(1);
});
