/**
 * Consumers that only wait: each a bare socket with one Fetch in hand, asked again when it is answered.
 *
 * Run as `idle.ts <IdleOptions as JSON>`; prints `waiting` when all of them have asked; runs until it is ended.
 */
import { BareConsumer } from "./bare-consumer.ts";

export interface IdleOptions {
  readonly port: number;
  readonly consumers: number;
  readonly stream: string;
}

const { port, consumers, stream } = JSON.parse(process.argv[2] ?? "{}") as IdleOptions;
const wish = { stream, partitions: 1, maxWaitMs: 60_000, partitionMaxBytes: 1 << 20 };

const open = async () => (await BareConsumer.open(port, wish)).ask();

for (let opened = 0; opened < consumers; opened += 200) {
  await Promise.all(Array.from({ length: Math.min(200, consumers - opened) }, open));
}
process.stdout.write("waiting\n");
