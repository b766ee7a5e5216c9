/**
 * The other end of the wire: one connection to a Kafka broker, requests answered in the order in which they are
 * asked, with the messages that the server declares. For what kafkajs has no call for, is too heavy, or not
 * exact enough.
 *
 * Invariant: whatever goes wrong on a connection ends it and rejects all that waits on it; nothing is asked
 * again here. Who asks decides what an unanswered question means.
 */
import { connect, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import { messageOf, ProtocolError } from "../errors.ts";
import { Reader, Writer } from "../wire/buffer.ts";
import {
  decode,
  encode,
  type Fields,
  type MessageSchema,
  type Partially,
  type Shape,
} from "../wire/schema.ts";
import { FrameReader } from "./frame-reader.ts";

const MAX_FRAME_BYTES = 64 << 20;
const REPLY_TIMEOUT_MS = 60_000;
/** ApiVersions replies have the old header in every version (KIP-511). */
const API_VERSIONS_KEY = 18;

/** A request and its reply; every `Api` is one. */
export interface Exchange<Q extends Fields = Fields, R extends Fields = Fields> {
  readonly key: number;
  readonly name: string;
  readonly request: MessageSchema<Q>;
  readonly response: MessageSchema<R>;
}

export interface KafkaClientOptions {
  /** Undefined: plain TCP. */
  readonly tls?: ConnectionOptions | undefined;
  /** From the first packet to the end of the TLS handshake. */
  readonly connectTimeoutMs?: number;
  readonly replyTimeoutMs?: number;
}

interface Pending {
  readonly correlationId: number;
  readonly take: (reader: Reader) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

export class KafkaClient {
  private readonly clientId: string;
  private readonly options: KafkaClientOptions;
  private readonly frames = new FrameReader(MAX_FRAME_BYTES);
  private readonly pending: Pending[] = [];
  private socket: Socket | undefined;
  private correlationId = 0;
  private failure: Error | undefined;

  constructor(clientId: string, options: KafkaClientOptions = {}) {
    this.clientId = clientId;
    this.options = options;
  }

  get connected(): boolean {
    return this.socket !== undefined && this.failure === undefined;
  }

  /** Why it is closed; undefined as long as it is not. */
  get ended(): string | undefined {
    return this.failure?.message;
  }

  /** Rejects with the system's or TLS's own error, its code included. */
  connect(host: string, port: number): Promise<void> {
    const { tls, connectTimeoutMs = REPLY_TIMEOUT_MS } = this.options;
    return new Promise((resolve, reject) => {
      const socket =
        tls === undefined
          ? connect({ host, port, noDelay: true }, () => opened())
          : connectTls({ host, port, ...tls }, () => opened());
      const timer = setTimeout(() => {
        this.close(
          Object.assign(new Error(`no connection within ${connectTimeoutMs} ms`), { code: "ETIMEDOUT" }),
        );
      }, connectTimeoutMs);
      const opened = (): void => {
        clearTimeout(timer);
        socket.setNoDelay(true);
        resolve();
      };
      this.socket = socket;
      socket.on("data", (chunk: Buffer) => this.take(chunk));
      socket.on("error", (error) => this.close(error));
      socket.on("close", () => {
        clearTimeout(timer);
        this.close(Object.assign(new Error("the connection was closed"), { code: "ECONNRESET" }));
        reject(this.failure);
      });
    });
  }

  /** Sends one request. Rejects when the connection ends before its reply, or none comes in time. */
  ask<Q extends Fields, R extends Fields>(
    { key, name, request, response }: Exchange<Q, R>,
    version: number,
    body: Partially<Shape<Q>>,
    timeoutMs = this.options.replyTimeoutMs ?? REPLY_TIMEOUT_MS,
  ): Promise<Shape<R>> {
    const correlationId = ++this.correlationId;
    const writer = new Writer();
    writer.int32(0); // the length, known at the end
    writer.int16(key);
    writer.int16(version);
    writer.int32(correlationId);
    writer.string(false, this.clientId);
    if (version >= request.flexibleFrom) writer.uvarint(0);
    encode(request, version, body, writer);
    const length = writer.length - 4;
    const pieces = writer.finish();
    (pieces[0] as Buffer).writeInt32BE(length, 0);
    return new Promise((resolve, reject) => {
      if (this.failure !== undefined || this.socket === undefined) {
        return reject(this.failure ?? new Error("not connected"));
      }
      const timer = setTimeout(() => {
        const words = `no reply to ${name} within ${timeoutMs} ms`;
        this.close(Object.assign(new Error(words), { code: "ETIMEDOUT" }));
      }, timeoutMs);
      const take = (reader: Reader): void => {
        if (version >= response.flexibleFrom && key !== API_VERSIONS_KEY) reader.taggedFields();
        resolve(decode(response, version, reader));
      };
      this.pending.push({ correlationId, take, reject, timer });
      this.socket.cork();
      for (const piece of pieces) this.socket.write(piece);
      this.socket.uncork();
    });
  }

  /** Idempotent; the first reason stays. Nothing is waited for. */
  close(reason: unknown = "closed"): void {
    this.failure ??= reason instanceof Error ? reason : new Error(messageOf(reason));
    this.socket?.destroy();
    for (const { timer, reject } of this.pending.splice(0)) {
      clearTimeout(timer);
      reject(this.failure);
    }
  }

  private take(chunk: Buffer): void {
    try {
      this.frames.push(chunk);
      for (let frame = this.frames.take(); frame !== undefined; frame = this.frames.take())
        this.answer(frame);
    } catch (error) {
      this.close(strangerIn(chunk) ?? error);
    }
  }

  private answer(frame: Buffer): void {
    const reader = new Reader(frame);
    const answered = reader.int32();
    const first = this.pending[0];
    if (first === undefined || first.correlationId !== answered) {
      throw new ProtocolError(`reply ${answered} instead of ${first?.correlationId ?? "none"}`);
    }
    first.take(reader);
    clearTimeout(first.timer);
    this.pending.shift();
  }
}

/** Who answers there, when it is not a Kafka listener; `code` is NOT_KAFKA. */
function strangerIn(chunk: Buffer): Error | undefined {
  const said = (words: string): Error => Object.assign(new Error(words), { code: "NOT_KAFKA" });
  if (chunk.subarray(0, 5).toString("latin1") === "HTTP/") return said("an HTTP server answers there");
  if (chunk[0] === 0x15 && chunk[1] === 0x03) return said("the listener speaks TLS only");
  return undefined;
}
