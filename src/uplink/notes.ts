/**
 * What an uplink remembers here, on the internal stream `__uplinks`: whether it is to rest, and the gaps, which
 * are records that the cluster will never get. Keys: `<uplink>/state`, `<uplink>/gap/<stream>/<partition>/<from>`.
 *
 * How far it has come is not among it: the cluster knows that, and the gateway's consumer group of the uplink
 * repeats it.
 */
import type { Log, Partition } from "../log/log.ts";
import { wholePartition } from "../log/whole-partition.ts";
import { NO_HEADERS, recordsOf } from "../wire/record-batch.ts";

export const NOTES_STREAM = "__uplinks";

export interface Gap {
  readonly stream: string;
  readonly partition: number;
  /** The first offset that is missing, and one past the last. */
  readonly from: number;
  readonly to: number;
  readonly why: "retention" | "skipped" | "dead-letter" | "reset";
  /** Milliseconds since the epoch. */
  readonly at: number;
}

export interface UplinkState {
  /** A person's word; undefined while it may run. */
  readonly resting?: "paused" | "fenced" | undefined;
}

/** Gaps that are held in memory and shown; all of them are on the stream. */
const MAX_GAPS = 1_000;

export class Notes {
  private readonly log: Log;
  private partition: Partition | undefined;
  private readonly states = new Map<string, UplinkState>();
  private readonly gaps = new Map<string, Map<string, Gap>>();

  constructor(log: Log) {
    this.log = log;
  }

  async start(): Promise<void> {
    const settings = { cleanup: "compact", retentionMs: -1, retentionBytes: -1 } as const;
    const stream =
      this.log.stream(NOTES_STREAM) ?? (await this.log.createStream(NOTES_STREAM, 1, settings, "internal"));
    const partition = stream.partitions[0] as Partition;
    this.partition = partition;
    for await (const buffers of wholePartition(partition)) {
      for (const { key, value } of recordsOf(buffers)) this.apply(String(key), value);
    }
  }

  state(uplink: string): UplinkState {
    return this.states.get(uplink) ?? {};
  }

  /** Newest last. */
  gapsOf(uplink: string): readonly Gap[] {
    return [...(this.gaps.get(uplink)?.values() ?? [])];
  }

  /** Resolves when it is on disk. */
  setState(uplink: string, state: UplinkState): Promise<void> {
    return this.write(`${uplink}/state`, state);
  }

  addGap(uplink: string, gap: Gap): Promise<void> {
    return this.write(`${uplink}/gap/${gap.stream}/${gap.partition}/${gap.from}`, gap);
  }

  private write(key: string, value: UplinkState | Gap): Promise<void> {
    const bytes = Buffer.from(JSON.stringify(value));
    const partition = this.partition as Partition;
    const record = {
      partition,
      key: Buffer.from(key),
      value: bytes,
      headers: NO_HEADERS,
      timestamp: Date.now(),
    };
    return new Promise((resolve, reject) => {
      this.log.append([record], (error) => {
        if (error !== null) return reject(error);
        this.apply(key, bytes);
        resolve();
      });
    });
  }

  private apply(key: string, value: Buffer | null): void {
    const [uplink = "", kind] = key.split("/");
    if (value === null) return;
    const parsed = JSON.parse(value.toString());
    if (kind === "state") this.states.set(uplink, parsed);
    if (kind !== "gap") return;
    const gaps = this.gaps.get(uplink) ?? new Map<string, Gap>();
    this.gaps.set(uplink, gaps);
    gaps.set(key, parsed);
    if (gaps.size > MAX_GAPS) gaps.delete(gaps.keys().next().value as string);
  }
}
