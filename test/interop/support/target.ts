/**
 * Whom the Kafka judges judge: our gateway, or, with `INTEROP_TARGET=apache-kafka`, Apache Kafka itself. A
 * judge that Kafka does not pass is wrong; that is how they were made.
 */
import { ApacheKafka } from "./apache-kafka.ts";
import { Gateway } from "./gateway.ts";

export interface Target {
  readonly brokers: string;
  close(): Promise<void>;
}

/** Streams by name, with their number of partitions. */
export type Streams = Readonly<Record<string, number>>;

export async function startTarget(streams: Streams): Promise<Target> {
  if (process.env.INTEROP_TARGET === "apache-kafka") {
    const kafka = await ApacheKafka.start();
    await kafka.createTopics(streams);
    return kafka;
  }
  const gateway = await Gateway.start({
    streams: Object.fromEntries(Object.entries(streams).map(([name, partitions]) => [name, { partitions }])),
    mappings: [],
  });
  return { brokers: gateway.brokers, close: () => gateway.dispose() };
}
