/** How `tests:` are written: what is published, and what is to become of it. */
import { z } from "zod";
import { timestampOf } from "../mapping/time.ts";

const time = z.union([z.string(), z.number()]).transform((given, context): number => {
  const timestamp = timestampOf(given);
  if (typeof timestamp === "number") return timestamp;
  context.addIssue({ code: "custom", message: timestamp });
  return z.NEVER;
});

const publish = z.strictObject({
  topic: z.string().min(1),
  /** Text as it is; anything else as JSON. */
  payload: z.unknown().optional(),
  payloadBase64: z.base64().optional(),
  clientId: z.string().default("test"),
  username: z.string().optional(),
  qos: z.union([z.literal(0), z.literal(1), z.literal(2)]).default(1),
  retain: z.boolean().default(false),
  /** When it arrives; a moment of 2026 when left out. */
  at: time.optional(),
});

export const expectedSchema = z.strictObject({
  stream: z.string().optional(),
  /** null: none. */
  key: z.string().nullable().optional(),
  partition: z.int().min(0).optional(),
  /** Those that are named; null: not there. */
  headers: z.record(z.string(), z.string().nullable()).optional(),
  /** Text as it is, null for none; anything else is compared as JSON. */
  value: z.unknown().optional(),
  timestamp: time.optional(),
  /** The mapping's name. */
  rule: z.string().optional(),
  /** A part of what is wrong; the message is a dead letter, or dropped as `onError` says. */
  error: z.string().min(1).optional(),
});

const test = z.strictObject({
  name: z.string().min(1).max(200).optional(),
  publish,
  /** One record, several, none because no mapping matches, or none because its mapping wants none. */
  expect: z.union(
    [z.enum(["unmatched", "skipped"]), z.array(expectedSchema).min(1).max(1_000), expectedSchema],
    {
      error: () =>
        "must be unmatched, skipped, a record such as { stream: telemetry, key: t1 }, or a list of records",
    },
  ),
});

export const testsSchema = z.array(test).max(10_000).default([]);
