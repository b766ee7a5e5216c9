/**
 * The checkpoint: how far the segments hold everything for good, so that recovery knows from where on the
 * journal counts. A small text file, replaced whole.
 *
 * ```
 * sluice-checkpoint 1
 * journal <sequence> <generation>             entries up to this one are in the segments; next generation
 * <stream id> <partition> <recovery point>    one line a partition; all below is synced
 * crc32c <hex of all lines above>
 * ```
 */
import { LogError } from "../errors.ts";
import { crc32c } from "../wire/crc32c.ts";

export interface Checkpoint {
  /** -1 before the first. */
  readonly sequence: number;
  /** Generations of journal files used so far are below this. */
  readonly generation: number;
  /** Keyed by `partitionKey`. */
  readonly recoveryPoints: ReadonlyMap<string, number>;
}

export const NO_CHECKPOINT: Checkpoint = { sequence: -1, generation: 0, recoveryPoints: new Map() };

export function partitionKey(streamId: string, partition: number): string {
  return `${streamId} ${partition}`;
}

export function encodeCheckpoint({ sequence, generation, recoveryPoints }: Checkpoint): Buffer {
  let text = `sluice-checkpoint 1\njournal ${sequence} ${generation}\n`;
  for (const [key, offset] of recoveryPoints) text += `${key} ${offset}\n`;
  return sealText(text);
}

/** Text of whole lines, with its checksum in a line behind it. */
export function sealText(text: string): Buffer {
  return Buffer.from(`${text}crc32c ${crc32c(Buffer.from(text)).toString(16)}\n`);
}

/** The lines that `sealText` was given, or undefined when they are not as it was given them. */
export function unsealText(content: Buffer): string[] | undefined {
  const text = content.toString();
  const end = text.lastIndexOf("crc32c ");
  const body = text.slice(0, Math.max(0, end));
  const isSound = text.slice(end).trim() === `crc32c ${crc32c(Buffer.from(body)).toString(16)}`;
  return end > 0 && isSound ? body.split("\n").slice(0, -1) : undefined;
}

/** Throws LogError DAMAGED on anything that `encodeCheckpoint` did not write. */
export function decodeCheckpoint(content: Buffer, path: string): Checkpoint {
  const lines = unsealText(content);
  const head = /^journal (-?\d+) (\d+)$/.exec(lines?.[1] ?? "");
  if (lines?.[0] !== "sluice-checkpoint 1" || head === null) {
    throw new LogError("DAMAGED", `${path} is damaged`, {
      mend: "Restore the data folder from a copy; or run sluice log repair, which goes by what the segments hold.",
    });
  }
  const recoveryPoints = new Map<string, number>();
  for (const line of lines.slice(2)) {
    const [id, partition, offset] = line.split(" ");
    recoveryPoints.set(`${id} ${partition}`, Number(offset));
  }
  return { sequence: Number(head[1]), generation: Number(head[2]), recoveryPoints };
}
