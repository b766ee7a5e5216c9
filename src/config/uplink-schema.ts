/** `uplinks:`, the part of the schema that is about Kafka clusters. */
import { z } from "zod";
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
  size,
} from "./schema-pieces.ts";

const HOUR = 60 * MINUTE;

const topicTemplate = z
  .string()
  .min(1)
  .transform((text, context) => {
    const unknown = /\$\{(?!gateway\}|stream\})[^}]*\}?/.exec(text)?.[0];
    if (unknown === undefined) return text;
    return refuse(context, `has ${unknown}, which is not known here`, "use ${gateway} and ${stream}");
  });
const pattern = z.string().min(1).max(249);
const perSecond = {
  /** A second. */
  bytes: size({ min: KiB, max: 64 * GiB }).optional(),
  records: count(1, 1_000_000_000).optional(),
};
const clock = z.string().transform((text, context) => {
  const [, hours, minutes] = /^(\d{1,2}):(\d\d)$/.exec(text) ?? [];
  const minute = Number(hours) * 60 + Number(minutes);
  if (minute >= 0 && minute <= 24 * 60 && Number(minutes) < 60) return minute;
  return refuse(context, `must be a time of day, not ${JSON.stringify(text)}`, 'for example "22:00"');
});
const files = z.string().min(1).optional();
const tls = z.strictObject({
  /** Files in PEM: the authority that signed the cluster's certificates, and the client's own pair. */
  ca: files,
  cert: files,
  key: files,
  passphrase: z.string().optional(),
  /** The name in the cluster's certificates, where it is not the brokers'. */
  serverName: files,
});
const secret = { password: z.string().optional(), passwordFile: files };
const sasl = z.discriminatedUnion("mechanism", [
  z.strictObject({ mechanism: z.literal("plain"), username: z.string().min(1), ...secret }),
  z.strictObject({ mechanism: z.literal("scram-sha-256"), username: z.string().min(1), ...secret }),
  z.strictObject({ mechanism: z.literal("scram-sha-512"), username: z.string().min(1), ...secret }),
  z.strictObject({
    mechanism: z.literal("oauthbearer"),
    tokenFile: files,
    clientCredentials: z
      .strictObject({
        url: z.url(),
        clientId: z.string().min(1),
        clientSecret: z.string().optional(),
        clientSecretFile: files,
        scope: z.string().optional(),
      })
      .optional(),
  }),
]);

const uplink = z.strictObject({
  /** With the gateway's name it is the identity in the cluster: `sluice.<gateway>.<name>`. */
  name: z.string().regex(/^[a-zA-Z0-9._-]{1,64}$/, "may have letters, digits, dots, _ and - only"),
  brokers: z.array(address).min(1).max(100),
  /** `true` trusts what this machine trusts. */
  tls: z
    .union([z.boolean(), tls])
    .default(false)
    .transform((value) => (value === true ? {} : value === false ? undefined : value)),
  sasl: sasl.optional(),
  /** Names, `*` for any characters; the first that fits counts, and goes before the later ones. */
  streams: z
    .array(z.union([pattern, z.strictObject({ stream: pattern, to: topicTemplate })]))
    .min(1)
    .max(1_000),
  /** The cluster's topic. */
  to: topicTemplate.default("edge.${gateway}.${stream}"),
  delivery: z.enum(["exactly-once", "at-least-once"]).default("exactly-once"),
  /** Where a stream begins that was never forwarded. */
  from: z.enum(["beginning", "latest"]).default("beginning"),
  /** The same partition; by key over the topic's; or the partition modulo their number. */
  partitioning: z.enum(["same", "key", "modulo"]).default("same"),
  /** Adds sluice.gateway, sluice.stream, sluice.partition and sluice.offset. */
  headers: z.boolean().default(true),
  compression: z.enum(["none", "gzip", "snappy", "lz4", "zstd"]).default("none"),
  /** Topics that the cluster has not; `false` leaves them to a person. */
  create: z
    .union([
      z.literal(false),
      z.strictObject({
        /** -1 as the cluster has it. */
        replication: count(-1, 100).default(-1),
        settings: z.record(z.string(), z.string()).default({}),
      }),
    ])
    .default({ replication: -1, settings: {} }),
  /** From one transaction to the next, unless there is a backlog. */
  interval: durationWithin({ min: 0, max: MINUTE }).prefault("20ms"),
  /** What one transaction carries at most. */
  maxTransaction: size({ min: 32 * KiB, max: 64 * MiB }).prefault("4MiB"),
  /** The largest batch, uncompressed; below max.message.bytes of the topic. */
  maxBatch: size({ min: KiB, max: 16 * MiB }).prefault("900KiB"),
  connectTimeout: durationWithin({ min: 100, max: 5 * MINUTE }).prefault("10s"),
  requestTimeout: durationWithin({ min: SECOND, max: 10 * MINUTE }).prefault("30s"),
  /** After it the cluster gives a transaction up whose gateway is silent; until then its readers wait. */
  transactionTimeout: durationWithin({ min: SECOND, max: 15 * MINUTE }).prefault("60s"),
  /** Between two tries to connect; they begin at 250 ms, and there is no end of them. */
  maxBackoff: durationWithin({ min: 250, max: HOUR }).prefault("15s"),
  rate: z
    .strictObject({
      ...perSecond,
      /** Of the time that the link may be busy, 0.1 to 1. */
      share: z.number().min(0.01).max(1).default(1),
      /** Instead of bytes and records above, at times of the day. */
      schedule: z
        .array(z.strictObject({ from: clock, to: clock, ...perSecond }))
        .max(48)
        .default([]),
    })
    .prefault({}),
  /** A record that the cluster refuses for good: its partition stops, or goes on without it. */
  onPoison: z.enum(["stop", "skip", "dead-letter"]).default("stop"),
  /** The stream that takes what `dead-letter` leaves out. */
  deadLetters: z.string().optional(),
  /** When the cluster has forgotten how far it was, or says what cannot be. */
  onPlaceLost: z.enum(["ask", "resume", "restart"]).default("ask"),
  /** Warns when the disk lasts no longer than this at today's rate, while the cluster is away. */
  warnAt: z
    .array(durationWithin({ min: MINUTE, max: 10_000 * HOUR }))
    .max(10)
    .prefault(["24h", "4h"]),
});
export const uplinksSchema = z.array(uplink).max(16).default([]);
