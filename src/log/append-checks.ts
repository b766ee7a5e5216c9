/** What an append must be to be queued for a commit, whatever its partition holds. */
import { LogError, ProtocolError } from "../errors.ts";
import { bodyOfSync, bodyProblem, rawRecords, recordsProblem } from "../wire/raw-records.ts";
import { batchBytes, batchProblem, recordBytesBound, recordCountOf } from "../wire/record-batch.ts";
import type { Append } from "./log.ts";
import type { PartitionLog } from "./partition-log.ts";

/** A window that has this much is full; no append may be more. */
export const MAX_WINDOW_BYTES = 4 << 20;

/** The bytes of an append, or the error for what can be told without its partition's state. */
export function checkEntries(entries: readonly Append[]): number {
  let bytes = 0;
  for (const entry of entries) {
    const partition = entry.partition as PartitionLog;
    const { maxMessageBytes } = partition.stream.settings;
    if (partition.isGone) {
      throw new LogError("UNKNOWN_STREAM", `stream ${partition.stream.name} has been deleted`);
    }
    const size = "batch" in entry ? entry.batch.length : recordBytesBound(entry);
    if (size > maxMessageBytes) {
      throw new LogError(
        "TOO_LARGE",
        `${size} bytes are more than ${partition.stream.name} takes at once (${maxMessageBytes})`,
      );
    }
    if ("batch" in entry) {
      if (entries.length > 1) throw new TypeError("a producer's batch is appended by itself");
      checkBatch(entry.batch, maxMessageBytes);
    }
    if (partition.stream.settings.cleanup.includes("compact")) checkKeys(entry, partition.stream.name);
    bytes += size;
  }
  if (bytes > MAX_WINDOW_BYTES) {
    throw new LogError("TOO_LARGE", `${bytes} bytes are more than one commit takes (${MAX_WINDOW_BYTES})`);
  }
  return bytes;
}

/** A record without a key could never be replaced by a later one (Kafka: INVALID_RECORD). */
function checkKeys(entry: Append, stream: string): void {
  if ("batch" in entry ? hasKeyEverywhere(entry.batch, stream) : entry.key !== null) return;
  throw new LogError("KEYLESS_RECORD", `stream ${stream} is compacted and takes no record without a key`);
}

/**
 * What cannot be looked into now could not be compacted later: a body of no known codec, or a bomb. Being open, a
 * compressed one is checked as what is not compressed is.
 */
function hasKeyEverywhere(batch: Buffer, stream: string): boolean {
  const body = bodyOfSync(batch, MAX_WINDOW_BYTES);
  if (body === undefined) {
    const words = `stream ${stream} is compacted and takes no batch that cannot be decompressed to at most ${MAX_WINDOW_BYTES} bytes`;
    throw new LogError("INVALID_RECORDS", words);
  }
  try {
    for (const { keyBytes } of rawRecords(batch, body)) if (keyBytes < 0) return false;
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    throw new LogError("CORRUPT_BATCH", `a record batch with ${error.message}`);
  }
  refuseRecords(bodyProblem(batch, body));
  return true;
}

function checkBatch(batch: Buffer, maxBytes: number): void {
  const problem =
    batchProblem(batch, 0, maxBytes) ??
    (batchBytes(batch) !== batch.length ? "more than one batch" : undefined) ??
    (recordCountOf(batch) !== batch.readInt32BE(23) + 1 ? "a record count that does not fit" : undefined);
  if (problem !== undefined) throw new LogError("CORRUPT_BATCH", `a record batch with ${problem}`);
  refuseRecords(recordsProblem(batch));
}

function refuseRecords(problem: string | undefined): void {
  if (problem !== undefined) throw new LogError("INVALID_RECORDS", `a record batch with ${problem}`);
}
