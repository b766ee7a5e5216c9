import { describe, expect, test } from "vitest";
import { LogError } from "../../src/errors.ts";
import type { Partition, RecordAppend } from "../../src/log/log.ts";
import { Mapper } from "../../src/mapping/mapper.ts";
import { type TapFilter, type TapGap, type TapLine, Taps } from "../../src/mqtt/taps.ts";
import type { PublishPacket } from "../../src/record.ts";

const mapper = new Mapper(
  [
    { name: "sensors", from: "sensors/+device", to: "telemetry", key: "${device}" },
    { name: "strict", from: "strict/#", to: "telemetry", key: "${payload.id}" },
    { name: "batch", from: "batch/+device", to: "telemetry", key: "${device}", split: "payload.list" },
    { name: "quiet", from: "quiet", to: "telemetry", retained: "skip" },
  ],
  () => 4,
);
const EVERYTHING: TapFilter = { from: [], streams: [], unmatched: false, errors: false };

const packet = (mqttTopic: string, payload = "21.5", more: Partial<PublishPacket> = {}): PublishPacket => ({
  mqttTopic,
  payload: Buffer.from(payload),
  qos: 1,
  retain: false,
  clientId: "c",
  username: undefined,
  receivedAt: 1_767_225_600_000,
  ...more,
});

const placed = (stream: string, index: number, offset: number, internal = false) => ({
  partition: { index, stream: { name: stream, internal } } as Partition,
  offset,
});

/** What the log was given, the first record at offset 7 and so on; with what a session is owed. */
function storedOf(one: PublishPacket): RecordAppend[] {
  const mapping = mapper.map(one);
  if (mapping.outcome !== "mapped") return [];
  const records = mapping.records.map((record, index) => ({
    ...record,
    ...placed(record.stream, record.partition, 7 + index),
  }));
  const first = records[0] as RecordAppend;
  return [...records, { ...first, ...placed("__mqtt_sessions", 0, 99, true) }];
}

/** What a tap shows of these, and then ends. */
async function shown(
  filter: Partial<TapFilter>,
  packets: readonly PublishPacket[],
  refusal: LogError | null = null,
  stored = storedOf,
) {
  const taps = new Taps();
  const gone = new AbortController();
  const tap = taps.open({ ...EVERYTHING, ...filter }, gone.signal) as AsyncIterable<TapLine | TapGap>;
  for (const one of packets) taps.show(one, mapper.map(one), refusal, refusal ? [] : stored(one));
  const lines: (TapLine | TapGap)[] = [];
  const reading = (async () => {
    for await (const line of tap) lines.push(line);
  })();
  await new Promise((resolve) => setImmediate(resolve));
  gone.abort();
  await reading;
  expect(taps.size).toBe(0);
  return lines;
}
const topics = (lines: readonly (TapLine | TapGap)[]) =>
  lines.map((line) => ("topic" in line ? line.topic : line));

const ALL = ["sensors/t1", "strict/a", "elsewhere", "quiet"].map((topic) =>
  packet(topic, "21.5", { retain: topic === "quiet" }),
);

test("a line says what came and what became of it", async () => {
  expect(await shown({}, ALL)).toMatchObject([
    {
      topic: "sensors/t1",
      outcome: "stored",
      payload: "21.5",
      records: [{ stream: "telemetry", key: "t1", partition: 3, offset: 7 }],
    },
    { topic: "strict/a", outcome: "failed", rule: "strict", error: { field: "key" } },
    { topic: "elsewhere", outcome: "unmatched", rule: undefined, records: [] },
    { topic: "quiet", outcome: "skipped", rule: "quiet" },
  ]);
});

test.each<[string, Partial<TapFilter>, string[]]>([
  ["MQTT topics", { from: ["sensors/#", "quiet"] }, ["sensors/t1", "quiet"]],
  ["streams", { streams: ["telemetry"] }, ["sensors/t1"]],
  ["what no mapping takes", { unmatched: true }, ["elsewhere"]],
  ["errors", { errors: true }, ["strict/a"]],
  ["either", { errors: true, unmatched: true }, ["strict/a", "elsewhere"]],
  ["both a topic and a stream", { from: ["quiet"], streams: ["telemetry"] }, []],
])("it can be asked for %s", async (_, filter, expected) => {
  expect(topics(await shown(filter, ALL))).toEqual(expected);
});

test("what is no text is shown as hex", async () => {
  const [line] = await shown({}, [{ ...packet("sensors/t1"), payload: Buffer.from([0xff, 0, 0xd7]) }]);
  expect(line).toMatchObject({ isText: false, payload: "ff00d7", bytes: 3 });
});

test("a record that its stream does not take is a failure, whatever the mapping said", async () => {
  const letter = (one: PublishPacket) => [
    { ...(storedOf(one)[0] as RecordAppend), ...placed("dead-letters", 0, 5) },
  ];
  const [line] = await shown({}, [packet("sensors/t1")], null, letter);
  expect(line).toMatchObject({ outcome: "failed", records: [{ stream: "dead-letters", offset: 5 }] });
});

test("of many records ten are named", async () => {
  const [line] = await shown({}, [packet("batch/a", JSON.stringify({ list: Array(25).fill(1) }))]);
  expect(line).toMatchObject({ outcome: "stored", more: 15 });
  expect((line as TapLine).records.map(({ offset }) => offset)).toEqual([
    7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
  ]);
});

test("what the log refused is said", async () => {
  const [line] = await shown({}, [packet("sensors/t1")], new LogError("READ_ONLY", "the disk failed"));
  expect(line).toMatchObject({
    outcome: "refused",
    records: [],
    error: { field: "READ_ONLY", message: "the disk failed" },
  });
});

describe("it is bounded", () => {
  test("a thousand lines wait, and the rest is counted", async () => {
    const lines = await shown(
      {},
      Array.from({ length: 1_500 }, () => packet("sensors/t1")),
    );
    expect(lines).toHaveLength(1_001);
    expect(lines.at(-1)).toEqual({ missed: 500 });
  });

  test("payloads are cut", async () => {
    const [line] = await shown({}, [packet("sensors/t1", "x".repeat(10_000))]);
    expect(line).toMatchObject({ bytes: 10_000, payload: "x".repeat(512) });
    for (const letter of ["ä", "€", "😀"]) {
      for (const before of ["", "x", "xx", "xxx"]) {
        const [cut] = (await shown({}, [packet("sensors/t1", before + letter.repeat(1_000))])) as [TapLine];
        expect(cut).toMatchObject({ isText: true, payload: expect.stringMatching(/^x*[ä€😀]+$/u) });
        expect(Buffer.byteLength(cut.payload)).toBeGreaterThan(508);
      }
    }
  });

  test("so are the taps", () => {
    const taps = new Taps();
    const { signal } = new AbortController();
    for (let n = 0; n < 16; n++) expect(taps.open(EVERYTHING, signal)).toBeDefined();
    expect(taps.open(EVERYTHING, signal)).toBeUndefined();
  });
});
