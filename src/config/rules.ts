/** A configuration's mappings as the mapper wants them: a rule without a name is called by its filter. */
import type { RuleDefinition } from "../mapping/rule.ts";
import type { Config } from "./schema.ts";

export function rulesOf({ mappings }: Config): RuleDefinition[] {
  return mappings.map(({ name, from, to, key, headers, timestamp }) => ({
    name: name ?? from,
    from,
    to,
    headers,
    ...(key === undefined ? {} : { key }),
    ...(timestamp === undefined ? {} : { timestamp }),
  }));
}
