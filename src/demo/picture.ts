/**
 * The two shapes, drawn with braille dots (two across and four down in each character): sensors on the left,
 * subscribers on the right, and every connection a line that appears as it is opened.
 */
export const PICTURE_COLUMNS = 32;
const NODES_SHOWN = 10;
/** A character's dots by column and row (Unicode, "Braille Patterns"). */
const DOTS = [
  [0x01, 0x02, 0x04, 0x40],
  [0x08, 0x10, 0x20, 0x80],
];

class Canvas {
  private readonly cells: Uint8Array[];

  constructor(columns: number, rows: number) {
    this.cells = Array.from({ length: rows }, () => new Uint8Array(columns));
  }

  line(x1: number, y1: number, x2: number, y2: number): void {
    const steps = Math.max(Math.abs(x2 - x1), Math.abs(y2 - y1), 1);
    for (let step = 0; step <= steps; step++) {
      const x = Math.round(x1 + ((x2 - x1) * step) / steps);
      const y = Math.round(y1 + ((y2 - y1) * step) / steps);
      const row = this.cells[y >> 2];
      if (row !== undefined) row[x >> 1] = (row[x >> 1] ?? 0) | (DOTS[x & 1]?.[y & 3] ?? 0);
    }
  }

  rows(): string[] {
    return this.cells.map((row) =>
      [...row].map((cell) => (cell === 0 ? " " : String.fromCharCode(0x2800 + cell))).join(""),
    );
  }
}

/** As many rows as the picture of this size has, at least three. */
export const pictureRows = (sensors: number, subscribers: number): number =>
  Math.max(3, Math.min(NODES_SHOWN, Math.max(sensors, subscribers)));

/** The rows on which `count` nodes stand, spread over all of them. */
function places(count: number, rows: number): number[] {
  const shown = Math.min(count, rows);
  return Array.from({ length: shown }, (_, index) => Math.floor(((index + 0.5) * rows) / shown));
}

export interface Picture {
  readonly sensors: number;
  readonly subscribers: number;
  /** How much of the connections is drawn, 0–1. */
  readonly share: number;
  /** What every line leads through, in the middle; "" for nothing. */
  readonly hub: string;
}

/** Rows of `PICTURE_COLUMNS` characters. */
export function draw({ sensors, subscribers, share, hub }: Picture): string[] {
  const rows = pictureRows(sensors, subscribers);
  const left = places(sensors, rows);
  const right = places(subscribers, rows);
  const columns = PICTURE_COLUMNS - 4;
  const canvas = new Canvas(columns, rows);
  const width = columns * 2 - 1;
  const middle = rows >> 1;
  const y = (row: number): number => row * 4 + 2;
  const lines: [number, number, number, number][] =
    hub !== ""
      ? [
          ...left.map((row): [number, number, number, number] => [0, y(row), width >> 1, y(middle)]),
          ...right.map((row): [number, number, number, number] => [width >> 1, y(middle), width, y(row)]),
        ]
      : left.flatMap((from) =>
          right.map((to): [number, number, number, number] => [0, y(from), width, y(to)]),
        );
  for (const line of lines.slice(0, Math.round(lines.length * share))) canvas.line(...line);
  const drawn = canvas.rows();
  if (hub !== "") {
    const at = (columns - hub.length) >> 1;
    const row = drawn[middle] ?? "";
    drawn[middle] = row.slice(0, at) + hub + row.slice(at + hub.length);
  }
  return drawn.map(
    (row, index) => `${left.includes(index) ? "●" : " "} ${row} ${right.includes(index) ? "●" : " "}`,
  );
}
