/** Tables and colours for a terminal; NO_COLOR is honoured by picocolors, and here for the borders. */
import Table from "cli-table3";
import pc from "picocolors";
import { grouped } from "../config/units.ts";

export type Cell = string | number;

/** Rows under headings, numbers to the right; nothing but spaces between the columns, so that awk can read it. */
export function table(headings: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const none = Object.fromEntries(
    ["top", "bottom", "left", "right", "mid"].flatMap((side) =>
      ["", "-mid", "-left", "-right"].map((part) => [side + part, ""]),
    ),
  );
  const printed = new Table({
    head: headings.map((heading) => pc.bold(heading)),
    colAligns: headings.map((_, column) => (typeof rows[0]?.[column] === "number" ? "right" : "left")),
    chars: { ...none, middle: "  " },
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
  });
  printed.push(...rows.map((row) => row.map((cell) => (typeof cell === "number" ? grouped(cell) : cell))));
  return printed.toString();
}
