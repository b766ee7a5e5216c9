import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ErrorCode } from "../../src/kafka/error-code.ts";
import { Turns } from "../../src/turns.ts";
import { crc32c } from "../../src/wire/crc32c.ts";
import { batchOf, recordsOf } from "../../src/wire/record-batch.ts";
import {
  type Broker,
  batch,
  type Client,
  fetchBody,
  produceBody,
  record,
  startBroker,
  until,
} from "./harness.ts";

let broker: Broker;
let client: Client;

beforeEach(async () => {
  broker = await startBroker();
  await broker.log.createStream("s", 2, {}, "config");
  client = await broker.connect();
});
afterEach(() => broker.close());

async function produce(body: object, version = 9) {
  const { responses } = await client.send("Produce", version, body);
  return responses[0].partitionResponses[0];
}

async function fetch(body: object, version = 12) {
  const { responses } = await client.send("Fetch", version, body);
  return responses[0].partitions[0];
}

const valuesOf = (records: readonly Buffer[]) =>
  [...recordsOf(records)].map(({ value }) => value?.toString());

/** The batch with attribute bits set and its checksum made good. */
function withAttributes(bits: number): Buffer {
  const changed = batch("a");
  changed.writeInt16BE(bits, 21);
  changed.writeUInt32BE(crc32c(changed.subarray(21)), 17);
  return changed;
}

describe("Produce", () => {
  it.each([3, 7, 8, 11])(
    "version %i answers with the offset after the commit, and Fetch gives the bytes back",
    async (version) => {
      expect(await produce(produceBody("s", batch("a", "b")), version)).toMatchObject({
        errorCode: 0,
        baseOffset: 0,
      });
      expect(await produce(produceBody("s", batch("c"), 1), version)).toMatchObject({
        errorCode: 0,
        baseOffset: 2,
      });
      for (const fetchVersion of [4, 11, 12]) {
        const { records, highWatermark, lastStableOffset } = await fetch(fetchBody("s", 1), fetchVersion);
        expect({ highWatermark, lastStableOffset }).toEqual({ highWatermark: 3, lastStableOffset: 3 });
        expect(valuesOf(records)).toEqual(["a", "b", "c"]);
      }
    },
  );

  it("is answered only after the commit", async () => {
    const release = broker.log.hold();
    let answered = false;
    const answer = produce(produceBody("s", batch("a"))).then(() => {
      answered = true;
    });
    await until(() => broker.server.stats.requests === 1);
    await new Promise(setImmediate);
    expect(answered).toBe(false);
    release();
    await answer;
  });

  it("gives no answer for acks=0, and closes the connection on an error there", async () => {
    client.socket.write(client.frame("Produce", 7, produceBody("s", batch("a"), 0)));
    await until(() => broker.log.partition("s").highWatermark === 1);
    await client.send("ApiVersions", 0, {});
    expect(client.order).toEqual([1]);
    client.socket.write(client.frame("Produce", 7, produceBody("missing", batch("a"), 0)));
    await client.closed;
  });

  it("keeps pipelined requests in order", async () => {
    const answers = Array.from({ length: 20 }, (_, index) => produce(produceBody("s", batch(`${index}`))));
    expect((await Promise.all(answers)).map(({ baseOffset }) => baseOffset)).toEqual([...Array(20).keys()]);
    const { records } = await fetch(fetchBody("s", 0));
    expect(valuesOf(records)).toEqual(Array.from({ length: 20 }, (_, index) => `${index}`));
  });

  it("gives each partition its own error and writes the others", async () => {
    const damaged = batch("x");
    damaged[damaged.length - 1] = (damaged.at(-1) as number) ^ 1;
    const { responses } = await client.send("Produce", 9, {
      acks: -1,
      topicData: [
        {
          name: "s",
          partitionData: [
            { index: 0, records: [damaged] },
            { index: 1, records: [batch("good")] },
            { index: 2, records: [batch("nowhere")] },
          ],
        },
        { name: "missing", partitionData: [{ index: 0, records: [batch("nowhere")] }] },
      ],
    });
    const codes = responses.map((stream: { partitionResponses: { errorCode: number }[] }) =>
      stream.partitionResponses.map(({ errorCode }) => errorCode),
    );
    expect(codes).toEqual([
      [ErrorCode.CORRUPT_MESSAGE, 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION],
      [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION],
    ]);
    expect(broker.log.partition("s", 1).highWatermark).toBe(1);
  });

  it("finds streams by their ids from version 13 on, and tells an unknown one", async () => {
    const [known, unknown] = [broker.log.stream("s")?.id as string, "AAAAAAAAAAAAAAAAAAAAAQ"];
    const partitionData = () => [{ index: 0, records: [batch("by id")] }];
    const { responses } = await client.send("Produce", 13, {
      ...{ acks: -1, timeoutMs: 1000 },
      topicData: [known, unknown].map((topicId) => ({ topicId, partitionData: partitionData() })),
    });
    expect(responses).toMatchObject([
      { topicId: known, partitionResponses: [{ index: 0, errorCode: ErrorCode.NONE }] },
      { topicId: unknown, partitionResponses: [{ index: 0, errorCode: ErrorCode.UNKNOWN_TOPIC_ID }] },
    ]);
    expect(broker.log.partition("s").highWatermark).toBe(1);
  });

  it("answers versions before 3 with UNSUPPORTED_VERSION in the body", async () => {
    for (const version of [0, 1, 2]) {
      expect(await produce(produceBody("s", batch("a")), version)).toMatchObject({
        errorCode: ErrorCode.UNSUPPORTED_VERSION,
        baseOffset: -1,
      });
    }
  });

  it.each([
    ["acks other than -1, 0 and 1", produceBody("s", batch("a"), 2), ErrorCode.INVALID_REQUIRED_ACKS],
    ["no records", produceBody("s", null), ErrorCode.INVALID_RECORD],
    ["an empty record set", produceBody("s", Buffer.alloc(0)), ErrorCode.INVALID_RECORD],
    ["two batches", produceBody("s", Buffer.concat([batch("a"), batch("b")])), ErrorCode.INVALID_RECORD],
    ["a batch cut short", produceBody("s", batch("abc").subarray(0, 63)), ErrorCode.CORRUPT_MESSAGE],
    ["a transactional batch", produceBody("s", withAttributes(0x10)), ErrorCode.INVALID_TXN_STATE],
    ["a control batch", produceBody("s", withAttributes(0x20)), ErrorCode.INVALID_RECORD],
    ["an unknown compression", produceBody("s", withAttributes(5)), ErrorCode.UNSUPPORTED_COMPRESSION_TYPE],
    [
      "a transactional id",
      { ...produceBody("s", batch("a")), transactionalId: "t" },
      ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    ],
  ])("refuses %s", async (_, body, errorCode) => {
    expect(await produce(body)).toMatchObject({ errorCode, baseOffset: -1 });
    expect(broker.log.partition("s").highWatermark).toBe(0);
  });

  it("takes zstd from version 7 on only (KIP-110)", async () => {
    const zstd = produceBody("s", withAttributes(4));
    expect((await produce(zstd, 6)).errorCode).toBe(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE);
    expect((await produce(zstd, 7)).errorCode).toBe(0);
  });

  it("does not let clients write the gateway's own streams, which they may read", async () => {
    await broker.log.createStream("__own", 1, {}, "internal");
    expect((await produce(produceBody("__own", batch("a")))).errorCode).toBe(
      ErrorCode.INVALID_TOPIC_EXCEPTION,
    );
    expect((await fetch(fetchBody("__own", 0))).errorCode).toBe(0);
  });
});

describe("Fetch", () => {
  it.each([13, 16, 17])(
    "version %i goes by the stream's id, and knows when there is none",
    async (version) => {
      await produce(produceBody("s", batch("a")));
      const { topics, ...rest } = fetchBody("s", 0) as { topics: { topic: string; partitions: object[] }[] };
      const ask = (topicId: string) =>
        client.send("Fetch", version, {
          ...rest,
          topics: topics.map(({ partitions }) => ({ topicId, partitions })),
        });
      const topicId = broker.log.stream("s")?.id as string;
      const { responses } = await ask(topicId);
      expect(responses[0].topicId).toBe(topicId);
      expect(valuesOf(responses[0].partitions[0].records)).toEqual(["a"]);
      const unknown = await ask("AAAAAAAAAAAAAAAAAAAABQ");
      expect(unknown.responses[0].partitions[0].errorCode).toBe(ErrorCode.UNKNOWN_TOPIC_ID);
    },
  );

  it("gives the whole batch that contains the offset", async () => {
    await produce(produceBody("s", batch("a", "b", "c")));
    expect(valuesOf((await fetch(fetchBody("s", 2))).records)).toEqual(["a", "b", "c"]);
  });

  it("waits for data and is woken by the commit", async () => {
    const waiting = fetch(fetchBody("s", 0, { maxWaitMs: 60_000 }));
    await until(() => broker.log.partition("s").listeners.size === 1);
    const writer = await broker.connect();
    await writer.send("Produce", 9, produceBody("s", batch("news")));
    expect(valuesOf((await waiting).records)).toEqual(["news"]);
    expect(broker.log.partition("s").listeners.size).toBe(0);
  });

  it("waits until min_bytes have gathered over all its partitions", async () => {
    const size = batch("1").length;
    const body = {
      maxWaitMs: 60_000,
      minBytes: size * 3,
      maxBytes: 1 << 20,
      topics: [
        {
          topic: "s",
          partitions: [0, 1].map((partition) => ({ partition, fetchOffset: 0, partitionMaxBytes: 1 << 20 })),
        },
      ],
    };
    const waiting = client.send("Fetch", 12, body);
    const writer = await broker.connect();
    for (const [value, index] of [
      ["1", 0],
      ["2", 1],
    ] as const) {
      await writer.send("Produce", 9, produceBody("s", batch(value), -1, index));
      expect(broker.log.partition("s").listeners.size).toBe(1);
    }
    await writer.send("Produce", 9, produceBody("s", batch("3"), -1, 1));
    const [{ partitions }] = (await waiting).responses;
    expect(partitions.map(({ records }: { records: Buffer[] }) => valuesOf(records))).toEqual([
      ["1"],
      ["2", "3"],
    ]);
  });

  it("answers with what there is when max_wait has passed", async () => {
    await produce(produceBody("s", batch("a")));
    const answer = await fetch(fetchBody("s", 0, { maxWaitMs: 5, minBytes: 1 << 20 }));
    expect(valuesOf(answer.records)).toEqual(["a"]);
    expect(await fetch(fetchBody("s", 1, { maxWaitMs: 5 }))).toMatchObject({
      errorCode: 0,
      highWatermark: 1,
    });
  });

  it("returns the first batch even when it is larger than every limit", async () => {
    await produce(produceBody("s", batch("large", "larger")));
    await produce(produceBody("s", batch("next")));
    const answer = await fetch(fetchBody("s", 0, { maxBytes: 1, partitionMaxBytes: 1 }));
    expect(valuesOf(answer.records)).toEqual(["large", "larger"]);
  });

  it("keeps to max_bytes over all partitions, in the order asked, also when reads come from disk", async () => {
    const size = batch("0").length;
    for (const index of [0, 1]) {
      broker.log.partition("s", index).readsAreAsync = true;
      for (const value of ["0", "1", "2"]) await produce(produceBody("s", batch(value), -1, index));
    }
    const ask = async (maxBytes: number, partitionMaxBytes: number, order: number[]) => {
      const partitions = order.map((partition) => ({ partition, fetchOffset: 0, partitionMaxBytes }));
      const { responses } = await client.send("Fetch", 12, {
        maxBytes,
        topics: [{ topic: "s", partitions }],
      });
      return responses[0].partitions.map(({ records }: { records: Buffer[] }) => valuesOf(records));
    };
    expect(await ask(size * 4, 1 << 20, [0, 1])).toEqual([["0", "1", "2"], ["0"]]);
    expect(await ask(size * 4, size * 2, [1, 0])).toEqual([
      ["0", "1"],
      ["0", "1"],
    ]);
    expect(await ask(size * 3 + 1, 1 << 20, [1, 0])).toEqual([["0", "1", "2"], []]);
    // A batch that does not fit is left for the next fetch unless it would be the first of the answer.
    expect(await ask(1 << 20, size - 1, [0, 1])).toEqual([["0"], []]);
  });

  it("answers with at most 8 MiB, and with 4 beside sensors, however much is asked for", async () => {
    await broker.close();
    const turns = new Turns();
    broker = await startBroker({}, undefined, turns);
    await broker.log.createStream("s", 1, {}, "config");
    client = await broker.connect();
    const mebibyte = batch("x".repeat((1 << 20) - 1_000));
    for (let index = 0; index < 10; index++) await produce(produceBody("s", mebibyte));
    const all = fetchBody("s", 0, { maxBytes: 1 << 30, partitionMaxBytes: 1 << 30 });
    expect(valuesOf((await fetch(all)).records)).toHaveLength(8);
    turns.present({}, performance.now());
    expect(valuesOf((await fetch(all)).records)).toHaveLength(4);
  });

  it("goes on in small steps when the server's memory is nearly spent", async () => {
    await broker.close();
    broker = await startBroker({ maxBufferedBytes: 300_000 });
    await broker.log.createStream("s", 1, {}, "config");
    client = await broker.connect();
    const value = "x".repeat(60_000);
    for (let index = 0; index < 10; index++) await produce(produceBody("s", batch(value)));
    let offset = 0;
    while (offset < 10) {
      const { records } = await fetch(
        fetchBody("s", offset, { maxBytes: 1 << 24, partitionMaxBytes: 1 << 24 }),
      );
      const values = valuesOf(records);
      expect(values.length).toBeGreaterThan(0);
      expect(values.length).toBeLessThan(5);
      offset += values.length;
    }
  });

  it("counts what it has read for an answer while it reads the rest of it", async () => {
    await broker.close();
    broker = await startBroker({ maxBufferedBytes: 64 << 20 });
    await broker.log.createStream("s", 2, {}, "config");
    client = await broker.connect();
    for (const index of [0, 1]) await produce(produceBody("s", batch("x".repeat(900_000)), -1, index));
    const [first, second] = [broker.log.partition("s", 0), broker.log.partition("s", 1)];
    first.readsAreAsync = true;
    const read = second.read.bind(second);
    const slow: (() => void)[] = [];
    second.read = async (offset, maxBytes) => {
      await new Promise<void>((resolve) => slow.push(resolve));
      return read(offset, maxBytes);
    };
    const partitions = [0, 1].map((partition) => ({
      ...{ partition, fetchOffset: 0, partitionMaxBytes: 1 << 24 },
    }));
    const answers: Promise<unknown>[] = [];
    for (let asked = 1; asked <= 10; asked++) {
      const one = await broker.connect();
      answers.push(one.send("Fetch", 12, { maxBytes: 1 << 24, topics: [{ topic: "s", partitions }] }));
      await until(() => slow.length === asked);
      expect(broker.server.stats.bufferedBytes).toBeGreaterThan(asked * 900_000);
    }
    for (const go of slow) go();
    await Promise.all(answers);
    await until(() => broker.server.stats.bufferedBytes === 0);
  });

  it("gives out the room that there is, and not to each of many what there was for one", async () => {
    const value = "x".repeat(900_000);
    for (let at = 0; at < 20; at++) await produce(produceBody("s", batch(value), -1, 1));
    const partition = broker.log.partition("s", 1);
    partition.readsAreAsync = true;
    const read = partition.read.bind(partition);
    let most = 0;
    partition.read = (offset, maxBytes) => {
      setImmediate(() => {
        most = Math.max(most, broker.server.stats.bufferedBytes);
      });
      return read(offset, maxBytes);
    };
    const partitions = [0, 1].map((index) => ({
      ...{ partition: index, fetchOffset: 0, partitionMaxBytes: 1 << 24 },
    }));
    const ask = { maxBytes: 1 << 24, topics: [{ topic: "s", partitions }] };
    await Promise.all(Array.from({ length: 40 }, () => client.send("Fetch", 12, ask)));
    // Three quarters of the server's memory, and one batch for everybody.
    expect(most).toBeLessThan((48 << 20) + 40 * 1_000_000);
    expect(most).toBeGreaterThan(20 << 20);
  });

  it("tells an unknown partition, an offset out of range, and stale or future leader epochs at once", async () => {
    broker.log.partition("s").leaderEpoch = 5;
    await produce(produceBody("s", batch("a")));
    const wait = { maxWaitMs: 60_000 };
    expect((await fetch(fetchBody("missing", 0, wait))).errorCode).toBe(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION);
    expect((await fetch(fetchBody("s", 2, wait))).errorCode).toBe(ErrorCode.OFFSET_OUT_OF_RANGE);
    expect((await fetch(fetchBody("s", -1, wait))).errorCode).toBe(ErrorCode.OFFSET_OUT_OF_RANGE);
    for (const [currentLeaderEpoch, errorCode] of [
      [4, ErrorCode.FENCED_LEADER_EPOCH],
      [5, 0],
      [6, ErrorCode.UNKNOWN_LEADER_EPOCH],
    ]) {
      const partitions = [{ partition: 0, fetchOffset: 0, currentLeaderEpoch, partitionMaxBytes: 100 }];
      expect(await fetch({ ...wait, topics: [{ topic: "s", partitions }] })).toMatchObject({ errorCode });
    }
  });

  it("declines sessions by id 0 and tells a client that brings one to begin anew", async () => {
    expect((await client.send("Fetch", 12, { ...fetchBody("s", 0), sessionEpoch: 0 })).sessionId).toBe(0);
    for (const sessionId of [0, -1, 9]) {
      const stale = await client.send("Fetch", 12, { ...fetchBody("s", 0), sessionId, sessionEpoch: 3 });
      expect(stale.errorCode).toBe(ErrorCode.FETCH_SESSION_ID_NOT_FOUND);
    }
  });

  it.each([
    [-1, -1],
    [9, -1],
    [-1, 0],
    [9, 0],
  ])("answers a full fetch whatever its session id: %i with epoch %i", async (sessionId, sessionEpoch) => {
    // kafka-go's Client.Fetch sends -1 and -1, always.
    await produce(produceBody("s", batch("a")));
    const session = { sessionId, sessionEpoch };
    const answer = await client.send("Fetch", 11, { ...fetchBody("s", 0), ...session });
    expect(answer).toMatchObject({ errorCode: 0, sessionId: 0 });
    expect(answer.responses[0].partitions[0].highWatermark).toBe(1);
  });

  it.each([1, 1 << 20])(
    "is woken by the deletion of a stream, whatever it waits for (min_bytes %i)",
    async (minBytes) => {
      const waiting = fetch(fetchBody("s", 0, { maxWaitMs: 60_000, minBytes }));
      await until(() => broker.log.partition("s").listeners.size === 1);
      await broker.log.deleteStream("s");
      expect((await waiting).errorCode).toBe(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION);
    },
  );

  it("tells a stale leader epoch before an offset out of range: it is no reason to start over", async () => {
    broker.log.partition("s").leaderEpoch = 5;
    const partitions = [{ partition: 0, fetchOffset: 9, currentLeaderEpoch: 4, partitionMaxBytes: 100 }];
    expect(await fetch({ topics: [{ topic: "s", partitions }] })).toMatchObject({
      errorCode: ErrorCode.FENCED_LEADER_EPOCH,
    });
  });
});

describe("ListOffsets", () => {
  it("knows timestamps and Kafka's special ones, with the epoch in which the record was written", async () => {
    await produce(produceBody("s", batchOf([record("a", 100), record("b", 300), record("c", 200)])));
    broker.log.partition("s").leaderEpoch = 2;
    const ask = async (timestamp: number, version = 10) => {
      const partitions = [{ partitionIndex: 0, timestamp }];
      const { topics } = await client.send("ListOffsets", version, { topics: [{ name: "s", partitions }] });
      const { offset, timestamp: at, leaderEpoch, errorCode } = topics[0].partitions[0];
      expect(errorCode).toBe(0);
      return [offset, at, leaderEpoch];
    };
    expect(await ask(-1)).toEqual([3, -1, 2]);
    expect(await ask(-1, 1)).toEqual([3, -1, -1]);
    expect(await ask(-2)).toEqual([0, -1, 0]);
    expect(await ask(-3)).toEqual([1, 300, 0]);
    expect(await ask(-4)).toEqual([0, -1, 0]);
    expect(await ask(-5)).toEqual([-1, -1, -1]);
    expect(await ask(150)).toEqual([1, 300, 0]);
    expect(await ask(301)).toEqual([-1, -1, -1]);
  });

  it.each([
    [-3, 6],
    [-4, 7],
    [-5, 8],
    [-6, 10],
  ])("refuses the special timestamp %i in version %i, which does not have it", async (timestamp, version) => {
    const partitions = [{ partitionIndex: 0, timestamp }];
    const { topics } = await client.send("ListOffsets", version, { topics: [{ name: "s", partitions }] });
    expect(topics[0].partitions[0]).toMatchObject({ errorCode: ErrorCode.UNSUPPORTED_VERSION, offset: -1 });
  });

  it("answers for no partition that is named twice", async () => {
    const partitions = [0, 1, 0].map((partitionIndex) => ({ partitionIndex, timestamp: -1 }));
    const { topics } = await client.send("ListOffsets", 10, { topics: [{ name: "s", partitions }] });
    const { INVALID_REQUEST, NONE } = ErrorCode;
    const codes = topics[0].partitions.map(({ errorCode }: { errorCode: number }) => errorCode);
    expect(codes).toEqual([INVALID_REQUEST, NONE, INVALID_REQUEST]);
  });

  it("tells an unknown partition and a stale leader epoch", async () => {
    broker.log.partition("s").leaderEpoch = 5;
    const partitions = [
      { partitionIndex: 0, currentLeaderEpoch: 4, timestamp: -1 },
      { partitionIndex: 9, timestamp: -1 },
    ];
    const { topics } = await client.send("ListOffsets", 10, { topics: [{ name: "s", partitions }] });
    expect(topics[0].partitions).toMatchObject([
      { partitionIndex: 0, errorCode: ErrorCode.FENCED_LEADER_EPOCH },
      { partitionIndex: 9, errorCode: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION },
    ]);
  });
});

describe("OffsetForLeaderEpoch", () => {
  it("says that the one epoch there is ends with the log, and that others have no end", async () => {
    broker.log.partition("s").leaderEpoch = 3;
    await produce(produceBody("s", batch("x", "y")));
    const { topics } = await client.send("OffsetForLeaderEpoch", 4, {
      topics: [{ topic: "s", partitions: [3, 4, -1].map((leaderEpoch) => ({ partition: 0, leaderEpoch })) }],
    });
    expect(topics[0].partitions).toMatchObject([
      { errorCode: 0, leaderEpoch: 3, endOffset: 2 },
      { errorCode: 0, leaderEpoch: -1, endOffset: -1 },
      { errorCode: 0, leaderEpoch: -1, endOffset: -1 },
    ]);
  });
});

describe("InitProducerId", () => {
  it("gives a new id each time, and refuses a transactional id", async () => {
    const ask = (transactionalId: string | null) => client.send("InitProducerId", 4, { transactionalId });
    const [first, second] = [await ask(null), await ask(null)];
    expect(first).toMatchObject({ errorCode: 0, producerEpoch: 0 });
    expect(second.producerId).not.toBe(first.producerId);
    expect((await ask("t")).errorCode).toBe(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    expect((await ask("")).errorCode).toBe(ErrorCode.INVALID_REQUEST);
  });
});
