/**
 * The other end of the wire, as light as it can be: one connection to a Kafka broker, one request under way,
 * with the messages that the server declares. For what kafkajs has no call for, or is too heavy.
 */
import { connect, type Socket } from "node:net";
import { messageOf, ProtocolError } from "../errors.ts";
import { Reader, Writer } from "../wire/buffer.ts";
import { decode, encode, type Fields, type Partially, type Shape } from "../wire/schema.ts";
import type { Api } from "./api.ts";
import { FrameReader } from "./frame-reader.ts";

const MAX_FRAME_BYTES = 64 << 20;
const REPLY_TIMEOUT_MS = 60_000;

export class KafkaClient {
  private readonly clientId: string;
  private readonly frames = new FrameReader(MAX_FRAME_BYTES);
  private socket: Socket | undefined;
  private correlationId = 0;
  private onFrame: ((frame: Buffer) => void) | undefined;
  private onEnd: ((error: Error) => void) | undefined;
  /** Why it is closed; undefined as long as it is not. */
  ended: string | undefined;

  constructor(clientId: string) {
    this.clientId = clientId;
  }

  get connected(): boolean {
    return this.socket !== undefined && this.ended === undefined;
  }

  connect(host: string, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port, noDelay: true }, resolve);
      this.socket = socket;
      socket.setTimeout(REPLY_TIMEOUT_MS, () => socket.destroy(new Error("no reply in time")));
      socket.on("data", (chunk: Buffer) => this.take(chunk));
      socket.on("error", (error) => this.close(error));
      socket.on("close", () => {
        this.close(new Error("the connection was closed"));
        reject(new Error(`port ${port}: ${this.ended}`));
      });
    });
  }

  /**
   * Sends one request, of a version before the flexible encodings (the request's header is v1, the reply's v0).
   * Rejects when the connection ends before its reply.
   */
  ask<Q extends Fields, R extends Fields>(
    { key, request, response }: Pick<Api<Q, R>, "key" | "request" | "response">,
    version: number,
    body: Partially<Shape<Q>>,
  ): Promise<Shape<R>> {
    const correlationId = ++this.correlationId;
    const writer = new Writer();
    writer.int16(key);
    writer.int16(version);
    writer.int32(correlationId);
    writer.string(false, this.clientId);
    encode(request, version, body, writer);
    const message = writer.toBuffer();
    const length = Buffer.alloc(4);
    length.writeInt32BE(message.length);
    return new Promise((resolve, reject) => {
      this.onEnd = reject;
      if (this.ended !== undefined) return reject(new Error(this.ended));
      this.onFrame = (frame) => {
        const reader = new Reader(frame);
        const answered = reader.int32();
        if (answered !== correlationId)
          throw new ProtocolError(`reply ${answered} instead of ${correlationId}`);
        resolve(decode(response, version, reader));
      };
      this.socket?.write(Buffer.concat([length, message]));
    });
  }

  /** Idempotent; the first reason stays. */
  close(reason: unknown = "closed"): void {
    this.ended ??= messageOf(reason);
    this.socket?.destroy();
    this.onEnd?.(new Error(this.ended));
  }

  private take(chunk: Buffer): void {
    try {
      this.frames.push(chunk);
      for (let frame = this.frames.take(); frame !== undefined; frame = this.frames.take())
        this.onFrame?.(frame);
    } catch (error) {
      this.close(error);
    }
  }
}
