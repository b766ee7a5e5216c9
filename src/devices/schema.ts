/**
 * Device profiles and fleets as YAML holds them: types, defaults and bounds, all of them here. In the parsed
 * form times are milliseconds, shares are fractions, times of day milliseconds since midnight.
 */
import { z } from "zod";
import { durationWithin, refuse } from "../config/schema-pieces.ts";
import { MappingSyntaxError } from "../mapping/syntax-error.ts";
import { Template } from "../mapping/template.ts";

const DAY_MS = 86_400_000;

const duration = (minMs = 1) => durationWithin({ min: minMs, max: 365 * DAY_MS });

const percent = z.union([z.string(), z.number()]).transform((text, context): number => {
  const value = /^(\d+(?:\.\d+)?)%$/.exec(String(text))?.[1];
  if (value === undefined || Number(value) > 100)
    return refuse(context, "must be 0% to 100%", "for example 10%");
  return Number(value) / 100;
});

const timeOfDay = z
  .string({ error: () => 'must be a time of day such as "15:00"' })
  .transform((text, context) => {
    const [, hours, minutes] = /^(\d\d?):(\d\d)$/.exec(text) ?? [];
    if (Number(hours) < 24 && Number(minutes) < 60) return (Number(hours) * 60 + Number(minutes)) * 60_000;
    return refuse(context, `must be a time of day, not "${text}"`, 'for example "15:00"');
  });

const decimals = z.int().min(0).max(12).default(2);
const amount = z.number();
const noise = z.number().min(0).default(0);
const scalar = z.union([z.string(), z.number(), z.boolean()]);

/** The value models; values.ts says what each does. `noise` is at most ±noise, never more. */
const MODELS = "constant, daily, walk, steps, bursts, events, total or track";
const valueSpec = z.discriminatedUnion(
  "model",
  [
    z.strictObject({ model: z.literal("constant"), value: scalar }),
    z.strictObject({
      model: z.literal("daily"),
      mean: amount,
      /** Above the mean at `peakAt`, below it twelve hours later. */
      swing: amount,
      peakAt: timeOfDay.prefault("15:00"),
      noise,
      decimals,
    }),
    z
      .strictObject({
        model: z.literal("walk"),
        start: amount,
        /** The longest step from one reading to the next. */
        step: z.number().min(0),
        /** Added at every reading: a battery that empties, a soil that dries. */
        drift: amount.default(0),
        min: amount,
        max: amount,
        decimals,
      })
      .refine(({ min, start, max }) => min <= start && start <= max, {
        error: "must lie between min and max",
        path: ["start"],
      }),
    z.strictObject({
      model: z.literal("steps"),
      levels: z.array(amount).min(2).max(1_000),
      /** How long a level is held, on average. */
      hold: duration(1_000),
      noise,
      decimals,
    }),
    z.strictObject({
      model: z.literal("bursts"),
      base: amount,
      height: amount,
      /** From the end of a burst to the next one, on average. */
      every: duration(1_000),
      /** On average. */
      lasts: duration(1_000),
      noise,
      decimals,
    }),
    z.strictObject({
      model: z.literal("events"),
      /** From one event to the next, on average (Poisson); left out, every reading is an event. */
      every: duration(1_000).optional(),
      /** What the value alternates between, an event each; left out, the events are counted. */
      between: z.array(scalar).min(2).max(1_000).optional(),
    }),
    z.strictObject({
      model: z.literal("total"),
      /** An earlier value, integrated over time: watts to kilowatt-hours. */
      of: z.string(),
      /** One unit of `of` held for so long adds one. */
      per: duration(),
      start: amount.default(0),
      decimals,
    }),
    z.strictObject({
      model: z.literal("track"),
      /** [latitude, longitude] each; from the last one back to the first. */
      waypoints: z
        .array(z.tuple([z.number().min(-90).max(90), z.number().min(-180).max(180)]))
        .min(2)
        .max(10_000),
      /** km/h */
      speed: z.number().min(0).max(2_000),
      /** Metres off the track, at most, to north or south and to east or west. */
      noise,
    }),
  ],
  { error: () => `needs a model: ${MODELS}` },
);
export type ValueSpec = z.output<typeof valueSpec>;

const BINARY_TYPES = ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "f64"] as const;
const binaryField = z.strictObject({
  type: z.enum(BINARY_TYPES),
  /** A value's name, or a path into it: `position.lat`. */
  of: z.string(),
  /** What the value is multiplied with before it is rounded: 100 keeps two decimals. */
  scale: z.number().default(1),
});
export type BinaryField = z.output<typeof binaryField>;

const payload = z
  .strictObject({
    /** Any YAML; a leaf that is one `${name}` keeps its type, text around it makes it text. */
    json: z.json().optional(),
    text: z.string().optional(),
    binary: z
      .strictObject({
        endian: z.enum(["big", "little"]).default("big"),
        fields: z.array(binaryField).min(1).max(256),
      })
      .optional(),
  })
  .refine((kinds) => Object.keys(kinds).length === 1, { error: "must have one of json, text or binary" });
export type PayloadSpec = z.output<typeof payload>;

const qos = z.union([z.literal(0), z.literal(1), z.literal(2)], { error: () => "must be 0, 1 or 2" });

/** MQTT 3.1.1, 4.7.1: wildcards are for subscriptions, never for a PUBLISH. */
const mqttTopic = z
  .string()
  .min(1)
  .regex(/^[^+#]*$/, "must not have + or # in it: those are for subscribers");

const will = z.strictObject({
  mqttTopic,
  payload: z.string(),
  qos: qos.default(0),
  retain: z.boolean().default(false),
});

/** Names that the template of a device's name knows. */
export const GROUP_NAMES = ["n", "site", "profile"] as const;
/** Names that every template of a profile knows; `seq`, `ts` and `time` only where a reading is at hand. */
export const DEVICE_NAMES = ["device", "site", "n", "profile"] as const;
export const READING_NAMES = [...DEVICE_NAMES, "seq", "ts", "time"] as const;

const valueName = z
  .string()
  .regex(/^[A-Za-z_]\w*$/, "must be a name: letters, digits and _")
  .refine(
    (name) => !(READING_NAMES as readonly string[]).includes(name),
    "is a name that every device has already",
  );

export const profileSchema = z
  .strictObject({
    profile: z.string().min(1).max(64),
    description: z.string().optional(),
    mqttTopic,
    payload,
    values: z.record(valueName, valueSpec).default({}),
    /** From one reading to the next. */
    every: duration(),
    /** How far a gap may be off, to either side. */
    jitter: percent.prefault("0%"),
    /** `poisson`: gaps are random (exponential) with `every` as their mean, as for a door. */
    spacing: z.enum(["even", "poisson"]).default("even"),
    /** So many readings in a row instead of each single one. */
    burst: z.strictObject({ readings: z.int().min(2).max(10_000), apart: duration() }).optional(),
    qos: qos.default(0),
    retain: z.boolean().default(false),
    /** `persistent`: clean session false, the broker keeps the session while the device is away. */
    session: z.enum(["clean", "persistent"]).default("clean"),
    /** Readings with QoS 1 or 2 that the device holds until they are acknowledged; what comes on top is skipped. */
    keep: z.int().min(1).max(10_000).default(100),
    will: will.optional(),
    /** A retained message that says whether the device is there; its offline text is the will. */
    state: z
      .strictObject({
        mqttTopic,
        online: z.string().default("online"),
        offline: z.string().default("offline"),
        qos: qos.default(1),
      })
      .optional(),
    /** The connection is lost and found again; mean times. */
    dropouts: z.strictObject({ up: duration(100), down: duration(100) }).optional(),
  })
  .superRefine((profile, context) => {
    if (profile.state !== undefined && profile.will !== undefined) {
      refuse(context, "cannot stand beside state: a connection has one will", "remove one of them", ["will"]);
    }
    checkValues(profile.values, context);
    checkNames(profile.mqttTopic, READING_NAMES, Object.keys(profile.values), ["mqttTopic"], context);
    checkNames(profile.payload, READING_NAMES, Object.keys(profile.values), ["payload"], context);
    for (const key of ["will", "state"] as const) {
      checkNames(profile[key], DEVICE_NAMES, [], [key], context);
    }
  });
export type Profile = z.output<typeof profileSchema>;

function checkValues(values: Record<string, ValueSpec>, context: z.core.$RefinementCtx): void {
  const earlier: string[] = [];
  for (const [name, spec] of Object.entries(values)) {
    if (spec.model === "total" && !earlier.includes(spec.of)) {
      const mend =
        earlier.length === 0 ? "there is none above it" : `above it there are ${earlier.join(", ")}`;
      refuse(context, `must name a number that stands above, not "${spec.of}"`, mend, ["values", name, "of"]);
    }
    if (isNumeric(spec)) earlier.push(name);
  }
}

function isNumeric(spec: ValueSpec): boolean {
  if (spec.model === "constant") return typeof spec.value === "number";
  if (spec.model === "events") return spec.between?.every((item) => typeof item === "number") ?? true;
  return spec.model !== "track";
}

/** Every `${name}` (and every binary field's `of`), wherever it stands in `part`, must be a name that is known. */
function checkNames(
  part: unknown,
  builtIn: readonly string[],
  values: readonly string[],
  path: (string | number)[],
  context: z.core.$RefinementCtx,
): void {
  if (typeof part === "object" && part !== null) {
    for (const [key, inner] of Object.entries(part)) {
      const step = Array.isArray(part) ? Number(key) : key;
      const text = key === "of" && path.includes("binary") ? `\${${inner}}` : inner;
      checkNames(text, builtIn, values, [...path, step], context);
    }
  }
  if (typeof part !== "string") return;
  const known = [...values, ...builtIn];
  try {
    Template.parse(part, known);
  } catch (error) {
    if (!(error instanceof MappingSyntaxError)) throw error;
    refuse(context, `is no template: ${error.message}`, error.mend, path);
  }
}

export const fleetSchema = z.strictObject({
  fleet: z.string().min(1).max(64),
  description: z.string().optional(),
  seed: z.int().default(1),
  /** Devices connect one after another within this time. */
  startSpread: duration(0).prefault("2s"),
  /** What the devices' clocks show at the start: a run's values are the same whenever it is run. */
  dayStartsAt: timeOfDay.prefault("08:00"),
  sites: z.array(z.string().min(1)).min(1).max(1_000).default(["home"]),
  devices: z
    .array(
      z.strictObject({
        /** A profile's file beside the fleet's, without `.yaml`. */
        profile: z.string().regex(/^[\w./-]+$/, "must be the name of a file beside this one"),
        count: z.int().min(1).max(100_000),
        /** Instead of the fleet's; devices take turns. */
        sites: z.array(z.string().min(1)).min(1).max(1_000).optional(),
        /** Must differ from device to device: it is the MQTT client id too. */
        name: z
          .string()
          .min(1)
          .superRefine((text, context) => checkNames(text, GROUP_NAMES, [], [], context))
          .default(`\${profile}-\${n}`),
        /** Instead of the profile's. */
        every: duration().optional(),
        qos: qos.optional(),
      }),
    )
    .min(1)
    .max(1_000),
});
export type FleetFile = z.output<typeof fleetSchema>;
