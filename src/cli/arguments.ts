/** Values of arguments, as commander wants them read: the value, or an InvalidArgumentError that says what is taken. */
import { InvalidArgumentError } from "commander";
import { type Parsed, parseDuration } from "../config/units.ts";

/** setTimeout takes no more than 31 bits of milliseconds. */
const MAX_DURATION_MS = 0x7fff_ffff;

/** Takes what `parse` takes; `problem` completes "It …". */
export function parsedBy<T>(parse: (text: string) => Parsed<T>): (text: string) => T {
  return (text) => {
    const parsed = parse(text);
    if ("value" in parsed) return parsed.value;
    throw new InvalidArgumentError(`It ${parsed.problem}${parsed.mend ? `; ${parsed.mend}` : ""}.`);
  };
}

export function wholeNumber(min: number, max = Number.MAX_SAFE_INTEGER): (text: string) => number {
  const wanted = `a whole number from ${min} ${max === Number.MAX_SAFE_INTEGER ? "on" : `to ${max}`}`;
  return parsedBy((text) => {
    const value = Number(text);
    const isTaken = /^\d+$/.test(text) && value >= min && value <= max;
    return isTaken ? { value } : { problem: `must be ${wanted}` };
  });
}

/** Milliseconds, at least so many. */
export function duration(minMs: number): (text: string) => number {
  return parsedBy((text) => {
    const parsed = parseDuration(text);
    if ("value" in parsed && parsed.value < minMs) return { problem: `must be at least ${minMs} ms` };
    return "value" in parsed ? { value: Math.min(parsed.value, MAX_DURATION_MS) } : parsed;
  });
}
