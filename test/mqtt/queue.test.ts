import { expect, it } from "vitest";
import { LogError } from "../../src/errors.ts";
import type { RecordAppend } from "../../src/log/log.ts";
import { DEFAULT_MQTT_LIMITS } from "../../src/mqtt/limits.ts";
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
