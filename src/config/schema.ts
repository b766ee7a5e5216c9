/**
 * The configuration: types, defaults and bounds, all of them here and nowhere else.
 *
 * Defaults are written as a person would write them (`7d`), and parsed like the rest. In the parsed `Config`
 * every size is bytes, every time milliseconds, every address a host and a port.
 */
import { z } from "zod";
import type { Tables } from "../mapping/functions.ts";
import { PAYLOAD_KINDS } from "../mapping/payload.ts";
import type { RuleDefinition } from "../mapping/rule.ts";
import { passwordProblem } from "../password.ts";
import {
  address,
  count,
  durationWithin,
  GiB,
  KiB,
  MINUTE,
  MiB,
  refuse,
  SECOND,
  settle,
  size,
} from "./schema-pieces.ts";
import { testsSchema } from "./test-schema.ts";
import { type Address, parseAddress } from "./units.ts";
import { uplinksSchema } from "./uplink-schema.ts";

export type { Address } from "./units.ts";

/** What another machine can connect to. */
function advertised(text: string, context: z.core.$RefinementCtx): Address {
  const address = settle(parseAddress(text), context);
  const isAll = address.host === "0.0.0.0" || address.host === "::";
  if (!isAll) return address;
  return refuse(
    context,
    `is ${text}, which no client can connect to`,
    "auto, or the host:port at which clients reach this gateway",
  );
}

/** A section that is there but empty (`mqtt:` with everything below it commented out) holds the defaults. */
const section = <S extends z.ZodType>(schema: S) => z.preprocess((value) => value ?? {}, schema);

/** Checked as a whole, with the names that `from` gives: see cross-checks.ts. */
const mappingText = z.string();

const mqtt = {
  /** Where sensors connect. */
  listeners: z
    .array(z.strictObject({ type: z.enum(["tcp"]), bind: address }))
    .min(1)
    .max(16)
    .prefault([{ type: "tcp", bind: "127.0.0.1:1883" }]),
  /**
   * Who may connect: passwords by user name, as text or as mosquitto_passwd hashes them. Without users everybody may.
   */
  users: z
    .record(z.string().min(1), z.string())
    .superRefine((users, context) => {
      for (const [name, password] of Object.entries(users)) {
        const problem = passwordProblem(password);
        const mend = "Write it as text, or as mosquitto_passwd -H sha512-pbkdf2 hashes it ($7$…).";
        if (problem !== undefined) refuse(context, problem, mend, [name]);
      }
    })
    .default({}),
  /** Whether clients without a user name may connect though there are users. */
  anonymous: z.boolean().default(false),
  /** The largest MQTT packet; a client that sends a larger one is disconnected. */
  // A message, its queue record and its retained one go into one commit, which the log bounds.
  maxPacket: size({ min: KiB, max: MiB }).prefault("256KiB"),
  maxConnections: count(1, 1_000_000).default(10_000),
  /** From the TCP connection to CONNECT. */
  connectTimeout: durationWithin({ min: 100, max: 5 * MINUTE }).prefault("10s"),
  /** How long a subscriber that takes nothing may hold up what is sent to it before it is disconnected. */
  drainTimeout: durationWithin({ min: 100, max: 5 * MINUTE }).prefault("2s"),
  /** QoS 1 and 2 messages kept for a session that is away or slow. */
  maxQueued: count(0, 1_000_000).default(1_000),
  /** What they may take, in memory and on disk. */
  maxQueuedBytes: size({ min: 0, max: 4 * GiB }).prefault("16MiB"),
  /** The same for all sessions together; a message that several wait for counts once. */
  maxQueuedInAll: count(0, 10_000_000).default(100_000),
  maxQueuedBytesInAll: size({ min: 0, max: 16 * GiB }).prefault("64MiB"),
  /** Whether the oldest messages make way in a full queue, or new ones stay out. */
  whenQueueFull: z.enum(["dropOldest", "dropNewest"]).default("dropOldest"),
  /** QoS 2 messages of one client that it has not released yet. */
  maxInFlight: count(1, 65_535).default(1_024),
  /** Sessions of clients that asked for one to be kept, connected or away. */
  maxSessions: count(1, 1_000_000).default(10_000),
  /** Retained messages, one for each MQTT topic. */
  maxRetained: count(0, 10_000_000).default(100_000),
  maxRetainedBytes: size({ min: 0, max: 16 * GiB }).prefault("64MiB"),
};

const stream = {
  partitions: count(1, 1_000).default(1),
  /** What is older, or beyond the size of *each partition*, is deleted, a segment at a time. */
  retention: section(
    z.strictObject({
      time: durationWithin({ min: SECOND, max: Number.MAX_SAFE_INTEGER, unlimited: true }).prefault("7d"),
      size: size({ min: 64 * KiB, max: Number.MAX_SAFE_INTEGER, unlimited: true }).prefault("unlimited"),
      /** Nothing is deleted that an uplink has not sent yet, until the disk runs short (`keepFree` of the uplink). */
      waitForUplink: z.boolean().default(false),
    }),
  ),
  /** A segment is closed at this size or age, whichever comes first; retention takes closed ones only. */
  segment: section(
    z.strictObject({
      size: size({ min: 16 * KiB, max: GiB }).prefault("64MiB"),
      time: durationWithin({ min: SECOND, max: Number.MAX_SAFE_INTEGER }).prefault("1d"),
    }),
  ),
  /** The largest record batch, as Kafka's `max.message.bytes`; Kafka's default, a little over 1 MiB. */
  maxMessage: size({ min: KiB, max: 4 * MiB }).prefault("1048588B"),
  /** `compact` keeps the newest record of each key instead of going by age; every record needs a key. */
  cleanup: z.enum(["delete", "compact"]).default("delete"),
  /** With `compact`: how long at least a reader can see that a key was deleted (a record without a value). */
  tombstones: durationWithin({ min: 0, max: Number.MAX_SAFE_INTEGER }).prefault("1d"),
};

/** One record that a message becomes. */
const target = {
  to: mappingText.describe("The stream, as text or a template."),
  key: mappingText
    .optional()
    .describe("Same key, same partition, in order; without a key records are spread."),
  headers: z.record(z.string().min(1), mappingText).optional(),
  timestamp: mappingText
    .optional()
    .describe("Milliseconds since the epoch or an ISO date; the time of arrival when left out."),
  partition: z
    .union([z.int().min(0).max(999), mappingText], { error: () => "must be text" })
    .optional()
    .describe("Instead of the one that follows from the key."),
  when: mappingText.optional().describe("An expression: is it for this message?"),
  value: mappingText
    .optional()
    .describe("An expression for the record's value; the payload, untouched, when left out."),
  allow: z
    .array(z.string().min(1))
    .min(1)
    .max(1_000)
    .optional()
    .describe("Streams that a `to` with expressions may name; `*` stands for anything."),
  limit: count(1, 10_000).optional().describe("Streams that a `to` with expressions may make."),
};

/** What a mapping says of a message as a whole. */
const handling = {
  payload: z
    .enum(PAYLOAD_KINDS)
    .optional()
    .describe(
      "How expressions see the payload; `auto`: as JSON where it is JSON, else as text, else as bytes.",
    ),
  retained: z
    .enum(["keep", "skip"])
    .optional()
    .describe("Whether messages with the retain flag become records."),
  onError: z
    .enum(["deadLetter", "drop", "pass"])
    .optional()
    .describe("What becomes of a message whose record cannot be made."),
  keepOriginal: z.boolean().optional().describe("Keeps the payload in a header where `value` replaces it."),
};

const mapping = z.strictObject({
  name: z.string().min(1).max(100).optional().describe("For logs and reports; `from` when left out."),
  /** MQTT topic filters, one or several; `+site` and `#rest` name what they match. */
  from: z.union([mappingText, z.array(mappingText).min(1).max(100)], {
    error: () => "must be text, or a list of texts",
  }),
  ...target,
  ...handling,
  split: mappingText
    .optional()
    .describe("An expression for a list, each element of which (`item`) becomes a record."),
  schema: z
    .string()
    .min(1)
    .optional()
    .describe("A JSON Schema file that the payload must fit, relative to the configuration."),
  /** Further records of the same message; what one leaves out is the mapping's. */
  also: z.array(z.strictObject(target)).max(10).optional(),
});

const downlink = z
  .strictObject({
    /** For logs and reports; `from` when left out. */
    name: z.string().min(1).max(100).optional(),
    /** A stream; what Kafka producers write there goes to MQTT. */
    from: z.string(),
    /** The MQTT topic, as text or a template; see mapping/downlink-rule.ts. */
    to: mappingText,
    qos: z.union([z.literal(0), z.literal(1), z.literal(2)]).default(1),
    retain: z.boolean().default(false),
    /** From the record's timestamp; what is older is not sent, and what waits for a device so long is given up. */
    expiry: durationWithin({ min: SECOND, max: Number.MAX_SAFE_INTEGER }).optional(),
    /** An expression: is it for this record? */
    when: mappingText.optional(),
    /** An expression for the message's payload; the record's value, untouched, when left out. */
    value: mappingText.optional(),
    /** How expressions see the record's value. */
    payload: z.enum(PAYLOAD_KINDS).optional(),
  })
  .transform(({ name, from, ...rest }) => ({ name: name ?? from, from, ...rest }));

const advertise = z
  .string()
  .transform((text, context) => (text === "auto" ? text : advertised(text, context)))
  .pipe(z.custom<"auto" | Address>())
  .prefault("auto")
  .describe("What clients are told to connect to; `auto`: the address on which they reached us.");

const kafka = {
  bind: address.prefault("127.0.0.1:9092"),
  advertise,
  listeners: z
    .array(z.strictObject({ name: z.string().min(1).max(100), bind: address, advertise }))
    .max(15)
    .default([])
    .describe(
      "Further addresses, each with what its clients are told: those inside a container network and those outside reach the gateway by different names.",
    ),
  /** The largest request. */
  maxFrame: size({ min: 64 * KiB, max: GiB }).prefault("16MiB"),
  maxConnections: count(1, 1_000_000).default(10_000),
  /** Requests of one connection that are read before the first of them is answered. */
  maxInFlight: count(1, 10_000).default(64),
  maxPartitionsPerRequest: count(1, 1_000_000).default(10_000),
  /** Requests and replies that all connections together may hold in memory; beyond it they wait. */
  maxBuffered: size({ min: MiB, max: 16 * GiB }).prefault("32MiB"),
  /** Streams that a client names and nobody declared. */
  autoCreate: section(
    z.strictObject({ enabled: z.boolean().default(true), partitions: count(1, 1_000).default(3) }),
  ),
  /** How long a consumer group's offsets are kept when it has no member and commits nothing. */
  offsetRetention: durationWithin({ min: MINUTE, max: Number.MAX_SAFE_INTEGER, unlimited: true }).prefault(
    "7d",
  ),
};

export const configSchema = z.strictObject({
  version: z.literal(1),
  include: z
    .union([z.string(), z.array(z.string()).max(1_000)])
    .optional()
    .describe("Files that belong to this one, relative to it; `*` for any name. See included.ts."),
  name: z.string().min(1).max(64).default("sluice").describe("How the gateway calls itself."),
  dataDir: z
    .string()
    .min(1)
    .default("./data")
    .describe("Everything the gateway keeps; relative to the working directory."),
  logLevel: z.enum(["trace", "debug", "info", "warn", "error", "silent"]).default("info"),
  mqtt: section(z.strictObject(mqtt)),
  streams: section(z.record(z.string(), section(z.strictObject(stream)))),
  /** What every mapping says that does not say it itself; headers are laid together. */
  defaults: section(
    z.strictObject({
      key: target.key,
      headers: target.headers,
      timestamp: target.timestamp,
      ...handling,
    }),
  ),
  tables: section(z.record(z.string().min(1), z.string().min(1))).describe(
    "CSV and YAML files for `lookup(table, key)`, relative to the configuration.",
  ),
  mappings: z.array(mapping).max(10_000).default([]).describe("The first match wins."),
  versionHeader: z
    .string()
    .min(1)
    .max(100)
    .optional()
    .describe("The header in which each mapping's records carry the version of the configuration."),
  fallback: z
    .string()
    .optional()
    .describe(
      "The stream of messages that no mapping matches. Without it they are dropped, counted and reported.",
    ),
  deadLetters: z
    .string()
    .min(1)
    .default("dead-letters")
    .describe(
      "The stream of messages whose mapping fails; made when it is first needed, unless it is declared.",
    ),
  downlinks: z
    .array(downlink)
    .max(1_000)
    .default([])
    .describe("From streams to MQTT topics; the first of a stream takes its records."),
  kafka: section(z.strictObject(kafka)),
  /** Kafka clusters that get the streams: see docs/uplink.md. */
  uplinks: uplinksSchema,
  storage: section(
    z.strictObject({
      /** What stays free on the data folder's disk, for the gateway's own state and for others; 0: not looked at. */
      minFree: size({ min: 0, max: Number.MAX_SAFE_INTEGER }).prefault("64MiB"),
      /**
       * With less free, publishers are refused until there is room; or the oldest records are dropped to make it,
       * a segment at a time, of the stream that takes most. Compacted streams lose nothing.
       */
      whenFull: z.enum(["refuse", "dropOldest"]).default("refuse"),
    }),
  ),
  commit: section(
    z.strictObject({
      /**
       * How long what comes is gathered before it is written and synced, all of it at once. Acknowledgements and
       * subscribers wait so long; flash wears less.
       */
      linger: durationWithin({ min: 0, max: 5 * SECOND }).prefault("0ms"),
    }),
  ),
  /** What `sluice check` and every reload try; see tests.ts. */
  tests: testsSchema,
});

type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T;

/** What the schema gives, before tables and schemas are read. */
export type ParsedConfig = z.output<typeof configSchema>;

/** Frozen through and through. */
export type Config = DeepReadonly<Omit<ParsedConfig, "mappings" | "tables" | "defaults">> & {
  /** With the defaults in them, and their schemas read. */
  readonly mappings: readonly RuleDefinition[];
  /** As they were read. */
  readonly tables: Tables;
};
export type StreamConfig = Config["streams"][string];
