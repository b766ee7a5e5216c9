/**
 * One consumer that reads a stream from its beginning as fast as it is given it.
 *
 * Run as `fetching.ts <FetchingOptions as JSON>`; prints one line of JSON, a FetchingResult, when it has so many
 * records.
 */
import { BareConsumer } from "./bare-consumer.ts";

export interface FetchingOptions {
  readonly port: number;
  readonly stream: string;
  readonly partitions: number;
  readonly records: number;
}

export interface FetchingResult {
  readonly bytes: number;
  readonly ms: number;
}

const { port, stream, partitions, records } = JSON.parse(process.argv[2] ?? "{}") as FetchingOptions;
// Of each partition as much as Kafka's consumer asks for by itself.
const wish = { stream, partitions, maxWaitMs: 500, partitionMaxBytes: 1 << 20 };
const consumer = await BareConsumer.open(port, wish, () => {
  if (consumer.records < records) return;
  const result: FetchingResult = { bytes: consumer.bytes, ms: performance.now() - startedAt };
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
});
const startedAt = performance.now();
consumer.ask();
