/** One life of the connection to a cluster: lanes that run until anything but a single partition fails. */
import { within } from "../clock.ts";
import { Cluster } from "./cluster.ts";
import { Lane, type LaneHost } from "./lane.ts";
import { identityOf, type UplinkOptions } from "./options.ts";
import { Producer } from "./producer.ts";
import type { Compress } from "./remote-batch.ts";

/** While one waits for the cluster's answer, another gathers and encodes. */
export const MAIN_LANES = 2;
/** What a stop waits for deliveries under way. */
const CLOSE_MS = 3_000;

export class Session {
  readonly lanes: readonly Lane[];
  private readonly stopping = new AbortController();
  private isRunning = false;

  constructor(host: LaneHost, compressor: Compress | undefined) {
    this.lanes = Array.from({ length: MAIN_LANES + 1 }, (_, index) =>
      makeLane(host, index, compressor, this.stopping.signal),
    );
  }

  get side(): Lane {
    return this.lanes.at(-1) as Lane;
  }

  get clusterId(): string | undefined {
    return this.lanes[0]?.cluster.clusterId ?? undefined;
  }

  /**
   * Settles what an earlier life may have left, in every lane, before any place is read. From then on
   * everything in the cluster is of this life alone.
   */
  async open(): Promise<void> {
    try {
      await this.lanes[0]?.cluster.refresh([]);
      await Promise.all(this.lanes.map(({ producer }) => producer.begin()));
    } catch (error) {
      // That connections end with it is no fault of the cluster's.
      this.stopping.signal.throwIfAborted();
      throw error;
    }
  }

  /** Ends with what ended one of the lanes, when all have ended. */
  async run(): Promise<never> {
    this.isRunning = true;
    const running = this.lanes.map((lane) => lane.run());
    try {
      return await Promise.race(running);
    } finally {
      this.stopping.abort();
      await within(Promise.allSettled(running), CLOSE_MS);
      this.close();
      await Promise.allSettled(running);
    }
  }

  /** Deliveries under way are let through; then `run` ends. */
  stop(): void {
    if (this.isRunning) this.stopping.abort();
    else this.close();
  }

  close(): void {
    this.stopping.abort();
    for (const { cluster } of this.lanes) cluster.close();
  }
}

export function clusterOf(options: UplinkOptions): Cluster {
  const { brokers, tls, sasl, connectTimeoutMs, requestTimeoutMs } = options;
  return new Cluster({
    clientId: `sluice-${options.name}`,
    brokers,
    tls,
    sasl,
    connectTimeoutMs,
    requestTimeoutMs,
  });
}

function makeLane(
  host: LaneHost,
  index: number,
  compressor: Compress | undefined,
  signal: AbortSignal,
): Lane {
  const { options } = host;
  const id = `${identityOf(options.gateway, options.name)}.${index}`;
  const transactionalId = options.delivery === "exactly-once" ? id : undefined;
  const cluster = clusterOf(options);
  const producer = producerOf(cluster, options, transactionalId, compressor);
  return new Lane(host, { isSide: index === MAIN_LANES, cluster, producer }, signal);
}

/** Without more than the options it is one to be asked for places. */
export function producerOf(
  cluster: Cluster,
  options: UplinkOptions,
  transactionalId?: string,
  compress?: Compress,
): Producer {
  return new Producer(cluster, {
    group: identityOf(options.gateway, options.name),
    transactionalId,
    transactionTimeoutMs: options.transactionTimeoutMs,
    // The answer is to come before we stop waiting for it.
    produceTimeoutMs: Math.ceil(options.requestTimeoutMs * 0.8),
    codec: options.compression,
    compress,
  });
}
