/**
 * How a sensor's values come about. A model is a law over the device's own clock: it is asked once for every
 * reading, in order, and from the same generator gives the same values, on any machine and at any pace.
 *
 * Every number keeps inside the bounds its specification states: noise is triangular (±noise, never more),
 * walks are reflected at `min` and `max`.
 */
import { exponential, noise, type Random } from "./random.ts";
import type { ValueSpec } from "./schema.ts";

/** Where a GPS track stands. */
export interface Position {
  readonly lat: number;
  readonly lon: number;
  /** km/h */
  readonly speed: number;
  /** Degrees clockwise from north, 0–359. */
  readonly heading: number;
}

export type Value = number | string | boolean | Position;

export interface Reading {
  /** The device's clock, milliseconds since its simulated midnight. */
  readonly clockMs: number;
  /** Since the previous reading; 0 at the first. */
  readonly elapsedMs: number;
  /** Values of this reading that are already known. */
  readonly values: Readonly<Record<string, Value>>;
}

export type Model = (reading: Reading) => Value;

const DAY_MS = 86_400_000;

type Spec<M extends ValueSpec["model"]> = Extract<ValueSpec, { model: M }>;

function daily(spec: Spec<"daily">, random: Random): Model {
  return ({ clockMs }) => {
    const angle = (2 * Math.PI * (clockMs - spec.peakAt)) / DAY_MS;
    return spec.mean + spec.swing * Math.cos(angle) + spec.noise * noise(random);
  };
}

function walk(spec: Spec<"walk">, random: Random): Model {
  let value = spec.start;
  let first = true;
  return () => {
    if (first) {
      first = false;
      return value;
    }
    value += spec.drift + spec.step * noise(random);
    // A step longer than the room there is would bounce for ever: the last word is the bound's.
    if (value > spec.max) value = 2 * spec.max - value;
    if (value < spec.min) value = 2 * spec.min - value;
    value = Math.min(Math.max(value, spec.min), spec.max);
    return value;
  };
}

function steps(spec: Spec<"steps">, random: Random): Model {
  let level = Math.floor(random() * spec.levels.length);
  let leftMs = exponential(random, spec.hold);
  return ({ elapsedMs }) => {
    leftMs -= elapsedMs;
    while (leftMs <= 0) {
      leftMs += exponential(random, spec.hold);
      // Any other level than this one.
      level = (level + 1 + Math.floor(random() * (spec.levels.length - 1))) % spec.levels.length;
    }
    return (spec.levels[level] as number) + spec.noise * noise(random);
  };
}

function bursts(spec: Spec<"bursts">, random: Random): Model {
  let bursting = false;
  let leftMs = exponential(random, spec.every);
  return ({ elapsedMs }) => {
    leftMs -= elapsedMs;
    while (leftMs <= 0) {
      bursting = !bursting;
      leftMs += exponential(random, bursting ? spec.lasts : spec.every);
    }
    return (bursting ? spec.height : spec.base) + spec.noise * noise(random);
  };
}

function events(spec: Spec<"events">, random: Random): Model {
  const { every, between } = spec;
  let count = 0;
  let leftMs = every === undefined ? 0 : exponential(random, every);
  return ({ elapsedMs }) => {
    if (every === undefined) {
      count++;
    } else {
      leftMs -= elapsedMs;
      while (leftMs <= 0) {
        count++;
        leftMs += exponential(random, every);
      }
    }
    return between === undefined ? count : (between[count % between.length] as string | number | boolean);
  };
}

function total(spec: Spec<"total">): Model {
  let sum = spec.start;
  return ({ elapsedMs, values }) => {
    sum += (Number(values[spec.of]) * elapsedMs) / spec.per;
    return sum;
  };
}

const METRES_PER_DEGREE = 111_320;
const RADIANS = Math.PI / 180;

/** Round and round along the way points, at a steady speed, from a place chosen by chance. */
function track(spec: Spec<"track">, random: Random): Model {
  const legs = spec.waypoints.map(([lat, lon], index) => {
    const [toLat, toLon] = spec.waypoints[(index + 1) % spec.waypoints.length] as [number, number];
    // Flat within a leg: off by less than a GPS receiver is, up to some tens of kilometres.
    const metresPerLon = METRES_PER_DEGREE * Math.cos(((lat + toLat) / 2) * RADIANS);
    const north = (toLat - lat) * METRES_PER_DEGREE;
    const east = (toLon - lon) * metresPerLon;
    const heading = (Math.round(Math.atan2(east, north) / RADIANS) + 360) % 360;
    return { lat, lon, toLat, toLon, metres: Math.hypot(north, east), metresPerLon, heading };
  });
  const lap = legs.reduce((sum, leg) => sum + leg.metres, 0);
  let travelled = random() * lap;
  return ({ elapsedMs }) => {
    travelled = (travelled + (spec.speed / 3.6) * (elapsedMs / 1000)) % lap;
    let rest = travelled;
    let leg = legs[0] as (typeof legs)[number];
    for (leg of legs) {
      if (rest <= leg.metres) break;
      rest -= leg.metres;
    }
    const part = leg.metres === 0 ? 0 : Math.min(rest / leg.metres, 1);
    const lat = leg.lat + (leg.toLat - leg.lat) * part + (spec.noise * noise(random)) / METRES_PER_DEGREE;
    const lon = leg.lon + (leg.toLon - leg.lon) * part + (spec.noise * noise(random)) / leg.metresPerLon;
    return {
      lat: round(lat, 6),
      lon: round(lon, 6),
      speed: Math.max(0, round(spec.speed * (1 + 0.1 * noise(random)), 1)),
      heading: leg.heading,
    };
  };
}

function round(value: number, decimals: number): number {
  const scale = 10 ** decimals;
  return Math.round(value * scale) / scale;
}

function lawOf(spec: ValueSpec, random: Random): Model {
  switch (spec.model) {
    case "constant":
      return () => spec.value;
    case "daily":
      return daily(spec, random);
    case "walk":
      return walk(spec, random);
    case "steps":
      return steps(spec, random);
    case "bursts":
      return bursts(spec, random);
    case "events":
      return events(spec, random);
    case "total":
      return total(spec);
    case "track":
      return track(spec, random);
  }
}

/** The model of one value; numbers come rounded to the specification's `decimals`. */
export function modelOf(spec: ValueSpec, random: Random): Model {
  const law = lawOf(spec, random);
  const decimals = "decimals" in spec ? spec.decimals : undefined;
  if (decimals === undefined) return law;
  return (reading) => {
    const value = law(reading);
    return typeof value === "number" ? round(value, decimals) : value;
  };
}
