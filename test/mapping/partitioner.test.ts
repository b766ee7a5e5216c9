import { describe, expect, it } from "vitest";
import { murmur2, partitionOf } from "../../src/mapping/partitioner.ts";

describe("Kafka's default partitioner", () => {
  // From Kafka's own UtilsTest.testMurmur2, and further ones made with its Java code.
  it.each([
    ["21", -973932308],
    ["foobar", -790332482],
    ["a-little-bit-long-string", -985981536],
    ["a-little-bit-longer-string", -1486304829],
    ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
    ["abc", 479470107],
    ["", 275646681],
  ])("hashes %j as Java does", (key, hash) => {
    expect(murmur2(Buffer.from(key))).toBe(hash);
  });

  it("masks the sign instead of taking the absolute value", () => {
    expect(partitionOf(-973932308, 1000)).toBe((-973932308 & 0x7fffffff) % 1000);
    expect(partitionOf(-1, 7)).toBe(2_147_483_647 % 7);
  });
});
