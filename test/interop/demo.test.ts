/** A short demonstration whose numbers are checked: what its JSON claims must be N×M, N+M and nothing lost. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ApacheKafka } from "./support/apache-kafka.ts";
import { freePort, program } from "./support/gateway.ts";
import { run } from "./support/process.ts";
import { suite } from "./support/suite.ts";

const demo = async (...args: string[]) => {
  const all = [program, "demo", "--duration", "3s", "--json", ...args];
  const { stdout } = await run(process.execPath, all, { timeoutMs: 80_000 });
  return JSON.parse(stdout); // fails when anything else is on standard output
};

describe("the demonstration", () => {
  test.each([
    [10, 10],
    [30, 20],
  ])("%i sensors and %i subscribers", async (sensors, subscribers) => {
    const report = await demo("--sensors", String(sensors), "--subscribers", String(subscribers));
    expect(report).toMatchObject({ sensors, subscribers, passed: true });
    expect(report.mesh.connections).toBe(sensors * subscribers);
    expect(report.gateway.connections).toBe(sensors + subscribers);
    for (const phase of [report.mesh, report.gateway]) {
      expect(phase).toMatchObject({ limit: null, lost: 0, outOfOrder: 0, duplicates: 0, agree: true });
      expect(phase.readings).toBeGreaterThan(0);
      expect(phase.delivered).toBe(phase.readings * subscribers);
      expect(phase.latencyMs.p50).toBeGreaterThan(0);
      expect(phase.latencyMs.p99).toBeGreaterThanOrEqual(phase.latencyMs.p50);
    }
    const largest = report.growth.at(-1);
    expect(largest).toMatchObject({ sensors: 10_000, subscribers: 10_000, mesh: 1e8, gateway: 20_000 });
    expect(largest.meshOpened).toBe(false);
  });
});

suite("the demonstration with a Kafka cluster at the far end", ["java", "kafka's jars"], () => {
  let kafka: ApacheKafka;

  beforeAll(async () => {
    kafka = await ApacheKafka.start();
  }, 120_000);

  afterAll(() => kafka?.close());

  test("sensors hold N connections to the gateway, subscribers M to Apache Kafka, and the topic goes with it", async () => {
    const report = await demo(
      "--sensors",
      "20",
      "--subscribers",
      "10",
      "--kafkajs",
      "3",
      "--brokers",
      kafka.brokers,
    );
    expect(report).toMatchObject({ sensors: 20, subscribers: 10, passed: true });
    expect(report.mesh.connections).toBe(200);
    const { gateway } = report;
    expect(gateway.connections).toBe(30);
    expect(gateway).toMatchObject({ lost: 0, outOfOrder: 0, duplicates: 0, agree: true });
    expect(gateway.kinds).toEqual({ kafkajs: 3, "light reader": 7 });
    expect(gateway.delivered).toBe(gateway.readings * 10);
    // Nobody reads from the gateway itself.
    expect(gateway.seenByGateway).toEqual({ mqtt: 20, kafka: 0 });
    expect(gateway.cluster).toMatchObject({ brokers: [kafka.brokers] });
    const admin = kafka.client().admin();
    await admin.connect();
    expect(await admin.listTopics()).not.toContain(gateway.cluster.topic);
    await admin.disconnect();
  });

  test("a cluster that is not there is said before anything is opened", async () => {
    const broker = `127.0.0.1:${await freePort()}`;
    const args = [program, "demo", "--duration", "3s", "--json", "--brokers", broker];
    const { stdout, stderr } = await run(process.execPath, args, { expect: [69] });
    expect(stdout).toBe("");
    expect(stderr).toMatch(/nothing listens there[\s\S]*Is the cluster up, and the port right/);
  });
});
