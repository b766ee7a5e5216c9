/** What `sluice uplink status` is told. */
import type { Gap } from "./notes.ts";
import type { ProblemReport } from "./problem.ts";
import type { Runway } from "./runway.ts";
import type { Source, SourceState } from "./source.ts";
import type { UplinkCounts, UplinkState } from "./uplink.ts";

export interface SourceReport {
  readonly partition: number;
  readonly state: SourceState;
  /** The offset that is sent next; -1 while it is not known. */
  readonly next: number;
  readonly end: number;
  readonly waitingRecords: number;
  /** Estimated by the partition's mean. */
  readonly waitingBytes: number;
  readonly sentRecords: number;
  readonly poison?: number | undefined;
  readonly problem?: ProblemReport | undefined;
}

export interface StreamReport {
  readonly stream: string;
  readonly to: string;
  readonly waitingRecords: number;
  readonly waitingBytes: number;
  readonly partitions: readonly SourceReport[];
}

export interface UplinkReport {
  readonly name: string;
  readonly state: UplinkState;
  /** Milliseconds since the epoch. */
  readonly since: number;
  readonly brokers: readonly string[];
  readonly clusterId?: string | undefined;
  readonly delivery: string;
  /** Of the gateway: its lag is what waits. */
  readonly group: string;
  readonly problem?: ProblemReport | undefined;
  readonly waitingRecords: number;
  readonly waitingBytes: number;
  /** Since the gateway started. */
  readonly sent: UplinkCounts;
  readonly runway: Runway;
  readonly streams: readonly StreamReport[];
  /** Patterns of the configuration that no stream fits. */
  readonly unmatched: readonly string[];
  /** Records that the cluster will never get: the newest gaps, and the number of records in all that are known. */
  readonly gaps: readonly Gap[];
  readonly gapRecords: number;
}

export function streamReports(sources: Iterable<Source>): StreamReport[] {
  const streams = new Map<string, Source[]>();
  for (const source of sources) {
    const list = streams.get(source.stream);
    if (list === undefined) streams.set(source.stream, [source]);
    else list.push(source);
  }
  return Array.from(streams, ([stream, own]) => {
    const partitions = own.toSorted((a, b) => a.index - b.index).map(sourceReport);
    return {
      stream,
      to: own[0]?.topic ?? "",
      waitingRecords: sum(partitions, ({ waitingRecords }) => waitingRecords),
      waitingBytes: sum(partitions, ({ waitingBytes }) => waitingBytes),
      partitions,
    };
  });
}

function sourceReport(source: Source): SourceReport {
  const { index: partition, state, next, waitingRecords, waitingBytes, sentRecords } = source;
  return {
    partition,
    state,
    next,
    end: source.partition.highWatermark,
    waitingRecords,
    waitingBytes,
    sentRecords,
    ...(source.poison === undefined ? {} : { poison: source.poison.offset }),
    ...(source.problem.report === undefined ? {} : { problem: source.problem.report }),
  };
}

export function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}
