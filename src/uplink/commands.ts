/** What a person may ask of the uplinks of a gateway that runs: by `sluice uplink`, over the data folder's socket. */
import { SluiceError } from "../errors.ts";
import { type Finding, inspect } from "./inspect.ts";
import type { UplinkReport } from "./report.ts";
import { clusterOf } from "./session.ts";
import type { Source } from "./source.ts";
import type { Uplink } from "./uplink.ts";
import type { Uplinks } from "./uplinks.ts";
import { type VerifiedPartition, verify } from "./verify.ts";

const USAGE = 64;

/** Where a reset goes. Times are milliseconds since the epoch. */
export type ResetTo =
  | { readonly kind: "beginning" | "end" | "remote" | "local" }
  | { readonly kind: "offset"; readonly offset: number }
  | { readonly kind: "time"; readonly timestampMs: number };

/** Which uplink, and which of its partitions; left out: the only one, and all. */
export interface Chosen {
  readonly name?: string | undefined;
  readonly stream?: string | undefined;
  readonly partition?: number | undefined;
}

export interface Moved {
  readonly stream: string;
  readonly partition: number;
  readonly from: number;
  readonly to: number;
}

type Ask = (request: { readonly body: unknown }) => unknown;

/** By method and path. `current` is undefined while the gateway starts. */
export function uplinkRoutes(current: () => Uplinks | undefined): Record<string, Ask> {
  const uplinks = (): Uplinks => {
    const all = current();
    if (all !== undefined) return all;
    throw new SluiceError("NOT_NOW", "the gateway is starting", { exitCode: 69 });
  };
  const by =
    <B>(act: (uplinks: Uplinks, body: B) => unknown): Ask =>
    ({ body }) =>
      act(uplinks(), (body ?? {}) as B);
  return {
    "GET /uplinks": () => uplinks().reports,
    "POST /uplinks/pause": by<Chosen>((all, body) => rest(all, body, true)),
    "POST /uplinks/resume": by<Chosen>((all, body) => rest(all, body, false)),
    "POST /uplinks/reset": by(reset),
    "POST /uplinks/skip": by(skip),
    "POST /uplinks/dry-run": by(dryRun),
    "POST /uplinks/verify": by(verifyAll),
  };
}

/** "pause" rests until "resume"; "resume" ends a fencing too. */
async function rest(uplinks: Uplinks, { name }: Chosen, isResting: boolean): Promise<UplinkReport> {
  const uplink = uplinks.named(name);
  await uplink.setResting(isResting ? "paused" : undefined);
  return uplink.report;
}

/** With `dryRun` nothing is changed. */
async function reset(
  uplinks: Uplinks,
  { to, dryRun = false, ...chosen }: Chosen & { readonly to: ResetTo; readonly dryRun?: boolean },
): Promise<Moved[]> {
  const uplink = uplinks.named(chosen.name);
  const sources = sourcesOf(uplink, chosen);
  if (to.kind === "offset" && sources.length > 1) {
    throw new SluiceError("ONE_PARTITION", "an offset is for one partition", {
      mend: "Name it: --stream and --partition.",
      exitCode: USAGE,
    });
  }
  const remote = to.kind === "remote" ? await uplink.remotePlaces(sources) : undefined;
  const offsets = new Map<Source, number>();
  for (const source of sources) {
    offsets.set(source, await offsetFor(source, to, uplink, remote?.get(source)));
  }
  const moved = Array.from(offsets, ([source, offset]) => {
    const { stream, index: partition, next: from } = source;
    return { stream, partition, from, to: offset };
  });
  if (!dryRun) uplink.reset(offsets, "reset");
  return moved;
}

async function offsetFor(
  source: Source,
  to: ResetTo,
  uplink: Uplink,
  remote: number | undefined,
): Promise<number> {
  const { partition } = source;
  const { logStartOffset, highWatermark } = partition;
  const within = (offset: number): number => Math.min(Math.max(offset, logStartOffset), highWatermark);
  switch (to.kind) {
    case "beginning":
      return logStartOffset;
    case "end":
      return highWatermark;
    case "local":
      return within(uplink.placement.localPlace(source)?.offset ?? logStartOffset);
    case "remote":
      return within(remote ?? logStartOffset);
    case "offset":
      return within(to.offset);
    case "time":
      return (await partition.offsetForTimestamp(to.timestampMs))?.offset ?? highWatermark;
  }
}

/** Leaves out the record that holds up a partition. */
async function skip(
  uplinks: Uplinks,
  { deadLetter = false, ...chosen }: Chosen & { readonly deadLetter?: boolean },
): Promise<Moved[]> {
  const uplink = uplinks.named(chosen.name);
  const held = sourcesOf(uplink, chosen).filter(({ poison }) => poison !== undefined);
  if (held.length === 0) {
    throw new SluiceError("NOT_POISONED", "no partition is held up by a single record", { exitCode: USAGE });
  }
  return Promise.all(
    held.map(async (source) => ({
      stream: source.stream,
      partition: source.index,
      ...(await uplink.skip(source, deadLetter ? "dead-letter" : "skip")),
    })),
  );
}

async function* dryRun(uplinks: Uplinks, chosen: Chosen): AsyncGenerator<Finding> {
  const uplink = uplinks.named(chosen.name);
  const cluster = clusterOf(uplink.options);
  try {
    yield* inspect(sourcesOf(uplink, chosen), cluster, uplink.options);
  } finally {
    cluster.close();
  }
}

async function* verifyAll(
  uplinks: Uplinks,
  { lastMs, ...chosen }: Chosen & { readonly lastMs?: number | undefined },
): AsyncGenerator<VerifiedPartition> {
  const uplink = uplinks.named(chosen.name);
  const { options } = uplink;
  if (!options.headers) {
    throw new SluiceError("NO_HEADERS", `uplink ${uplink.name} adds no headers to know its records by`, {
      mend: "Set headers: true; what is sent from then on can be verified.",
      exitCode: USAGE,
    });
  }
  const cluster = clusterOf(options);
  try {
    const sources = sourcesOf(uplink, chosen).filter(({ next }) => next >= 0);
    await cluster.refresh([...new Set(sources.map(({ topic }) => topic))]);
    for (const source of sources) {
      yield await verify(source, cluster, {
        gateway: options.gateway,
        sinceMs: lastMs === undefined ? undefined : Date.now() - lastMs,
        anyPartition: options.partitioning === "key",
        partitionOf: ({ topic, index }) =>
          options.partitioning === "same" ? index : index % (cluster.topic(topic)?.leaders.length ?? 1),
      });
    }
  } finally {
    cluster.close();
  }
}

function sourcesOf(uplink: Uplink, { stream, partition }: Chosen): Source[] {
  const found = uplink.sources.filter(
    (source) =>
      (stream === undefined || source.stream === stream) &&
      (partition === undefined || source.index === partition),
  );
  if (found.length > 0) return found.sort((a, b) => (a.name < b.name ? -1 : 1));
  throw new SluiceError("NO_SOURCE", `uplink ${uplink.name} has no such stream or partition`, {
    mend: `Its streams: ${[...new Set(uplink.sources.map(({ stream }) => stream))].join(", ") || "none"}.`,
    exitCode: USAGE,
  });
}
