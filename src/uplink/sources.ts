/** Which partitions of the gateway an uplink carries: by its rules, as streams and partitions come and go. */
import type { Log, Partition } from "../log/log.ts";
import type { Logger } from "../logger.ts";
import { identityOf, matcherOf, remoteTopicOf, type UplinkOptions } from "./options.ts";
import { type PlaceKey, placeName } from "./producer.ts";
import { Source } from "./source.ts";
import { NamedError } from "./words.ts";

interface Rule {
  readonly matcher: RegExp;
  readonly to: string;
  /** Other streams go to the same topic. */
  readonly isShared: boolean;
}

export class Sources {
  /** By `stream/partition`. */
  private readonly byName = new Map<string, Source>();
  private readonly options: UplinkOptions;
  private readonly services: { readonly log: Log; readonly logger: Logger };
  private readonly rules: readonly Rule[];
  /** By place, who has it: two never share one. */
  private readonly taken = new Map<string, Source>();
  private readonly listening = new Map<string, () => void>();
  private readonly onNews: (source: Source) => void;

  /** `onNews` is called for a source that is new, and whenever one has more to send. */
  constructor(
    options: UplinkOptions,
    services: { readonly log: Log; readonly logger: Logger },
    onNews: (source: Source) => void,
  ) {
    this.options = options;
    this.services = services;
    this.onNews = onNews;
    const { streams } = options;
    this.rules = streams.map(({ pattern, to }, index) => ({
      matcher: matcherOf(pattern),
      to,
      isShared:
        !to.includes("${stream}") &&
        (pattern.includes("*") || streams.some((other, at) => at !== index && other.to === to)),
    }));
  }

  get all(): readonly Source[] {
    return [...this.byName.values()];
  }

  /** Patterns of the configuration that no stream fits. */
  get unmatched(): readonly string[] {
    const { all } = this;
    return this.options.streams
      .map(({ pattern }) => pattern)
      .filter((_, rank) => !all.some((source) => source.rank === rank));
  }

  /** Looks for streams and partitions that are new, or gone. */
  scan(): void {
    const { log } = this.services;
    for (const stream of log.streams) {
      if (stream.internal) continue;
      const rank = this.rules.findIndex(({ matcher }) => matcher.test(stream.name));
      if (rank < 0) continue;
      for (const partition of stream.partitions) this.add(partition, rank);
    }
    for (const [name, source] of this.byName) {
      if (log.stream(source.stream)?.partitions[source.index] !== source.partition) this.remove(name);
    }
  }

  /** Nothing is heard of them any more. What they hold stays held: retention goes on when a gateway stops, too. */
  close(): void {
    for (const stop of this.listening.values()) stop();
    this.listening.clear();
  }

  /** Retention may have what these held, but for what `successor` carries. */
  release(successor: Sources | undefined): void {
    for (const [name, { partition }] of this.byName) {
      if (successor?.byName.get(name)?.partition !== partition) partition.hold(this.options.name, undefined);
    }
  }

  private add(partition: Partition, rank: number): void {
    const name = `${partition.stream.name}/${partition.index}`;
    if (this.byName.has(name)) return;
    const { to, isShared } = this.rules[rank] as Rule;
    const topic = remoteTopicOf(to, this.options.gateway, partition.stream.name);
    const place = this.placeKey(topic, partition, isShared);
    const source = new Source({ partition, topic, place, rank }, this.options, this.services.logger);
    const other = this.taken.get(placeName(place));
    if (other !== undefined) {
      const words = `it would go to ${topic}, where ${other.stream} goes`;
      source.ask(new NamedError("SAME_TOPIC", words, "Put ${stream} into `to`."));
    } else this.taken.set(placeName(place), source);
    this.byName.set(name, source);
    this.listening.set(
      name,
      partition.onCommit(() => this.onNews(source)),
    );
    this.onNews(source);
  }

  /**
   * Under the very partition that the records go to, where no other source can be meant by it. Otherwise a topic
   * of its own, which stays empty, has a partition for each of the stream's.
   */
  private placeKey(topic: string, partition: Partition, isShared: boolean): PlaceKey {
    const { gateway, name, partitioning } = this.options;
    if (partitioning === "same" && !isShared) return { topic, partition: partition.index };
    return { topic: `${identityOf(gateway, name)}.${partition.stream.name}`, partition: partition.index };
  }

  private remove(name: string): void {
    const source = this.byName.get(name);
    if (source !== undefined && this.taken.get(placeName(source.place)) === source) {
      this.taken.delete(placeName(source.place));
    }
    this.byName.delete(name);
    this.listening.get(name)?.();
    this.listening.delete(name);
  }
}
