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

interface Case {
  readonly title: string;
  readonly yaml: string;
  /** Joined with newlines, all but the last line, which counts. */
  readonly says: readonly string[];
}

const SINGLE: readonly Case[] = [
  {
    title: "an unquoted {device} is a map",
    yaml: "version: 1\nstreams: { t: {} }\nmappings:\n  - from: a/+device\n    to: t\n    key: {device}\n",
    says: [
      "g.yaml:6:10  mappings[0].key must be text, but YAML read {device} as a map",
      "  6 |     key: {device}",
      "    |          ^^^^^^^^  write it as  key: ${device}",
    ],
  },
  {
    title: "{device} with text behind it is no YAML",
    yaml: "version: 1\nmappings:\n  - from: a\n    to: {device}/x\n",
    says: [
      "g.yaml:4:9  YAML reads {device} as a map, and nothing may follow it",
      "  4 |     to: {device}/x",
      "    |         ^^^^^^^^^^  write it as  ${device}/x",
    ],
  },
  {
    title: "a filter that starts with # is a comment",
    yaml: "version: 1\nstreams: { t: }\nmappings:\n  - from: #rest\n    to: t\n",
    says: [
      "g.yaml:4:5  mappings[0].from is empty: YAML reads # as the start of a comment",
      "  4 |   - from: #rest",
      '    |     ^^^^  write it as  from: "#rest"',
    ],
  },
  {
    title: "of ${site} inside { } only the first of many errors is shown",
    yaml: "version: 1\nmappings:\n  - from: a/+site\n    to: t\n    headers: { site: ${site}, b: c }\nx: 1\n",
    says: [
      "g.yaml:5:22  inside { } or [ ] YAML reads the { of ${site} as the start of a map",
      "  5 |     headers: { site: ${site}, b: c }",
      '    |                      ^^^^^^^  quote it: "${site}"',
    ],
  },
  {
    title: "*/x is a reference",
    yaml: "version: 1\nmappings:\n  - from: */x\n    to: t\n",
    says: [
      'g.yaml:3:11  YAML reads * at the start of a value as a reference, and there is no "&/x"',
      "  3 |   - from: */x",
      '    |           ^^^  quote it: "*/x"',
    ],
  },
  {
    title: "an unquoted IPv6 address is a list",
    yaml: "version: 1\nkafka: { bind: [::1]:9092 }\n",
    says: [
      "g.yaml:2:16  YAML reads [::1] as a list",
      "  2 | kafka: { bind: [::1]:9092 }",
      '    |                ^^^^^^^^^^  quote it: "[::1]:9092"',
    ],
  },
  {
    title: "a mapping without a key to a compacted stream",
    yaml: "version: 1\nstreams: { t: { cleanup: compact } }\nmappings:\n  - from: a\n    to: t\n",
    says: [
      'g.yaml:5:9  mappings[0].to: stream "t" is compacted and takes no record without a key',
      "  5 |     to: t",
      "    |         ^  give this mapping a key, e.g. key: ${topic}",
    ],
  },
  {
    title: "a compacted stream for what no mapping matches",
    yaml: "version: 1\nfallback: t\nstreams: { t: { cleanup: compact } }\n",
    says: [
      'g.yaml:2:11  fallback: stream "t" is compacted and takes no record without a key, and what no mapping matches has none',
      "  2 | fallback: t",
      "    |           ^",
    ],
  },
  {
    title: "tabs do not indent",
    yaml: "version: 1\nmqtt:\n\tmaxQueued: 1\n",
    says: ["g.yaml:3:1  YAML takes no tabs for indentation", "  3 | \tmaxQueued: 1", "    | ^  use spaces"],
  },
  {
    title: "a key that is there twice",
    yaml: "version: 1\nname: a\nname: b\n",
    says: [
      'g.yaml:3:1  "name" is written twice in the same map',
      "  3 | name: b",
      "    | ^^^^  keep one of them",
    ],
  },
  {
    title: "a second colon on a line",
    yaml: "version: 1\nname: a: b\n",
    says: [
      'g.yaml:2:7  a second ": " on one line: YAML reads it as a map within the map',
      "  2 | name: a: b",
      "    |       ^  quote the value, or start a new line",
    ],
  },
  {
    title: "a misspelt key is not a missing one too",
    yaml: "version: 1\nstreams: { t: {} }\nmappings:\n  - form: a\n    to: t\n",
    says: [
      'g.yaml:4:5  unknown option "form" in mappings[0]; did you mean "from"?',
      "  4 |   - form: a",
      "    |     ^^^^",
    ],
  },
  {
    title: "a key that is like none",
    yaml: "version: 1\nstreams:\n  t:\n    retention: { days: 7 }\n",
    says: [
      'g.yaml:4:18  unknown option "days" in streams.t.retention',
      "  4 |     retention: { days: 7 }",
      "    |                  ^^^^  it takes time, size, waitForUplink",
    ],
  },
  {
    title: "a key that is missing",
    yaml: "version: 1\nmappings:\n  - from: a\n",
    says: ['g.yaml:3:5  mappings[0] needs "to"', "  3 |   - from: a", "    |     ^^^^"],
  },
  {
    title: "an empty file",
    yaml: "",
    says: ['g.yaml:1:1  the configuration needs "version"', "  1 | ", "    | ^"],
  },
  {
    title: "a time without a unit",
    yaml: "version: 1\nstreams:\n  t: { retention: { time: 7 } }\n",
    says: [
      "g.yaml:3:27  streams.t.retention.time needs a unit",
      "  3 |   t: { retention: { time: 7 } }",
      "    |                           ^  for example 7s",
    ],
  },
  {
    title: "a size in another notation",
    yaml: "version: 1\nmqtt: { maxPacket: 256KB }\n",
    says: [
      'g.yaml:2:20  mqtt.maxPacket has an unknown unit "KB"',
      "  2 | mqtt: { maxPacket: 256KB }",
      "    |                    ^^^^^  write 256KiB",
    ],
  },
  {
    title: "beyond a bound",
    yaml: "version: 1\nmqtt:\n  connectTimeout: 1h\n",
    says: [
      "g.yaml:3:19  mqtt.connectTimeout must be at most 5m, not 1h",
      "  3 |   connectTimeout: 1h",
      "    |                   ^^",
    ],
  },
  {
    title: "a number in quotes",
    yaml: 'version: 1\nkafka: { maxInFlight: "7" }\n',
    says: [
      'g.yaml:2:23  kafka.maxInFlight must be a number, not "7"',
      '  2 | kafka: { maxInFlight: "7" }',
      "    |                       ^^^  write it without quotes: 7",
    ],
  },
  {
    title: "a number where text is meant",
    yaml: "version: 1\nname: 12\n",
    says: [
      "g.yaml:2:7  name must be text, but YAML read 12 as a number",
      "  2 | name: 12",
      '    |       ^^  quote it: "12"',
    ],
  },
  {
    title: "yes for true",
    yaml: "version: 1\nkafka: { autoCreate: { enabled: yes } }\n",
    says: [
      'g.yaml:2:33  kafka.autoCreate.enabled must be true or false, not "yes"',
      "  2 | kafka: { autoCreate: { enabled: yes } }",
      "    |                                 ^^^  write true",
    ],
  },
  {
    title: "a word that is not one of the choices",
    yaml: "version: 1\nlogLevel: warning\n",
    says: [
      'g.yaml:2:11  logLevel must be trace, debug, info, warn, error or silent, not "warning"; did you mean "warn"?',
      "  2 | logLevel: warning",
      "    |           ^^^^^^^",
    ],
  },
  {
    title: "a port without a host",
    yaml: "version: 1\nmqtt: { listeners: [{ type: tcp, bind: 1883 }] }\n",
    says: [
      "g.yaml:2:40  mqtt.listeners[0].bind needs a host before the port",
      "  2 | mqtt: { listeners: [{ type: tcp, bind: 1883 }] }",
      '    |                                        ^^^^  "127.0.0.1:1883" for this machine only, "0.0.0.0:1883" for the network',
    ],
  },
  {
    title: "one port for two listeners",
    yaml: "version: 1\nmqtt:\n  listeners:\n    - { type: tcp, bind: '0.0.0.0:9092' }\n",
    says: [
      "g.yaml:4:26  kafka.bind is 127.0.0.1:9092, but mqtt.listeners[0].bind has this port",
      "  4 |     - { type: tcp, bind: '0.0.0.0:9092' }",
      "    |                          ^^^^^^^^^^^^^^  use another port",
    ],
  },
  {
    title: "a stream that is not declared, and one that nearly is",
    yaml: "version: 1\nstreams:\n  telemetry:\nmappings:\n  - { from: a, to: telemetri }\n",
    says: [
      'g.yaml:5:20  mappings[0].to: stream "telemetri" is not declared under streams; did you mean "telemetry"?',
      "  5 |   - { from: a, to: telemetri }",
      "    |                    ^^^^^^^^^",
    ],
  },
  {
    title: "a stream name that Kafka would not take",
    yaml: "version: 1\nstreams:\n  north wing: {}\n",
    says: [
      'g.yaml:3:3  stream name "north wing" may have letters, digits, dots, _ and - only',
      "  3 |   north wing: {}",
      "    |   ^^^^^^^^^^",
    ],
  },
  {
    title: "a stream name of the gateway's own",
    yaml: "version: 1\nstreams: { __offsets: {} }\n",
    says: [
      'g.yaml:2:12  stream name "__offsets" is reserved: names with __ in front are the gateway\'s own',
      "  2 | streams: { __offsets: {} }",
      "    |            ^^^^^^^^^",
    ],
  },
  {
    title: "a stream that could not hold what MQTT lets in",
    yaml: "version: 1\nstreams: { t: { maxMessage: 100KiB } }\n",
    says: [
      "g.yaml:2:29  streams.t.maxMessage is smaller than mqtt.maxPacket, which is 256KiB: larger messages could never be stored",
      "  2 | streams: { t: { maxMessage: 100KiB } }",
      "    |                             ^^^^^^",
    ],
  },
  {
    title: "two mappings of one name",
    yaml: "version: 1\nstreams: { t: {} }\nmappings:\n  - { name: x, from: a, to: t }\n  - { name: x, from: b, to: t }\n",
    says: [
      'g.yaml:5:13  mappings[0] has the name "x" already',
      "  5 |   - { name: x, from: b, to: t }",
      "    |             ^",
    ],
  },
  {
    title: "an invalid wildcard, at its place within the text",
    yaml: "version: 1\nstreams: { t: {} }\nmappings:\n  - { from: 'a/#/b', to: t }\n",
    says: [
      "g.yaml:4:16  mappings[0].from: '#' must be the last level",
      "  4 |   - { from: 'a/#/b', to: t }",
      "    |                ^  use + for one level in the middle",
    ],
  },
  {
    title: "a name that the filter does not give",
    yaml: "version: 1\nstreams: { t: {} }\nmappings:\n  - from: a/+device\n    to: t\n    key: k-${devise}\n",
    says: [
      'g.yaml:6:14  mappings[0].key: "devise" is not known here; did you mean "device"?',
      "  6 |     key: k-${devise}",
      "    |              ^^^^^^  available: device, topic, clientId, username, qos, retain, receivedAt, payload",
    ],
  },
];

describe("a wrong configuration", () => {
  test.each(SINGLE)("$title", ({ yaml, says }) => {
    expect(complaint(yaml)).toBe([...says, "1 problem"].join("\n"));
  });

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
    expect(complaint(`version: 1\n${levels.join("\n")}\n`)).toMatch(/alias/i);
  });
});
