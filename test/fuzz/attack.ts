/**
 * Sends mutated frames to a running gateway, each to a connection that is still good, and watches from outside:
 * the process lives, says nothing of a fault of its own, its memory comes to rest, and an honest client beside it
 * is served all the time, in order, with nothing missing.
 */
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { produce } from "../../src/kafka/apis/00-produce.ts";
import { fetch } from "../../src/kafka/apis/01-fetch.ts";
import { KafkaClient } from "../../src/kafka/client.ts";
import { batchOf, NO_HEADERS, recordsOf } from "../../src/wire/record-batch.ts";
import type { Gateway } from "../interop/support/gateway.ts";
import { mutant } from "./mutate.ts";

export interface AttackOptions {
  readonly seed: number;
  /** Numbers of the frames: from … to. */
  readonly from: number;
  readonly to: number;
  readonly onProgress?: (report: AttackReport) => void;
}

export interface AttackReport {
  readonly sent: number;
  /** Frames that got a reply, that cost their connection, and that neither did soon. */
  readonly answered: number;
  readonly refused: number;
  readonly silent: number;
  /** Of the gateway's process, MiB, at ten moments. */
  readonly residentMiB: readonly number[];
  readonly honestRequests: number;
  readonly slowestHonestMs: number;
}

/** The stream of the honest client; the gateway's configuration states it, so that no frame can delete it. */
export const HONEST_STREAM = "honest";
const CONNECTIONS = 24;
/** A frame that waits for something (a group's others, min_bytes, the rest of a frame) is left alone after it. */
const SILENCE_MS = 100;
const HONEST_PAUSE_MS = 20;
/** Nobody who waits so long is served. */
const HANG_MS = 15_000;

export async function attack(gateway: Gateway, options: AttackOptions): Promise<AttackReport> {
  const { seed, from, to } = options;
  const counts = { sent: 0, answered: 0, refused: 0, silent: 0 };
  const residentMiB: number[] = [];
  const honest = new Honest(gateway.kafkaPort);
  const report = (): AttackReport => ({
    ...counts,
    residentMiB,
    honestRequests: honest.requests,
    slowestHonestMs: Math.round(honest.slowestMs),
  });
  let next = from;
  const worker = async (index: number): Promise<void> => {
    let socket: Socket | undefined;
    while (next < to && honest.failure === undefined) {
      const number = next++;
      if ((number - from) % Math.ceil((to - from) / 10) === 0) {
        residentMiB.push(memoryOf(gateway.process.child.pid as number));
        options.onProgress?.(report());
      }
      socket ??= await connection(gateway.kafkaPort, index);
      const outcome = await send(socket, mutant(seed, number));
      counts.sent++;
      counts[outcome]++;
      if (outcome === "answered") continue;
      socket.resetAndDestroy();
      socket = undefined;
    }
    socket?.resetAndDestroy();
  };
  await honest.start();
  await Promise.all(Array.from({ length: CONNECTIONS }, (_, index) => worker(index)));
  await honest.stop();
  residentMiB.push(memoryOf(gateway.process.child.pid as number));
  return report();
}

/** From many addresses of this machine: the ports of one would not suffice for so many connections. */
async function connection(port: number, index: number): Promise<Socket> {
  for (let attempt = 0; ; attempt++) {
    const localAddress = `127.0.${1 + index}.${1 + Math.floor(Math.random() * 250)}`;
    const socket = connect({ host: "127.0.0.1", port, localAddress, noDelay: true });
    const isThere = await new Promise<boolean>((resolve) => {
      socket.once("connect", () => resolve(true));
      socket.once("error", () => resolve(false));
    });
    if (isThere) return socket;
    if (attempt > 100) throw new Error("the gateway takes no connection any more");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function send(socket: Socket, bytes: Buffer): Promise<"answered" | "refused" | "silent"> {
  return new Promise((resolve) => {
    const end = (outcome: "answered" | "refused" | "silent"): void => {
      clearTimeout(timer);
      socket.removeAllListeners();
      socket.on("error", () => {});
      resolve(outcome);
    };
    const timer = setTimeout(() => end("silent"), SILENCE_MS);
    socket.on("error", () => end("refused"));
    socket.on("close", () => end("refused"));
    socket.on("data", () => end("answered"));
    socket.resume();
    socket.write(bytes);
  });
}

function memoryOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Math.round(Number(/^VmRSS:\s*(\d+)/m.exec(status)?.[1] ?? 0) / 1024);
}

/** Writes numbers and reads them back, one after another. */
class Honest {
  requests = 0;
  slowestMs = 0;
  failure: Error | undefined;
  private readonly port: number;
  private readonly client = new KafkaClient("honest");
  private stopping = false;
  private running: Promise<void> | undefined;

  constructor(port: number) {
    this.port = port;
  }

  async start(): Promise<void> {
    await this.client.connect("127.0.0.1", this.port);
    this.running = this.run().catch((error: unknown) => {
      this.failure = error as Error;
    });
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await this.running;
    this.client.close();
    if (this.failure !== undefined) throw this.failure;
  }

  private async run(): Promise<void> {
    for (let number = 0; !this.stopping; number++) {
      const startedAt = performance.now();
      const { offset, value } = await inTime(this.roundTrip(number));
      const ms = performance.now() - startedAt;
      this.slowestMs = Math.max(this.slowestMs, ms);
      this.requests += 2;
      if (value !== `${number}`)
        throw new Error(`the honest client read ${value} at ${offset}, not ${number}`);
      await new Promise((resolve) => setTimeout(resolve, HONEST_PAUSE_MS));
    }
  }

  private async roundTrip(number: number): Promise<{ offset: number; value: string | undefined }> {
    const record = { key: null, value: Buffer.from(`${number}`), headers: NO_HEADERS, timestamp: Date.now() };
    const { responses } = await this.client.ask(produce, 7, {
      acks: -1,
      timeoutMs: HANG_MS,
      topicData: [{ name: HONEST_STREAM, partitionData: [{ index: 0, records: [batchOf([record])] }] }],
    });
    const written = responses[0]?.partitionResponses[0];
    if (written?.errorCode !== 0) throw new Error(`the honest client got error ${written?.errorCode}`);
    const offset = written.baseOffset;
    const found = await this.client.ask(fetch, 11, {
      maxWaitMs: 0,
      minBytes: 1,
      topics: [
        {
          topic: HONEST_STREAM,
          partitions: [{ partition: 0, fetchOffset: offset, partitionMaxBytes: 1 << 20 }],
        },
      ],
    });
    const batches = found.responses[0]?.partitions[0]?.records ?? [];
    const [first] = [...recordsOf(batches)].filter((one) => one.offset === offset);
    return { offset, value: first?.value?.toString() };
  }
}

async function inTime<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`an honest client was not served for ${HANG_MS} ms`)), HANG_MS);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
