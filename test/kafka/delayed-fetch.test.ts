import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { EndSignal } from "../../src/end-signal.ts";
import { untilReadable } from "../../src/kafka/delayed-fetch.ts";
import { FakeLog, type FakePartition } from "./fake-log.ts";
import { batch, until } from "./harness.ts";

let log: FakeLog;
let partition: FakePartition;
let ended: EndSignal;

beforeEach(async () => {
  log = new FakeLog();
  await log.createStream("s", 1, {}, "config");
  partition = log.partition("s");
  ended = new EndSignal();
});
afterEach(() => ended.end());

const wait = (minBytes: number, maxWaitMs = 60_000) =>
  untilReadable([{ partition, readableBytes: () => partition.sizeBytes }], minBytes, maxWaitMs, ended);

describe("a delayed fetch", () => {
  it("wakes ten thousand waiters by one commit and leaves nothing behind", async () => {
    const waiters = Array.from({ length: 10_000 }, () => wait(1));
    expect(partition.listeners.size).toBe(10_000);
    log.append([{ partition, batch: batch("news") }], () => {});
    await Promise.all(waiters);
    expect(partition.listeners.size).toBe(0);
  });

  it("does not wait for what is there already, for nothing, or for a client that has gone", async () => {
    partition.place(batch("old"));
    await wait(1);
    await untilReadable([], 1, 60_000, ended);
    ended.end();
    await wait(1 << 20);
    expect(partition.listeners.size).toBe(0);
  });

  it("ends with the client, and with its time", async () => {
    const waiters = [wait(1 << 20), wait(1 << 20, 1)];
    await waiters[1];
    expect(partition.listeners.size).toBe(1);
    ended.end();
    await waiters[0];
    await until(() => partition.listeners.size === 0);
  });
});
