/**
 * Where the sources of an uplink stand: by the cluster's word, by what is kept of it here, by a person's. And what
 * goes with it: gaps, records left out, and what retention has to leave.
 */
import { randomBytes } from "node:crypto";
import { SluiceError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { encodeHeaders, recordsOf } from "../wire/record-batch.ts";
import { type LoadPart, witnessAt } from "./load.ts";
import type { Gap } from "./notes.ts";
import type { UplinkOptions } from "./options.ts";
import { decide, isWitness, jsonIn, type LocalPlace, markOf, readMark, type Witness } from "./places.ts";
import { type Place, placeName } from "./producer.ts";
import type { Source } from "./source.ts";
import type { UplinkServices } from "./uplink.ts";

export class Placement {
  readonly seenRuns: Set<string>;
  /** Where a source is to go on, by a person's word. It stands until the cluster has it: a session may end before. */
  private readonly resets = new Map<string, { offset: number; why: Gap["why"]; isTaken: boolean }>();
  /** Sources that are elsewhere by now than the gateway's own group says. */
  readonly unsaved = new Set<Source>();
  clusterId: string | undefined;
  saving: Promise<unknown> = Promise.resolve();
  isClosed = false;
  private readonly options: UplinkOptions;
  private readonly services: UplinkServices;
  private readonly logger: Logger;
  private readonly run = randomBytes(8).toString("hex");

  constructor(options: UplinkOptions, services: UplinkServices) {
    this.options = options;
    this.services = services;
    this.logger = services.logger;
    this.seenRuns = new Set([this.run]);
  }

  /** Of the gateway: its lag is what ordinary tools show. */
  get localGroup(): string {
    return `uplink-${this.options.name}`;
  }

  placeOf({ source: { place }, next: offset, last }: LoadPart): Place {
    const { run } = this;
    return { ...place, offset, metadata: markOf({ log: this.services.logId, run, offset, last }) };
  }

  /** Taken when the source's place is decided the next time, which is at the begin of a session at the latest. */
  reset(source: Source, offset: number, why: Gap["why"]): void {
    this.resets.set(source.name, { offset, why, isTaken: false });
  }

  /** The cluster has the source's place. */
  delivered(source: Source): void {
    if (this.resets.get(source.name)?.isTaken) this.resets.delete(source.name);
    this.hold(source);
    this.unsaved.add(source);
  }

  async settle(sources: readonly Source[], places: ReadonlyMap<string, Place>): Promise<void> {
    for (const source of sources) {
      const remote = places.get(placeName(source.place));
      const { run } = readMark(remote?.metadata ?? "");
      if (run !== undefined && source.next < 0) this.seenRuns.add(run);
      const stored = this.localPlace(source);
      // What was delivered by this process counts before it is stored here, too.
      const { clusterId } = this;
      const own = source.confirmed >= 0 ? { offset: source.confirmed, clusterId } : undefined;
      await this.place(source, remote, stored ?? own);
    }
  }

  private async place(
    source: Source,
    remote: Place | undefined,
    local: LocalPlace | undefined,
  ): Promise<void> {
    const { logStartOffset: logStart, highWatermark: logEnd } = source.partition;
    const reset = this.resets.get(source.name);
    if (reset !== undefined) {
      const before = Math.max(remote?.offset ?? 0, source.next, 0);
      source.next = Math.min(Math.max(reset.offset, logStart), logEnd);
      source.mustWritePlace = true;
      reset.isTaken = true;
      await this.gap(source, before, source.next, reset.why);
      // Back here first: what is stored here is never to be ahead of the cluster.
      if (source.next < (local?.offset ?? 0)) {
        source.confirmed = source.next;
        this.unsaved.add(source);
        this.saveLocal();
        await this.saving;
      }
      return;
    }
    // Begun, but nothing of it has gone through yet: the decision stands.
    if (remote === undefined && local === undefined && source.next >= logStart) return;
    const { logId } = this.services;
    const { from, onPlaceLost } = this.options;
    const { clusterId } = this;
    const mark = readMark(remote?.metadata ?? "");
    const isOtherLog = mark.log === logId && mark.run !== this.run && (await isElsewhere(source, mark.last));
    const rules = { clusterId, from, onPlaceLost, isOtherLog };
    const decision = decide({ remote, local, logStart, logEnd, logId, ...rules });
    if ("ask" in decision) {
      source.next = -1;
      return source.ask(decision.ask);
    }
    source.next = decision.next;
    if (!isOtherLog && isWitness(mark.last)) source.last ??= mark.last;
    if (remote !== undefined) source.confirmed = Math.min(remote.offset, decision.next);
    source.mustWritePlace ||= decision.writePlace;
    if (source.next < logStart) {
      await this.gap(source, source.next, logStart, "retention");
      source.next = logStart;
      source.mustWritePlace = true;
    }
  }

  /** Says, counts and keeps that records will never be in the cluster. */
  private async gap(source: Source, from: number, to: number, why: Gap["why"]): Promise<void> {
    if (to <= from) return;
    const { stream, index: partition } = source;
    this.logger.warn(
      { uplink: this.options.name, stream, partition, from, to, why },
      `uplink ${this.options.name}: ${to - from} records of ${source.name} will not be in the cluster (${why})`,
    );
    await this.services.notes.addGap(this.options.name, { stream, partition, from, to, why, at: Date.now() });
  }

  /** Leaves out the record that is to blame; `dead-letter` keeps it on a stream of the gateway's first. */
  async skip(source: Source, how: "skip" | "dead-letter"): Promise<{ from: number; to: number }> {
    const { poison } = source;
    if (poison === undefined) {
      throw new SluiceError("NOT_POISONED", `${source.name} is not held up by a single record`, {
        exitCode: 64,
      });
    }
    if (how === "dead-letter") await this.bury(source, poison);
    source.poison = undefined;
    await this.gap(source, poison.offset, poison.end, how === "skip" ? "skipped" : "dead-letter");
    this.reset(source, poison.end, "skipped");
    source.next = poison.end;
    source.retryNow();
    return { from: poison.offset, to: poison.end };
  }

  /** At least once: a crash between this and the place would bring it again. */
  private async bury(source: Source, { offset, end }: { offset: number; end: number }): Promise<void> {
    const { deadLetters } = this.options;
    const target = deadLetters === undefined ? undefined : this.services.log.stream(deadLetters);
    if (target === undefined) {
      throw new SluiceError("NO_DEAD_LETTERS", `uplink ${this.options.name} has no deadLetters stream`, {
        mend: "Set deadLetters of the uplink to a stream of the gateway.",
        exitCode: 64,
      });
    }
    const buffers = await source.partition.read(offset, 1);
    const partition = target.keylessPartition();
    const why = source.problem.report?.message ?? "";
    const entries = [...recordsOf(buffers)]
      .filter((record) => record.offset >= offset && record.offset < end)
      .map(({ key, value, headers, timestamp, offset: at }) => ({
        partition,
        key: key ?? Buffer.from(source.name),
        value,
        headers: encodeHeaders([
          ...headers,
          { key: "sluice.stream", value: Buffer.from(source.stream) },
          { key: "sluice.partition", value: Buffer.from(String(source.index)) },
          { key: "sluice.offset", value: Buffer.from(String(at)) },
          { key: "sluice.error", value: Buffer.from(why) },
        ]),
        timestamp,
      }));
    await new Promise<void>((resolve, reject) => {
      this.services.log.append(entries, (error) => (error === null ? resolve() : reject(error)));
    });
  }

  /** The gateway's own group follows, about once a second; it may be behind, never ahead. */
  saveLocal(): void {
    if (this.unsaved.size === 0) return;
    const metadata = JSON.stringify({ cluster: this.clusterId });
    const offsets = [...this.unsaved]
      .filter(({ confirmed }) => confirmed >= 0)
      .map(({ stream, index: partition, confirmed: offset }) => ({
        stream,
        partition,
        offset,
        leaderEpoch: -1,
        metadata,
      }));
    this.unsaved.clear();
    const identity = { memberId: "", groupInstanceId: null, generationId: -1 };
    this.saving = this.services.groups.commit(this.localGroup, identity, offsets);
  }

  /** Until the place is known, what was known of it here: never ahead of the cluster. */
  hold(source: Source): void {
    const { options } = this;
    if (this.isClosed) return;
    const isWanted = options.waitFor.includes(source.stream);
    const known = source.next >= 0 ? source.next : this.localPlace(source)?.offset;
    const from = known ?? source.partition.logStartOffset;
    source.partition.hold(this.options.name, isWanted ? from : undefined);
  }

  /** How far it was by the gateway's own group. */
  localPlace({ stream, index: partition }: Source): LocalPlace | undefined {
    const found = this.services.groups.committedOffset(this.localGroup, { stream, partition });
    if (found === undefined) return undefined;
    return { offset: found.offset, clusterId: jsonIn<{ cluster: string }>(found.metadata).cluster };
  }
}

/** Whether the log has another record at that offset. One that compaction or retention took says nothing. */
async function isElsewhere({ partition }: Source, last: Witness | undefined): Promise<boolean> {
  if (!isWitness(last)) return false;
  const { offset, timestamp, crc } = last;
  if (offset < partition.logStartOffset || offset >= partition.highWatermark) return false;
  const found = await witnessAt(partition, offset);
  return found !== undefined && (found.timestamp !== timestamp || found.crc !== crc);
}
