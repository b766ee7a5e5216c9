import { stripVTControlCharacters } from "node:util";
import { expect, it } from "vitest";
import { cut, Screen } from "../../src/demo/terminal.ts";

/** A terminal that remembers what was written to it. */
function terminal(columns: number, rows: number) {
  let written = "";
  const write = (text: string): boolean => {
    written += text;
    return true;
  };
  const stream = { isTTY: true, columns, rows, write } as unknown as NodeJS.WriteStream;
  return { stream, written: () => written };
}

it("a line is cut to the terminal's width without losing a colour's end", () => {
  const line = "\u001b[32mgreen\u001b[39m and ⠋ more";
  expect(stripVTControlCharacters(cut(line, 7))).toBe("green a");
  expect(cut(line, 3)).toBe("\u001b[32mgre\u001b[39m");
  expect(cut(line, 80)).toBe(line);
});

it("the live region moves up over as many rows as it has painted, never more than there are", () => {
  const { stream, written } = terminal(10, 4);
  const screen = new Screen(stream);
  screen.paint(["1", "2", "3", "4", "5"]);
  screen.paint(["a"]);
  screen.print(["done"]);
  expect(written().match(/\d+A/g)).toEqual(["3A", "1A"]);
  expect(written().lastIndexOf("\u001b[?25h")).toBeGreaterThan(written().lastIndexOf("\u001b[?25l"));
});

it("without a terminal there is no live region, and without a stream nothing", () => {
  const { stream, written } = terminal(80, 24);
  const screen = new Screen(Object.assign(stream, { isTTY: false }));
  screen.paint(["live"]);
  screen.print(["for good"]);
  expect(written()).toBe("for good\n");
  new Screen(undefined).print(["nothing"]);
});
