/**
 * From YAML files to a fleet. Everything that is wrong, in the fleet's file and in the profiles it names, is
 * said at once, each with its place (ConfigError).
 */
import { readdir, readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { z } from "zod";
import { keysOf, schemaAt } from "../config/environment.ts";
import { type Checked, problemsOf } from "../config/issue-words.ts";
import { ConfigError, didYouMean, type Problem } from "../config/problems.ts";
import { type Path, YamlSource } from "../config/yaml-source.ts";
import { messageOf } from "../errors.ts";
import { RenderError } from "../mapping/template.ts";
import { DuplicateDeviceError, type FleetDefinition, type FleetGroup, planFleet } from "./plan.ts";
import { type FleetFile, fleetSchema, type Profile, profileSchema } from "./schema.ts";
import { Sensor } from "./sensor.ts";

/** A fleet, or a single profile as a fleet of one. Throws ConfigError. */
export async function loadFleet(file: string): Promise<FleetDefinition> {
  const source = await open(file);
  if (hasKey(source.value, "profile") && !hasKey(source.value, "fleet")) {
    const profile = checkProfile(source);
    const name = profile.profile;
    const alone = fleetSchema.parse({ fleet: name, devices: [{ profile: name, count: 1 }] });
    return define(alone, new Map([[name, profile]]));
  }
  if (!hasKey(source.value, "fleet")) {
    const message = "is neither a fleet (fleet: <name>) nor a device profile (profile: <name>)";
    throw new ConfigError([{ place: { label: file }, message }]);
  }
  const fleet = check(source, fleetSchema);
  const definition = define(fleet, await loadProfiles(fleet, source));
  requireDistinctNames(definition, source);
  return definition;
}

function define(fleet: FleetFile, profiles: ReadonlyMap<string, Profile>): FleetDefinition {
  const groups = fleet.devices.map(({ profile: name, ...device }): FleetGroup => {
    const profile = profiles.get(name) as Profile;
    const { every = profile.every, qos = profile.qos, sites = fleet.sites } = device;
    return { profile: { ...profile, every, qos }, count: device.count, name: device.name, sites };
  });
  const { fleet: name, seed, startSpread: startSpreadMs, dayStartsAt: clockMs } = fleet;
  return { name, seed, startSpreadMs, clockMs, groups };
}

/** A device profile. Throws ConfigError. */
export async function loadProfile(file: string): Promise<Profile> {
  return checkProfile(await open(file));
}

/** The schema knows the names; whether a path into a value leads anywhere, a first reading tells. */
function checkProfile(source: YamlSource): Profile {
  const profile = check(source, profileSchema);
  try {
    new Sensor(profile, { device: "rehearsal", site: "rehearsal", n: 1 }, 0, 0).read(0);
  } catch (error) {
    if (!(error instanceof RenderError)) throw error;
    const mend = "a track has lat, lon, speed and heading; no other value has parts";
    throw new ConfigError([{ place: source.placeOfValue(["payload"]), message: error.message, mend }]);
  }
  return profile;
}

async function open(file: string): Promise<YamlSource> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") {
      throw new ConfigError([{ place: { label: file }, message: `cannot be read: ${messageOf(error)}` }]);
    }
    const known = await siblings(dirname(file));
    const meant = didYouMean(basename(file, ".yaml"), known);
    const mend = known.length === 0 ? undefined : `in ${dirname(file)} there are ${known.join(", ")}`;
    throw new ConfigError([{ place: { label: file }, message: `there is no such file${meant}`, mend }]);
  }
  const source = new YamlSource(file, text);
  if (source.problems.length > 0) throw new ConfigError(source.problems);
  return source;
}

/** Names of the YAML files in a folder, without `.yaml`. */
async function siblings(folder: string): Promise<string[]> {
  const files = await readdir(folder).catch(() => []);
  return files.filter((file) => file.endsWith(".yaml")).map((file) => basename(file, ".yaml"));
}

function check<S extends z.ZodType>(source: YamlSource, schema: S): z.output<S> {
  const result = schema.safeParse(source.value);
  if (result.success) return result.data;
  const checked: Checked = {
    source,
    value: source.value,
    overridePlace: () => undefined,
    keysAt: (path) => keysAt(schema, path, source.value),
  };
  throw new ConfigError(problemsOf(result.error.issues, checked));
}

/** Names that may stand in the map at `path`; of a value model those of the model that was chosen. */
function keysAt(root: z.ZodType, path: Path, value: unknown): string[] {
  const schema = schemaAt(root, path);
  if (schema === undefined) return [];
  if (schema.def.type !== "union") return keysOf(schema, undefined);
  const model = path.reduce<unknown>((inner, key) => (inner as Record<string, unknown>)[key], value);
  const { options } = schema.def as unknown as { options: z.ZodType[] };
  const chosen = options.find((option) => option.safeParse(model).error?.issues.every(isOfThisModel) ?? true);
  return chosen === undefined ? [] : keysOf(chosen, undefined);
}

function isOfThisModel({ path }: z.core.$ZodIssue): boolean {
  return path[0] !== "model";
}

async function loadProfiles(fleet: FleetFile, source: YamlSource): Promise<Map<string, Profile>> {
  const folder = dirname(source.file);
  const profiles = new Map<string, Profile>();
  const problems: Problem[] = [];
  for (const [index, { profile: name }] of fleet.devices.entries()) {
    if (profiles.has(name)) continue;
    const known = await siblings(join(folder, dirname(name)));
    if (!known.includes(basename(name))) {
      const message = `there is no profile "${name}"${didYouMean(basename(name), known)}`;
      const mend = `it would be the file ${join(folder, `${name}.yaml`)}`;
      problems.push({ place: source.placeOfValue(["devices", index, "profile"]), message, mend });
      continue;
    }
    try {
      profiles.set(name, await loadProfile(join(folder, `${name}.yaml`)));
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      problems.push(...error.problems);
    }
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return profiles;
}

function requireDistinctNames(definition: FleetDefinition, source: YamlSource): void {
  try {
    planFleet(definition);
  } catch (error) {
    if (!(error instanceof DuplicateDeviceError)) throw error;
    const place = source.placeOfValue(["devices", error.group, "name"]);
    throw new ConfigError([{ place, message: error.message, mend: error.mend }]);
  }
}

function hasKey(value: unknown, key: string): boolean {
  return typeof value === "object" && value !== null && key in value;
}
