import { describe, expect, it } from "vitest";
import { growth, type Step, stepsTo } from "../../src/demo/report.ts";
import { growthTable } from "../../src/demo/screen.ts";

const step = (sensors: number, subscribers: number, sensorConnections: number): Step => ({
  sensors,
  subscribers,
  sensorConnections,
  subscriberConnections: sensorConnections,
  connectMs: 1,
});
const gatewayStep = (sensors: number, subscribers: number): Step => ({
  ...step(sensors, subscribers, sensors),
  subscriberConnections: subscribers,
});

describe("the growth of both counts", () => {
  const rows = growth({ steps: [step(10, 10, 100)] }, { steps: [gatewayStep(10, 10), gatewayStep(50, 50)] });

  it("is N×M against N+M, up to 100,000,000 against 20,000", () => {
    for (const row of rows) {
      expect(row.mesh).toBe(row.sensors * row.subscribers);
      expect(row.gateway).toBe(row.sensors + row.subscribers);
    }
    expect(rows.at(-1)).toMatchObject({ mesh: 100_000_000, gateway: 20_000, meshOpened: false });
  });

  it("marks what was opened, for each way apart, and nothing else", () => {
    expect(rows.filter((row) => row.meshOpened).map((row) => row.sensors)).toEqual([10]);
    expect(rows.filter((row) => row.gatewayOpened).map((row) => row.sensors)).toEqual([10, 50]);
  });

  it("does not mark a size at which connections were missing at either end", () => {
    const broken = { ...step(10, 10, 100), subscriberConnections: 99 };
    expect(growth({ steps: [broken] }, { steps: [] }).some((row) => row.meshOpened)).toBe(false);
    expect(
      growth({ steps: [] }, { steps: [{ ...gatewayStep(10, 10), subscriberConnections: 9 }] })[0],
    ).toMatchObject({ gatewayOpened: false });
  });

  it("says of every row which it is", () => {
    const lines = growthTable(rows).slice(2, -1);
    expect(lines).toHaveLength(rows.length);
    for (const line of lines) expect(line).toMatch(/both opened|gateway opened|mesh opened|arithmetic/);
  });
});

describe("the steps to a size", () => {
  it("begin small and end with the size itself", () => {
    expect(stepsTo(10, 10)).toEqual([
      [1, 1],
      [10, 10],
    ]);
    expect(stepsTo(200, 60).at(-1)).toEqual([200, 60]);
    expect(stepsTo(1, 1)).toEqual([[1, 1]]);
  });
});
