/**
 * Consumers on bare sockets: one Fetch in hand on each, so that the broker under test and not the consumer sets the
 * pace. Answers are not decoded but stepped through, batch by batch.
 */
import { connect, type Socket } from "node:net";
import { fetch } from "../../src/kafka/apis/01-fetch.ts";
import { FrameReader } from "../../src/kafka/frame-reader.ts";
import { Reader, Writer } from "../../src/wire/buffer.ts";
import { batchBytes, lastOffsetOf, recordCountOf } from "../../src/wire/record-batch.ts";
import { decode, encode } from "../../src/wire/schema.ts";

/** The last one before topic ids, which Kafka serves too. */
const VERSION = 11;
const MAX_FRAME_BYTES = 128 << 20;

export interface Wish {
  readonly stream: string;
  readonly partitions: number;
  readonly maxWaitMs: number;
  readonly partitionMaxBytes: number;
}

/** A whole frame that asks for each partition from its offset on. */
export function fetchFrame(
  { stream, maxWaitMs, partitionMaxBytes }: Wish,
  offsets: readonly number[],
): Buffer {
  const body = new Writer();
  body.int16(fetch.key);
  body.int16(VERSION);
  body.int32(1);
  body.string(false, "bench");
  const partitions = offsets.map((fetchOffset, partition) => ({ partition, fetchOffset, partitionMaxBytes }));
  // 50 MiB in all, as Kafka's consumer by itself.
  const ask = { maxWaitMs, minBytes: 1, maxBytes: 50 << 20, topics: [{ topic: stream, partitions }] };
  encode(fetch.request, VERSION, ask, body);
  const bytes = body.toBuffer();
  const frame = Buffer.alloc(4 + bytes.length);
  frame.writeInt32BE(bytes.length);
  bytes.copy(frame, 4);
  return frame;
}

export class BareConsumer {
  records = 0;
  bytes = 0;
  /** Where each partition is read on. */
  readonly offsets: number[];
  private readonly wish: Wish;
  private readonly socket: Socket;
  private readonly frames = new FrameReader(MAX_FRAME_BYTES);
  private readonly onRecords: (source: Buffer) => void;

  private constructor(wish: Wish, socket: Socket, onRecords: (source: Buffer) => void) {
    this.wish = wish;
    this.socket = socket;
    this.onRecords = onRecords;
    this.offsets = new Array(wish.partitions).fill(0);
  }

  /**
   * Connects; `onRecords` gets what an answer brings of a partition, from its first whole batch on. An error or the
   * end of the connection ends the process.
   */
  static open(
    port: number,
    wish: Wish,
    onRecords: (source: Buffer) => void = () => {},
  ): Promise<BareConsumer> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: "127.0.0.1", noDelay: true }, () => resolve(consumer));
      const consumer = new BareConsumer(wish, socket, onRecords);
      socket.once("error", reject);
      socket.on("data", (chunk) => consumer.take(chunk));
      socket.on("close", () => {
        process.stderr.write("a consumer was disconnected\n");
        process.exit(1);
      });
    });
  }

  ask(): void {
    this.socket.write(fetchFrame(this.wish, this.offsets));
  }

  private take(chunk: Buffer): void {
    this.frames.push(chunk);
    for (let frame = this.frames.take(); frame !== undefined; frame = this.frames.take()) {
      const reader = new Reader(frame, 4);
      for (const { partitions } of decode(fetch.response, VERSION, reader).responses) {
        for (const { partitionIndex, errorCode, records } of partitions) {
          if (errorCode !== 0)
            throw new Error(`partition ${partitionIndex} is answered with error ${errorCode}`);
          const slices = records ?? [];
          if (slices[0] !== undefined) this.onRecords(slices[0]);
          for (const slice of slices) this.step(partitionIndex, slice);
        }
      }
      this.ask();
    }
  }

  private step(partition: number, slice: Buffer): void {
    this.bytes += slice.length;
    for (let at = 0; at + 61 <= slice.length && at + batchBytes(slice, at) <= slice.length; ) {
      this.records += recordCountOf(slice, at);
      this.offsets[partition] = lastOffsetOf(slice, at) + 1;
      at += batchBytes(slice, at);
    }
  }
}
