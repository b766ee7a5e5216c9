import { describe, expect, test } from "vitest";
import { parseConfig } from "../../src/config/load.ts";
import { ConfigError } from "../../src/config/problems.ts";

/** What a person reads about a configuration. */
function complaint(yaml: string): string {
  try {
    parseConfig(yaml, "g.yaml");
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).exitCode).toBe(78);
    return (error as ConfigError).message;
  }
  throw new Error("the configuration was taken");
}

describe("a wrong configuration", () => {
  test("shows all that is wrong at once, in the order of the file, the places aligned", () => {
    const yaml = `version: 1
streams:
  telemetry: { partitions: 0 }
mqtt:
  maxPaket: 1MiB
mappings:
  - name: a
    from: +x/#
    to: telemetry
    headers: { y: "\${x", z: "\${nix}" }
`;
    expect(complaint(yaml)).toBe(
      [
        "g.yaml:3:28   streams.telemetry.partitions must be at least 1, not 0",
        "  3 |   telemetry: { partitions: 0 }",
        "    |                            ^",
        'g.yaml:5:3    unknown option "maxPaket" in mqtt; did you mean "maxPacket"?',
        "  5 |   maxPaket: 1MiB",
        "    |   ^^^^^^^^",
        "g.yaml:10:20  mappings[0].headers.y: this ${ is not closed",
        '  10 |     headers: { y: "${x", z: "${nix}" }',
        "     |                    ^^  close it with }, or write $${ for a plain ${",
        'g.yaml:10:32  mappings[0].headers.z: "nix" is not known here',
        '  10 |     headers: { y: "${x", z: "${nix}" }',
        "     |                                ^^^  available: x, topic, clientId, username, qos, retain, receivedAt, payload",
        "4 problems",
      ].join("\n"),
    );
  });

  test("a file that exhausts memory by references is refused", () => {
    const levels = Array.from({ length: 12 }, (_, level) => {
      const of = level === 0 ? "x" : `*a${level - 1}`;
      return `a${level}: &a${level} [${Array(9).fill(of).join(", ")}]`;
    });
    expect(complaint(`version: 1\n${levels.join("\n")}\n`)).toMatch(/expand to more than 10000 values/);
  });
});

describe("what is no mistake but worth a look", () => {
  const notes = (yaml: string) =>
    parseConfig(`version: 1\n${yaml}`, "g.yaml").notes.map(
      ({ place, message }) => `${place.label} ${message}`,
    );

  test("is a stream that nothing writes", () => {
    expect(notes("streams:\n  a:\n  b:\nmappings: [{ from: x, to: a }]\n")).toEqual([
      'g.yaml:4:3 no mapping writes stream "b"; that is right if a Kafka producer does',
    ]);
  });

  test("is none that a template, an also, the fallback, dead letters or a downlink accounts for", () => {
    const streams = "streams: { a-1: , b: , c: , dead-letters: , commands: }\nfallback: c\n";
    const downlink = 'downlinks: [{ from: commands, to: "d/${key}" }]\n';
    const mapping = 'mappings: [{ from: "x/+n", to: "a-${n}", limit: 3, also: [{ to: b }] }]\n';
    expect(notes(streams + downlink + mapping)).toEqual([]);
  });
});
