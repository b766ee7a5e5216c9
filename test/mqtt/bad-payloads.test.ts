/** Payloads that are not what they claim to be: acknowledged, on disk with their reason, and nothing else harmed. */
import { expect, test } from "vitest";
import type { RuleDefinition } from "../../src/mapping/rule.ts";
import { openStore, partitionOf, readAll } from "../support/log.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { eventually, RawClient, startBroker } from "./support.ts";

const PACKET = 240 * 1024;

const BAD: readonly (readonly [name: string, payload: string | Buffer, reason: RegExp])[] = [
  ["JSON that breaks off", '{"id": 1, "t":', /^the payload is not JSON: /],
  ["NaN", '{"id": 1, "t": NaN}', /NaN is not a JSON value$/],
  ["a field that is there twice", '{"id": 1, "id": 2, "t": 1}', /the field "id" twice/],
  ["bytes that are no UTF-8", Buffer.from([0x7b, 0xff, 0x7d]), /its bytes are no UTF-8$/],
  ["nested brackets, as many as a packet holds", "[".repeat(PACKET), /nests more than 64 deep$/],
  ["nested maps", '{"a":'.repeat(PACKET / 6), /nests more than 64 deep$/],
  ["a number of 100,000 digits", `{"id": ${"9".repeat(100_000)}, "t": 1}`, /a number of 100000 digits$/],
  ["text where a number is meant", '{"id": 1, "t": "warm"}', /needs two numbers, not text and a number$/],
  ["a field that only prototypes have", '{"id": 1}', /payload\.t has no value$/],
  [
    "a list that costs too much",
    `{"id": 1, "t": 1, "l": [${"1,".repeat(40_000)}1]}`,
    /more than the \d+ steps/,
  ],
];

test("what is wrong with a payload is a dead letter with its reason, and the next message is mapped", async () => {
  const store = await openStore(await temporaryFolder());
  await store.createStream("readings", 1, {}, "config");
  const rule: RuleDefinition = {
    name: "readings",
    from: "s/+",
    to: "readings",
    payload: "json",
    key: "${payload.id}",
    value: '{"t": payload.t * 2, "sum": payload.?l.orValue([]).map(x, x * 2 + x - x).size()}',
  };
  const { port, ingest } = await startBroker(store, {
    rules: [rule],
    limits: { maxPacketBytes: 256 * 1024 },
    ingest: { deadLetterStream: "dead-letters" },
  });
  const client = await RawClient.connect(port, "c");
  for (const [index, [, payload]] of BAD.entries()) {
    client.publish("s/bad", payload as string, 1, 2 * index + 1);
    client.publish("s/good", `{"id":"__proto__","t":${index}}`, 1, 2 * index + 2);
  }
  await client.until("puback", 2 * BAD.length);
  await eventually(() => expect(ingest.stats.deadLettered).toBe(BAD.length));
  const letters = await readAll(partitionOf(store.stream("dead-letters")));
  expect(letters).toHaveLength(BAD.length);
  for (const [index, [name, payload, reason]] of BAD.entries()) {
    const headers = new Map(letters[index]?.headers.map(({ key, value }) => [key, String(value)]));
    expect(headers.get("sluice.mapping.error"), name).toMatch(reason);
    expect(headers.get("sluice.mapping.rule")).toBe("readings");
    expect(letters[index]?.value?.equals(Buffer.from(payload as string)), name).toBe(true);
  }
  const good = await readAll(partitionOf(store.stream("readings")));
  expect(good.map(({ value }) => String(value))).toEqual(BAD.map((_, index) => `{"t":${index * 2},"sum":0}`));
});

test("a dead letter that its stream is too small for is counted and acknowledged: it would come again for ever", async () => {
  const store = await openStore(await temporaryFolder());
  await store.createStream("dead-letters", 1, { maxMessageBytes: 1_000 }, "config");
  const rule: RuleDefinition = {
    name: "r",
    from: "s/+",
    to: "readings",
    payload: "json",
    key: "${payload.id}",
  };
  await store.createStream("readings", 1, {}, "config");
  const { port, ingest } = await startBroker(store, {
    rules: [rule],
    ingest: { deadLetterStream: "dead-letters" },
  });
  const client = await RawClient.connect(port, "c");
  client.publish("s/bad", "x".repeat(990), 1, 1);
  client.publish("s/bad", "x", 1, 2);
  await client.until("puback", 2);
  expect(ingest.stats).toMatchObject({ droppedFailed: 1, deadLettered: 1, refused: 0 });
});
