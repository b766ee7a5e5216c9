/** Reads all of a partition, as a start does with the gateway's own streams. */
import { LogError } from "../errors.ts";
import { endOffsetOf } from "../wire/record-batch.ts";
import type { Partition } from "./log.ts";

const READ_BYTES = 1 << 20;

/** Its batches, oldest first, in pieces of about a MiB. Throws LogError DAMAGED for one that leads nowhere. */
export async function* wholePartition(partition: Partition): AsyncGenerator<readonly Buffer[]> {
  for (let offset = partition.logStartOffset; offset < partition.highWatermark; ) {
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
