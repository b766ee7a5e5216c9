/** From a fleet's definition to its devices: how many of each kind, where they stand, what they are called. */
import { SluiceError } from "../errors.ts";
import { Template } from "../mapping/template.ts";
import { GROUP_NAMES, type Profile } from "./schema.ts";
import { Sensor } from "./sensor.ts";

/** A fleet as `loadFleet` gives it: its profiles read, its overrides applied. */
export interface FleetDefinition {
  readonly name: string;
  readonly seed: number;
  readonly startSpreadMs: number;
  /** What the devices' clocks show at the start, milliseconds since midnight. */
  readonly clockMs: number;
  readonly groups: readonly FleetGroup[];
}

export interface FleetGroup {
  readonly profile: Profile;
  readonly count: number;
  readonly sites: readonly string[];
  /** A text with `${profile}`, `${n}` and `${site}` in it. */
  readonly name: string;
}

/** Two devices of one name would take each other's connection away, for ever. */
export class DuplicateDeviceError extends SluiceError {
  readonly group: number;

  constructor(device: string, group: number) {
    super("DUPLICATE_DEVICE", `two devices would be called "${device}"`, {
      mend: `a name is the MQTT client id: put \${n} into it, and what tells the groups apart`,
      exitCode: 78,
    });
    this.group = group;
  }
}

/** `total` shared out in the proportion of the shares (largest remainders); the sum is `total` exactly. */
export function apportion(total: number, shares: readonly number[]): number[] {
  const sum = shares.reduce((all, share) => all + share, 0);
  const exact = shares.map((share) => (total * share) / sum);
  const counts = exact.map(Math.floor);
  const byRemainder = exact
    .map((value, index) => ({ index, remainder: value - Math.floor(value) }))
    .sort((a, b) => b.remainder - a.remainder || a.index - b.index);
  const missing = total - counts.reduce((all, count) => all + count, 0);
  for (const { index } of byRemainder.slice(0, missing)) (counts[index] as number)++;
  return counts;
}

/** The devices, the groups' taking turns in no order that matters; `count` instead of the definition's number. */
export function planFleet(
  definition: FleetDefinition,
  options: { count?: number | undefined; seed?: number | undefined } = {},
): Sensor[] {
  const { groups, clockMs } = definition;
  const seed = options.seed ?? definition.seed;
  const shares = groups.map((group) => group.count);
  const counts = options.count === undefined ? shares : apportion(options.count, shares);
  const taken = new Set<string>();
  return groups.flatMap((group, index) => {
    const name = Template.parse(group.name, GROUP_NAMES);
    return Array.from({ length: counts[index] as number }, (_, position) => {
      const n = position + 1;
      const site = group.sites[position % group.sites.length] as string;
      const device = name.renderText(
        new Map<string, unknown>([
          ["profile", group.profile.profile],
          ["n", n],
          ["site", site],
        ]),
      );
      if (taken.has(device)) throw new DuplicateDeviceError(device, index);
      taken.add(device);
      return new Sensor(group.profile, { device, site, n }, seed, clockMs);
    });
  });
}
