/**
 * The one look into member metadata: which streams a consumer is subscribed to. It is the beginning of
 * Kafka's ConsumerProtocolSubscription, the same in all its versions: int16 version | array of strings.
 */
import { ProtocolError } from "../errors.ts";
import { Reader } from "../wire/buffer.ts";

/** Of all these members together. What does not parse counts as no subscription, as in Kafka. */
export function subscribedStreams(subscriptions: Iterable<Buffer>): Set<string> {
  const streams = new Set<string>();
  for (const subscription of subscriptions) {
    try {
      const reader = new Reader(subscription);
      reader.int16();
      for (let left = reader.length32(false); left > 0; left--) streams.add(reader.string(false) ?? "");
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
    }
  }
  return streams;
}
