import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import { Mapper } from "../../src/mapping/mapper.ts";
import type { Mapped } from "../../src/mapping/outcome.ts";
import { decodeHeaders } from "../../src/wire/record-batch.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "sluice-included-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function write(files: Record<string, string>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), text);
  }
}
const load = (env: Record<string, string> = {}) => loadConfig(join(folder, "main.yaml"), { env });
const problems = async (env: Record<string, string> = {}): Promise<string> => {
  const error = await load(env).then(
    () => new Error("no problem"),
    (reason: Error) => reason,
  );
  return error.message.replaceAll(folder, "");
};

test("what is included comes first, in its order, and then the file itself", async () => {
  await write({
    "main.yaml": `version: 1\ninclude: [streams.yaml, "rules/*.yaml"]\nmappings: [{ from: "#", to: rest }]\n`,
    "streams.yaml": "streams: { rest: {}, telemetry: { partitions: 3 } }\n",
    "rules/b.yaml": "mappings: [{ from: b, to: telemetry }]\n",
    "rules/a.yaml": "mappings: [{ from: a, to: telemetry }]\nstreams: { more: }\n",
    "rules/notes.txt": "no: [yaml",
  });
  const { config, files } = await load();
  expect(config.mappings.map(({ from }) => from)).toEqual(["a", "b", "#"]);
  expect(Object.keys(config.streams)).toEqual(["rest", "telemetry", "more"]);
  expect(files.map((file) => file.slice(folder.length + 1))).toEqual([
    "streams.yaml",
    "rules/a.yaml",
    "rules/b.yaml",
    "main.yaml",
  ]);
});

test("each problem stands where it was written, file by file", async () => {
  await write({
    "main.yaml": `version: 1
include: rules.yaml
streams: { telemetry: {} }
mappings:
  - { from: sensors/+/x, to: nowhere }
`,
    "rules.yaml": `mappings:
  - from: a
    to: telemetry
  - form: b
    to: telemetry
`,
  });
  expect(await problems()).toBe(`/rules.yaml:4:5  unknown option "form" in mappings[1]; did you mean "from"?
  4 |   - form: b
    |     ^^^^
/main.yaml:5:30  mappings[2].to: stream "nowhere" is not declared under streams
  5 |   - { from: sensors/+/x, to: nowhere }
    |                              ^^^^^^^  add  nowhere: {}  to streams
2 problems`);
});

test("a value stands in one file only, and only the main file includes", async () => {
  await write({
    "main.yaml": "version: 1\ninclude: other.yaml\nname: north\n",
    "other.yaml": "name: south\ninclude: more.yaml\n",
  });
  const text = await problems();
  expect(text).toContain("name stands in an included file, too");
  expect(text).toContain("an included file cannot include others");
});

test("a file that is not there is said with what was meant, and one that is no YAML with its place", async () => {
  await write({ "main.yaml": "version: 1\ninclude: [steams.yaml, bad.yaml]\n", "streams.yaml": "" });
  await write({ "bad.yaml": "streams: { a\n" });
  const text = await problems();
  expect(text).toContain('include: there is no file /steams.yaml; did you mean "streams.yaml"?');
  expect(text).toContain("/bad.yaml:");
  expect(await problems({ SLUICE_INCLUDE: "x.yaml" })).not.toBe("no problem");
});

test("the same text has the same version, and any change another one", async () => {
  await write({ "main.yaml": "version: 1\ninclude: [one.yaml]\n", "one.yaml": "streams: { a: }\n" });
  const first = (await load()).version;
  expect((await load()).version).toBe(first);
  await write({ "one.yaml": "streams: { b: }\n" });
  const second = (await load()).version;
  expect(second).toMatch(/^[0-9a-f]{12}$/);
  expect(second).not.toBe(first);
});

test("records may carry the version in a header", async () => {
  const also = "also: [{ to: b }, { to: b, headers: { x: y } }]";
  await write({
    "main.yaml": `version: 1\nversionHeader: config\nstreams: { a: , b: }\nmappings: [{ from: m, to: a, headers: { site: n }, ${also} }]\n`,
  });
  const { config, version } = await load();
  const mapping = new Mapper(config.mappings, () => 1).map({
    ...{ mqttTopic: "m", payload: Buffer.from("1"), qos: 1, retain: false, clientId: "c" },
    ...{ username: undefined, receivedAt: 0 },
  });
  const headers = (mapping as Mapped).records.map((record) =>
    decodeHeaders(record.headers).map(({ key, value }) => `${key}=${value}`),
  );
  expect(headers).toEqual([
    ["mqtt.topic=m", "site=n", `config=${version}`],
    ["mqtt.topic=m", "site=n", `config=${version}`],
    ["mqtt.topic=m", "x=y", `config=${version}`],
  ]);
});
