import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DEFAULT_MESH_LIMIT, planGateway, planMesh } from "../../src/demo/limits.ts";

const machine = (descriptorLimit: number, availableBytes = 64 * 2 ** 30) => ({
  descriptorLimit,
  availableBytes,
  cpus: 2,
});

describe("the plan of the mesh", () => {
  it("opens 200 × 200 = 40,000 connections under a limit of 20,000 descriptors, over several processes", () => {
    const plan = planMesh(200, 200, machine(20_000), DEFAULT_MESH_LIMIT);
    expect(plan).toMatchObject({ sensors: 200, subscribers: 200, limit: undefined });
    expect(plan.sensorProcesses + plan.subscriberProcesses).toBeGreaterThan(4);
  });

  it("says which limit stands in the way, and how to raise it", () => {
    const plan = planMesh(200, 200, machine(1_024), DEFAULT_MESH_LIMIT);
    expect(plan.sensors * plan.subscribers).toBeLessThan(40_000);
    expect(plan.limit).toMatchObject({ name: "descriptors" });
    expect(plan.limit?.message).toContain("1,024 descriptors (ulimit -n)");
    expect(plan.limit?.mend).toContain("limits.conf");
  });

  it("opens a part of 1,000 × 1,000 and names the flag that lifts the bound", () => {
    const plan = planMesh(1_000, 1_000, machine(1_000_000), 50_000);
    expect(plan.sensors * plan.subscribers).toBeGreaterThan(49_000);
    expect(plan.sensors * plan.subscribers).toBeLessThanOrEqual(50_000);
    expect(plan.limit?.mend).toContain("--mesh-limit 1000000");
  });

  it("names the memory where that is what is short", () => {
    expect(planMesh(200, 200, machine(20_000, 500 * 2 ** 20), 50_000).limit?.name).toBe("memory");
  });

  it("never gives a process more descriptors than it may hold, nor more connections than allowed", () => {
    const size = fc.integer({ min: 1, max: 10_000 });
    const limits = fc.integer({ min: 256, max: 100_000 });
    fc.assert(
      fc.property(size, size, limits, fc.integer({ min: 1, max: 100_000 }), (n, m, descriptors, allowed) => {
        const plan = planMesh(n, m, machine(descriptors), allowed);
        const { sensors, subscribers, sensorProcesses, subscriberProcesses } = plan;
        expect(sensors).toBeLessThanOrEqual(n);
        expect(subscribers).toBeLessThanOrEqual(m);
        // One connection is always tried, however small the limit.
        if (sensors * subscribers === 1) return;
        expect(Math.ceil(sensors / sensorProcesses) * subscribers).toBeLessThan(descriptors);
        expect(Math.ceil(subscribers / subscriberProcesses) * (sensors + 1)).toBeLessThan(descriptors);
        expect(plan.limit === undefined).toBe(sensors === n && subscribers === m);
      }),
    );
  });
});

describe("the plan of the gateway", () => {
  it("takes 1,000 × 1,000 whole and 10,000 × 10,000 as far as one process's descriptors go", () => {
    expect(planGateway(1_000, 1_000, machine(20_000), 3).limit).toBeUndefined();
    const plan = planGateway(10_000, 10_000, machine(20_000), 3);
    expect(plan.limit?.name).toBe("descriptors");
    expect(plan.sensors + plan.subscribers).toBeGreaterThan(19_000);
  });
});
