import { expect, it } from "vitest";
import { Phase, type Progress } from "../../src/demo/phase.ts";
import { passed } from "../../src/demo/report.ts";

it("a mesh of 3 × 4 opens 12 real connections, counted at both ends, and loses nothing", async () => {
  const seen: Progress[] = [];
  const phase = new Phase({
    plan: { sensors: 3, subscribers: 4, sensorProcesses: 1, subscriberProcesses: 2, limit: undefined },
    role: "mesh-subscribers",
    subscriberOptions: {},
    gatewayPort: undefined,
    intervalMs: 50,
    onProgress: (progress) => seen.push(progress),
  });
  try {
    await phase.open();
    await phase.send(200);
    const report = await phase.settle();
    expect(report.connections).toBe(12);
    expect(report.steps.at(-1)).toMatchObject({ sensorConnections: 12, subscriberConnections: 12 });
    expect(report.readings).toBeGreaterThanOrEqual(3);
    expect(report).toMatchObject({ lost: 0, duplicates: 0, outOfOrder: 0, agree: true, kinds: { MQTT: 4 } });
    expect(report.delivered).toBe(report.readings * 4);
    expect(report.acknowledged).toBe(report.delivered);
    expect(report.latencyMs.max).toBeGreaterThan(0);
    expect(passed(report, 12)).toBe(true);
    expect(seen.map((progress) => progress.stage)).toContain("sending");
  } finally {
    await phase.close();
  }
});

it("a worker that dies is an error that says so, and the others are still ended", async () => {
  const phase = new Phase({
    plan: { sensors: 1, subscribers: 1, sensorProcesses: 1, subscriberProcesses: 1, limit: undefined },
    role: "no-such-role" as "mesh-subscribers",
    subscriberOptions: {},
    gatewayPort: undefined,
    intervalMs: 50,
    onProgress: () => {},
  });
  await expect(phase.open()).rejects.toThrow(/process/);
  await phase.close();
});
