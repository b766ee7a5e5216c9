/**
 * How batches are packed on their way out. Each of them works in libuv's threads, never in this one, for which
 * sensors wait; what a gateway does not use is not loaded.
 */
import { promisify } from "node:util";
import * as zlib from "node:zlib";
import { messageOf } from "../errors.ts";
import type { Codec, Compress } from "./remote-batch.ts";
import { NamedError } from "./words.ts";

type PackLater = (body: Buffer, callback: (error: Error | null, packed: Buffer) => void) => void;

const gzipLater = promisify(zlib.gzip);
const GZIP_LEVEL = 5;

const LOADERS: Readonly<Record<Exclude<Codec, "none">, () => Promise<Compress>>> = {
  gzip: async () => (body) => gzipLater(body, { level: GZIP_LEVEL }),
  // One block without a frame, which every reader takes.
  snappy: async () => (await import("snappy")).compress,
  // Independent blocks, as Kafka wants them.
  lz4: async () => {
    const { compressFrame } = await import("lz4-napi");
    return (body) => compressFrame(body);
  },
  zstd: async () => {
    const { zstdCompress } = zlib as { zstdCompress?: PackLater };
    if (zstdCompress === undefined)
      throw new Error(`it came with Node 22.15, and this is ${process.version}`);
    return promisify(zstdCompress);
  },
};

/** Rejects, with what is there instead, where this machine or this Node cannot. */
export async function compressorFor(codec: Codec): Promise<Compress | undefined> {
  if (codec === "none") return undefined;
  try {
    return await LOADERS[codec]();
  } catch (error) {
    throw new NamedError(
      "NO_COMPRESSION",
      `compression ${codec} is not to be had here: ${messageOf(error)}`,
      "Set compression to gzip, which every Node has.",
    );
  }
}
