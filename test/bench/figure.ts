/** What a row hands over, and the words in which it does. */
import { median } from "./measure.ts";

export interface Figure {
  readonly what: string;
  /** The figure in words, its ratio first where there is a rival. */
  readonly figure: string;
  readonly target: string;
  /** Undefined where the figure is only printed. */
  readonly met?: boolean;
  /** What it was made of. */
  readonly detail: string;
  readonly values: Readonly<Record<string, number>>;
}

export const k = (value: number): string => `${(value / 1_000).toFixed(1)}k`;
export const ms = (value: number): string => `${value.toFixed(1)} ms`;
export const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;
export const spread = (values: readonly number[]): string => values.map(k).join(" ");

/** How much more the second takes, in percent of the first. */
export function comparison(
  what: string,
  few: readonly number[],
  many: readonly number[],
  percent: number,
  unit: string,
): Figure {
  const [a, b] = [median(few), median(many)];
  const change = (b / a - 1) * 100;
  const list = (values: readonly number[]) => values.map((value) => value.toFixed(2)).join(" ");
  return {
    what,
    figure: `${change >= 0 ? "+" : ""}${change.toFixed(0)}%`,
    target: `within ±${percent}%`,
    met: Math.abs(change) <= percent,
    detail: `${a.toFixed(2)} ${unit} (${list(few)}) against ${b.toFixed(2)} ${unit} (${list(many)})`,
    values: { few: a, many: b },
  };
}
