import { describe, expect, test } from "vitest";
import { parseConfig } from "../../src/config/load.ts";

const STREAMS = "version: 1\nstreams: { commands: {}, telemetry: {}, unmapped: {} }\n";

function problemsOf(yaml: string): string[] {
  try {
    parseConfig(`${STREAMS}${yaml}`, "g.yaml");
    return [];
  } catch (error) {
    return (error as { problems: { message: string }[] }).problems.map(({ message }) => message);
  }
}
const downlink = (to: string, from = "commands") => `downlinks: [{ from: ${from}, to: "${to}" }]\n`;
const mappings = (...rules: [from: string, to: string][]) =>
  `mappings: [${rules.map(([from, to]) => `{ from: "${from}", to: "${to}"${to.includes("$") ? ", limit: 9" : ""} }`).join(", ")}]\n`;

test("a downlink is filled in with defaults", () => {
  const { downlinks } = parseConfig(`${STREAMS}${downlink("devices/${key}/set")}`, "g.yaml").config;
  expect(downlinks).toEqual([
    { name: "commands", from: "commands", to: "devices/${key}/set", qos: 1, retain: false },
  ]);
});

test("what is wrong with one stands at its place", () => {
  expect(() =>
    parseConfig(`${STREAMS}downlinks:\n  - from: comands\n    to: d/\${kee}\n    qos: 3\n`, "g.yaml"),
  ).toThrow(
    `g.yaml:4:11  downlinks[0].from: stream "comands" is not declared under streams; did you mean "commands"?`,
  );
  expect(problemsOf(downlink("d/${kee}/#"))).toEqual([
    'downlinks[0].to: "kee" is not known here; did you mean "key"?',
  ]);
  expect(problemsOf(downlink("d/#"))).toEqual([
    "downlinks[0].to: a message is published to one MQTT topic: no wildcard here",
  ]);
});

describe("what would go round is refused", () => {
  test.each<[string, string]>([
    ["by the same MQTT topic", mappings(["devices/+d/set", "commands"]) + downlink("devices/${key}/set")],
    ["by a wildcard for everything", mappings(["#rest", "commands"]) + downlink("devices/${key}/set")],
    [
      "by a template's stream",
      `mappings: [{ from: devices/+d/+what, to: "\${what}mands", limit: 3 }]\n${downlink("devices/${key}/com")}`,
    ],
    [
      "by a template with a brace in its expression",
      `mappings: [{ from: devices/+d/+what, to: "\${{'a': what}.a + '}'}mands", limit: 3 }]\n${downlink("devices/${key}/com")}`,
    ],
    ["by an MQTT topic that may be any", mappings(["sensors/+", "commands"]) + downlink("${headers.topic}")],
    ["by the fallback", `fallback: commands\n${downlink("devices/${key}/set")}`],
    [
      "over a second stream",
      `${mappings(["a/+", "telemetry"], ["b/+", "commands"])}downlinks: [{ from: commands, to: "a/x" }, { from: telemetry, to: "b/y" }]\n`,
    ],
  ])("%s", (_, yaml) => {
    expect(problemsOf(yaml)[0]).toMatch(/^downlinks\[0\]: what comes from "commands" would go round: /);
  });

  test("in words that name the way", () => {
    const yaml = `${mappings(["a/+", "telemetry"], ["b/+", "commands"])}downlinks: [{ from: commands, to: "a/x" }, { from: telemetry, to: "b/y" }]\n`;
    expect(problemsOf(yaml)).toEqual([
      'downlinks[0]: what comes from "commands" would go round: mappings[0], downlinks[1], mappings[1]',
      'downlinks[1]: what comes from "telemetry" would go round: mappings[1], downlinks[0], mappings[0]',
    ]);
  });
});

describe("what cannot go round is taken", () => {
  test.each<[string, string]>([
    ["other MQTT topics", mappings(["devices/+d/state", "commands"]) + downlink("devices/${key}/set")],
    ["another stream", mappings(["#rest", "telemetry"]) + downlink("devices/${key}/set")],
    [
      "an earlier rule takes it",
      mappings(["devices/+d/set", "telemetry"], ["devices/#rest", "commands"]) +
        downlink("devices/${key}/set"),
    ],
    [
      "a rule takes it before the fallback",
      `fallback: commands\n${mappings(["#rest", "telemetry"])}${downlink("devices/${key}/set")}`,
    ],
  ])("%s", (_, yaml) => {
    expect(problemsOf(yaml)).toEqual([]);
  });
});
