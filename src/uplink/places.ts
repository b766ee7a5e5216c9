/**
 * Where a source goes on: the cluster's word against what is remembered here and what the log still has. Only
 * where they agree is it settled; everything else is said, and a person (or the rule that one wrote) decides.
 */
import type { Place } from "./producer.ts";
import { NamedError } from "./words.ts";

/** What goes with a place into the cluster, so that a wrong one is known by it. */
export interface PlaceMark {
  /** The data folder's identity: another gateway of the same name has another one. */
  readonly log: string;
  /** Of the process, by chance. */
  readonly run: string;
  /** Once more: a committed offset has no checksum. */
  readonly offset: number;
  /** The last record that was delivered, if any was: a data folder from a backup may have another one there. */
  readonly last?: Witness | undefined;
}

/** A record by which the log that it came from is known again. */
export interface Witness {
  readonly offset: number;
  readonly timestamp: number;
  /** CRC-32C of the record as it lies in the log, from its key on. */
  readonly crc: number;
}

export const markOf = (mark: PlaceMark): string => JSON.stringify(mark);

export const readMark = (metadata: string): Partial<PlaceMark> => jsonIn(metadata);

/** The object that goes with a committed offset as its metadata; an empty one where somebody wrote anything else. */
export function jsonIn<T extends object>(metadata: string): Partial<T> {
  try {
    const found: unknown = JSON.parse(metadata);
    return typeof found === "object" && found !== null ? found : {};
  } catch {
    return {};
  }
}

/** What a mark says may be anything: somebody else may have written it. */
export function isWitness(last: unknown): last is Witness {
  const { offset, timestamp, crc } = (last ?? {}) as Partial<Record<keyof Witness, unknown>>;
  return [offset, timestamp, crc].every((one) => Number.isSafeInteger(one));
}

/** By the gateway's own group: never ahead of the cluster. */
export interface LocalPlace {
  readonly offset: number;
  readonly clusterId: string | undefined;
}

export interface Known {
  readonly remote: Pick<Place, "offset" | "metadata"> | undefined;
  readonly local: LocalPlace | undefined;
  readonly logStart: number;
  readonly logEnd: number;
  readonly logId: string;
  readonly clusterId: string | undefined;
  readonly from: "beginning" | "latest";
  readonly onPlaceLost: "ask" | "resume" | "restart";
  /** The log has another record where the mark of the place has its last one. */
  readonly isOtherLog?: boolean;
}

export type Decision =
  | { readonly next: number; readonly writePlace: boolean }
  /** `resume` is where it would go on by what is known here. */
  | { readonly ask: NamedError; readonly resume: number };

const MEND = "Decide with sluice uplink reset --to remote, local, beginning, end, an offset or a time.";

export function decide(known: Known): Decision {
  const { remote, local, logStart, logEnd, logId, clusterId, from } = known;
  if (remote === undefined && local === undefined) {
    return from === "latest" ? { next: logEnd, writePlace: true } : { next: logStart, writePlace: false };
  }
  const lost = whatIsLost(known);
  if (lost === undefined) return { next: (remote as Place).offset, writePlace: false };
  const [code, words] = lost;
  const resume = Math.min(
    Math.max((code === "PLACE_BEHIND" ? remote?.offset : local?.offset) ?? logStart, logStart),
    logEnd,
  );
  // Another gateway's place is never taken over by a rule.
  if (code !== "PLACE_FOREIGN" && known.onPlaceLost === "resume") return { next: resume, writePlace: true };
  if (code !== "PLACE_FOREIGN" && known.onPlaceLost === "restart")
    return { next: logStart, writePlace: true };
  const moved =
    local?.clusterId !== undefined && clusterId !== undefined && local.clusterId !== clusterId
      ? `the cluster is another one (${clusterId}, it was ${local.clusterId}): `
      : "";
  const foreign = `Give this gateway another name, or take the place over: sluice uplink reset --to … (log ${logId}).`;
  return {
    ask: new NamedError(code, moved + words, code === "PLACE_FOREIGN" ? foreign : MEND),
    resume,
  };
}

function whatIsLost(known: Known): readonly [code: string, words: string] | undefined {
  const { remote, local, logEnd, logId, clusterId } = known;
  if (remote === undefined) {
    return ["PLACE_GONE", `the cluster has forgotten how far it was; here it was ${local?.offset}`];
  }
  const { offset } = remote;
  const mark = readMark(remote.metadata);
  if (mark.log !== undefined && mark.log !== logId) {
    return [
      "PLACE_FOREIGN",
      `the place in the cluster (${offset}) was written by another gateway of this name, with the data folder ${mark.log}`,
    ];
  }
  if (mark.offset !== undefined && mark.offset !== offset) {
    return ["PLACE_DAMAGED", `the place in the cluster says ${offset} and ${mark.offset} at once`];
  }
  if (offset > logEnd) {
    return ["PLACE_BEYOND", `the cluster has it up to ${offset}, but the log here ends at ${logEnd}`];
  }
  if (known.isOtherLog) {
    return [
      "PLACE_DIVERGED",
      `the cluster has it up to ${offset}, but the log here has other records there: was the data folder restored from a backup?`,
    ];
  }
  if (local === undefined) return undefined;
  if (offset < local.offset) {
    return [
      "PLACE_BEHIND",
      `the cluster has it up to ${offset} only, though it had acknowledged ${local.offset}`,
    ];
  }
  if (local.clusterId !== undefined && clusterId !== undefined && local.clusterId !== clusterId) {
    return ["CLUSTER_CHANGED", `it says ${offset}`];
  }
  return undefined;
}
