/**
 * Hands a published packet to the subscriptions that match (it is aedes' `mq`).
 *
 * A publisher does not wait for its subscribers as long as what is on its way to them stays within
 * `maxPendingBytes`; beyond it publishers wait for their own message's deliveries. So a subscriber that
 * stopped reading holds up nobody while it waits for its end, and memory stays bounded.
 */
import { FilterTrie } from "../mapping/filter-trie.ts";
import { TopicFilter } from "../mapping/topic-filter.ts";

export interface Deliverable {
  readonly topic: string;
  readonly payload: Buffer;
}
type Listener = (packet: Deliverable, done: () => void) => void;
type Callback = (error?: Error | null) => void;

/** What a delivery takes beside its payload: packet objects, callbacks. Measured roughly, rounded up. */
const BYTES_PER_DELIVERY = 1_000;

export class Deliveries {
  private readonly trie = new FilterTrie<Listener>();
  /** To the broker's own topics, which clients do not publish to: mostly aedes' own. */
  private readonly ofBroker = new FilterTrie<Listener>();
  private readonly maxPendingBytes: number;
  private pendingBytes = 0;
  private closed = false;

  constructor(maxPendingBytes: number) {
    this.maxPendingBytes = maxPendingBytes;
  }

  /** Nobody is subscribed to anything that clients publish. */
  get isIdle(): boolean {
    return this.trie.isEmpty;
  }

  on(filter: string, listener: Listener, done?: () => void): this {
    this.trieFor(filter).add(TopicFilter.parse(filter).levels, listener);
    if (done !== undefined) setImmediate(done);
    return this;
  }

  removeListener(filter: string, listener: Listener, done?: () => void): this {
    this.trieFor(filter).remove(TopicFilter.parse(filter).levels, listener);
    if (done !== undefined) setImmediate(done);
    return this;
  }

  emit(packet: Deliverable, published: Callback): void {
    if (this.closed) {
      published(new Error("the broker is closed"));
      return;
    }
    const listeners: Listener[] = [];
    this.trieFor(packet.topic).match(packet.topic, (listener) => listeners.push(listener));
    if (listeners.length === 0) {
      published();
      return;
    }
    const bytes = packet.payload.length + listeners.length * BYTES_PER_DELIVERY;
    this.pendingBytes += bytes;
    const waits = this.pendingBytes > this.maxPendingBytes;
    let open = listeners.length;
    const delivered = (): void => {
      if (--open > 0) return;
      this.pendingBytes -= bytes;
      if (waits) published();
    };
    for (const listener of listeners) listener(packet, delivered);
    if (!waits) published();
  }

  /** A topic that begins with $ is matched by no filter that begins with a wildcard [MQTT-4.7.2-1]. */
  private trieFor(filterOrTopic: string): FilterTrie<Listener> {
    return filterOrTopic.startsWith("$SYS/") ? this.ofBroker : this.trie;
  }

  close(done: () => void): void {
    this.closed = true;
    setImmediate(done);
  }
}
