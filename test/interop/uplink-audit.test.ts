/**
 * Exactly once from a QoS 2 sensor to a read_committed consumer of Apache Kafka, while everything between them
 * is broken at random: 42 faults, a third of them Kafka's. `npm run audit:uplink` goes on for as long as one likes.
 */
import { afterEach, expect, test } from "vitest";
import { suite } from "./support/suite.ts";
import { Audit, type AuditOptions, type AuditResult } from "./support/uplink-audit.ts";

suite("the uplink's audit", ["java", "kafka's jars", "kcat", "openssl"], () => {
  let audit: Audit | undefined;

  afterEach(async () => {
    await audit?.close();
    audit = undefined;
  });

  async function run(options: AuditOptions): Promise<AuditResult> {
    audit = new Audit(options);
    const result = await audit.run();
    console.log(JSON.stringify(result));
    return result;
  }

  test("in every phase of a transaction: none lost, none twice, none out of order", async () => {
    const result = await run({ faults: 21, seed: 11, delivery: "exactly-once", tls: false });
    expect(result).toMatchObject({ inKafka: result.sent, lost: 0, duplicates: 0, outOfOrder: 0 });
  }, 400_000);

  test("over TLS with damaged bytes: none lost, none twice, none out of order", async () => {
    const result = await run({ faults: 15, seed: 12, delivery: "exactly-once", tls: true });
    expect(result).toMatchObject({ inKafka: result.sent, lost: 0, duplicates: 0, outOfOrder: 0 });
  }, 400_000);

  test("at least once: none lost, and no more twice than was under way", async () => {
    const faults = 6;
    const result = await run({ faults, seed: 13, delivery: "at-least-once", tls: false });
    expect(result.lost).toBe(0);
    // What a delivery carries at most here: what 20 sensors give while Kafka is away.
    expect(result.duplicates).toBeLessThan(result.sent / 2);
  }, 300_000);
});
