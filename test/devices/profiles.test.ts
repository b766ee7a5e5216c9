import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { ConfigError } from "../../src/config/problems.ts";
import { loadFleet, loadProfile } from "../../src/devices/load.ts";
import { apportion, planFleet } from "../../src/devices/plan.ts";
import { Sensor } from "../../src/devices/sensor.ts";

const FOLDER = "devices";
const files = (await readdir(FOLDER)).filter((file) => file.endsWith(".yaml"));
const isFleet = new Map(
  await Promise.all(
    files.map(async (file) => [file, "fleet" in parse(await readFile(join(FOLDER, file), "utf8"))] as const),
  ),
);
const profiles = files.filter((file) => !isFleet.get(file));
const fleets = files.filter((file) => isFleet.get(file));

describe("the profiles that come with it", () => {
  it("are at least six, and between them send JSON, text and binary", async () => {
    const loaded = await Promise.all(profiles.map((file) => loadProfile(join(FOLDER, file))));
    expect(loaded.length).toBeGreaterThanOrEqual(6);
    const kinds = new Set(loaded.flatMap((profile) => Object.keys(profile.payload)));
    expect([...kinds].sort()).toEqual(["binary", "json", "text"]);
  });

  it.each(profiles)("%s sends what it claims", async (file) => {
    const profile = await loadProfile(join(FOLDER, file));
    expect(`${profile.profile}.yaml`).toBe(file);
    const sensor = new Sensor(profile, { device: "d7", site: "north", n: 7 }, 1, 0);
    for (let reading = 0; reading < 200; reading++) {
      const { mqttTopic, payload, qos, retain } = sensor.read(1_700_000_000_000);
      expect(mqttTopic).toMatch(/^[a-z]+\/north\/d7\/[a-z]+$/);
      expect({ qos, retain }).toEqual({ qos: profile.qos, retain: profile.retain });
      if (profile.payload.json !== undefined) {
        const json = JSON.parse(payload.toString()) as object;
        expect(Object.keys(json)).toEqual(Object.keys(profile.payload.json as object));
      } else if (profile.payload.binary !== undefined) {
        const bits = profile.payload.binary.fields.reduce((sum, { type }) => sum + Number(type.slice(1)), 0);
        expect(payload.length).toBe(bits / 8);
      } else {
        expect(payload.toString()).toMatch(/^\w+$/);
      }
      expect(sensor.advance()).toBeGreaterThanOrEqual(0);
    }
  });

  it("keep numbers numbers in JSON, and scale and order them in binary", async () => {
    const thermometer = new Sensor(
      await loadProfile("devices/thermometer.yaml"),
      { device: "t1", site: "s", n: 1 },
      1,
      0,
    );
    const json = JSON.parse(thermometer.read(1_234.4).payload.toString());
    expect(json).toMatchObject({ v: expect.any(Number), battery: 100, seq: 1, ts: 1_234 });

    const soil = new Sensor(
      await loadProfile("devices/soil-moisture.yaml"),
      { device: "s1", site: "s", n: 1 },
      1,
      0,
    );
    const { payload } = soil.read(0);
    expect(payload.readUInt16LE(0) / 10).toBeGreaterThan(15);
    expect(payload.readUInt16LE(4) / 1000).toBe(3.1);
  });
});

describe("the fleets that come with it", () => {
  it.each(fleets)("%s loads, and its devices' names differ", async (file) => {
    const sensors = planFleet(await loadFleet(join(FOLDER, file)));
    expect(new Set(sensors.map((sensor) => sensor.identity.device)).size).toBe(sensors.length);
  });

  it.each(fleets)("%s is the same run for the same seed, and another for another", async (file) => {
    const definition = await loadFleet(join(FOLDER, file));
    const run = (seed: number): string[] =>
      planFleet(definition, { seed, count: 40 }).flatMap((sensor) =>
        Array.from({ length: 10 }, () => {
          const { mqttTopic, payload } = sensor.read(0);
          return `${sensor.advance()} ${mqttTopic} ${payload.toString("hex")}`;
        }),
      );
    expect(run(5)).toEqual(run(5));
    expect(run(5)).not.toEqual(run(6));
  });

  it("share a given count in their proportions, to the last device", async () => {
    const sensors = planFleet(await loadFleet("devices/greenhouse.yaml"), { count: 1_000 });
    expect(sensors.length).toBe(1_000);
    const thermometers = sensors.filter((sensor) => sensor.profile.profile === "thermometer").length;
    expect(thermometers).toBe(Math.round((1_000 * 12) / 26));
    expect(apportion(10, [1, 1, 1])).toEqual([4, 3, 3]);
    expect(apportion(2, [5, 3, 1])).toEqual([1, 1, 0]);
  });

  it("a profile alone is a fleet of one", async () => {
    const [only, ...others] = planFleet(await loadFleet("devices/thermometer.yaml"));
    expect(only?.identity.device).toBe("thermometer-1");
    expect(others).toEqual([]);
  });
});

describe("a mistake", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "sluice-devices-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const GOOD = `profile: good
mqttTopic: sensors/\${site}/\${device}
every: 1s
values:
  v: { model: walk, start: 1, step: 1, min: 0, max: 9 }
  position: { model: track, speed: 1, waypoints: [[1, 1], [2, 2]] }
payload:
  json:
    v: \${v}
`;

  /** What is said of `text` as `file`. */
  async function complaint(file: string, text: string): Promise<string> {
    await writeFile(join(folder, file), text);
    await writeFile(join(folder, "good.yaml"), file === "good.yaml" ? text : GOOD);
    const error = await loadFleet(join(folder, file)).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).exitCode).toBe(78);
    return (error as ConfigError).message.replaceAll(`${folder}/`, "");
  }

  const change = (from: string | RegExp, to: string): Promise<string> =>
    complaint("bad.yaml", GOOD.replace(from, to));

  it("in a key is shown at its place, with what was meant", async () => {
    const words = await change("every:", "evry:");
    expect(words).toMatch(
      /^bad\.yaml:3:1 +unknown option "evry" in the configuration; did you mean "every"/m,
    );
  });

  it("in a value model's key names what the model takes", async () => {
    const words = await change("start: 1, step: 1", "start: 1, stepp: 1");
    expect(words).toMatch(/^bad\.yaml:5:\d+ +unknown option "stepp" in values\.v; did you mean "step"/m);
  });

  it("in a model's name lists the models", async () => {
    expect(await change("model: walk", "model: wlak")).toMatch(/^bad\.yaml:5:.*daily, walk, steps/m);
  });

  it("in a time, a bound or a share says what is wanted", async () => {
    expect(await change("every: 1s", "every: 10")).toMatch(/^bad\.yaml:3:8 +every needs a unit/m);
    expect(await change("start: 1,", "start: 10,")).toMatch(
      /^bad\.yaml:5:\d+ +values\.v\.start must lie between min and max/m,
    );
    expect(await change("every: 1s", "every: 1s\njitter: 10")).toMatch(
      /^bad\.yaml:4:9 +jitter must be 0% to 100%/m,
    );
  });

  it("in a template's name, or in a path that leads nowhere, is found before anything is sent", async () => {
    expect(await change("v: ${v}", "v: ${w}")).toMatch(
      /^bad\.yaml:9:8 +payload\.json\.v .*"w" is not known/m,
    );
    expect(await change("/${device}", "/${devise}")).toMatch(/^bad\.yaml:2:12 .*did you mean "device"/m);
    expect(await change("v: ${v}", "v: ${position.latitude}")).toMatch(
      /^bad\.yaml:8:3 +position\.latitude has no value/m,
    );
  });

  it("in the MQTT topic or the will is refused as MQTT would", async () => {
    expect(await change("${site}", "+")).toMatch(/^bad\.yaml:2:12 +mqttTopic must not have \+ or #/m);
    const both = "state: { mqttTopic: a }\nwill: { mqttTopic: b, payload: c }\npayload:";
    expect(await change("payload:", both)).toMatch(/will cannot stand beside state/);
  });

  it("in the payload's kind or a total's source is said", async () => {
    expect(await change("  json:", "  text: x\n  json:")).toMatch(
      /payload must have one of json, text or binary/,
    );
    const before = "  e: { model: total, of: v, per: 1h }\n  v:";
    expect(await change("  v:", before)).toMatch(
      /^bad\.yaml:5:\d+ +values\.e\.of must name a number that stands above/m,
    );
  });

  it("in a fleet names the profile that was meant, and the names that clash", async () => {
    const fleet = (devices: string): string => `fleet: f\ndevices:\n${devices}`;
    expect(await complaint("fleet.yaml", fleet("  - { profile: godo, count: 1 }"))).toMatch(
      /^fleet\.yaml:3:\d+ +there is no profile "godo"; did you mean "good"/m,
    );
    const twice = '  - { profile: good, count: 1, name: "a" }\n  - { profile: good, count: 2, name: "a" }';
    expect(await complaint("fleet.yaml", fleet(twice))).toMatch(/^fleet\.yaml:4:\d+ .*two devices .* "a"/m);
  });

  it("in a profile that a fleet names is shown in the profile's file", async () => {
    await writeFile(join(folder, "other.yaml"), GOOD.replace("every: 1s", "every: soon"));
    const words = await complaint("fleet.yaml", "fleet: f\ndevices:\n  - { profile: other, count: 1 }");
    expect(words).toMatch(/^other\.yaml:3:8 +every must be a time/m);
  });

  it("in the file's name lists the files there are", async () => {
    const missing = loadFleet("devices/greenhose.yaml");
    await expect(missing).rejects.toThrow(/greenhose\.yaml.*no such file; did you mean "greenhouse"/);
  });
});
