/** What the files of a segment are called: its base offset in twenty digits, so that names are in its order. */

export type SegmentEnding = "log" | "index" | "timeindex" | "snapshot";

export function digits(offset: number): string {
  return String(offset).padStart(20, "0");
}

export function segmentName(baseOffset: number, ending: SegmentEnding): string {
  return `${digits(baseOffset)}.${ending}`;
}

/** The base offsets of the segments among the names in a partition's folder, in order. */
export function segmentBases(names: readonly string[]): number[] {
  return names
    .filter((name) => /^\d{20}\.log$/.test(name))
    .map((name) => Number(name.slice(0, 20)))
    .sort((a, b) => a - b);
}
