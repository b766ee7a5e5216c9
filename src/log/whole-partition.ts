/** Reads all of a partition, as a start does with the gateway's own streams, or all between two offsets. */
import { LogError } from "../errors.ts";
import { endOffsetOf } from "../wire/record-batch.ts";
import type { Partition } from "./log.ts";

const READ_BYTES = 1 << 20;

/**
 * Its batches, oldest first, in pieces of about a MiB: from the one that contains `from` to the one before `to`, or
 * that contains it. Throws LogError DAMAGED for one that leads nowhere.
 */
export async function* wholePartition(
  partition: Partition,
  from = partition.logStartOffset,
  to = Number.POSITIVE_INFINITY,
): AsyncGenerator<readonly Buffer[]> {
  for (let offset = from; offset < Math.min(to, partition.highWatermark); ) {
    const found = await partition.read(offset, READ_BYTES);
    const end = found.length === 0 ? offset : endOffsetOf(found);
    // One that ends before it begins would be read for ever.
    if (end <= offset) {
      const { stream, index } = partition;
      throw new LogError("DAMAGED", `what lies at offset ${offset} of ${stream.name}-${index} has no end`);
    }
    yield found;
    offset = end;
  }
}
