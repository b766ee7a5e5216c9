/** The sentences for what a cluster answers. */
import { createRequire } from "node:module";
import { expect, test } from "vitest";
import { KafkaError } from "../../src/uplink/words.ts";

/** kafkajs's table, made from Kafka's own; it has kept some names that Kafka has changed since. */
const { errorCodes } = createRequire(import.meta.url)("kafkajs/src/protocol/error.js") as {
  errorCodes: readonly { readonly type: string; readonly code: number }[];
};
const RENAMED: Readonly<Record<string, string>> = {
  UNKNOWN: "UNKNOWN_SERVER_ERROR",
  NOT_LEADER_FOR_PARTITION: "NOT_LEADER_OR_FOLLOWER",
  GROUP_LOAD_IN_PROGRESS: "COORDINATOR_LOAD_IN_PROGRESS",
  GROUP_COORDINATOR_NOT_AVAILABLE: "COORDINATOR_NOT_AVAILABLE",
  NOT_COORDINATOR_FOR_GROUP: "NOT_COORDINATOR",
};

test("a code that has a sentence has it under Kafka's own name", () => {
  const named = errorCodes
    .map(({ type, code }) => ({ code, kafka: RENAMED[type] ?? type, here: new KafkaError(code, "x").code }))
    .filter(({ code, here }) => here !== `ERROR_${code}`);
  expect(named.length).toBeGreaterThan(30);
  expect(named.filter(({ kafka, here }) => kafka !== here)).toEqual([]);
  expect(new KafkaError(49, "x").code).toBe("INVALID_PRODUCER_ID_MAPPING");
});

test("a refused record may have no key, or not parse: both are said", () => {
  expect(new KafkaError(87, "x").mend).toMatch(/key.*header without a name/);
});
