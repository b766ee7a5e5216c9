/** What an uplink is told: the configuration's words in units that need no explanation. */
import type { TlsOptions } from "./cluster.ts";
import type { Codec } from "./remote-batch.ts";
import type { Sasl } from "./sasl.ts";

export interface UplinkOptions {
  readonly name: string;
  /** The gateway's name: with the uplink's it is the identity that fences, and goes into headers. */
  readonly gateway: string;
  readonly brokers: readonly { readonly host: string; readonly port: number }[];
  readonly tls?: TlsOptions | undefined;
  readonly sasl?: Sasl | undefined;
  /** The first rule that fits a stream counts; their order is the streams' priority. */
  readonly streams: readonly StreamRule[];
  readonly delivery: "exactly-once" | "at-least-once";
  /** Where a stream begins that was never forwarded. */
  readonly from: "beginning" | "latest";
  readonly partitioning: "same" | "key" | "modulo";
  /** Whether gateway, stream, partition and offset are added as headers. */
  readonly headers: boolean;
  readonly compression: Codec;
  readonly create: false | TopicPolicy;
  /** From the begin of a transaction to that of the next, unless there is a backlog. */
  readonly intervalMs: number;
  readonly maxTransactionBytes: number;
  readonly maxBatchBytes: number;
  readonly connectTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly transactionTimeoutMs: number;
  /** Between two tries to connect, of which there is no end. */
  readonly maxBackoffMs: number;
  readonly rate: RateOptions;
  readonly onPoison: "stop" | "skip" | "dead-letter";
  /** The stream of the gateway's that takes them. */
  readonly deadLetters?: string | undefined;
  readonly onPlaceLost: "ask" | "resume" | "restart";
  /** Streams whose retention leaves what is not in the cluster yet; a full disk goes by its own rule. */
  readonly waitFor: readonly string[];
  /** Runway marks, longest first: a warning when the disk lasts no longer. */
  readonly warnAtMs: readonly number[];
}

export interface StreamRule {
  /** A name; `*` stands for any characters. */
  readonly pattern: string;
  readonly to: string;
}

export interface TopicPolicy {
  /** -1: the cluster's default. */
  readonly replication: number;
  readonly settings: Readonly<Record<string, string>>;
}

export interface RateOptions {
  /** A second; undefined without limit. */
  readonly bytes?: number | undefined;
  readonly records?: number | undefined;
  /** Of the time, at most; the rest of it the link is left to others. */
  readonly share: number;
  readonly schedule: readonly RateWindow[];
}

export interface RateWindow {
  /** Minutes since local midnight; a window may go over midnight. */
  readonly from: number;
  readonly to: number;
  readonly bytes?: number | undefined;
  readonly records?: number | undefined;
}

/** What a pattern matches in whole. */
export function matcherOf(pattern: string): RegExp {
  const parts = pattern.split("*").map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`);
}

export function remoteTopicOf(to: string, gateway: string, stream: string): string {
  return to.replaceAll("${gateway}", gateway).replaceAll("${stream}", stream);
}

/** The group of the cluster that holds the places, and what its transactional ids begin with. */
export const identityOf = (gateway: string, name: string): string => `sluice.${gateway}.${name}`;
