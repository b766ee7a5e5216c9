import { PassThrough } from "node:stream";
import { expect, it, vi } from "vitest";
import { LogError } from "../../src/errors.ts";
import type { RecordAppend } from "../../src/log/log.ts";
import { DEFAULT_MQTT_LIMITS } from "../../src/mqtt/limits.ts";
import type { Connection } from "../../src/mqtt/outbox.ts";
import { Queue } from "../../src/mqtt/queue.ts";
import type { StateStore } from "../../src/mqtt/state-store.ts";

it("deletes what means nothing any more when the disk takes writes again, if it did not before", async () => {
  let refusal: LogError | null = new LogError("READ_ONLY", "no");
  const written: unknown[] = [];
  const store = {
    entry: (kind: string, key: object, value: unknown) => ({ kind, ...key, value }),
    append: (entries: readonly RecordAppend[], done: (error: LogError | null) => void) => {
      if (refusal === null) written.push(...entries);
      const error = refusal;
      queueMicrotask(() => done(error));
    },
  } as unknown as StateStore;
  const queue = new Queue(DEFAULT_MQTT_LIMITS, store);
  for (const number of [1, 2]) queue.deleteLater("queued", { number });
  await queue.flush();
  expect(written).toEqual([]);
  refusal = null;
  await queue.flush();
  expect(written).toEqual([1, 2].map((number) => ({ kind: "queued", number, value: null })));
});

it("writes what has been acknowledged once in 20 ms, and at once where it is much or somebody waits for it", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  try {
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    const written: { kind: string; value: unknown }[][] = [];
    let number = 0;
    const store = {
      newNumber: () => ++number,
      entry: (kind: string, key: object, value: unknown) => ({ kind, ...key, value }),
      append: (entries: readonly RecordAppend[], done: (error: null) => void) => {
        written.push(entries as never);
        queueMicrotask(() => done(null));
      },
    } as unknown as StateStore;
    const queue = new Queue(DEFAULT_MQTT_LIMITS, store);
    const outbox = queue.newOutbox(1);
    outbox.attach({ id: "s", clean: false, closed: false, conn: new PassThrough() } as unknown as Connection);
    let sent = 0;
    /** A message that goes out and is acknowledged; the packet ids follow from the order. */
    const acknowledged = (qos: 1 | 2): void => {
      queue.change({ topic: "t", payload: Buffer.from("1") }, new Map([[outbox, qos]]))?.settle?.(true);
      if (qos === 1) queue.completed(outbox, "puback", ++sent);
    };
    for (let n = 0; n < 10; n++) {
      acknowledged(1);
      await turn();
    }
    expect(written).toHaveLength(0);
    vi.advanceTimersByTime(20);
    await turn();
    expect(written).toHaveLength(1);
    const floorOf = (at: number) => {
      const progress = written[at]?.find(({ kind }) => kind === "progress");
      return (progress?.value as { floor: number } | undefined)?.floor;
    };
    expect(floorOf(0)).toBe(10);

    for (let n = 0; n < 63; n++) acknowledged(1);
    await turn();
    expect(written).toHaveLength(1);
    acknowledged(1);
    await turn();
    expect(written).toHaveLength(2);
    expect(floorOf(1)).toBe(74);

    acknowledged(2);
    const saved = queue.released(outbox, ++sent); // a PUBREL is due
    await turn();
    await saved;
    expect(written).toHaveLength(3);
  } finally {
    vi.useRealTimers();
  }
});
