/** A short demonstration whose numbers are checked: what its JSON claims must be N×M, N+M and nothing lost. */
import { describe, expect, test } from "vitest";
import { program } from "./support/gateway.ts";
import { run } from "./support/process.ts";

describe("the demonstration", () => {
  const demo = async (...args: string[]) => {
    const all = [program, "demo", "--duration", "3s", "--json", ...args];
    const { stdout } = await run(process.execPath, all, { timeoutMs: 80_000 });
    return JSON.parse(stdout); // fails when anything else is on standard output
  };

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
