import { describe, expect, it, vi } from "vitest";
import { Mapper } from "../../src/mapping/mapper.ts";
import type { MappingError } from "../../src/mapping/outcome.ts";
import { ERROR_HEADER, TOPIC_HEADER } from "../../src/mapping/record-builder.ts";
import type { RuleDefinition } from "../../src/mapping/rule.ts";
import { MappingSyntaxError } from "../../src/mapping/syntax-error.ts";
import { timestampOf } from "../../src/mapping/time.ts";
import { KEYLESS, type MappedRecord, type PublishPacket } from "../../src/record.ts";
import { batchOf, decodeRecords } from "../../src/wire/record-batch.ts";

const temperatures: RuleDefinition = {
  name: "temperatures",
  from: "sensors/+site/+device/temperature",
  to: "telemetry",
  key: "${device}",
  headers: { site: "${site}" },
};
const rest: RuleDefinition = { name: "rest", from: "#rest", to: "unmapped" };

function publish(mqttTopic: string, payload = "{}", more: Partial<PublishPacket> = {}): PublishPacket {
  return {
    mqttTopic,
    payload: Buffer.from(payload),
    qos: 1,
    retain: false,
    clientId: "c1",
    username: undefined,
    receivedAt: 1_767_225_600_000,
    ...more,
  };
}

function mapperOf(rules: RuleDefinition[], partitions = 4): Mapper {
  return new Mapper(rules, (stream) => (stream.startsWith("missing") ? 0 : partitions));
}

type One = MappedRecord & { rule: string; problem: MappingError | undefined };

/** Of a message that becomes one record. */
function mapped(mapper: Mapper, packet: PublishPacket): One {
  const mapping = mapper.map(packet);
  if (mapping.outcome !== "mapped") throw new Error(JSON.stringify(mapping));
  expect(mapping.records).toHaveLength(1);
  const { rule, problem, records } = mapping;
  return { ...(records[0] as MappedRecord), rule, problem };
}

function headersOf(record: MappedRecord): [string, string | undefined][] {
  const [read] = decodeRecords(batchOf([record]));
  return (read?.headers ?? []).map(({ key, value }) => [key, value?.toString()]);
}

describe("the mapper", () => {
  it("makes stream, key, partition and headers from the MQTT topic, the first time and from its cache", () => {
    const mapper = mapperOf([temperatures, rest]);
    for (const payload of ["21.5", "22"]) {
      const record = mapped(mapper, publish("sensors/north/t1/temperature", payload));
      expect(record.stream).toBe("telemetry");
      expect(record.key?.toString()).toBe("t1");
      expect(record.partition).toBe(3);
      expect(record.value?.toString()).toBe(payload);
      expect(record.timestamp).toBe(1_767_225_600_000);
      expect(record.problem).toBeUndefined();
      expect(headersOf(record)).toEqual([
        [TOPIC_HEADER, "sensors/north/t1/temperature"],
        ["site", "north"],
      ]);
    }
  });

  it("decodes a payload once, and only for a rule that looks into it", () => {
    const looks = { when: "payload.v > 20 && payload.v < 90", value: "payload.v", key: "${payload.id}" };
    const mapper = mapperOf([
      { ...rest, from: "a/+d", when: "payload.v > 90" },
      { ...rest, from: "a/+d", ...looks, headers: { v: "${payload.v}" } },
      { ...rest, from: "b/+d", when: "d != 'x'", key: "${clientId}-${d}" },
    ]);
    const reads = (mqttTopic: string): number => {
      const packet = publish(mqttTopic, '{"v":21.5,"id":"t1"}');
      const spy = vi.spyOn(packet.payload, "toString");
      expect(mapper.map(packet).outcome).toBe("mapped");
      return spy.mock.calls.length;
    };
    expect(reads("a/1")).toBe(1);
    expect(reads("b/1")).toBe(0);
  });

  it("takes the first rule that matches, whatever the order in the index", () => {
    const mapper = mapperOf([
      { name: "a", from: "x/+", to: "first" },
      { name: "b", from: "x/y", to: "second" },
      rest,
    ]);
    expect(mapped(mapper, publish("x/y")).rule).toBe("a");
    expect(mapped(mapperOf([rest, temperatures]), publish("sensors/n/t/temperature")).rule).toBe("rest");
  });

  it("leaves the partition of a record without a key to the stream", () => {
    const record = mapped(mapperOf([rest]), publish("a"));
    expect([record.key, record.partition]).toEqual([null, KEYLESS]);
  });

  it("says when nothing matches, and never matches $-topics with a wildcard in front", () => {
    expect(mapperOf([temperatures]).map(publish("other")).outcome).toBe("unmatched");
    expect(mapperOf([rest]).map(publish("$internal/x")).outcome).toBe("unmatched");
  });

  it("uses what belongs to the message", () => {
    const mapper = mapperOf([
      {
        name: "all",
        from: "+kind/#",
        to: "s-${kind}",
        key: "${clientId}/${payload.id}",
        headers: { who: "${username}", how: "${qos}${retain}", whole: "${topic}" },
        timestamp: "${payload.ts}",
      },
    ]);
    const payload = '{"id":7,"ts":"2026-01-01T01:00:00+01:00"}';
    const record = mapped(mapper, publish("k/x", payload, { username: "u", receivedAt: 5 }));
    expect(record.stream).toBe("s-k");
    expect(record.key?.toString()).toBe("c1/7");
    expect(record.timestamp).toBe(1_767_225_600_000);
    expect(headersOf(record)).toEqual([
      [TOPIC_HEADER, "k/x"],
      ["who", "u"],
      ["how", "1false"],
      ["whole", "k/x"],
    ]);
  });

  it("with onError: pass stores a message without what could not be made, and says why in a header", () => {
    const mapper = mapperOf([
      {
        ...temperatures,
        onError: "pass",
        key: "${payload.id}",
        headers: { unit: "${payload.unit}", site: "${site}" },
        timestamp: "${payload.ts}",
      },
    ]);
    const record = mapped(mapper, publish("sensors/north/t1/temperature", '{"ts":1767225600}'));
    expect([record.key, record.partition, record.timestamp]).toEqual([null, KEYLESS, 1_767_225_600_000]);
    expect(record.problem).toMatchObject({ field: "key", position: 2, message: "payload.id has no value" });
    const headers = new Map(headersOf(record));
    expect([...headers.keys()]).toEqual([TOPIC_HEADER, "site", ERROR_HEADER]);
    expect(headers.get(ERROR_HEADER)).toMatch(/key: .*; timestamp: .*seconds.*; headers\.unit: /);
    const text = mapped(mapper, publish("sensors/north/t1/temperature", "not JSON"));
    expect(text.problem?.message).toBe("payload.id has no value");
    expect(text.value?.toString()).toBe("not JSON");
  });

  it("reports a stream that cannot be: no value, no valid name, the gateway's own, not there", () => {
    const to = (template: string, mqttTopic: string) =>
      mapperOf([{ name: "r", from: "+a", to: template }]).map(publish(mqttTopic));
    expect(to("${payload.s}", "x")).toMatchObject({
      outcome: "failed",
      error: { rule: "r", field: "to", position: 2, message: "payload.s has no value" },
    });
    expect(to("${a}", "ä")).toMatchObject({
      outcome: "failed",
      error: { field: "to", message: expect.stringContaining("is no name") },
    });
    expect(to("${a}", "__consumer_offsets")).toMatchObject({ outcome: "failed" });
    expect(to("${a}", "missing-1")).toMatchObject({
      outcome: "unknown stream",
      rule: "r",
      stream: "missing-1",
    });
  });

  it("follows a stream that grows partitions", () => {
    let partitions = 1;
    const mapper = new Mapper([temperatures], () => partitions);
    expect(mapped(mapper, publish("sensors/n/t1/temperature")).partition).toBe(0);
    partitions = 1000;
    expect(mapped(mapper, publish("sensors/n/t1/temperature")).partition).toBeGreaterThan(0);
  });

  it("gives the same records when its cache overflows", () => {
    const small = new Mapper([temperatures, rest], () => 4, { maxCachedTopics: 4, maxCachedBytes: 2_000 });
    const large = mapperOf([temperatures, rest]);
    for (let index = 0; index < 200; index++) {
      const packet = publish(`sensors/n/t${(index * 7) % 23}/${index % 3 === 0 ? "other" : "temperature"}`);
      expect(small.map(packet)).toEqual(large.map(packet));
    }
  });

  it("treats names from JavaScript's prototypes as any others", () => {
    const mapper = mapperOf([
      { name: "p", from: "+__proto__/+constructor", to: "s", key: "${__proto__}-${constructor}" },
    ]);
    expect(mapped(mapper, publish("constructor/__proto__")).key?.toString()).toBe("constructor-__proto__");
  });

  it.each([
    [{ from: "a/#/b" }, ["from"], 2],
    [{ from: "a/+topic" }, ["from"], 3],
    [{ to: "no/slash" }, ["to"], 0],
    [{ to: "__own" }, ["to"], 0],
    [{ key: "x${nope}" }, ["key"], 3],
    [{ headers: { h: "${" } }, ["headers", "h"], 0],
    [{ timestamp: "${payload.}" }, ["timestamp"], 10],
  ])("a rule with %j is refused with field and place", (wrong, path, position) => {
    try {
      mapperOf([{ name: "r", from: "+device", to: "s", ...wrong } as RuleDefinition]);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(MappingSyntaxError);
      expect(error).toMatchObject({ path, position });
    }
  });
});

describe("a timestamp", () => {
  it.each<[unknown, number | RegExp]>([
    [1_767_225_600_000, 1_767_225_600_000],
    [1_767_225_600_000.9, 1_767_225_600_000],
    ["1767225600000", 1_767_225_600_000],
    ["2026-01-01", 1_767_225_600_000],
    ["2026-01-01T00:00:00Z", 1_767_225_600_000],
    ["2026-01-01T00:00:00.250Z", 1_767_225_600_250],
    ["2026-01-01T02:00+0200", 1_767_225_600_000],
    [1_767_225_600, /seconds/],
    ["1767225600", /seconds/],
    [0, /no time/],
    [-1, /no time/],
    [Number.NaN, /no time/],
    [1e18, /no time/],
    ["2026-01-01T00:00:00", /time zone/],
    ["2026-13-01", /no date/],
    ["yesterday", /ISO 8601/],
    [true, /neither/],
    [{}, /neither/],
  ])("%j is %s", (value, expected) => {
    const result = timestampOf(value);
    if (expected instanceof RegExp) expect(result).toMatch(expected);
    else expect(result).toBe(expected);
  });
});

describe("what comes to neither what is wanted nor to text is an error of its rule:", () => {
  const odd = '{"toString": 1, "valueOf": 1}';
  it.each<[string, Partial<RuleDefinition>, string, string]>([
    ["a condition, a number beyond 2^53", { when: "payload" }, "12345678901234567890", "when"],
    ["a condition, a list of such", { when: "payload" }, "[12345678901234567890]", "when"],
    ["a partition, a map with a toString of its own", { partition: "${payload}" }, odd, "partition"],
  ])("%s", (_, more, payload, field) => {
    const mapper = mapperOf([{ ...rest, ...more }]);
    expect(mapper.map(publish("s", payload))).toMatchObject({ outcome: "failed", error: { field } });
  });
});
