/**
 * What a clock and a calendar show of a time, in UTC or in the zone that is said: CEL's getters, with their ways of
 * counting (months and days of the year from 0, `getDate` from 1, Sunday is 0).
 */
import { type Call, define } from "./function-spec.ts";
import { type Budget, RenderError } from "./values.ts";

/** The years 1 to 9999. */
const [EARLIEST_MS, LATEST_MS] = [-62_135_596_800_000, 253_402_300_799_999];
const DAY_MS = 86_400_000;
/** Making a zone's clock takes about 100 µs. */
const ZONE_STEPS = 2_000;
const MAX_ZONES = 100;
const zones = new Map<string, Intl.DateTimeFormat>();

/** Throws an Error for a zone that there is not. */
function zoneOf(name: string, budget?: Budget): Intl.DateTimeFormat {
  let zone = zones.get(name);
  if (zone === undefined) {
    budget?.spend(ZONE_STEPS);
    const numeric = "numeric";
    zone = new Intl.DateTimeFormat("en-US", {
      timeZone: name,
      hourCycle: "h23",
      ...{ year: numeric, month: numeric, day: numeric, hour: numeric, minute: numeric, second: numeric },
    });
    if (zones.size >= MAX_ZONES) zones.clear();
    zones.set(name, zone);
  }
  return zone;
}

/** `+02:00` in milliseconds; undefined for a name. */
function offsetOf(zone: string): number | undefined {
  const [, sign, hours, minutes] = /^([+-]?)(\d\d):(\d\d)$/.exec(zone) ?? [];
  if (hours === undefined || Number(hours) > 23 || Number(minutes) > 59) return undefined;
  return (sign === "-" ? -1 : 1) * (Number(hours) * 60 + Number(minutes)) * 60_000;
}

/** A Date whose UTC fields are what the clocks of the zone show. */
function localDate(time: number, zone: string, budget?: Budget): Date {
  if (!(time >= EARLIEST_MS && time <= LATEST_MS))
    throw new RenderError(`: ${time} is no time in milliseconds`);
  const offset = zone === "UTC" ? 0 : offsetOf(zone);
  if (offset !== undefined) return new Date(time + offset);
  let clock: Intl.DateTimeFormat;
  try {
    clock = zoneOf(zone, budget);
  } catch (error) {
    if (error instanceof RenderError) throw error;
    throw new RenderError(`: there is no time zone "${zone.slice(0, 60)}"`);
  }
  const [month = 1, day, year = 1, hours, minutes, seconds] = clock.format(time).split(/\D+/).map(Number);
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  date.setUTCHours(hours ?? 0, minutes, seconds, ((time % 1_000) + 1_000) % 1_000);
  return date;
}

const dayOfYear = (date: Date): number =>
  Math.floor((date.getTime() - new Date(date).setUTCMonth(0, 1)) / DAY_MS);

const GETTERS: Readonly<Record<string, (date: Date) => number>> = {
  getFullYear: (date) => date.getUTCFullYear(),
  getMonth: (date) => date.getUTCMonth(),
  getDate: (date) => date.getUTCDate(),
  getDayOfMonth: (date) => date.getUTCDate() - 1,
  getDayOfWeek: (date) => date.getUTCDay(),
  getDayOfYear: dayOfYear,
  getHours: (date) => date.getUTCHours(),
  getMinutes: (date) => date.getUTCMinutes(),
  getSeconds: (date) => date.getUTCSeconds(),
  getMilliseconds: (date) => date.getUTCMilliseconds(),
};

for (const [name, get] of Object.entries(GETTERS)) {
  const call: Call = ([time, zone = "UTC"], budget) => get(localDate(Number(time), zone as string, budget));
  define(name, "number, text?", () => undefined, {
    cost: 64,
    call,
    prepare: ([, zone], _, refuse) => {
      if (typeof zone !== "string" || offsetOf(zone) !== undefined) return undefined;
      try {
        zoneOf(zone);
      } catch {
        throw refuse(1, `there is no time zone "${zone}"`, 'such as "Europe/Berlin" or "+02:00"');
      }
      return undefined;
    },
  });
}
