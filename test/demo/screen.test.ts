import { stripVTControlCharacters } from "node:util";
import { expect, it } from "vitest";
import { draw, PICTURE_COLUMNS } from "../../src/demo/picture.ts";
import { type DemoReport, type GatewayReport, growth, type PhaseReport } from "../../src/demo/report.ts";
import * as show from "../../src/demo/screen.ts";

const mesh: PhaseReport = {
  sensors: 223,
  subscribers: 223,
  limit: {
    name: "mesh-limit",
    message: "the mesh is opened up to 50,000",
    mend: "--mesh-limit 1000000 lifts that",
  },
  steps: [
    {
      sensors: 223,
      subscribers: 223,
      sensorConnections: 49_729,
      subscriberConnections: 49_729,
      connectMs: 9,
    },
  ],
  connections: 49_729,
  connectMs: 12_345,
  memoryBytes: 2 ** 30,
  processes: 12,
  readings: 1_000_000,
  acknowledged: 1_000_000,
  expected: 10_000_000,
  delivered: 9_999_999,
  lost: 1,
  duplicates: 0,
  outOfOrder: 0,
  latencyMs: { p50: 1_234.5, p99: 12_345.6, max: 23_456 },
  agree: false,
  kinds: { MQTT: 223 },
};
const gateway: GatewayReport = {
  ...mesh,
  sensors: 9_900,
  subscribers: 9_900,
  kinds: { kafkajs: 3, "light reader": 9_897 },
  mqttPort: 51_883,
  kafkaPort: 59_092,
  seenByGateway: { mqtt: 9_900, kafka: 9_903 },
  gatewayMemoryBytes: 2 ** 30,
};
const report: DemoReport = {
  version: 1,
  sensors: 10_000,
  subscribers: 10_000,
  readingsPerSecond: 1,
  machine: { platform: "linux x64", node: "v20", cpus: 2, descriptorLimit: 20_000 },
  mesh,
  gateway,
  growth: growth(mesh, gateway),
  passed: false,
};

it("nothing on the screen is wider than 80 columns, however large the numbers", () => {
  const lines = [
    ...show.title(10_000, 10_000),
    ...show.meshLines(mesh, report),
    ...show.gatewayLines(gateway, report),
    ...show.comparison(mesh, gateway),
    ...show.growthTable(report.growth),
    ...show.invitation(gateway),
    ...show.conclusion(report),
    ...show.conclusion({ ...report, passed: true }),
  ].map(stripVTControlCharacters);
  expect(lines.filter((line) => line.length > 80)).toEqual([]);
});

it("the last word names what was lost", () => {
  expect(show.conclusion(report).join("\n")).toContain("mesh: 49,729 connections; 1 lost");
  expect(show.conclusion({ ...report, passed: true }).join("\n")).toContain("none lost, all in order");
});

it("a picture shows no line before the first connection and all of them at the end", () => {
  for (const hub of ["", "▐ SLUICE ▌"]) {
    const none = draw({ sensors: 4, subscribers: 3, share: 0, hub })
      .join("")
      .replaceAll(/[●▐▌A-Z ]/g, "");
    expect(none).toBe("");
    const all = draw({ sensors: 4, subscribers: 3, share: 1, hub });
    expect(all).toHaveLength(4);
    for (const row of all) expect(row).toHaveLength(PICTURE_COLUMNS);
    expect(all.join("")).toMatch(/[\u2801-\u28ff]/);
  }
});
