/** What the schemas are made of: sizes, times, counts and addresses as people write them, each within its bounds. */
import { z } from "zod";
import {
  type Address,
  formatDuration,
  formatSize,
  type Parsed,
  parseAddress,
  parseDuration,
  parseSize,
  UNLIMITED,
} from "./units.ts";

export const KiB = 2 ** 10;
export const MiB = 2 ** 20;
export const GiB = 2 ** 30;
export const SECOND = 1_000;
export const MINUTE = 60 * SECOND;

/** Refuses a value in words; `mend` is shown beside the caret. */
export function refuse(
  context: z.core.$RefinementCtx,
  message: string,
  mend?: string,
  path: (string | number)[] = [],
): typeof z.NEVER {
  context.addIssue({ code: "custom", message, path, params: { mend } });
  return z.NEVER;
}

export function settle<T>(parsed: Parsed<T>, context: z.core.$RefinementCtx): T {
  return "value" in parsed ? parsed.value : refuse(context, parsed.problem, parsed.mend);
}

interface Bounds {
  readonly min: number;
  readonly max: number;
  /** Takes `unlimited` and Kafka's -1 too. */
  readonly unlimited?: boolean;
}

function quantity(
  parse: (text: string | number) => Parsed<number>,
  format: (value: number) => string,
  { min, max, unlimited = false }: Bounds,
  example: string,
) {
  return z
    .union([z.string(), z.number()], { error: () => `must be written like ${example}` })
    .transform((text, context): number => {
      if (unlimited && (text === "unlimited" || text === UNLIMITED || text === "-1")) return UNLIMITED;
      const value = settle(parse(text), context);
      if (typeof value !== "number") return value;
      if (value < min) return refuse(context, `must be at least ${format(min)}, not ${format(value)}`);
      if (value > max) return refuse(context, `must be at most ${format(max)}, not ${format(value)}`);
      return value;
    });
}

export const size = (bounds: Bounds) => quantity(parseSize, formatSize, bounds, "256KiB");
export const durationWithin = (bounds: Bounds) => quantity(parseDuration, formatDuration, bounds, "10s");
export const count = (min: number, max: number) => z.int().min(min).max(max);
export const address = z
  .union([z.string(), z.number()], { error: () => "must be text" })
  .transform((text, context): Address => settle(parseAddress(String(text)), context));
