/** A week without the cluster, pressed into a minute; `npm run bench -- week` takes longer, and looks at the forecasts. */
import { expect, test } from "vitest";
import { suite } from "./support/suite.ts";
import { week } from "./support/uplink-week.ts";

suite("an outage that fills the disk", ["java", "kafka's jars", "kcat"], () => {
  test("all is delivered once, in order, though sensors had to wait and retention was due long before", async () => {
    const result = await week({ records: 800_000, perSecond: 40_000, say: console.log });
    console.log(JSON.stringify(result));
    expect(result).toMatchObject({ inKafka: result.records, lost: 0, repeated: 0, gapRecords: 0 });
    expect(result.records).toBeGreaterThan(400_000);
    expect(result.retired).toBeGreaterThan(0);
  }, 400_000);
});
