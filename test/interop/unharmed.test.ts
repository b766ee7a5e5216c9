/** Whatever one client or the disk does, everybody else is served, memory is bounded, and nothing is lost. */
import { readFileSync } from "node:fs";
import type { Consumer } from "kafkajs";
import { afterEach, describe, expect, test } from "vitest";
import { Gateway } from "./support/gateway.ts";
import { byPartition, kafkaClient, readAll } from "./support/kafka.ts";
import { NumberingSensor } from "./support/mqtt.ts";
import { eventually } from "./support/process.ts";
import { SLOW_DISK_ARGS, slowDisk, TROUBLES, type Trouble } from "./support/trouble.ts";

/** Above idle. */
const MEMORY_BYTES = 150e6;

const residentBytes = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]) * 1024;

describe("while there are", () => {
  let gateway: Gateway | undefined;
  let sensors: NumberingSensor[] = [];
  let consumer: Consumer | undefined;
  let readings = 0;

  /** Somebody who reads what the sensors say. */
  async function startReader({ brokers }: Gateway): Promise<void> {
    readings = 0;
    consumer = kafkaClient(brokers).consumer({ groupId: "reader", maxWaitTimeInMs: 100 });
    await consumer.connect();
    await consumer.subscribe({ topic: "telemetry", fromBeginning: false });
    const { GROUP_JOIN } = consumer.events;
    const joined = new Promise((resolve) => consumer?.on(GROUP_JOIN, resolve));
    await consumer.run({
      eachMessage: async ({ message }) => {
        if (message.key?.toString().startsWith("s")) readings++;
      },
    });
    await joined;
  }

  afterEach(async () => {
    await consumer?.disconnect();
    consumer = undefined;
    await Promise.allSettled(sensors.map((sensor) => sensor.close()));
    await gateway?.dispose();
    gateway = undefined;
    sensors = [];
  });

  /** When it has started for good. */
  async function idleBytes({ process: { pid } }: Gateway): Promise<number> {
    for (let before = 0, now = residentBytes(pid); ; now = residentBytes(pid)) {
      if (now === before) return now;
      before = now;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }

  /** What the greedy readers read, and the frozen do not. */
  async function fillLog({ mqttUrl }: Gateway): Promise<void> {
    const filler = new NumberingSensor(mqttUrl, "filler", 50, { ballast: "x".repeat(10_000) });
    await eventually(() => filler.acknowledged.size > 6_000, "60 MB");
    filler.finish();
    await eventually(() => filler.settled, "the rest of it");
    await filler.close();
  }

  async function survives(trouble: Trouble, nodeArgs: readonly string[] = []): Promise<void> {
    const running = await Gateway.start({
      streams: {
        telemetry: { partitions: 4 },
        unmapped: { retention: { size: "64KiB" }, segment: { size: "1MiB" } },
      },
      mappings: [
        { from: "sensors/+site/+device/temperature", to: "telemetry", key: "$" + "{device}" },
        { from: "#rest", to: "unmapped" },
      ],
      nodeArgs,
    });
    gateway = running;
    const idle = await idleBytes(running);
    await fillLog(running);
    await startReader(running);
    sensors = Array.from({ length: 8 }, (_, index) => new NumberingSensor(running.mqttUrl, `s${index}`, 1));
    const acknowledged = () => sensors.reduce((sum, { acknowledged: { size } }) => sum + size, 0);
    await eventually(() => acknowledged() > 500, "an undisturbed start");
    await eventually(() => readings > 500, "an undisturbed reader");
    let most = idle;
    const watch = setInterval(() => {
      most = Math.max(most, residentBytes(running.process.pid));
    }, 50);
    const end = await trouble.begin(running);
    try {
      // Long enough for frozen ones to be noticed and to come again.
      const until = performance.now() + 6_000;
      while (performance.now() < until) {
        const each = sensors.map((sensor) => sensor.acknowledged.size);
        const read = readings;
        await eventually(
          () => sensors.every((sensor, index) => sensor.acknowledged.size > (each[index] as number) + 5),
          "five more acknowledgements for each sensor",
        );
        await eventually(() => readings > read + 5, "more of them at the reader");
      }
    } finally {
      await end();
      clearInterval(watch);
    }
    for (const sensor of sensors) sensor.finish();
    await eventually(() => sensors.every(({ settled }) => settled), "every reading acknowledged");
    const seen = new Map(sensors.map(({ name }) => [name, [] as number[]]));
    for (const list of byPartition(await readAll(running.brokers, "telemetry")).values()) {
      for (const { value } of list) {
        const { sensor, number } = JSON.parse(value ?? "{}");
        seen.get(sensor)?.push(number);
      }
    }
    for (const { name, sent } of sensors) {
      expect(seen.get(name)).toEqual(Array.from({ length: sent }, (_, number) => number));
    }
    expect(most - idle).toBeLessThan(MEMORY_BYTES);
  }

  test.each(TROUBLES)("$name", async (trouble) => {
    await survives(trouble);
  });

  test(slowDisk.name, async () => {
    await survives(slowDisk, SLOW_DISK_ARGS);
  });
});
