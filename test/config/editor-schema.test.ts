import { readFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import Ajv from "ajv";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { editorSchema, editorSchemaText } from "../../src/config/editor-schema.ts";

const { default: Validator } = Ajv as unknown as { default: typeof Ajv.default };
const validate = new Validator({ strict: false }).compile(editorSchema());
const says = (yaml: string): string[] => {
  validate(parse(yaml));
  return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`);
};

test("config/gateway.schema.json is what the configuration's schema says (npm run schema writes it)", () => {
  expect(readFileSync("config/gateway.schema.json", "utf8")).toBe(editorSchemaText());
});

test("config/gateway.yaml points editors to it in its first line", () => {
  const [line] = readFileSync("config/gateway.yaml", "utf8").split("\n");
  expect(line).toBe("# yaml-language-server: $schema=./gateway.schema.json");
});

describe("an editor", () => {
  test("takes every configuration that is shipped", async () => {
    const examples = (await readdir("config/examples")).filter((name) => name.endsWith(".yaml"));
    const files = ["config/gateway.yaml", ...examples.map((name) => `config/examples/${name}`)];
    for (const file of files) expect(says(readFileSync(file, "utf8")), file).toEqual([]);
  });

  test("takes sections with nothing in them, and what has defaults left out", () => {
    expect(says("version: 1\nmqtt:\nstreams: { t: , u: { retention: } }\n")).toEqual([]);
  });

  test("marks what the gateway would refuse", () => {
    expect(says("version: 2\n")).toEqual(["/version must be equal to constant"]);
    expect(says("version: 1\nmappings: [{ form: a, to: b }]\n")).toContain(
      "/mappings/0 must have required property 'from'",
    );
    expect(says("version: 1\nmappings: [{ from: a, to: b, onError: ignore }]\n")).toEqual([
      "/mappings/0/onError must be equal to one of the allowed values",
    ]);
  });
});
