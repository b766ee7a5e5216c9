/**
 * DescribeLogDirs v1: how many bytes each partition takes on a broker's disk. kafkajs has no call for it, so
 * this asks on a connection of its own, with the wire schemas of this house.
 */
import { connect } from "node:net";
import { Reader, Writer } from "../wire/buffer.ts";
import { array, bool, decode, encode, int16, int32, int64, message, string, struct } from "../wire/schema.ts";

const API_KEY = 35;
const VERSION = 1;
const CORRELATION_ID = 1;
const TIMEOUT_MS = 10_000;
const MAX_FRAME_BYTES = 64 * 2 ** 20;

const request = message(
  {},
  {
    topics: array(struct({ topic: string(), partitions: array(int32()) }), { nullable: "0+" }),
  },
);
const response = message(
  {},
  {
    throttleTimeMs: int32(),
    results: array(
      struct({
        errorCode: int16(),
        logDir: string(),
        topics: array(
          struct({
            name: string(),
            partitions: array(
              struct({
                partitionIndex: int32(),
                partitionSize: int64(),
                offsetLag: int64(),
                isFutureKey: bool(),
              }),
            ),
          }),
        ),
      }),
    ),
  },
);

/** Bytes on this broker's disk by stream and partition. */
export type PartitionSizes = ReadonlyMap<string, ReadonlyMap<number, number>>;

/** Rejects when the broker does not know the request or does not answer within ten seconds. */
export async function partitionSizes(host: string, port: number): Promise<PartitionSizes> {
  const reader = new Reader(await exchange(host, port, requestFrame()));
  if (reader.int32() !== CORRELATION_ID) throw new Error("the broker answered another request");
  const sizes = new Map<string, Map<number, number>>();
  for (const { topics } of decode(response, VERSION, reader).results) {
    for (const { name, partitions } of topics) {
      const bySizes = sizes.get(name) ?? new Map<number, number>();
      sizes.set(name, bySizes);
      // A broker may have several disks; a partition that is being moved lies on two of them.
      for (const { partitionIndex, partitionSize, isFutureKey } of partitions) {
        if (!isFutureKey) bySizes.set(partitionIndex, partitionSize);
      }
    }
  }
  return sizes;
}

/** Size, request header v1, request. */
function requestFrame(): Buffer {
  const writer = new Writer();
  writer.int16(API_KEY);
  writer.int16(VERSION);
  writer.int32(CORRELATION_ID);
  writer.string(false, "sluice-cli");
  encode(request, VERSION, { topics: null }, writer);
  const body = writer.toBuffer();
  const size = Buffer.alloc(4);
  size.writeInt32BE(body.length);
  return Buffer.concat([size, body]);
}

/** Sends one frame and gives the one that comes back, without its size. */
function exchange(host: string, port: number, frame: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port }, () => socket.write(frame));
    const chunks: Buffer[] = [];
    let received = 0;
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error("the broker did not answer in time")));
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("the broker closed the connection")));
    socket.on("data", (chunk) => {
      chunks.push(chunk);
      received += chunk.length;
      if (received < 4) return;
      const all = Buffer.concat(chunks.splice(0));
      chunks.push(all);
      const length = all.readInt32BE(0);
      if (length < 4 || length > MAX_FRAME_BYTES) {
        socket.destroy(new Error(`the broker announced a frame of ${length} bytes`));
      } else if (received >= 4 + length) {
        resolve(all.subarray(4, 4 + length));
        socket.destroy();
      }
    });
  });
}
