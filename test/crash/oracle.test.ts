import { expect, it } from "vitest";
import { settingsOf } from "./actor.ts";
import { Books, type Incoming } from "./books.ts";
import { type AppendFacts, type LogContent, Oracle, type StreamContent, timeOf } from "./oracle.ts";

it("expects appends in the order in which they were asked for, whenever their refusals came", () => {
  const oracle = new Oracle();
  const settings = settingsOf({});
  oracle.changeRequested({ kind: "create", name: "a", partitions: 1, settings });
  oracle.changeAcknowledged();
  const append = (id: number): AppendFacts => {
    const record = { id, key: null, value: null, timestamp: timeOf(id) };
    return { id, records: [{ stream: "a", partition: 0, record }] };
  };
  oracle.requested(append(0));
  oracle.requested(append(1));
  oracle.refused(append(1));
  oracle.refused(append(0));
  const content = (...ids: number[]): LogContent => {
    const records = ids.map((id, offset) => ({ offset, id }));
    const stream: StreamContent = { settings, partitions: [{ start: 0, end: ids.length, records }] };
    return new Map([["a", stream]]);
  };
  oracle.judge(content(0, 1), new Map([["a/0", 0]]));
  expect(() => oracle.judge(content(1, 0), new Map([["a/0", 0]]))).toThrow("record 0 out of order");
});

it("expects a client that is told of no session to take a packet id for a new message", () => {
  const books = new Books();
  const message = {
    client: "p",
    mqttTopic: "t",
    qos: 2,
    retain: false,
    isWill: false,
    clears: false,
  } as const;
  const publish = (id: number): Incoming => ({
    ...{ cmd: "publish", messageId: 7, qos: 2, retain: false, payload: `${id}:` },
    ...{ sessionPresent: false, returnCode: 0 },
  });
  books.subscribing("s", 2);
  for (const id of [0, 1]) books.published({ ...message, id, padding: 0 }, id + 1);
  books.take("s", publish(0));
  // The power went before the subscription was acknowledged: its session and what was sent to it are gone.
  books.gatewayDied();
  books.connected("s", false, undefined);
  books.take("s", { ...publish(1), cmd: "suback" });
  books.take("s", publish(1));
  expect([...books.client("s").delivered]).toEqual([
    [0, 1],
    [1, 1],
  ]);
});
