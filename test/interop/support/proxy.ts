/**
 * A TCP proxy that misbehaves on demand: cuts, freezes, slows, flips a bit. With `onRequest` it reads Kafka's
 * frames (plain text only) and is asked what is to become of each request.
 */
import { connect, createServer, type Server, type Socket } from "node:net";

/** What becomes of a request: it goes on, is lost with its connection, or is answered to nobody. */
export type Fate = "pass" | "cut before" | "cut after";

interface Pair {
  readonly near: Socket;
  readonly far: Socket;
}

const SLOW_BYTES = 2_000;
const SLOW_EVERY_MS = 10;

export class FaultProxy {
  readonly port: number;
  /** Asked for each request by its API key. */
  onRequest: ((apiKey: number) => Fate) | undefined;
  private readonly server: Server;
  private readonly target: number;
  private readonly pairs = new Set<Pair>();
  private isFrozen = false;
  private isSlow = false;
  private isRefusing = false;
  private toFlip = 0;

  private constructor(server: Server, port: number, target: number) {
    this.server = server;
    this.port = port;
    this.target = target;
    server.on("connection", (near: Socket) => this.join(near));
  }

  static start(port: number, target: number): Promise<FaultProxy> {
    const server = createServer({ pauseOnConnect: true });
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, "127.0.0.1", () => resolve(new FaultProxy(server, port, target)));
    });
  }

  private join(near: Socket): void {
    if (this.isRefusing) return void near.destroy();
    const far = connect(this.target, "127.0.0.1");
    const pair = { near, far };
    this.pairs.add(pair);
    const end = (): void => {
      near.destroy();
      far.destroy();
      this.pairs.delete(pair);
    };
    for (const socket of [near, far]) {
      socket.on("error", end);
      socket.on("close", end);
    }
    const requests = new Frames((frame) => {
      const fate = this.onRequest?.(frame.readInt16BE(4)) ?? "pass";
      if (fate === "cut before") return end();
      far.write(frame);
      // Long enough for the broker to have done it; the answer is dropped on its way.
      if (fate === "cut after") far.removeAllListeners("data").once("data", end);
    });
    near.on("data", (bytes: Buffer) => {
      if (this.onRequest !== undefined) requests.push(bytes);
      else this.pass(near, far, this.flipped(bytes));
    });
    far.on("data", (bytes: Buffer) => this.pass(far, near, this.flipped(bytes)));
    near.resume();
    if (this.isFrozen) this.stop(pair);
  }

  private pass(from: Socket, to: Socket, bytes: Buffer): void {
    if (!this.isSlow) return void to.write(bytes);
    from.pause();
    let at = 0;
    const timer = setInterval(() => {
      if (to.destroyed || !this.isSlow || at >= bytes.length) {
        clearInterval(timer);
        if (at < bytes.length && !to.destroyed) to.write(bytes.subarray(at));
        if (!this.isFrozen) from.resume();
        return;
      }
      to.write(bytes.subarray(at, at + SLOW_BYTES));
      at += SLOW_BYTES;
    }, SLOW_EVERY_MS);
  }

  private flipped(bytes: Buffer): Buffer {
    if (this.toFlip === 0) return bytes;
    this.toFlip--;
    const damaged = Buffer.from(bytes);
    const at = Math.floor(Math.random() * damaged.length);
    damaged[at] = (damaged[at] as number) ^ (1 << Math.floor(Math.random() * 8));
    return damaged;
  }

  private stop({ near, far }: Pair): void {
    near.pause();
    far.pause();
  }

  /** Ends every connection. */
  cut(): void {
    for (const { near, far } of this.pairs) {
      near.destroy();
      far.destroy();
    }
  }

  freeze(): void {
    this.isFrozen = true;
    for (const pair of this.pairs) this.stop(pair);
  }

  thaw(): void {
    this.isFrozen = false;
    for (const { near, far } of this.pairs) {
      near.resume();
      far.resume();
    }
  }

  set slow(isSlow: boolean) {
    this.isSlow = isSlow;
  }

  /** Accepts and ends at once. */
  set refusing(isRefusing: boolean) {
    this.isRefusing = isRefusing;
    if (isRefusing) this.cut();
  }

  /** One bit in each of the next `chunks` that pass. */
  corrupt(chunks: number): void {
    this.toFlip = chunks;
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

/** Whole frames with their length in front. */
class Frames {
  private readonly take: (frame: Buffer) => void;
  private pending = Buffer.alloc(0);

  constructor(take: (frame: Buffer) => void) {
    this.take = take;
  }

  push(bytes: Buffer): void {
    this.pending = Buffer.concat([this.pending, bytes]);
    while (this.pending.length >= 4) {
      const length = 4 + this.pending.readInt32BE(0);
      if (this.pending.length < length) return;
      const frame = this.pending.subarray(0, length);
      this.pending = this.pending.subarray(length);
      this.take(frame);
    }
  }
}
