import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { expect, it } from "vitest";
import { api, type ClientContext } from "../../src/kafka/api.ts";
import { ByteBudget } from "../../src/kafka/byte-budget.ts";
import { Connection, type ConnectionHost, TURN_REQUESTS } from "../../src/kafka/connection.ts";
import type { SharedReads } from "../../src/kafka/shared-reads.ts";
import { Turns } from "../../src/turns.ts";
import { bytes, int32 } from "../../src/wire/schema.ts";
import { until } from "./harness.ts";

const PAYLOAD_BYTES = 4 << 20;
const KIB = 1 << 10;

/** A connection that answers each request with so many bytes, on a socket of which the test is the system. */
function connection(payloadBytes = PAYLOAD_BYTES) {
  const written: number[] = [];
  const untaken: (() => void)[] = [];
  const system = { takesAtOnce: true };
  const handle = { writeQueueSize: 0 };
  let onRead: (chunk: Buffer) => void = () => {};
  const take = (size: number, done: () => void): void => {
    written.push(size);
    if (!system.takesAtOnce) handle.writeQueueSize = size;
    const taken = (): void => {
      handle.writeQueueSize = 0;
      done();
    };
    if (system.takesAtOnce) taken();
    else untaken.push(taken);
  };
  const socket = new Duplex({
    read: () => {},
    write: (chunk: Buffer, _, done) => take(chunk.length, done),
    writev: (chunks, done) =>
      take(
        chunks.reduce((sum, { chunk }) => sum + chunk.length, 0),
        done,
      ),
  });
  const served = api({
    key: 99,
    name: "Large",
    versions: { min: 0, max: 0 },
    request: { id: int32() },
    response: { payload: bytes() },
    handle: () => ({ payload: Buffer.alloc(payloadBytes) }),
  });
  const context = {
    memory: new ByteBudget(64 << 20),
    apis: new Map([[99, served]]),
    maxPartitionsPerRequest: 10,
    turns: new Turns(),
    reachability: { used: () => {} },
  } as unknown as ClientContext;
  const host = {
    maxFrameBytes: 1_000,
    maxInFlight: 8,
    stats: { requests: 0, receivedBytes: 0, sentBytes: 0 },
    offence: (_: unknown, reason: string) => expect.fail(reason),
    fault: (_: string, error: unknown) => expect.fail(String(error)),
  } as unknown as ConnectionHost;
  const reads = {
    take: (accepted: Socket, read: typeof onRead) => {
      onRead = read;
      return accepted;
    },
  } as unknown as SharedReads;
  const connected = new Connection(
    reads,
    Object.assign(socket, { _handle: handle }) as unknown as Socket,
    context,
    host,
  );
  connected.start(() => {});
  /** So many of them come in one read. */
  const request = (count = 1): void => {
    const frame = Buffer.alloc(4 + 14);
    frame.writeInt32BE(14);
    frame.writeInt16BE(99, 4);
    frame.writeInt16BE(-1, 12);
    onRead(Buffer.concat(Array.from({ length: count }, () => frame)));
  };
  const sent = (payloads: number) => until(() => host.stats.sentBytes >= payloads * PAYLOAD_BYTES);
  return { connection: connected, socket, host, written, untaken, system, handle, request, sent };
}

it("gives a socket more at a time, up to 1 MiB, for as long as it takes everything at once", async () => {
  const { written, request, sent } = connection();
  request();
  await sent(1);
  expect(written.slice(0, 4)).toEqual([256 * KIB, 512 * KIB, 1024 * KIB, 1024 * KIB]);
  request();
  await sent(2);
  expect(Math.max(...written)).toBe(1024 * KIB);
});

it("gives it little again as soon as it does not", async () => {
  const { written, untaken, system, request, sent } = connection();
  request();
  await sent(1);
  system.takesAtOnce = false;
  request();
  const before = written.length;
  while (written.slice(before).reduce((sum, size) => sum + size, 0) < PAYLOAD_BYTES) {
    await until(() => untaken.length === 1);
    untaken.pop()?.();
    await new Promise(setImmediate);
  }
  expect(written[before]).toBeGreaterThan(256 * KIB);
  expect(Math.max(...written.slice(before + 1))).toBe(256 * KIB);
});

it("sees a slow client's progress within one write, and that a frozen one makes none", async () => {
  const { connection: slow, untaken, system, handle, request, sent } = connection();
  request();
  await sent(1);
  system.takesAtOnce = false;
  request();
  await until(() => untaken.length === 1);
  // Whole milliseconds: what is taken from one another below is exact.
  const beganAt = Math.ceil(performance.now());
  slow.stalledMs(beganAt);
  handle.writeQueueSize -= 20 * KIB;
  expect(slow.stalledMs(beganAt + 1_000)).toBe(0);
  expect(slow.stalledMs(beganAt + 3_000) - slow.stalledMs(beganAt + 2_000)).toBe(1_000);
});

it("does not stop reading for a turn that comes at once, but does when more has come before it", async () => {
  const { socket, host, request } = connection(1);
  request(TURN_REQUESTS + 1);
  expect([host.stats.requests, socket.isPaused()]).toEqual([TURN_REQUESTS, false]);
  request();
  expect([host.stats.requests, socket.isPaused()]).toEqual([TURN_REQUESTS, true]);
  await until(() => host.stats.requests === TURN_REQUESTS + 2);
  expect(socket.isPaused()).toBe(false);
});
