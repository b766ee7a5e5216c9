/** The design's walls: imports point down only. What may be imported from where is the table below. */
import { readdir, readFile } from "node:fs/promises";
import { dirname, join, normalize, sep } from "node:path";
import { describe, expect, test } from "vitest";

/** Files at the top of src count as rooms by their name. */
const BASE = [
  "errors",
  "logger",
  "record",
  "histogram",
  "ports",
  "clock",
  "heap",
  "end-signal",
  "plain",
  "password",
  "turns",
];
const WALLS: Readonly<Record<string, readonly string[]>> = {
  record: [],
  heap: [],
  "end-signal": [],
  plain: [],
  password: [],
  turns: [],
  errors: [],
  histogram: [],
  ports: [],
  clock: [],
  logger: ["errors"],
  wire: BASE,
  log: ["wire", ...BASE],
  groups: ["log", "wire", ...BASE],
  mapping: ["wire", ...BASE],
  kafka: ["groups", "log", "wire", ...BASE],
  mqtt: ["mapping", "log", "wire", ...BASE],
  downlink: ["mqtt", "mapping", "groups", "log", "wire", ...BASE],
  "dead-letters": ["downlink", "mqtt", "mapping", "groups", "log", "wire", ...BASE],
  uplink: ["kafka", "groups", "mapping", "log", "wire", ...BASE],
  config: ["mapping", "wire", ...BASE],
  control: ["log", ...BASE],
  "part-options": ["downlink", "uplink", "mqtt", "kafka", "groups", "mapping", "log", "config", ...BASE],
  gateway: [
    "part-options",
    "control",
    "dead-letters",
    "downlink",
    "uplink",
    "mqtt",
    "kafka",
    "groups",
    "mapping",
    "log",
    "config",
    ...BASE,
  ],
  devices: ["config", "mapping", "wire", ...BASE],
  kafkajs: [],
  subscriber: ["kafkajs", "config", "wire", ...BASE],
  demo: ["gateway", "uplink", "kafka", "devices", "subscriber", "kafkajs", "config", "wire", ...BASE],
  cli: [
    "control",
    "dead-letters",
    "uplink",
    "mqtt",
    "mapping",
    "demo",
    "gateway",
    "kafka",
    "devices",
    "subscriber",
    "config",
    "log",
    "wire",
    ...BASE,
  ],
  main: ["cli", "config", ...BASE],
};

/** The whole specifier of every import, export … from, and import() with a literal; types count too. */
function importsOf(source: string): string[] {
  const statement =
    /^\s*(?:import|export)\b[^"'`;]*?\bfrom\s*["']([^"']+)["']|^\s*import\s*["']([^"']+)["']/gm;
  const dynamic = /\bimport\(\s*["'`]([^"'`$]+)["'`]\s*[,)]/g;
  return [...source.matchAll(statement), ...source.matchAll(dynamic)].map(
    (match) => (match[1] ?? match[2]) as string,
  );
}

/** `kafka/apis/01-fetch.ts` → `kafka`, `gateway.ts` → `gateway`. */
function roomOf(file: string): string {
  return (file.split(sep)[0] as string).replace(/\.ts$/, "");
}

/** What in a file (its path below src) breaks the walls, in words. */
function violations(file: string, source: string): string[] {
  const room = roomOf(file);
  const allowed = WALLS[room];
  if (allowed === undefined) return [`${file}: the room "${room}" has no place in the walls`];
  return importsOf(source).flatMap((specifier) => {
    if (!specifier.startsWith(".")) return [];
    const target = normalize(join(dirname(file), specifier));
    if (target.startsWith("..")) return [`${file} imports ${specifier}, which is outside of src`];
    const other = roomOf(target);
    return other === room || allowed.includes(other)
      ? []
      : [`${file} imports ${specifier}: ${room} may not know ${other}`];
  });
}

test("imports point down only", async () => {
  const files = (await readdir("src", { recursive: true })).filter((file) => file.endsWith(".ts"));
  expect(files.length).toBeGreaterThan(20);
  const found = await Promise.all(
    files.map(async (file) => violations(file, await readFile(join("src", file), "utf8"))),
  );
  expect(found.flat()).toEqual([]);
});

test("the walls themselves have no way round in a circle", () => {
  const reaches = (from: string, seen: readonly string[] = []): string[] =>
    (WALLS[from] ?? []).flatMap((to) => (seen.includes(to) ? [...seen, to] : reaches(to, [...seen, to])));
  expect(Object.keys(WALLS).flatMap((room) => reaches(room, [room]))).toEqual([]);
});

describe("a planted violation is seen", () => {
  test.each([
    ["kafka/server.ts", 'import { MqttBroker } from "../mqtt/broker.ts";'],
    ["kafka/apis/00-produce.ts", 'import type { Mapper } from "../../mapping/mapper.ts";'],
    ["log/journal.ts", "import {\n  type Api,\n  api,\n} from '../kafka/api.ts';"],
    ["log/journal.ts", 'export * from "../groups/group.ts";'],
    ["mapping/mapper.ts", 'import "../log/log.ts";'],
    ["mapping/mapper.ts", 'const log = await import("../log/log.ts");'],
    ["wire/buffer.ts", 'import { Gateway } from "../gateway.ts";'],
    ["record.ts", 'import { SluiceError } from "./errors.ts";'],
    ["config/load.ts", 'import { helper } from "../../test/helper.ts";'],
    ["attic/box.ts", ""],
  ])("%s: %s", (file, source) => {
    expect(violations(file, source)).toHaveLength(1);
  });

  test("and what is allowed is not", () => {
    const source = `import { once } from "node:events";\nimport type { Log } from "../log/log.ts";\n// import "../mqtt/x.ts"\nimport { a } from "./b.ts";\n`;
    expect(violations("kafka/server.ts", source)).toEqual([]);
  });
});
