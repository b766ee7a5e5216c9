/**
 * Consumers that only wait: each a bare socket with one Fetch in hand, asked again when it is answered.
 *
 * Run as `idle.ts <IdleOptions as JSON>`; prints `waiting` when all of them have asked; runs until it is ended.
 */
import { connect } from "node:net";
import { fetch } from "../../src/kafka/apis/01-fetch.ts";
import { Writer } from "../../src/wire/buffer.ts";
import { encode } from "../../src/wire/schema.ts";

export interface IdleOptions {
  readonly port: number;
  readonly consumers: number;
  readonly stream: string;
}

const { port, consumers, stream } = JSON.parse(process.argv[2] ?? "{}") as IdleOptions;
const VERSION = 11;

function request(): Buffer {
  const body = new Writer();
  body.int16(fetch.key);
  body.int16(VERSION);
  body.int32(1);
  body.string(false, "idle");
  const partitions = [{ partition: 0, fetchOffset: 0, partitionMaxBytes: 1 << 20 }];
  const topics = [{ topic: stream, partitions }];
  encode(fetch.request, VERSION, { maxWaitMs: 60_000, minBytes: 1, maxBytes: 1 << 20, topics }, body);
  const bytes = body.toBuffer();
  const frame = Buffer.alloc(4 + bytes.length);
  frame.writeInt32BE(bytes.length);
  bytes.copy(frame, 4);
  return frame;
}

const ask = request();

const open = () =>
  new Promise<void>((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true }, () => {
      socket.write(ask, () => resolve());
    });
    socket.once("error", reject);
    socket.on("data", () => socket.write(ask));
    socket.on("close", () => {
      process.stderr.write("a consumer was disconnected\n");
      process.exit(1);
    });
  });

for (let opened = 0; opened < consumers; opened += 200) {
  await Promise.all(Array.from({ length: Math.min(200, consumers - opened) }, open));
}
process.stdout.write("waiting\n");
