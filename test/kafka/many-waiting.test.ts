/** Ten thousand consumers that wait on one partition: one pass wakes them all, and all get the same bytes. */
import { expect, it } from "vitest";
import { EndSignal } from "../../src/end-signal.ts";
import type { ClientContext } from "../../src/kafka/api.ts";
import { fetch } from "../../src/kafka/apis/01-fetch.ts";
import { ByteBudget } from "../../src/kafka/byte-budget.ts";
import { ReadAhead } from "../../src/kafka/read-ahead.ts";
import { encodeReply } from "../../src/kafka/request.ts";
import { Turns } from "../../src/turns.ts";
import { append, openStore, partitionOf, record } from "../support/log.ts";
import { MemoryFileSystem } from "../support/memory-file-system.ts";

const CONSUMERS = 10_000;
const header = { version: 11, correlationId: 1, clientId: null };

it("wakes ten thousand waiting fetches in one pass, and sends all of them the same buffer", async () => {
  const log = await openStore("/data", { fileSystem: new MemoryFileSystem() });
  const partition = partitionOf(await log.createStream("news", 1, {}, "protocol"));
  const memory = new ByteBudget(64 << 20);
  const turns = new Turns();
  const waiting = Array.from({ length: CONSUMERS }, () => {
    const ahead = new ReadAhead(memory);
    const context = { log, memory, ahead, turns, signal: new EndSignal() } as unknown as ClientContext;
    const partitions = [{ partition: 0, fetchOffset: 0, partitionMaxBytes: 1 << 20, currentLeaderEpoch: -1 }];
    const body = {
      topics: [{ topic: "news", partitions }],
      sessionEpoch: -1,
      maxWaitMs: 300_000,
      minBytes: 1,
    };
    return fetch.handle({ ...body, maxBytes: 1 << 20, isolationLevel: 0 } as never, context, header);
  });
  let passes = 0;
  partition.onCommit(() => passes++);
  await append(log, [record(partition, "k", "the news")]);
  const answers = await Promise.all(waiting);
  expect(passes).toBe(1);

  const buffers = new Set<ArrayBufferLike>();
  const places = new Set<number>();
  for (const answer of answers) {
    const [piece] = answer?.responses?.[0]?.partitions?.[0]?.records ?? [];
    const records = piece as Buffer;
    buffers.add(records.buffer);
    places.add(records.byteOffset);
    // As it goes to the socket: the encoded reply has the very batch in it, not a copy.
    const pieces = encodeReply({ ...header, api: fetch, body: {} } as never, answer as never);
    expect(pieces).toContain(records);
  }
  expect([buffers.size, places.size]).toEqual([1, 1]);
});
