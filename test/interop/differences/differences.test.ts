/**
 * The same scripts against Apache Kafka 4 and against the built gateway, in other people's clients. What they
 * print is compared line by line; docs/kafka.md lists what differs, and why, and is held to it.
 */

import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ApacheKafka } from "../support/apache-kafka.ts";
import { Gateway } from "../support/gateway.ts";
import { run } from "../support/process.ts";
import { suite } from "../support/suite.ts";
import { clients } from "../support/tools.ts";
import { differences, judge } from "./comparison.ts";
import { dumped, kafkaTools } from "./kafka-tools.ts";
import { type Judged, Transcript } from "./transcript.ts";

suite("Apache Kafka 4 and Sluice, side by side", ["java", "kafka's jars", "other languages' clients"], () => {
  let kafka: ApacheKafka;
  let gateway: Gateway;
  beforeAll(async () => {
    const properties = { "num.partitions": 3 };
    [kafka, gateway] = await Promise.all([
      ApacheKafka.start({ properties }),
      Gateway.start({ streams: {}, mappings: [] }),
    ]);
  });
  afterAll(async () => {
    await Promise.all([kafka?.close(), gateway?.dispose()]);
  });

  const same = (theirs: Transcript, ours: Transcript, prefix: string) => {
    if (process.env.SLUICE_TRANSCRIPTS !== undefined) {
      console.log(
        prefix,
        [...ours.steps].map(([step, lines]) => [`## ${step}`, ...lines].join("\n")).join("\n"),
      );
    }
    expect(judge(differences(theirs, ours), prefix)).toEqual({ unlisted: [], stale: [] });
  };

  test("Kafka's command-line tools", { timeout: 240_000 }, async () => {
    const [theirs, ours] = await Promise.all([kafkaTools(kafka), kafkaTools(gateway)]);
    same(theirs, ours, "tools: ");
  });

  const script = (name: string) => fileURLToPath(new URL(name, import.meta.url));
  test.each([
    ["confluent", "librdkafka, by confluent-kafka", clients.python, [script("confluent.py")]],
    ["franz-go", "franz-go", clients.go, []],
    [
      "platformatic",
      "@platformatic/kafka",
      process.execPath,
      [script("platformatic.mjs"), clients.platformatic],
    ],
  ])("%s: %s", async (name, _, command, args) => {
    const judging = async (judged: Judged) => {
      const transcript = new Transcript(judged);
      const options = { timeoutMs: 80_000, env: { PYTHONWARNINGS: "ignore" } };
      transcript.sections((await run(command, [...args, judged.brokers], options)).stdout);
      return transcript;
    };
    const [theirs, ours] = await Promise.all([judging(kafka), judging(gateway)]);
    expect(ours.steps.size).toBeGreaterThan(5);
    same(theirs, ours, `${name}: `);
  });

  test("Kafka's DumpLogSegments on what both left on disk", async () => {
    await Promise.all([gateway.stop(), kafka.process.end("SIGTERM")]);
    const [theirs, ours] = await Promise.all([dumped(kafka), dumped(gateway)]);
    expect([...ours.steps.values()].flat().join("\n")).toContain("isvalid: true");
    same(theirs, ours, "dump: ");
  });
});
