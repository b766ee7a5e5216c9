/** A disk that fills up under sensors and producers, and is made larger: they come back on their own. */
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { MAY_MOUNT, remount, smallDisk } from "../support/small-disk.ts";
import { Gateway } from "./support/gateway.ts";
import { readEach } from "./support/kafka.ts";
import { produceUntil, Tally } from "./support/kill-loop.ts";
import { NumberingSensor } from "./support/mqtt.ts";
import { eventually } from "./support/process.ts";

const BALLAST = "x".repeat(10_000);

describe.skipIf(!MAY_MOUNT)("a full disk", () => {
  test.each([
    ["but for what is to stay free", "4MiB", "the disk is full"],
    ["to its last byte", "0B", "the disk takes no commits"],
  ])(
    "%s refuses mqtt.js and kafkajs, which go on by themselves when there is room, and loses nothing",
    async (_, minFree, words) => {
      const disk = await smallDisk("40m");
      const gateway = await Gateway.start({
        dataDir: join(disk, "data"),
        storage: { minFree },
        streams: { telemetry: { partitions: 2 }, produced: { partitions: 1 } },
        mappings: [{ from: "sensors/+site/+device/temperature", to: "telemetry", key: "$" + "{device}" }],
      });
      const sensors: NumberingSensor[] = [];
      const produced = new Set<string>();
      let stopped = false;
      onTestFinished(async () => {
        stopped = true;
        await Promise.allSettled(sensors.map((sensor) => sensor.close()));
        await gateway.dispose();
      });
      for (const qos of [1, 2, 1, 2] as const) {
        const options = { qos, ballast: BALLAST };
        sensors.push(new NumberingSensor(gateway.mqttUrl, `q${qos}-${sensors.length}`, 10, options));
      }
      const producing = produceUntil(() => stopped, gateway.brokers, produced);
      await gateway.process.until(({ output }) => output.includes(words), words, 60_000);
      const count = (): number =>
        sensors.reduce((sum, { acknowledged }) => sum + acknowledged.size, produced.size);
      let polls = 0;
      let before = -1;
      await eventually(() => {
        polls = count() === before ? polls + 1 : 0;
        before = count();
        return polls > 20;
      }, "nothing more acknowledged");
      remount(disk, "size=200m");
      const from = sensors.map(({ acknowledged }) => acknowledged.size + 50);
      const fromProduced = produced.size + 5;
      // Who is back sends nothing new: it might fill the disk again before another, refused shortly before there was
      // room and held off for three seconds, has come.
      const areBack = (): boolean => {
        const back = sensors.filter(
          ({ acknowledged }, index) => acknowledged.size >= (from[index] as number),
        );
        for (const sensor of back) sensor.finish();
        return produced.size >= fromProduced && back.length === sensors.length;
      };
      await eventually(areBack, "acknowledgements when there is room", 60_000).catch((error) => {
        const state = sensors.map(
          ({ name, sent, acknowledged }) => `${name}: ${acknowledged.size} of ${sent}`,
        );
        const last = gateway.process.output.slice(-3_000);
        throw new Error(`${error.message}; ${state.join(", ")}, produced: ${produced.size}\n${last}`);
      });
      stopped = true;
      await producing;
      await eventually(() => sensors.every(({ settled }) => settled), "every reading acknowledged", 60_000);

      await gateway.kill();
      await gateway.again();
      const tally = new Tally("telemetry");
      await readEach(gateway.brokers, "telemetry", ({ value }) => tally.take(value ?? ""));
      expect(sensors.flatMap((sensor) => tally.lostOf(sensor))).toEqual([]);
      expect(tally.disordered).toEqual([]);
      expect(tally.repeated.filter((name) => name.startsWith("q2-"))).toEqual([]);
      const kept = new Set<string>();
      await readEach(gateway.brokers, "produced", ({ value }) => kept.add(value ?? ""));
      expect([...produced].filter((value) => !kept.has(value))).toEqual([]);
    },
    200_000,
  );
});
