/**
 * V8's young generation doubles while a start allocates, and an idle gateway never gives that back: 12 of some
 * 100 MB. So it is kept at its first size until the gateway runs, and may grow from then on as the load asks for.
 */
import { setFlagsFromString } from "node:v8";

export function keepYoungHeapSmall(): void {
  setFlagsFromString("--semi-space-growth-factor=1");
}

/** As V8 has it by itself. */
export function letYoungHeapGrow(): void {
  setFlagsFromString("--semi-space-growth-factor=2");
}
